//! Identity: the CA that the hub keeps in a Secret, the certificates it issues to spokes and to itself, and the join
//! tokens that let a spoke have its first one. Used by `gateway`; knows no session.

mod authority;
mod peer;
mod secret;
mod server;
pub mod token;

pub use authority::{Authority, Issued, Material, PkiError, RequestError, check_request};
pub use peer::{Peer, PeerError, peer_of};
pub use secret::{CaSecretError, load_or_create};
pub use server::server_config;
