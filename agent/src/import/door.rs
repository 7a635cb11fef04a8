//! The running agent's door for `nave-agent import`: a socket in the state folder that only the agent's own user can open.
//! The import then runs inside the agent, which has the store open and knows what is pulled meanwhile. A line of JSON asks,
//! lines of JSON answer; who hangs up has interrupted the import.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nave_runtime::{drain::Drain, error_text::chain};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, watch},
    task::JoinSet,
    time::timeout,
};

use super::{Custody, ImportError, ImportProgress, Imported, Importer, Running, Trusted, error::Class};
use crate::store::Store;

/// The most bytes of a question: a path, and authorities in PEM.
const MAX_QUESTION: u64 = 1 << 20;
/// Whoever opens the door has something to say.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two lines about progress.
const TELL: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    dir: PathBuf,
    /// PEM, if the asker says whom to trust.
    trust: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    Progress(ImportProgress),
    Done(Imported),
    Refused(Refused),
}

/// Why the agent did not import.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// In one CamelCase word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// What kind of trouble it is.
    pub class: Class,
}

impl From<&ImportError> for Refused {
    fn from(error: &ImportError) -> Self {
        Self { reason: error.reason().to_owned(), message: chain(error), class: error.class() }
    }
}

fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join("run").join("import.sock")
}

/// What the door leads to.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    inside: Arc<Inside>,
}

#[derive(Debug)]
struct Inside {
    state_dir: PathBuf,
    /// The configuration's, if it says whose bundles count.
    trust_file: Option<PathBuf>,
    store: Store,
    custody: Running,
    /// One import at a time.
    busy: Mutex<()>,
}

impl Door {
    /// Opens the door. The caller has the store open, so no other agent of this state folder runs.
    ///
    /// # Errors
    /// The socket cannot be made: a path that is too long for one, say.
    pub fn open(
        state_dir: &Path,
        trust_file: Option<PathBuf>,
        store: Store,
        custody: Running,
    ) -> io::Result<Self> {
        let path = socket(state_dir);
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            // It may have been there, made by another.
            fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        let state_dir = state_dir.to_owned();
        let inside = Inside { state_dir, trust_file, store, custody, busy: Mutex::default() };
        Ok(Self { listener, inside: Arc::new(inside) })
    }

    /// Answers until the agent drains; an import that is under way then stops, and keeps what it has.
    pub async fn serve(self, drain: Drain) {
        let mut guests = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = drain.started() => break,
                _ = guests.join_next(), if !guests.is_empty() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    drop(guests.spawn(answer(stream, Arc::clone(&self.inside), drain.clone())))
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a request to import");
                    tokio::time::sleep(TELL).await;
                }
            }
        }
        while guests.join_next().await.is_some() {}
    }
}

async fn answer(stream: UnixStream, inside: Arc<Inside>, drain: Drain) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let answer = match question(&mut reader).await {
        Ok(question) => import(&question, &inside, &drain, reader, &mut writer).await,
        Err(error) => {
            let message = format!("the agent did not understand: {error}");
            Answer::Refused(Refused { reason: "BadRequest".to_owned(), message, class: Class::Failed })
        }
    };
    if let Err(error) = write(&mut writer, &answer).await {
        tracing::debug!(%error, "whoever asked for an import has gone");
    }
}

async fn question(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Question> {
    let mut line = String::new();
    let mut limited = reader.take(MAX_QUESTION);
    timeout(PATIENCE, limited.read_line(&mut line)).await??;
    serde_json::from_str(&line).map_err(Into::into)
}

async fn import(
    question: &Question,
    inside: &Arc<Inside>,
    drain: &Drain,
    mut reader: BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> Answer {
    let Ok(_alone) = inside.busy.try_lock() else {
        let message = "another import is under way in this agent".to_owned();
        return Answer::Refused(Refused { reason: "ImportRunning".to_owned(), message, class: Class::Disk });
    };
    tracing::info!(folder = %question.dir.display(), "importing");
    let (progress, mut told) = watch::channel(ImportProgress::default());
    let cancel = drain.token().child_token();
    let mut work = {
        let (dir, trust) = (question.dir.clone(), question.trust.clone());
        let (inside, cancel) = (Arc::clone(inside), cancel.clone());
        tokio::task::spawn_blocking(move || {
            let trusted = Trusted::find(trust.as_deref(), inside.trust_file.as_deref(), &inside.state_dir)?;
            let (store, custody) = (&inside.store, &inside.custody as &dyn Custody);
            Importer { store, custody, trusted: &trusted, cancel: &cancel, progress: &progress }.import(&dir)
        })
    };
    let mut gone = false;
    let mut byte = [0];
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            // It says nothing more; this returns when it hangs up.
            _ = reader.read(&mut byte), if !gone => {
                gone = true;
                cancel.cancel();
            }
            Ok(()) = told.changed(), if !gone => {
                let line = Answer::Progress(*told.borrow_and_update());
                gone = write(writer, &line).await.is_err();
                tokio::time::sleep(TELL).await;
            }
        }
    };
    let outcome = done.unwrap_or_else(|error| Err(ImportError::Agent(error.to_string())));
    match outcome {
        Ok(imported) => {
            let (source, generation) = (&imported.source, imported.generation);
            tracing::info!(source, generation, signer = imported.signer, "bundle imported");
            Answer::Done(imported)
        }
        Err(error) => {
            tracing::warn!(reason = error.reason(), error = chain(&error), "bundle not imported");
            Answer::Refused(Refused::from(&error))
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// Asks the agent that runs on this state folder to import; `None` = none answers at its door.
///
/// # Errors
/// [`Refused`], in the agent's words.
pub async fn ask(
    state_dir: &Path,
    dir: PathBuf,
    trust: Option<String>,
    progress: &watch::Sender<ImportProgress>,
) -> Option<Result<Imported, Refused>> {
    let stream = UnixStream::connect(socket(state_dir)).await.ok()?;
    let asked = converse(stream, Question { dir, trust }, progress).await;
    Some(asked.unwrap_or_else(|error| {
        let message =
            format!("the agent went away while it imported: {error}; run again, it goes on where it stopped");
        Err(Refused { reason: "AgentGone".to_owned(), message, class: Class::Failed })
    }))
}

async fn converse(
    stream: UnixStream,
    question: Question,
    progress: &watch::Sender<ImportProgress>,
) -> io::Result<Result<Imported, Refused>> {
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Answer::Progress(now) => drop(progress.send_replace(now)),
            Answer::Done(imported) => return Ok(Ok(imported)),
            Answer::Refused(refused) => return Ok(Err(refused)),
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
