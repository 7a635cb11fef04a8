//! The start: reads the ledger and the records, looks at what is on disk, and believes the disk where they differ.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use nave_agent_plan::{Active, Attempts, Folder, Imports, Inventory, Ledger, ModelInventory, Record, Shelf};
use nave_names::{Digest, ModelName, Namespace, PolicyName};
use nave_runtime::drain::Drain;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Clock, Executor, Spoke, look::look, pulls::Pulls};
use crate::{
    activate::{ActivateError, Activator, FILES, HOOK, ModelScan, scan_all},
    config::Config,
    metrics::Metrics,
    observed::{Condition, Observed},
    pull::Puller,
    session::UrlDesk,
    state::{self, Found, Records, StateError, StateFile},
    store::StoreError,
};

/// A desired set waits here while the executor starts steps; the session tells one at a time.
const TOLD: usize = 4;

/// Whose a model is that was found without a record: nobody's whom the hub knows.
const UNKNOWN: &str = "unknown";

/// What the executor is made of.
#[derive(Debug)]
pub struct Parts {
    /// Folders and runtimes.
    pub config: Arc<Config>,
    /// Lays out and switches.
    pub activator: Activator,
    /// Gets weights.
    pub puller: Arc<Puller>,
    /// Gets URLs.
    pub desk: UrlDesk,
    /// Counted.
    pub metrics: Metrics,
    /// The end.
    pub drain: Drain,
}

/// The agent's state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Ledger or records.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The models folder.
    #[error("cannot look through the models folder")]
    Scan(#[from] ActivateError),
}

impl Executor {
    /// Reads everything; blocking. Gives the task, its front, and what it publishes.
    ///
    /// # Errors
    /// See [`BeginError`].
    pub fn begin(parts: Parts) -> Result<(Self, Spoke, watch::Receiver<Arc<Observed>>), BeginError> {
        let ledger_file = state::ledger(&parts.config.state_dir);
        let serving_file = state::serving(&parts.config.state_dir);
        let ledger = state::load_ledger(&ledger_file)?;
        let imports_file = state::imports(&parts.config.state_dir);
        let imports = load_imports(&imports_file)?;
        let store = parts.activator.store();
        let held = store.held()?;
        let scans = scan_all(store, parts.activator.models())?;
        let records = match serving_file.load::<Records>()? {
            Found::Kept(records) => records,
            Found::Nothing => Records::new(),
            Found::Corrupt(problem) => {
                tracing::warn!(problem, "the record of what is served is corrupt: taking it from the links");
                rebuild(&scans, &held, &ledger)
            }
        };
        let inventory = Inventory {
            held: held.into_iter().collect(),
            partial: store.unfinished()?.into_iter().collect(),
            signed: [].into(),
            shelf: Shelf::default(),
            imported: imports.waiting().clone(),
            importing: [].into(),
            models: join(records, scans),
            runtimes: runtimes(&parts.config),
            attempts: Attempts::default(),
            running: [].into(),
        };
        let (sender, told) = mpsc::channel(TOLD);
        let (notify, notices) = mpsc::channel(1);
        let (observed, published) = watch::channel(Arc::new(Observed::default()));
        let mut executor = Self {
            ledger_file,
            serving_file,
            ledger,
            imports_file,
            imports,
            inventory,
            roots: None,
            activator: parts.activator,
            pulls: Pulls::new(parts.puller),
            desk: parts.desk,
            tasks: JoinSet::new(),
            jobs: [].into(),
            serving: Condition::Unknown,
            storage_trouble: None,
            room: Condition::Unknown,
            tiers: String::new(),
            blocked: None,
            move_gives_way: CancellationToken::new(),
            observed,
            told,
            notices,
            metrics: parts.metrics,
            clock: Clock { wall: Timestamp::now(), at: Instant::now() },
            drain: parts.drain,
        };
        executor.log_found();
        executor.looked(look(executor.activator.store()));
        let plan = nave_agent_plan::plan(&executor.ledger, &executor.inventory, executor.clock.now());
        executor.publish(&plan);
        Ok((executor, Spoke { told: sender, notify }, published))
    }

    fn log_found(&self) {
        for (model, state) in &self.inventory.models {
            let Some(serving) = &state.record.serving else { continue };
            if state.serves(serving) {
                tracing::info!(%model, version = %serving.version, digest = %serving.digest, "serving, as before");
            } else {
                tracing::warn!(%model, version = %serving.version, "what was served is damaged or its link is gone");
            }
        }
    }
}

fn load_imports(file: &StateFile) -> Result<Imports, StateError> {
    Ok(match file.load()? {
        Found::Kept(imports) => imports,
        Found::Nothing => Imports::default(),
        Found::Corrupt(problem) => {
            tracing::warn!(
                problem,
                "the record of imported bundles is corrupt: versions that nobody asked for yet may go, and older bundles \
                 are taken again"
            );
            Imports::default()
        }
    })
}

fn runtimes(config: &Config) -> std::collections::BTreeSet<String> {
    let files = config.files.then(|| FILES.to_owned());
    let hook = config.hook.as_ref().map(|_| HOOK.to_owned());
    files.into_iter().chain(hook).collect()
}

fn join(records: Records, scans: BTreeMap<ModelName, ModelScan>) -> BTreeMap<ModelName, ModelInventory> {
    let mut models: BTreeMap<ModelName, ModelInventory> = BTreeMap::new();
    for (model, record) in records {
        models.entry(model).or_default().record = record;
    }
    for (model, scan) in scans {
        let state = models.entry(model).or_default();
        state.folders = scan.folders;
        state.linked = scan.linked;
    }
    models
}

/// Records from the links and the ledger. What nobody knows of is kept: its owner may have asked for that.
fn rebuild(scans: &BTreeMap<ModelName, ModelScan>, held: &[Digest], ledger: &Ledger) -> Records {
    let mut records = Records::new();
    for (model, scan) in scans {
        let Some(linked) = &scan.linked else { continue };
        let Some(digest) = held.iter().find(|digest| linked.is_of(digest)) else { continue };
        let entry = ledger
            .entries()
            .iter()
            .find(|entry| entry.key.model == *model && entry.manifest_digest == *digest);
        if let Some(serving) = entry.map(Active::of).or_else(|| stranger(linked, digest)) {
            records.insert(model.clone(), Record { serving: Some(serving), ..Record::default() });
        }
    }
    records
}

fn stranger(linked: &Folder, digest: &Digest) -> Option<Active> {
    Some(Active {
        namespace: Namespace::new(UNKNOWN).ok()?,
        policy: PolicyName::new(UNKNOWN).ok()?,
        version: linked.version().clone(),
        digest: *digest,
        runtime: FILES.to_owned(),
        keep_on_removal: true,
    })
}
