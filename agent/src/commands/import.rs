//! `nave-agent import DIR`: fills the spoke's store from a bundle, without a hub. By itself where no agent runs, through the
//! running agent where one does.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use nave_runtime::error_text::chain;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    bar,
    exit::{Exit, Failure, Output, finish},
    pull::{blocking, told_to_stop},
};
use crate::{
    config::ConfigFile,
    import::{self, Alone, ImportError, ImportProgress, Imported, Importer, Trusted},
    store::{Store, StoreError},
};

/// Take in a bundle that `kubectl nave bundle export` made: verify it, and fill the spoke's store, without a hub
///
/// The agent may run or not. When the hub is reached and asks for a version that was imported, nothing of it is fetched. A
/// bundle counts if it was signed by --key or --certificate-chain, else by what the configuration names, else by the hub
/// that this spoke has joined. Nothing is written before signature, generation, parts, bases and room were looked at, and a
/// version shows when it is whole; interrupted, the same command goes on where it stopped. Exit codes: 0 done, 2 bad
/// arguments, 3 the bundle is refused, 6 the disk or another import, 130 interrupted, 1 anything else.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The bundle's folder
    dir: PathBuf,
    /// PEM of the public key that has to have signed the bundle
    #[arg(long, value_name = "FILE", conflicts_with = "certificate_chain")]
    key: Option<PathBuf>,
    /// PEM of the authorities that the signer's certificate has to come from; may be given several times
    #[arg(long, value_name = "FILE")]
    certificate_chain: Vec<PathBuf>,
    /// The agent's configuration, for its state folder, its quota and whose bundles count
    #[arg(long, env = "NAVE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The agent's state folder; otherwise the configuration's, or /var/lib/nave
    #[arg(long, value_name = "DIR", env = "NAVE_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// How to print the result
    #[arg(short, long, default_value = "text")]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    #[serde(flatten)]
    imported: Imported,
    /// The running agent did it.
    by_agent: bool,
    seconds: f64,
}

impl ImportArgs {
    /// Imports, prints, and says how it went.
    pub async fn run(self) -> ExitCode {
        let output = self.output;
        let result = self.import().await.map(|done| (Exit::Done, done));
        finish(output, &result, Done::in_words)
    }

    async fn import(self) -> Result<Done, Failure> {
        let start = Instant::now();
        let config = match &self.config {
            Some(path) => ConfigFile::read(path).map_err(|error| {
                Failure::new(Exit::Usage, "BadConfig", nave_runtime::error_text::chain(&error))
            })?,
            None => ConfigFile::default(),
        };
        let state_dir = self.state_dir.clone().or_else(|| config.state_dir.clone());
        let state_dir = state_dir.unwrap_or_else(|| "/var/lib/nave".into());
        let trust = self.trust()?;
        let dir = std::path::absolute(&self.dir)
            .map_err(|error| Failure::new(Exit::Usage, "BadFolder", error.to_string()))?;
        check_user(&state_dir)?;
        let (progress, receiver) = watch::channel(ImportProgress::default());
        let bar = tokio::spawn(bar::show_import(receiver, self.output));
        let cancel = CancellationToken::new();
        let work = async {
            match Store::open(state_dir.join("store")) {
                Ok(store) => {
                    store.set_quota(config.quota().map_err(|error| bad_config(&error))?.unwrap_or(u64::MAX));
                    let alone =
                        ByItself { store, state_dir, config, trust, progress, cancel: cancel.clone() };
                    blocking(move || alone.import(&dir)).await.map(|imported| (imported, false))
                }
                Err(in_use @ StoreError::InUse { .. }) => {
                    match import::ask(&state_dir, dir, trust, &progress).await {
                        Some(asked) => asked.map(|imported| (imported, true)).map_err(Failure::from),
                        None => Err(in_use.into()),
                    }
                }
                Err(error) => Err(error.into()),
            }
        };
        tokio::pin!(work);
        let done = tokio::select! {
            done = &mut work => done,
            stopped = told_to_stop() => {
                // What is under way ends at the next chunk; until then the store is in use.
                cancel.cancel();
                Err(stopped)
            }
        };
        bar.abort();
        // Only that the bar's line is gone matters.
        drop(bar.await);
        let (imported, by_agent) = done?;
        Ok(Done { imported, by_agent, seconds: start.elapsed().as_secs_f64() })
    }

    /// PEM of whom to trust, if the command line says.
    fn trust(&self) -> Result<Option<String>, Failure> {
        let mut pem = String::new();
        for path in self.key.iter().chain(&self.certificate_chain) {
            pem.push_str(&fs::read_to_string(path).map_err(|error| {
                Failure::new(Exit::Usage, "BadPublicKey", format!("cannot read {}: {error}", path.display()))
            })?);
            pem.push('\n');
        }
        Ok((!pem.is_empty()).then_some(pem))
    }
}

struct ByItself {
    store: Store,
    state_dir: PathBuf,
    config: ConfigFile,
    trust: Option<String>,
    progress: watch::Sender<ImportProgress>,
    cancel: CancellationToken,
}

impl ByItself {
    fn import(&self, dir: &Path) -> Result<Imported, Failure> {
        let configured = self.config.bundle_trust_file.as_deref();
        let trusted = Trusted::find(self.trust.as_deref(), configured, &self.state_dir)?;
        let custody = Alone::new(&self.state_dir, self.store.clone());
        let (cancel, progress) = (&self.cancel, &self.progress);
        let importer =
            Importer { store: &self.store, custody: &custody, trusted: &trusted, cancel, progress };
        Ok(importer.import(dir)?)
    }
}

fn bad_config(error: &crate::config::ConfigError) -> Failure {
    Failure::new(Exit::Usage, "BadConfig", chain(error))
}

/// Files of another user would be in the agent's way.
fn check_user(state_dir: &Path) -> Result<(), Failure> {
    let owner = match fs::metadata(state_dir) {
        Ok(found) => found.uid(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let message = format!("cannot look at {}: {error}", state_dir.display());
            return Err(Failure::new(Exit::Disk, "DiskError", message));
        }
    };
    let user = rustix::process::geteuid().as_raw();
    if owner == user {
        return Ok(());
    }
    let message = format!(
        "{} belongs to user {owner}, and this is user {user}, whose files the agent could not use: run it as that user \
         (sudo -u '#{owner}' nave-agent import ...)",
        state_dir.display()
    );
    Err(Failure::new(Exit::Disk, "WrongUser", message))
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        import::Refused::from(&error).into()
    }
}

impl From<import::Refused> for Failure {
    fn from(refused: import::Refused) -> Self {
        let exit = match refused.class {
            import::Class::Refused => Exit::Refused,
            import::Class::Disk => Exit::Disk,
            import::Class::Interrupted => Exit::Interrupted,
            import::Class::Failed => Exit::Failed,
        };
        Self::new(exit, &refused.reason, refused.message)
    }
}

impl Done {
    fn in_words(&self) -> String {
        let Imported { source, generation, signer, versions } = &self.imported;
        let mut lines = vec![format!("{source}, generation {generation}, signed by {signer}")];
        for version in versions {
            let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
            let mut line = format!("  {} {} {}: ", version.model, version.version, version.digest);
            if version.already_there {
                line.push_str("was there already");
            } else {
                line.push_str(&format!("{}, verified", megabytes(version.bytes)));
                let from = [
                    (version.bytes_read, "read"),
                    (version.bytes_rebuilt, "rebuilt by the delta"),
                    (version.bytes_reused, "from versions that were there"),
                    (version.bytes_resumed, "from an earlier attempt"),
                ];
                let from = from.iter().filter(|(bytes, _)| *bytes > 0);
                let from: Vec<_> = from.map(|(bytes, how)| format!("{} {how}", megabytes(*bytes))).collect();
                line.push_str(&format!(" ({})", from.join(", ")));
            }
            lines.push(line);
        }
        let by = if self.by_agent { "imported by the running agent" } else { "imported" };
        lines.push(format!("{by} in {:.2} s", self.seconds));
        lines.join("\n")
    }
}
