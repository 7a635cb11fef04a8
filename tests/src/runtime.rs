//! A site's serving runtime, as the runtime `hook` talks to one: told by a POST or by a command what to serve, asked at a
//! health URL whether it does. It notes what it was told together with the digest of the weights that it found there, and a
//! test says which versions do not come up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{self, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::weights;

/// The file of a version that is looked at.
const WEIGHTS: &str = "weights.bin";

/// The runtimes of several sites in one server; ends when dropped.
#[derive(Debug)]
pub struct HookRuntime {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Where sites that are told by a command keep what they were told.
    notes: BTreeMap<String, PathBuf>,
    _stop: DropGuard,
}

/// What a runtime was told once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookCall {
    /// `activate` or `deactivate`.
    pub action: String,
    /// Of which model.
    pub model: String,
    /// Which version.
    pub version: String,
    /// SHA-256 of the `weights.bin` that lay there at that moment, in hex.
    pub weights: String,
}

#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<BTreeMap<String, Vec<HookCall>>>,
    broken: Mutex<BTreeSet<(String, String)>>,
}

#[derive(Deserialize)]
struct Told {
    action: String,
    model: String,
    version: String,
    path: PathBuf,
}

impl HookRuntime {
    /// Starts the server.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Arc::<Shared>::default();
        let router = Router::new()
            .route("/hook/{site}", post(told))
            .route("/health/{site}/{version}", get(health))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("listening for hooks")?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let serve = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::warn!(%error, "the hook's server broke");
            }
        });
        Ok(Self { address, shared, notes: BTreeMap::new(), _stop: stop.drop_guard() })
    }

    /// For the agent's configuration: told by a POST.
    pub fn told_by_post(&self, site: &str) -> String {
        self.configuration(site, &format!("url: \"http://{}/hook/{site}\"", self.address))
    }

    /// For the agent's configuration: told by a command, whose notes lie in `folder`.
    ///
    /// # Errors
    /// The command cannot be written.
    pub fn told_by_command(&mut self, site: &str, folder: &Path) -> anyhow::Result<String> {
        let (script, notes) =
            (folder.join(format!("{site}-hook.sh")), folder.join(format!("{site}-hook.log")));
        let text = format!(
            "#!/bin/sh\nset -e\nsum=$(sha256sum \"$NAVE_PATH/{WEIGHTS}\")\n\
             echo \"$NAVE_ACTION $NAVE_MODEL $NAVE_VERSION ${{sum%% *}}\" >> '{}'\n",
            notes.display()
        );
        fs::write(&script, text).with_context(|| format!("writing {}", script.display()))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        self.notes.insert(site.to_owned(), notes);
        Ok(self.configuration(site, &format!("command: [\"{}\"]", script.display())))
    }

    fn configuration(&self, site: &str, how: &str) -> String {
        let health = format!("http://{}/health/{site}/{{version}}", self.address);
        format!("runtimes: {{files: {{}}, hook: {{{how}, healthUrl: \"{health}\", timeout: 20s}}}}\n")
    }

    /// From now on the version does not come up at the site.
    pub fn break_version(&self, site: &str, version: &str) {
        lock(&self.shared.broken).insert((site.to_owned(), version.to_owned()));
    }

    /// From now on it does again.
    pub fn mend_version(&self, site: &str, version: &str) {
        lock(&self.shared.broken).remove(&(site.to_owned(), version.to_owned()));
    }

    /// What the site's runtime was told so far.
    ///
    /// # Errors
    /// The notes of a command cannot be read.
    pub fn calls(&self, site: &str) -> anyhow::Result<Vec<HookCall>> {
        let Some(notes) = self.notes.get(site) else {
            return Ok(lock(&self.shared.calls).get(site).cloned().unwrap_or_default());
        };
        let text = match fs::read_to_string(notes) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", notes.display())),
        };
        text.lines().map(noted).collect()
    }
}

fn noted(line: &str) -> anyhow::Result<HookCall> {
    let words: Vec<&str> = line.split(' ').collect();
    let [action, model, version, weights] = words[..] else { anyhow::bail!("a hook noted {line:?}") };
    let [action, model, version, weights] = [action, model, version, weights].map(str::to_owned);
    Ok(HookCall { action, model, version, weights })
}

async fn told(
    State(shared): State<Arc<Shared>>,
    extract::Path(site): extract::Path<String>,
    Json(told): Json<Told>,
) -> (StatusCode, String) {
    let Told { action, model, version, path } = told;
    match weights::file_digest(&path.join(WEIGHTS)) {
        Ok(weights) => {
            let call = HookCall { action, model, version, weights };
            lock(&shared.calls).entry(site).or_default().push(call);
            (StatusCode::OK, String::new())
        }
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}")),
    }
}

async fn health(
    State(shared): State<Arc<Shared>>,
    extract::Path(asked): extract::Path<(String, String)>,
) -> StatusCode {
    if lock(&shared.broken).contains(&asked) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
