//! Signatures of the OpenSSF Model Signing specification v1.0, made and checked without any network: a Sigstore bundle
//! (`model.sig`) around a DSSE envelope around an in-toto statement that lists every file with its SHA-256. The hub, the
//! CLI and the agent share it. It reads no file, no clock and knows no folder: it says what was signed and by whom, and
//! the caller compares.

mod certificates;
mod error;
mod sign;
mod signed;
mod statement;
#[cfg(test)]
mod tests;
mod trust;
mod wire;

pub use error::SignatureError;
pub use sign::SigningKey;
pub use signed::{Signed, check_covers, listed_files};
pub use trust::Trust;

/// Where a signature lies beside the files.
pub const SIGNATURE_FILE: &str = "model.sig";
/// The most bytes that a signature file may have: 200,000 files at some 200 bytes each fit twice.
pub const MAX_SIGNATURE_BYTES: u64 = 96 << 20;
