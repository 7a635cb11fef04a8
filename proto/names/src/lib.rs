//! The names that every part of Nave shares. A value of one of these types has been checked: it can be used as a
//! Kubernetes name, a folder name or an S3 key part without another look. And amounts of bytes, which
//! all write the same. This crate knows no wire and no client.

mod digest;
mod generation;
mod name;
mod path;
mod quantity;

pub use digest::{Digest, DigestError};
pub use generation::Generation;
pub use name::{
    CLUSTER_URI, ClusterName, DatasetName, ModelName, NameError, Namespace, PolicyName, VersionName,
};
pub use path::{PathError, RelativePath};
pub use quantity::parse_bytes;
