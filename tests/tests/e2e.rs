//! Everything real: API server, S3 server, the built binaries, kubectl. Each test starts what it needs and ends it.

#[path = "e2e/harness.rs"]
mod harness;
