//! `nave-agent store ls|verify|gc`: the spoke's store by hand.

use std::{path::PathBuf, process::ExitCode};

use nave_names::Digest;
use serde::Serialize;

use super::exit::{Exit, Failure, Output, finish};
use crate::{
    config::DEFAULT_STATE_DIR,
    store::{Store, Tier},
};

/// Look at the spoke's store, check it, and clean it up. `ls` and `verify` work beside a running agent.
///
/// Exit codes: 0 fine, 2 bad arguments, 3 something is damaged, 6 the disk or a store in use, 1 anything else.
#[derive(Debug, clap::Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    verb: Verb,
    /// The agent's state folder
    #[arg(long, value_name = "DIR", env = "NAVE_STATE_DIR", default_value = DEFAULT_STATE_DIR, global = true)]
    state_dir: PathBuf,
    /// The store, where it is not the one in the state folder
    #[arg(long, value_name = "DIR", env = "NAVE_STORE", global = true)]
    store: Option<PathBuf>,
    /// How to print the result
    #[arg(short, long, default_value = "text", global = true)]
    output: Output,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum Verb {
    /// List the versions that the store holds
    Ls,
    /// Hash every byte of the store again
    Verify {
        /// Take damaged versions out, so that the agent fetches what is missing of them
        #[arg(long)]
        repair: bool,
    },
    /// Remove what nothing needs any more; the agent must not be running
    Gc,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    digest: Digest,
    files: usize,
    bytes: u64,
    tier: &'static str,
    kept_because: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    versions: usize,
    blobs: usize,
    bytes: u64,
    findings: Vec<Damage>,
    taken_out: Vec<Digest>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Damage {
    file: String,
    problem: &'static str,
    versions: Vec<Digest>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    versions: Vec<Digest>,
    blobs: usize,
    interrupted_pulls: usize,
    bytes: u64,
}

impl StoreArgs {
    /// Does it, prints, and says how it went.
    pub fn run(self) -> ExitCode {
        let dir = self.store.unwrap_or_else(|| self.state_dir.join("store"));
        match self.verb {
            Verb::Ls => finish(self.output, &list(dir), |versions| {
                let row = |v: &Version| {
                    let why = v.kept_because.as_deref().unwrap_or("-");
                    let (digest, tier) = (v.digest.to_string(), v.tier);
                    format!("{digest:<71}  {:>6}  {:>14}  {tier:<4}  {why}", v.files, v.bytes)
                };
                let header = format!("{:<71}  {:>6}  {:>14}  TIER  KEPT", "DIGEST", "FILES", "BYTES");
                [header].into_iter().chain(versions.iter().map(row)).collect::<Vec<_>>().join("\n")
            }),
            Verb::Verify { repair } => finish(self.output, &verify(dir, repair), |verified| {
                let mut lines: Vec<_> = verified
                    .findings
                    .iter()
                    .map(|damage| format!("{}: {}", damage.file, damage.problem))
                    .collect();
                lines.extend(verified.taken_out.iter().map(|digest| format!("{digest}: taken out")));
                lines.push(format!(
                    "{} versions, {} blobs, {} bytes hashed, {} findings",
                    verified.versions,
                    verified.blobs,
                    verified.bytes,
                    verified.findings.len()
                ));
                lines.join("\n")
            }),
            Verb::Gc => finish(self.output, &collect(dir), |collected| {
                format!(
                    "removed {} versions, {} blobs, {} interrupted pulls: {} bytes",
                    collected.versions.len(),
                    collected.blobs,
                    collected.interrupted_pulls,
                    collected.bytes
                )
            }),
        }
    }
}

fn list(dir: PathBuf) -> Result<(Exit, Vec<Version>), Failure> {
    let store = Store::open_read_only(dir)?;
    let roots = store.roots()?.unwrap_or_default();
    let version = |held: crate::store::StoredVersion| Version {
        digest: held.digest,
        files: held.files,
        bytes: held.size,
        tier: match held.tier {
            Tier::Hot => "hot",
            Tier::Cold => "cold",
            Tier::Both => "both",
            Tier::Away => "away",
        },
        kept_because: roots.0.get(&held.digest).cloned(),
    };
    Ok((Exit::Done, store.list()?.into_iter().map(version).collect()))
}

fn verify(dir: PathBuf, repair: bool) -> Result<(Exit, Verified), Failure> {
    // Repairing writes, so nobody else may; looking needs no lock.
    let store = if repair { Store::open(dir)? } else { Store::open_read_only(dir)? };
    let report = store.verify(repair)?;
    let exit = if report.findings.is_empty() { Exit::Done } else { Exit::Refused };
    let findings = report.findings.into_iter();
    let verified = Verified {
        versions: report.versions,
        blobs: report.blobs,
        bytes: report.bytes,
        findings: findings
            .map(|f| Damage { file: f.file, problem: f.problem, versions: f.versions })
            .collect(),
        taken_out: report.repaired,
    };
    Ok((exit, verified))
}

fn collect(dir: PathBuf) -> Result<(Exit, Collected), Failure> {
    let report = Store::open(dir)?.gc()?;
    let collected = Collected {
        versions: report.versions,
        blobs: report.blobs,
        interrupted_pulls: report.stagings,
        bytes: report.bytes,
    };
    Ok((Exit::Done, collected))
}
