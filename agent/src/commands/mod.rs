//! One file per verb: a clap struct with `run(self)`.

mod bar;
mod etag;
mod exit;
mod import;
mod pull;
mod s3;
mod store;
mod target;
mod verify;

pub use exit::{Exit, Failure, Output};
pub use import::ImportArgs;
pub use pull::PullArgs;
pub use s3::S3Prefix;
pub use store::StoreArgs;
pub use verify::VerifyArgs;
