//! `nave-agent pull s3://BUCKET/PREFIX --to DIR`: the agent's own engine by hand, without a hub, with one's own S3 keys.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nave_names::Digest;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    exit::{Exit, Failure, Output, finish},
    s3::S3Prefix,
};
use crate::{
    pull::{Limits, Priority, Progress, PullError, PullRequest, Puller},
    store::Store,
};

/// Pull one model version from S3 into a folder: parallel, verified, resumable.
///
/// Credentials, region and endpoint come from the usual AWS_* variables (AWS_ENDPOINT_URL among them). The prefix has
/// to hold a manifest.json, as `kubectl nave publish` or the hub writes it. An interrupted pull goes on where it
/// stopped when the command is run again. Exit codes: 0 done, 2 bad arguments, 3 the bytes are not what the manifest
/// says, 4 S3 refuses, 5 S3 does not answer, 6 the disk, 1 anything else.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// Where the version is: s3://BUCKET/PREFIX
    url: S3Prefix,
    /// The folder that shall hold the version's files; made if it is not there, and has to be empty otherwise
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only this version: the SHA-256 of its manifest
    #[arg(long, value_name = "sha256:HEX")]
    digest: Option<Digest>,
    /// Keep a store here: later pulls take what it has already from it
    #[arg(long, value_name = "DIR", env = "NAVE_STORE")]
    store: Option<PathBuf>,
    /// Replace what is in the folder
    #[arg(long)]
    replace: bool,
    /// The most requests at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_ranges: u32,
    /// The most bytes a second
    #[arg(long, value_name = "BYTES")]
    max_bandwidth: Option<u64>,
    /// Give up after this many seconds without a byte
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    /// PEM file of more certificate authorities to trust
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    ca_file: Option<PathBuf>,
    /// How to print the result
    #[arg(short, long, default_value = "text")]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pulled {
    digest: Digest,
    to: PathBuf,
    files: u64,
    bytes: u64,
    bytes_fetched: u64,
    bytes_reused: u64,
    bytes_rebuilt: u64,
    bytes_resumed: u64,
    retries: u64,
    stalls: u64,
    corrupt_chunks: u64,
    delta_refusals: u64,
    seconds: f64,
}

impl PullArgs {
    /// Pulls, prints, and says how it went.
    pub async fn run(self) -> ExitCode {
        let output = self.output;
        let result = self.pull().await.map(|pulled| (Exit::Done, pulled));
        finish(output, &result, |pulled| {
            let megabytes = pulled.bytes as f64 / 1e6;
            format!(
                "{} files, {megabytes:.1} MB in {:.2} s ({:.1} MB/s), verified: {} in {}",
                pulled.files,
                pulled.seconds,
                megabytes / pulled.seconds.max(0.001),
                pulled.digest,
                pulled.to.display()
            )
        })
    }

    async fn pull(self) -> Result<Pulled, Failure> {
        let start = Instant::now();
        let to = std::path::absolute(&self.to)
            .map_err(|error| Failure::new(Exit::Failed, "BadTarget", error.to_string()))?;
        if !self.replace && holds_something(&to) {
            let why = format!("{} is not empty; use --replace to replace what is in it", to.display());
            return Err(Failure::new(Exit::Failed, "TargetNotEmpty", why));
        }
        let private = self.store.is_none();
        let store_dir = self.store.clone().unwrap_or_else(|| private_store(&to));
        let progress = self.fetch(&store_dir, &to).await?;
        if private {
            std::fs::remove_dir_all(&store_dir).map_err(|error| {
                Failure::new(Exit::Disk, "DiskError", format!("remove the store: {error}"))
            })?;
        }
        let (digest, progress) = progress;
        Ok(Pulled {
            digest,
            to,
            files: progress.files_total,
            bytes: progress.bytes_total,
            bytes_fetched: progress.bytes_fetched,
            bytes_reused: progress.bytes_reused,
            bytes_rebuilt: progress.bytes_rebuilt,
            bytes_resumed: progress.bytes_resumed,
            retries: progress.retries,
            stalls: progress.stalls,
            corrupt_chunks: progress.corrupt_chunks,
            delta_refusals: progress.delta_refusals,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    async fn fetch(&self, store_dir: &Path, to: &Path) -> Result<(Digest, Progress), Failure> {
        let store = Store::open(store_dir)?;
        let source = Arc::new(self.url.open(self.ca_file.as_deref())?);
        let digest = match self.digest {
            Some(digest) => digest,
            None => source.manifest_digest().await?,
        };
        let puller = Puller::new(store.clone(), self.max_ranges, self.ca_file.as_deref())?;
        let (sender, receiver) = watch::channel(Progress::default());
        let request = PullRequest {
            manifest_digest: digest,
            source,
            limits: Limits { max_bytes_per_second: self.max_bandwidth, windows: Vec::new() },
            priority: Priority::Serve,
            patience: Duration::from_secs(self.patience),
            progress: sender,
            cancel: CancellationToken::new(),
        };
        let bar = tokio::spawn(show(receiver, self.output));
        let pulled = tokio::select! {
            pulled = puller.pull(request) => pulled,
            interrupted = tokio::signal::ctrl_c() => {
                tracing::debug!(?interrupted, "told to stop");
                Err(PullError::Cancelled)
            }
        };
        bar.abort();
        let progress = pulled?;
        let to = to.to_owned();
        let placed = tokio::task::spawn_blocking(move || store.materialise(&digest, &to)).await;
        placed.map_err(|error| Failure::new(Exit::Failed, "Interrupted", error.to_string()))??;
        Ok((digest, progress))
    }
}

/// Draws the bar on a terminal, and nothing elsewhere.
async fn show(mut receiver: watch::Receiver<Progress>, output: Output) {
    let target = match output {
        Output::Text => ProgressDrawTarget::stderr(),
        Output::Json => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    while receiver.changed().await.is_ok() {
        let progress = receiver.borrow_and_update().clone();
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
        bar.set_message(if progress.trouble.is_empty() {
            format!("{:?}", progress.stage)
        } else {
            format!("{:?} ({})", progress.stage, progress.trouble)
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A store beside the target, on the same file system, for the time of the pull.
fn private_store(to: &Path) -> PathBuf {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    to.with_file_name(format!(".{name}.nave-store"))
}

fn holds_something(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}
