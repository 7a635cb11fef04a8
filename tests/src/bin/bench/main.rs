//! `make bench`: what Nave costs and how fast it is, on this machine, against the real API server and the real S3 server.
//! Each part measures one thing and adds rows to the table; nothing here asserts.

mod assigned;
mod bare;
mod delta;
mod hub;
mod idle;
mod labels;
mod measured;
mod process;
mod pull;
mod synthetic;
mod table;
mod thousand;
mod told;

use std::time::Duration;

use clap::{Parser, ValueEnum};
use nave_tests::{HubSettings, Stack, StackSettings, weights};

use crate::{table::Table, thousand::Thousand};

/// Nave's benches.
#[derive(Parser)]
#[command(name = "make bench ARGS=")]
struct Arguments {
    /// Which parts; none = all
    parts: Vec<Part>,
    /// How the binaries were built, for the table's heading
    #[arg(long, default_value = "unknown")]
    profile: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `nave-agent pull` of one file against s5cmd, aws-cli and rclone
    Pull,
    /// The same with 8 GiB, or as much of it as the disk holds twice
    Large,
    /// The same with 100,000 small files
    Small,
    /// An update by delta against zstd and xdelta3
    Delta,
    /// An agent that has nothing to do
    Idle,
    /// From a changed policy to 50 spokes that know
    Told,
    /// From a new policy to 1,000 written assignments
    Assigned,
    /// From a changed label to the assignment that 50 policies write
    Labels,
    /// The hub with 1,000 sessions that have nothing to say
    Hub,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let mut table = Table::new(&arguments.profile);
    // Periods of a hub in earnest.
    let hub = HubSettings {
        heartbeat: "15s",
        grace_period: "40s",
        lease_duration: "15s",
        log: "warn",
        ..HubSettings::default()
    };
    table::say("starting control plane, S3 server and hub")?;
    let mut stack = Stack::start_with(StackSettings { hub, ..StackSettings::default() }).await?;
    if wanted(Part::Pull) {
        pull::one_file(&stack, &mut table).await?;
    }
    if wanted(Part::Large) {
        pull::large_file(&stack, &mut table).await?;
    }
    if wanted(Part::Small) {
        pull::small_files(&stack, &mut table).await?;
    }
    if wanted(Part::Delta) {
        delta::measure(&stack, &mut table).await?;
    }
    if wanted(Part::Idle) {
        idle::measure(&stack, &mut table).await?;
    }
    if wanted(Part::Told) {
        told::measure(&stack, &mut table).await?;
    }
    if [Part::Assigned, Part::Labels, Part::Hub].into_iter().any(wanted) {
        let thousand = Thousand::connect(&stack).await?;
        if wanted(Part::Hub) {
            hub::idle(&mut stack, &mut table).await?;
        }
        if wanted(Part::Assigned) {
            assigned::measure(&mut stack, &thousand, &mut table).await?;
        }
        if wanted(Part::Labels) {
            labels::measure(&stack, &thousand, &mut table).await?;
        }
        hub::peak(&mut stack, &mut table)?;
    }
    table.print()
}

/// Publishes a version of a few bytes.
async fn publish_small(stack: &Stack, model: &str, version: &str) -> anyhow::Result<()> {
    let folder = stack.folder().join(model).join(version);
    weights::write_random(&folder.join("weights.bin"), 2_000, 7)?;
    std::fs::write(folder.join("version"), version)?;
    stack.publish(&folder, model, version).await.map(drop)
}

/// The value below which that part of the samples is.
fn quantile(samples: &mut [Duration], part: f64) -> Duration {
    samples.sort_unstable();
    // Counts of samples are small, and the part is below 1.
    let at = ((samples.len() as f64) * part).ceil() as usize;
    samples.get(at.saturating_sub(1)).copied().unwrap_or_default()
}
