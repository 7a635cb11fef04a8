//! `bundle`: model versions in a folder that is carried to sites without a network.

mod carry;
mod chunks;
mod deltas;
mod export;
mod folder;
mod parts;
mod readme;
mod select;
mod signer;

use std::io::Write;

use clap::Subcommand;

use crate::connection::Connection;

/// What to do with bundles.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleVerb {
    Export(Box<export::Export>),
}

impl BundleVerb {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Export(verb) => verb.run(connection, out).await,
        }
    }
}
