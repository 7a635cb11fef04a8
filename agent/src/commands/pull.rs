//! `nave-agent pull s3://BUCKET/PREFIX --to DIR`: the agent's own engine by hand, without a hub, with one's own S3 keys.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use nave_manifest::{MANIFEST_FILE, Manifest};
use nave_names::Digest;
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    bar,
    exit::{Exit, Failure, Output, finish},
    s3::{S3Prefix, S3Source},
    target::{self, Target},
};
use crate::{
    pull::{Limits, Priority, Progress, PullError, PullRequest, Puller, list_digest},
    store::Store,
};

/// Pull one model version, or any objects, from S3 into a folder: parallel, verified, resumable.
///
/// Credentials, region and endpoint come from the usual variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
/// AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, AWS_CA_BUNDLE; without keys, S3 is asked without. The folder shows
/// nothing before all of it is there. Where the prefix has a manifest.json, as `kubectl nave publish` or the hub writes it,
/// everything is verified against that. Where it has none, the objects below it, or the one object of that name, are
/// pulled as S3 lists them: their sizes and ETags are compared, and what arrives is hashed. An interrupted pull goes on
/// where it stopped when the command is run again. A folder that has all of it already is compared, and nothing fetched:
/// with the manifest, or, where there is none, with the ETags as far as they are made of MD5s. Anything else in the folder
/// is left as it is, and refused, unless --replace is given. Exit codes: 0 done, 2 bad arguments, 3 the bytes are not what
/// the manifest says, or an object is missing or was changed, 4 S3 refuses, 5 S3 does not answer or cannot be trusted, 6
/// the disk, 130 interrupted, 1 anything else.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// Where the version is: s3://BUCKET/PREFIX; or one object: s3://BUCKET/KEY
    url: S3Prefix,
    /// The folder that shall hold the version's files; made if it is not there. What else is in it is left alone, unless
    /// --replace is given
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
    /// Take a new connection after this many seconds without a byte
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    stall: u64,
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
    /// All was in the folder before, and was compared byte by byte.
    already_there: bool,
    checked: Checked,
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

/// What the bytes were compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Checked {
    /// The SHA-256 of each file and the BLAKE3 of each chunk in its manifest.
    Manifest,
    /// There is no manifest: the size of each object and that none was changed meanwhile, or, of a folder that had all of
    /// it, the MD5s that its ETag is made of.
    SizesAndETags,
}

/// What a pull came to.
struct Filled {
    manifest: Manifest,
    already_there: bool,
    checked: Checked,
}

impl PullArgs {
    /// Pulls, prints, and says how it went.
    pub async fn run(self) -> ExitCode {
        let output = self.output;
        let result = self.pull().await.map(|pulled| (Exit::Done, pulled));
        finish(output, &result, Pulled::in_words)
    }

    async fn pull(self) -> Result<Pulled, Failure> {
        let start = Instant::now();
        let bad = |why: String| Failure::new(Exit::Failed, "BadTarget", why);
        let to = std::path::absolute(&self.to).map_err(|error| bad(error.to_string()))?;
        let beside = private_store(&to)
            .ok_or_else(|| bad(format!("{} has no name of its own to put files under", to.display())))?;
        let source = Arc::new(self.url.open(self.ca_file.as_deref(), Duration::from_secs(self.patience))?);
        let (progress, receiver) = watch::channel(Progress::default());
        let store = match &self.store {
            Some(dir) => StoreFolder { dir: dir.clone(), private: false, fresh: false },
            None => StoreFolder { fresh: !beside.exists(), dir: beside, private: true },
        };
        let bar = tokio::spawn(bar::show(receiver, self.output));
        let done = tokio::select! {
            done = self.fill(&store, &to, source, &progress) => done,
            stopped = told_to_stop() => Err(stopped),
        };
        bar.abort();
        // Only that the bar's line is gone matters.
        drop(bar.await);
        let kept = done.is_err() && !(store.fresh && progress.borrow().bytes_done == 0);
        let removed = if store.private && !kept { store.remove() } else { Ok(()) };
        let Filled { manifest, already_there, checked } = done?;
        removed?;
        let progress = progress.borrow().clone();
        Ok(Pulled {
            digest: manifest.digest(),
            to,
            already_there,
            checked,
            files: manifest.files().len() as u64,
            bytes: manifest.total_size(),
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

    /// Fills the folder.
    async fn fill(
        &self,
        store: &StoreFolder,
        to: &Path,
        source: Arc<S3Source>,
        progress: &watch::Sender<Progress>,
    ) -> Result<Filled, Failure> {
        let store = Store::open(&store.dir)?;
        let puller = Puller::new(store.clone(), self.max_ranges, self.ca_file.as_deref())?
            .with_stall(Duration::from_secs(self.stall));
        let patience = Duration::from_secs(self.patience);
        let manifest =
            puller.manifest(Arc::clone(&source) as _, self.digest.as_ref(), patience, progress.clone()).await;
        let manifest = match manifest {
            Err(PullError::Missing { object, message, .. })
                if object == MANIFEST_FILE
                    && self.digest.is_none()
                    && !message.starts_with("NoSuchBucket") =>
            {
                return self.fill_plain(&puller, to, &source, progress).await;
            }
            found => found.map_err(|error| source.explain(error))?,
        };
        let digest = manifest.digest();
        let (folder, compared) = (to.to_owned(), manifest.clone());
        match blocking(move || target::look(&folder, &compared)).await? {
            Target::Whole(()) => {
                return Ok(Filled { manifest, already_there: true, checked: Checked::Manifest });
            }
            Target::Other(why) if !self.replace => return Err(not_empty(to, &why)),
            Target::Other(_) | Target::Free => {}
        }
        let request = self.request(digest, &source, progress);
        puller.pull(request).await.map_err(|error| source.explain(error))?;
        let to = to.to_owned();
        blocking(move || Ok(store.materialise(&digest, &to)?)).await?;
        Ok(Filled { manifest, already_there: false, checked: Checked::Manifest })
    }

    /// The same without a manifest: what S3 lists.
    async fn fill_plain(
        &self,
        puller: &Puller,
        to: &Path,
        source: &S3Source,
        progress: &watch::Sender<Progress>,
    ) -> Result<Filled, Failure> {
        let (source, listed) = source.list().await?;
        let source = Arc::new(source);
        let (folder, compared) = (to.to_owned(), listed.clone());
        match blocking(move || target::look_listed(&folder, &compared)).await? {
            Target::Whole(manifest) => {
                return Ok(Filled { manifest, already_there: true, checked: Checked::SizesAndETags });
            }
            Target::Other(why) if !self.replace => return Err(not_empty(to, &why)),
            Target::Other(_) | Target::Free => {}
        }
        let request = self.request(list_digest(&listed), &source, progress);
        let manifest = puller.pull_listed(request, listed).await.map_err(|error| source.explain(error))?;
        let (store, digest, to) = (puller.store().clone(), manifest.digest(), to.to_owned());
        blocking(move || Ok(store.materialise(&digest, &to)?)).await?;
        Ok(Filled { manifest, already_there: false, checked: Checked::SizesAndETags })
    }

    fn request(
        &self,
        digest: Digest,
        source: &Arc<S3Source>,
        progress: &watch::Sender<Progress>,
    ) -> PullRequest {
        PullRequest {
            manifest_digest: digest,
            source: Arc::clone(source) as _,
            limits: Limits { max_bytes_per_second: self.max_bandwidth, windows: Vec::new() },
            priority: Priority::Serve,
            patience: Duration::from_secs(self.patience),
            progress: progress.clone(),
            cancel: CancellationToken::new(),
        }
    }
}

fn not_empty(to: &Path, why: &str) -> Failure {
    let why = format!("{} is not empty and {why}; --replace replaces what is in it", to.display());
    Failure::new(Exit::Failed, "TargetNotEmpty", why)
}

impl Pulled {
    fn in_words(&self) -> String {
        let megabytes = self.bytes as f64 / 1e6;
        let (files, seconds, digest, to) = (self.files, self.seconds, self.digest, self.to.display());
        if self.already_there {
            let verified = match self.checked {
                Checked::Manifest => "verified",
                Checked::SizesAndETags => "compared with the sizes and ETags that S3 lists",
            };
            return format!(
                "{files} files, {megabytes:.1} MB are there already, {verified} in {seconds:.2} s: {digest} in {to}"
            );
        }
        let rate = megabytes / seconds.max(0.001);
        let verified = match self.checked {
            Checked::Manifest => "verified",
            Checked::SizesAndETags => "of the sizes and ETags that S3 lists",
        };
        let mut text = format!(
            "{files} files, {megabytes:.1} MB in {seconds:.2} s ({rate:.1} MB/s), {verified}: {digest} in {to}"
        );
        if self.checked == Checked::SizesAndETags {
            text.push_str("\nthere is no manifest.json, so nothing was verified against one; the digest is of what arrived");
        }
        let had = self.bytes_reused + self.bytes_resumed;
        if had > 0 {
            text.push_str(&format!("\n{:.1} MB of them were on this disk already", had as f64 / 1e6));
        }
        if self.retries > 0 {
            let (retries, stalls, corrupt) = (self.retries, self.stalls, self.corrupt_chunks);
            text.push_str(&format!(
                "\n{retries} requests were made again ({stalls} stalled, {corrupt} came with wrong bytes)"
            ));
        }
        text
    }
}

/// The store that a pull goes through.
struct StoreFolder {
    dir: PathBuf,
    /// Beside the target, on the same file system, for the time of the pull.
    private: bool,
    /// It was not there before.
    fresh: bool,
}

impl StoreFolder {
    fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let message = format!("cannot remove {}: {error}", self.dir.display());
                Err(Failure::new(Exit::Disk, "DiskError", message))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn private_store(to: &Path) -> Option<PathBuf> {
    let name = to.file_name()?.to_string_lossy();
    Some(to.with_file_name(format!(".{name}.nave-store")))
}

/// Returns when SIGINT or SIGTERM comes.
pub(super) async fn told_to_stop() -> Failure {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => tracing::debug!(?interrupted, "told to stop"),
        _ = terminated => tracing::debug!("told to stop"),
    }
    Failure::from(PullError::Cancelled).with_hint("run the same command again and it goes on from here")
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new(Exit::Failed, "Interrupted", error.to_string()))?
}
