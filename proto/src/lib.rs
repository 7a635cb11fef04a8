//! The wire between hub and spoke: `nave.v1`, generated from `nave/v1/nave.proto` without protoc and committed.
//! `tests/generated.rs` regenerates it in memory and compares; `UPDATE=1` rewrites it.

/// Messages and services of `nave.v1`. The .proto file beside this crate documents each field.
#[allow(missing_docs, missing_debug_implementations, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
#[path = "generated/nave.v1.rs"]
pub mod v1;

/// The only protocol version there is so far: what [`v1`] says.
pub const PROTOCOL: u32 = 1;

/// Longest message either side takes, in bytes. A desired set of 1,000 entries is about 300 KiB and 1,000 presigned
/// URLs about 700 KiB; what is far past that is a broken or hostile peer.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Most paths in one [`v1::UrlRequest`].
pub const MAX_URL_PATHS: usize = 1_000;
