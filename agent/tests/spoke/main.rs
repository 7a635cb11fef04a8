//! The agent against a loopback hub (real gRPC, real mutual TLS) and a loopback object server: in process where timing
//! matters, as the real binary where it is killed.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hub;
mod joining;
mod killing;
mod objects;
mod serving;
mod site;
mod telling;
