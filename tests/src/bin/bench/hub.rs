//! What the hub costs with 1,000 sessions on which nothing happens but heartbeats, and at its most.

use std::time::Duration;

use nave_tests::Stack;

use crate::{process, table::Table};

/// Statuses that follow a connection are written by then.
const SETTLE: Duration = Duration::from_secs(20);
const WATCHED: Duration = Duration::from_secs(60);

pub(crate) async fn idle(stack: &mut Stack, table: &mut Table) -> anyhow::Result<()> {
    tokio::time::sleep(SETTLE).await;
    let cost = process::idle(stack.hub.daemon().pid(), WATCHED).await?;
    table.row("hub, 1,000 idle sessions, memory (resident)", format!("{:.0} MB", cost.megabytes))?;
    table.row("hub, 1,000 idle sessions, CPU over 60 s", format!("{:.1} mCPU", cost.millicores))
}

pub(crate) fn peak(stack: &mut Stack, table: &mut Table) -> anyhow::Result<()> {
    let peak = process::peak_megabytes(stack.hub.daemon().pid())?;
    table.row("hub, peak memory of all of it", format!("{peak:.0} MB"))
}
