//! Sites behind thin and lossy uplinks, in network namespaces of their own. Needs root, iproute2 and nftables; says so and passes
//! where they are missing, except in CI.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

#[path = "net/bad_link.rs"]
mod bad_link;
#[path = "net/lan.rs"]
mod lan;
#[path = "net/site.rs"]
mod site;
