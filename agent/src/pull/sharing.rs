//! A pull's side of sharing with its site: S3 workers take what is theirs to fetch, readers take what peers have, and
//! what either brings is told to the site.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nave_manifest::{Blake3, FileEntry, Manifest};
use nave_names::{ClusterName, Digest};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    PullError,
    large::LargeFile,
    queue::{Candidate, Job, Queue},
    workers::{Crew, check_small, joined},
};
use crate::peers::{Bits, Layout, Neighbourhood, PeerTrouble, Reading, Reason, Running};

/// Reads from peers at once: enough to fill a gigabit LAN.
pub(super) const READERS: usize = 4;
/// The site is given this long to say who is there and what is whose, before the first byte comes from S3.
const SETTLE: Duration = Duration::from_millis(500);
/// The length of a range from S3 in company: short, so that what is claimed is soon there for the others.
const SHARED_RANGE: u64 = 2 << 20;
/// The length of a read from a peer.
const READ: u64 = 4 << 20;
/// How often is looked again where only time changes the answer.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What a crew needs to share.
#[derive(Debug)]
pub(super) struct Sharing {
    running: Running,
    /// One worker looks through the queue, the others wait for their turn to look.
    own_turn: tokio::sync::Mutex<()>,
    read_turn: tokio::sync::Mutex<()>,
}

/// Why a read brought nothing.
enum ReadEnd {
    Peer(PeerTrouble),
    Pull(PullError),
}

impl From<PeerTrouble> for ReadEnd {
    fn from(trouble: PeerTrouble) -> Self {
        Self::Peer(trouble)
    }
}

impl From<PullError> for ReadEnd {
    fn from(error: PullError) -> Self {
        Self::Pull(error)
    }
}

impl Sharing {
    /// Everything that is not in the queue is here already.
    pub(super) fn begin(
        neighbourhood: &Neighbourhood,
        digest: Digest,
        manifest: &Manifest,
        queue: &mut Queue,
    ) -> Option<Self> {
        let layout = Layout::of(manifest);
        let mut verified = Bits::all(layout.len());
        let small = queue.small().filter_map(|file| layout.file(&file.sha256));
        let large =
            queue.chunks().filter_map(|(file, chunk)| Some(layout.file(&file.entry.sha256)?.start + chunk));
        for chunk in small.flatten().chain(large) {
            verified.set(chunk, false);
        }
        let running = neighbourhood.begin(digest, layout, verified)?;
        queue.rotate(running.look(|view| view.key()));
        Some(Self {
            running,
            own_turn: tokio::sync::Mutex::default(),
            read_turn: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn verified_file(&self, sha256: &Digest) {
        self.running.verified(self.running.layout.file(sha256).into_iter().flatten());
    }

    pub(super) fn verified_chunk(&self, sha256: &Digest, chunk: usize) {
        self.running.verified(self.running.layout.file(sha256).map(|file| file.start + chunk));
    }

    /// So many chunks took so long from S3.
    pub(super) fn paced(&self, took: Duration, chunks: usize) {
        let chunks = u32::try_from(chunks.max(1)).unwrap_or(u32::MAX);
        self.running.look(|view| view.paced(took / chunks));
    }

    /// The bits of a candidate, and the hash that its owner is found by.
    fn place(&self, candidate: Candidate<'_>) -> Option<(std::ops::Range<usize>, Blake3)> {
        let layout = &self.running.layout;
        match candidate {
            Candidate::Small(file) => Some((layout.file(&file.sha256)?, file.blake3)),
            Candidate::Chunk(file, chunk) => {
                let bit = layout.file(&file.entry.sha256)?.start + chunk;
                Some((bit..bit + 1, file.chunks[chunk].blake3))
            }
        }
    }

    fn claim(&self, job: &Job) {
        let layout = &self.running.layout;
        match job {
            Job::Small(file) => self.running.claim(layout.file(&file.sha256).into_iter().flatten()),
            Job::Range { file, first, end } => {
                let start = layout.file(&file.entry.sha256).map(|file| file.start);
                self.running.claim(start.into_iter().flat_map(|start| start + first..start + end));
            }
            Job::Blocks { blocks, .. } => {
                self.running.claim(blocks.iter().filter_map(|block| {
                    Some(layout.file(&block.file.entry.sha256)?.start + block.record.chunk)
                }))
            }
        }
    }
}

impl Crew {
    /// What an S3 worker is to fetch next; waits while others fetch the rest. `None` = nothing is left.
    pub(super) async fn next_own(&self, sharing: &Sharing, length: u64) -> Option<Job> {
        let _turn = sharing.own_turn.lock().await;
        let mut changes = sharing.running.changes();
        loop {
            changes.mark_unchanged();
            if self.queue().is_exhausted() {
                return None;
            }
            let company = sharing.running.look(|view| view.has_company());
            let settled = !company || sharing.running.begun.elapsed() >= SETTLE;
            let has_room = self.recovery.limiter.has_room();
            if settled && has_room {
                let length = if company { length.min(SHARED_RANGE) } else { length };
                if let Some(job) = self.pick_own(sharing, length) {
                    sharing.claim(&job);
                    return Some(job);
                }
            }
            tokio::select! {
                () = look_again(&mut changes) => {}
                () = self.recovery.limiter.room(), if !has_room => {}
            }
        }
    }

    fn pick_own(&self, sharing: &Sharing, length: u64) -> Option<Job> {
        let now = Instant::now();
        let mut queue = self.queue();
        // A delta is small beside its chunks: whoever holds the base takes it, and has the chunks for the others.
        if let Some(blocks) = queue.take_blocks(length) {
            return Some(blocks);
        }
        sharing.running.look(|view| {
            view.reasons(now).into_iter().find_map(|reason| {
                // What is another's is taken over one by one.
                let length = if reason == Reason::Own { length } else { 0 };
                queue.take_where(length, |candidate| {
                    let place = sharing.place(candidate);
                    place.is_some_and(|(chunks, blake3)| view.may_fetch(reason, &chunks, &blake3, now))
                })
            })
        })
    }

    /// Reads what peers have, until nothing is left.
    pub(super) async fn read_from_peers(self: Arc<Self>) -> Result<(), PullError> {
        let Some(sharing) = &self.sharing else { return Ok(()) };
        while let Some((peer, job)) = self.next_read(sharing).await {
            let outcome = self.read(sharing, &peer, &job).await;
            sharing.running.look(|view| view.end_read(&peer));
            let left = match outcome {
                Ok(()) => None,
                Err(ReadEnd::Peer(trouble)) => {
                    self.blame(sharing, &peer, &job, &trouble);
                    Some(job)
                }
                Err(ReadEnd::Pull(error)) => return Err(error),
            };
            self.queue().settle(left);
            sharing.running.tell();
        }
        Ok(())
    }

    async fn next_read(&self, sharing: &Sharing) -> Option<(ClusterName, Job)> {
        let _turn = sharing.read_turn.lock().await;
        let mut changes = sharing.running.changes();
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.pick_read(sharing) {
                return Some(found);
            }
            if self.queue().is_exhausted() {
                return None;
            }
            look_again(&mut changes).await;
        }
    }

    fn pick_read(&self, sharing: &Sharing) -> Option<(ClusterName, Job)> {
        let now = Instant::now();
        let mut queue = self.queue();
        sharing.running.look(|view| {
            let mut peer: Option<ClusterName> = None;
            let job = queue.lend_where(READ, |candidate| {
                let Some((chunks, _)) = sharing.place(candidate) else { return false };
                if let Some(peer) = &peer {
                    return view.has(peer, &chunks);
                }
                peer = view.holder(chunks, now).cloned();
                peer.is_some()
            })?;
            let peer = peer?;
            view.begin_read(&peer);
            Some((peer, job))
        })
    }

    async fn read(&self, sharing: &Sharing, peer: &ClusterName, job: &Job) -> Result<(), ReadEnd> {
        match job {
            Job::Small(file) => self.read_small(sharing, peer, file).await,
            Job::Range { file, first, end } => self.read_range(sharing, peer, file, *first..*end).await,
            Job::Blocks { .. } => Err(PeerTrouble::Absent("deltas come from S3".to_owned()).into()),
        }
    }

    async fn read_small(
        &self,
        sharing: &Sharing,
        peer: &ClusterName,
        file: &Arc<FileEntry>,
    ) -> Result<(), ReadEnd> {
        let mut pieces = Vec::new();
        if file.size > 0 {
            let what = (&sharing.running.digest, &file.sha256);
            let mut reading =
                Reading::begin(sharing.running.neighbourhood(), peer, what, (0, file.size)).await?;
            while let Some(piece) = reading.next().await? {
                pieces.push(piece);
            }
        }
        let (staging, kept) = (Arc::clone(&self.staging), Arc::clone(file));
        let keep = move || match check_small(&kept, &pieces) {
            Some(_) => Ok(false),
            None => staging.write_small(&kept, &pieces).map(|()| true),
        };
        if !joined(spawn_blocking(keep).await)? {
            return Err(PeerTrouble::Lied.into());
        }
        self.recovery.urls.finish(&file.path);
        self.count_read(sharing, file.size);
        self.recovery.meter.change(|progress| progress.files_done += 1);
        sharing.verified_file(&file.sha256);
        Ok(())
    }

    async fn read_range(
        &self,
        sharing: &Sharing,
        peer: &ClusterName,
        file: &Arc<LargeFile>,
        chunks: std::ops::Range<usize>,
    ) -> Result<(), ReadEnd> {
        let offset = file.chunks[chunks.start].offset;
        let length = file.chunks[chunks.end - 1].end() - offset;
        let what = (&sharing.running.digest, &file.entry.sha256);
        let mut reading =
            Reading::begin(sharing.running.neighbourhood(), peer, what, (offset, length)).await?;
        let mut piece = Bytes::new();
        for index in chunks {
            let length = file.chunks[index].length as usize;
            let (mut pieces, mut have) = (Vec::new(), 0);
            while have < length {
                if piece.is_empty() {
                    piece = reading.next().await?.ok_or(PeerTrouble::Lied)?;
                }
                let taken = piece.split_to(piece.len().min(length - have));
                have += taken.len();
                pieces.push(taken);
            }
            let kept = Arc::clone(file);
            let wrong = joined(spawn_blocking(move || kept.keep(index, &pieces)).await)?;
            if wrong.is_some() {
                return Err(PeerTrouble::Lied.into());
            }
            self.count_read(sharing, length as u64);
            sharing.verified_chunk(&file.entry.sha256, index);
        }
        Ok(())
    }

    fn count_read(&self, sharing: &Sharing, bytes: u64) {
        sharing.running.neighbourhood().metrics().peer_read_bytes.inc_by(bytes);
        self.recovery.meter.moved();
        self.recovery.meter.change(|progress| {
            progress.bytes_done += bytes;
            progress.bytes_from_peers += bytes;
        });
    }

    /// Names a peer that was of no use, and leaves it alone for a while, or for good.
    fn blame(&self, sharing: &Sharing, peer: &ClusterName, job: &Job, trouble: &PeerTrouble) {
        let object = match job {
            Job::Small(file) => &file.path,
            Job::Range { file, .. } => &file.entry.path,
            Job::Blocks { delta, .. } => &delta.path,
        };
        let running = &sharing.running;
        running.look(|view| view.blame(peer, trouble, Instant::now()));
        let cause = match trouble {
            PeerTrouble::Lied => {
                tracing::warn!(%peer, %object, "a peer of this site served wrong bytes: it is left alone, the chunk comes from elsewhere");
                self.recovery.meter.change(|progress| progress.corrupt_chunks += 1);
                "WrongBytes"
            }
            PeerTrouble::Slow => {
                tracing::info!(%peer, %object, "a peer of this site is slow: the chunk comes from elsewhere");
                "Slow"
            }
            PeerTrouble::Failed(problem) | PeerTrouble::Absent(problem) => {
                tracing::info!(%peer, %object, problem, "a peer of this site gave nothing: the chunk comes from elsewhere");
                "Failed"
            }
        };
        running.neighbourhood().metrics().peer_trouble(cause);
        self.recovery.meter.change(|progress| progress.trouble = format!("peer {peer}: {trouble}"));
    }

    /// Keeps the site told whether this spoke fetches from S3: it does not while its window is closed.
    pub(super) async fn tell_windows(self: Arc<Self>) {
        let Some(sharing) = &self.sharing else { return };
        loop {
            self.recovery.limiter.open().await;
            sharing.running.set_fetching(true);
            self.recovery.limiter.closed().await;
            sharing.running.set_fetching(false);
        }
    }
}

async fn look_again(changes: &mut watch::Receiver<()>) {
    tokio::select! {
        // The sender lives as long as the pull does.
        _ = changes.changed() => {}
        () = sleep(LOOK_AGAIN) => {}
    }
}

#[cfg(test)]
#[path = "sharing_tests.rs"]
mod tests;
