//! The harness of the tests across crates, of the demo and of the benches: it starts the real programs (control plane,
//! S3 server, hub, agents) on loopback, each with a log file, and ends them with the process that started them.
//!
//! `Stack` is the usual way in. Tests may unwrap; the harness returns errors that say what was attempted.

mod control_plane;
mod daemon;
mod eventually;
pub mod fleet;
mod hub;
mod kubectl;
pub mod net;
pub mod node;
mod openssf;
mod ports;
mod proxy;
mod runtime;
mod s3;
mod spoke;
mod stack;
mod tools;
pub mod weights;

pub use control_plane::{ControlPlane, Settings as ControlPlaneSettings};
pub use daemon::Daemon;
pub use eventually::{Progress, eventually};
pub use hub::{Hub, HubSettings, SERVICE_ACCOUNT, SYSTEM_NAMESPACE};
pub use kubectl::Kubectl;
pub use openssf::OpenSsf;
pub use ports::{free_port, free_port_pair};
pub use proxy::{Fault, FaultProxy, Passed, Traffic};
pub use runtime::{HookCall, HookRuntime};
pub use s3::S3Server;
pub use spoke::{JoinInstructions, Spoke, SpokeSettings};
pub use stack::{Stack, StackSettings};
pub use tools::Tools;

/// Makes ring the TLS provider of this process. Called by everything here that opens TLS connections; harmless twice.
pub fn use_ring() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been faster; it installed the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}
