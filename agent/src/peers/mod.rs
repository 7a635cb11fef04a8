//! Spokes of one site fetch weights from one another first, so that a site pulls once over its uplink. The hub names the
//! peers; each side checks the other's certificate; what a peer serves is verified like what S3 serves.
//!
//! `view` decides (pure), `share` is one running pull, `follow` hears what the peers have, `read` gets chunks from them,
//! `service` and `listen` are the door for the peers, `neighbourhood` is what all of them share.

mod bits;
mod follow;
mod layout;
mod listen;
mod neighbourhood;
mod read;
mod service;
mod share;
mod tls;
mod view;

pub(crate) use bits::Bits;
pub(crate) use layout::Layout;
pub use listen::serve;
pub(crate) use neighbourhood::Running;
pub use neighbourhood::{NamedPeer, Neighbourhood};
#[cfg(test)]
pub(crate) use read::Patience;
pub(crate) use read::{PeerTrouble, Reading};
pub(crate) use share::Share;
pub(crate) use tls::PeerTlsError;
pub(crate) use view::Reason;
