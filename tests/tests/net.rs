//! Sites behind thin and lossy uplinks, in network namespaces of their own. Needs root, iproute2 and nftables; says so and passes
//! where they are missing, except in CI.

// Helpers of tests are not seen as tests.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_in_result,
    clippy::unwrap_used
)]

#[path = "net/bad_link.rs"]
mod bad_link;
#[path = "net/lan.rs"]
mod lan;
#[path = "net/site.rs"]
mod site;
