//! Objects that no manifest describes: fetched as they are listed, and described once they are here. What can be known of
//! them is checked: each one's size, and by its ETag that all of it is of one state. Whether they are what somebody meant
//! is not known to anyone.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use nave_manifest::Manifest;
use nave_names::{Digest, RelativePath};
use tokio::task::{JoinSet, spawn_blocking};

use super::{
    PullError, PullRequest, Puller, Stage,
    fetch::Part as Asked,
    in_order::InOrder,
    recovery::Recovery,
    run::blocking,
    trouble::{Failure, Streak, Trouble},
    workers::joined,
};
use crate::store::{Part, Promise, Rough, RoughError, Store, StoreError};

/// Fetched over one connection, flushed, and noted as there. Nothing else says whether its bytes are right, so it is noted
/// only when the disk has them.
const PIECE: u64 = 8 << 20;

/// Smaller files are fetched again after an interruption: a flush for each of many would cost more.
const NOTED: u64 = 1 << 20;

/// One object as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Below what is pulled.
    pub path: RelativePath,
    /// In bytes.
    pub size: u64,
    /// Its state, where the list says it.
    pub e_tag: Option<String>,
}

/// A file on its way.
#[derive(Debug)]
struct Plain {
    listed: Listed,
    part: Part,
    hashed: InOrder,
}

/// What the workers share.
struct Work {
    recovery: Recovery,
    pieces: Mutex<VecDeque<(Arc<Plain>, u64)>>,
}

struct Prepared {
    rough: Rough,
    files: Vec<Arc<Plain>>,
    pieces: VecDeque<(Arc<Plain>, u64)>,
    _promise: Promise,
}

/// What identifies a list: another state of an object makes another list.
pub fn list_digest(listed: &[Listed]) -> Digest {
    let known: Vec<_> = listed.iter().flat_map(|one| *Digest::as_bytes(&one.known())).collect();
    Digest::of(&known)
}

impl Listed {
    fn known(&self) -> Digest {
        let e_tag = self.e_tag.as_deref().unwrap_or_default();
        Digest::of(format!("{}\n{}\n{e_tag}", self.path, self.size).as_bytes())
    }

    fn pieces(&self) -> usize {
        usize::try_from(self.size.div_ceil(PIECE)).unwrap_or(usize::MAX)
    }
}

impl Puller {
    /// Fetches objects that have no manifest and makes one of what arrived; the version is in the store then. `request`
    /// has the digest of the list. The next call with the same list goes on where this one stopped.
    ///
    /// # Errors
    /// [`PullError`], with a reason in one word.
    pub async fn pull_listed(
        &self,
        request: PullRequest,
        listed: Vec<Listed>,
    ) -> Result<Manifest, PullError> {
        let list = request.manifest_digest;
        let recovery = self.recovery(request);
        recovery.meter.stage(Stage::Checking);
        let store = self.store().clone();
        let (recovery, prepared) =
            blocking(move || prepare(&store, &list, listed, &recovery).map(|prepared| (recovery, prepared)))
                .await?;
        let Prepared { rough, files, pieces, _promise } = prepared;
        recovery.meter.stage(Stage::Fetching);
        recovery.urls.announce(files.iter().map(|file| file.listed.path.clone()));
        let workers = recovery.limiter.max_ranges();
        let work = Arc::new(Work { recovery, pieces: Mutex::new(pieces) });
        let mut tasks = JoinSet::new();
        tasks.spawn(hash_earlier(files.clone()));
        (0..workers).for_each(|_| drop(tasks.spawn(Arc::clone(&work).work())));
        while let Some(done) = tasks.join_next().await {
            done.map_err(|_| PullError::Cancelled)??;
        }
        work.recovery.meter.stage(Stage::Publishing);
        let published = spawn_blocking(move || {
            let entries =
                files.iter().map(|file| file.hashed.finish(&file.part)).collect::<Result<_, _>>()?;
            rough.publish(entries, files.iter().map(|file| &file.part))
        });
        let manifest = match published.await.map_err(|_| PullError::Cancelled)? {
            Ok(manifest) => manifest,
            Err(RoughError::Store(error)) => return Err(error.into()),
            Err(RoughError::Manifest(source)) => {
                return Err(PullError::ManifestRefused { digest: list, source });
            }
        };
        work.recovery.meter.change(|progress| progress.files_done = progress.files_total);
        work.recovery.meter.stage(Stage::Complete);
        Ok(manifest)
    }
}

/// Sets the room aside and finds out what an interrupted pull has left.
fn prepare(
    store: &Store,
    list: &Digest,
    listed: Vec<Listed>,
    recovery: &Recovery,
) -> Result<Prepared, StoreError> {
    let rough = Rough::open(store, list);
    let missing = listed.iter().map(|one| one.size - rough.allocated(&one.known(), one.size)).sum();
    let mut promise = store.promise(missing)?;
    rough.begin()?;
    recovery.meter.change(|progress| {
        progress.bytes_total = listed.iter().map(|one| one.size).sum();
        progress.files_total = listed.len() as u64;
    });
    let (mut files, mut pieces) = (Vec::new(), VecDeque::new());
    for listed in listed {
        let (part, there) = rough.part(&listed.known(), listed.size, listed.pieces())?;
        if listed.size > 0 {
            part.reserve(listed.size)?;
        }
        promise.settle(listed.size);
        let hashed = InOrder::new(&listed.path, listed.size, PIECE, &there);
        let file = Arc::new(Plain { listed, part, hashed });
        for index in 0..file.listed.pieces() as u64 {
            let begin = index * PIECE;
            if u32::try_from(index).is_ok_and(|index| there.binary_search(&index).is_ok()) {
                let length = PIECE.min(file.listed.size - begin);
                recovery.meter.change(|progress| {
                    progress.bytes_done += length;
                    progress.bytes_resumed += length;
                });
            } else {
                pieces.push_back((Arc::clone(&file), begin));
            }
        }
        files.push(file);
    }
    Ok(Prepared { rough, files, pieces, _promise: promise })
}

/// What an earlier attempt has left is hashed while the rest arrives.
async fn hash_earlier(files: Vec<Arc<Plain>>) -> Result<(), PullError> {
    joined(spawn_blocking(move || files.iter().try_for_each(|file| file.hashed.advance(&file.part))).await)
}

impl Work {
    async fn work(self: Arc<Self>) -> Result<(), PullError> {
        loop {
            let next = self.pieces.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((file, begin)) = next else { return Ok(()) };
            let mut streak = Streak::default();
            loop {
                self.recovery.wait_for_window().await;
                match self.fetch(&file, begin).await {
                    Ok(()) => break,
                    Err(failure) => self.recovery.recover(&file.listed.path, failure, &mut streak).await?,
                }
            }
        }
    }

    /// One attempt at one piece.
    async fn fetch(&self, file: &Arc<Plain>, begin: u64) -> Result<(), Failure> {
        let Listed { path, size, e_tag } = &file.listed;
        let end = (begin + PIECE).min(*size);
        let asked = Asked::Range { begin, end, size: *size };
        let slot = self.recovery.limiter.slot(self.recovery.rank).await;
        let client = self.recovery.client(false)?;
        let mut body = self.recovery.fetcher().get_if(client, path, asked, e_tag.as_deref()).await?;
        // A server that ignores ranges sends everything: what lies before is not kept, and what comes after not read.
        let mut at = if body.whole { 0 } else { begin };
        let mut pieces: Vec<Bytes> = Vec::new();
        while at < end
            && let Some(mut piece) = body.next().await?
        {
            let length = piece.len() as u64;
            let skip = usize::try_from(begin.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
            let keep = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
            if skip < keep {
                piece.truncate(keep);
                pieces.push(piece.slice(skip..));
            }
            at += length;
        }
        if at < end {
            return Err(Trouble::Short { missing: end - at }.into());
        }
        // What is left to do takes nothing from the link.
        drop((body, slot));
        let (written, index) = (Arc::clone(file), u32::try_from(begin / PIECE).unwrap_or(u32::MAX));
        let noted = *size >= NOTED;
        let write = move || {
            written.part.write(begin, &pieces)?;
            if noted {
                written.part.flush()?;
                written.part.record(index)?;
            }
            written.hashed.arrived(index, &written.part)
        };
        joined(spawn_blocking(write).await)?;
        self.recovery.meter.moved();
        self.recovery.meter.change(|progress| progress.bytes_done += end - begin);
        Ok(())
    }
}
