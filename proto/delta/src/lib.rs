//! The delta: how the chunks of one model version are rebuilt from another's bytes. `docs/delta.md` describes the
//! format. A delta object is a list of blocks, one for each chunk that is smaller this way; what it does not have is
//! fetched as it is, and every rebuilt chunk is compared with its manifest's BLAKE3 like any other, so a delta can make
//! a pull smaller and never wrong. This crate works on bytes in memory, one chunk at a time: it knows no network, no
//! file and no clock; the CLI and the agent bring the bytes.

mod block;
mod catalog;
mod error;
mod frame;
mod index;
mod layout;
mod plan;
mod planes;

pub use block::{Block, Decoder, Encoder};
pub use catalog::{CATALOG_FORMAT, Catalog, Offer, catalog_path, delta_path};
pub use error::DeltaError;
pub use index::{Index, IndexWriter, MAGIC, MAX_TAIL, Method, Record, Span, tail_limit};
pub use layout::{Layout, Tensors};
pub use plan::{Recipe, plan};
