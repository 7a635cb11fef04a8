//! What an agent costs that has nothing to do: connected, one version served, heartbeats and no more.

use std::time::Duration;

use nave_tests::Stack;

use crate::{assigned, process, publish_small, table::Table};

const SETTLE: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(60);

pub(crate) async fn measure(stack: &Stack, table: &mut Table) -> anyhow::Result<()> {
    publish_small(stack, "idle", "1.0").await?;
    let mut spoke = stack.spoke("idle-0", &[("bench", "idle")]).await?;
    stack.place("idle", "idle", "1.0", &[("bench", "idle")]).await?;
    stack.wait_reported("idle-0", "idle", "to serve", |row| row["phase"] == "Serving").await?;
    tokio::time::sleep(SETTLE).await;
    let cost = process::idle(spoke.daemon().pid(), WATCHED).await?;
    table.row("idle agent, memory (resident)", format!("{:.1} MB", cost.megabytes))?;
    table.row("idle agent, CPU over 60 s", format!("{:.1} mCPU", cost.millicores))?;
    stack.kubectl.run(&["delete", "placementpolicy", "idle"]).await?;
    // What it reports last stays, and the parts after this one wait for an empty fleet.
    assigned::empty(&stack.plane.client().await?).await?;
    spoke.stop().await
}
