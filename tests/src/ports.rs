//! Ports for programs that cannot choose one themselves, or that must have the same one again after a restart.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context as _;
use rand::RngExt as _;

/// Below the range from which the kernel takes ports of outgoing connections, so that none of those is in the way; and
/// such that 10,000 more, where some programs listen too, are as well.
const RANGE: std::ops::Range<u16> = 12_000..22_000;
const PARTNER: u16 = 10_000;
const TRIES: usize = 200;

/// A loopback port on which nothing listens now.
///
/// # Errors
/// None was found.
pub fn free_port() -> anyhow::Result<u16> {
    find(&[0])
}

/// A port P such that nothing listens on P and P + 10,000.
///
/// # Errors
/// None was found.
pub fn free_port_pair() -> anyhow::Result<u16> {
    find(&[0, PARTNER])
}

fn find(offsets: &[u16]) -> anyhow::Result<u16> {
    (0..TRIES)
        .map(|_| rand::rng().random_range(RANGE))
        .find(|port| {
            offsets.iter().all(|offset| TcpListener::bind((Ipv4Addr::LOCALHOST, port + offset)).is_ok())
        })
        .with_context(|| format!("no free port in {TRIES} tries"))
}
