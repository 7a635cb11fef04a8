//! `revoke`: a spoke's certificate no longer counts.

use std::io::Write;

use clap::Args;
use serde_json::json;

use crate::{accept::change_each, connection::Connection, output::Format};

/// Revoke spokes: their certificates are refused, and they are given nothing any more
///
/// What a spoke serves it goes on serving; delete its EdgeCluster to forget it.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Names of EdgeClusters
    #[arg(required = true, value_name = "CLUSTER")]
    clusters: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Revoke {
    pub(crate) async fn run(self, connection: &Connection, out: &mut dyn Write) -> anyhow::Result<()> {
        let hub = connection.connect().await?;
        let patch = json!({"spec": {"accepted": false, "revoked": true}});
        change_each(&hub, &self.clusters, &patch, ("revoked", self.output), out).await
    }
}
