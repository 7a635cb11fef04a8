//! The manifest: what a model version consists of, byte for byte. `docs/manifest.md` describes the format; this crate
//! reads it strictly, writes it canonically, and computes it from bytes that stream by. It knows no network, no
//! object store and no clock: the hub, the CLI and the agent bring the bytes.

mod chunks;
mod content_hash;
mod cutter;
mod entry;
mod error;
mod external;
pub mod gguf;
mod hasher;
mod manifest;
pub mod onnx;
mod paths;
pub mod safetensors;
mod wire;

pub use chunks::{Chunk, ChunkList, MAX_CHUNK};
pub use content_hash::Blake3;
pub use cutter::{CHUNK, EMBEDDING_CHUNK};
pub use entry::FileEntry;
pub use error::ManifestError;
pub use external::ExternalData;
pub use hasher::FileHasher;
pub use manifest::{FORMAT_V1, MANIFEST_FILE, MAX_FILES, MAX_MANIFEST_BYTES, Manifest};
pub use paths::{NAVE_FOLDER, is_reserved};
