//! The pull engine and the store against a real HTTP server on loopback that misbehaves on demand.

mod crash;
mod faults;
mod pulls;
mod server;
mod stores;
mod world;
