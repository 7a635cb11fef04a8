//! One pull from its first to its last step, in this order and never another: manifest, what is there already, room on
//! the disk, fetch, verify, publish.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use nave_manifest::Manifest;
use nave_names::Digest;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
};

use super::{
    Progress, PullError, Stage,
    blocks::Rebuild,
    delta,
    large::LargeFile,
    limiter::Rank,
    manifest_fetch::fetch_manifest,
    queue::{Queue, SMALL},
    recovery::Recovery,
    sharing::{READERS, Sharing},
    workers::Crew,
};
use crate::peers::Neighbourhood;
use crate::store::{ChunkIndex, Promise, Staging, Store, StoreError};

/// Files whose SHA-256 is computed at the same time: two processors' worth, and a bound for the memory.
const HASH_TURNS: usize = 2;
/// How often the number of ranges in flight is told.
const TELL: Duration = Duration::from_millis(500);

/// What the disk already has, and what is left to fetch.
struct Prepared {
    queue: Queue,
    large: Vec<Arc<LargeFile>>,
    /// Kept until the pull ends.
    _promise: Promise,
}

/// Runs all steps. Dropping the future stops the pull; what was verified until then stays in staging.
pub(super) async fn run(
    store: Store,
    mut recovery: Recovery,
    digest: Digest,
    neighbourhood: Option<&Neighbourhood>,
) -> Result<Progress, PullError> {
    let manifest = match blocking({
        let store = store.clone();
        move || Ok(Staging::earlier_manifest(&store, &digest))
    })
    .await?
    {
        Some(manifest) => manifest,
        None => fetch_manifest(&recovery, Some(&digest)).await?,
    };
    recovery.rank = Rank { priority: recovery.rank.priority, size: manifest.total_size() };
    recovery.meter.stage(Stage::Checking);
    let manifest = Arc::new(manifest);
    let staging = Arc::new(Staging::open(&store, Arc::clone(&manifest)));
    let (recovery, prepared) = blocking({
        let staging = Arc::clone(&staging);
        move || prepare(&staging, &recovery).map(|prepared| (recovery, prepared))
    })
    .await?;

    recovery.meter.stage(Stage::Fetching);
    let Prepared { queue, large, _promise } = prepared;
    let mut queue = with_delta(&recovery, &staging, queue, &large).await?;
    let sharing = neighbourhood.and_then(|site| Sharing::begin(site, digest, &manifest, &mut queue));
    announce(&recovery, &queue);
    let workers = recovery.limiter.max_ranges();
    let crew = Arc::new(Crew { recovery, staging: Arc::clone(&staging), queue: Mutex::new(queue), sharing });
    fetch_all(&crew, workers, large).await?;

    crew.recovery.meter.stage(Stage::Publishing);
    blocking(move || staging.publish()).await?;
    crew.recovery.meter.stage(Stage::Complete);
    Ok(crew.recovery.meter.now())
}

/// Finds out what is there: whole files in the store, chunks of an interrupted pull, chunks of other versions. Sets the
/// room for the rest aside.
fn prepare(staging: &Staging, recovery: &Recovery) -> Result<Prepared, StoreError> {
    let manifest = staging.manifest();
    let missing = staging.missing();
    report_present(manifest, &missing, recovery);
    let promise = staging.store().promise(staging.needed(&missing));
    // Where there is no room for the weights there may be some for the manifest: the next try needs nobody to find out.
    let begun = staging.begin();
    let mut promise = promise?;
    begun?;

    let mut queue = Queue::default();
    let mut large = Vec::new();
    for file in missing {
        if file.size <= SMALL {
            match staging.earlier_small(&file) {
                Some(bytes) if Digest::of(&bytes) == file.sha256 => {
                    staging.mark_verified(file.sha256);
                    recovery.meter.change(|progress| {
                        progress.bytes_done += file.size;
                        progress.bytes_resumed += file.size;
                        progress.files_done += 1;
                    });
                }
                Some(_) | None => queue.push_small(file),
            }
            continue;
        }
        let (part, named) = staging.part(&file)?;
        let size = file.size;
        part.reserve(size)?;
        promise.settle(size);
        let file = Arc::new(LargeFile::new(file, part));
        resume(&file, &named, recovery)?;
        large.push(file);
    }
    reuse(staging.store(), &large, recovery)?;
    large.iter().for_each(|file| queue.push_large(file));
    Ok(Prepared { queue, large, _promise: promise })
}

fn report_present(manifest: &Manifest, missing: &[nave_manifest::FileEntry], recovery: &Recovery) {
    let absent: u64 = missing.iter().map(|file| file.size).sum();
    recovery.meter.change(|progress| {
        progress.bytes_total = manifest.total_size();
        progress.files_total = manifest.files().len() as u64;
        progress.files_done = progress.files_total - missing.len() as u64;
        progress.bytes_done = progress.bytes_total - absent;
        progress.bytes_reused = progress.bytes_done;
    });
}

/// Hashes what an interrupted pull says it has written.
fn resume(file: &LargeFile, named: &[u32], recovery: &Recovery) -> Result<(), StoreError> {
    let mut buffer = Vec::new();
    for &index in named {
        if file.accept_earlier(index as usize, &mut buffer)? {
            let length = u64::from(file.chunks[index as usize].length);
            recovery.meter.change(|progress| {
                progress.bytes_done += length;
                progress.bytes_resumed += length;
            });
        }
    }
    Ok(())
}

/// Copies chunks that other versions in the store have.
fn reuse(store: &Store, large: &[Arc<LargeFile>], recovery: &Recovery) -> Result<(), StoreError> {
    let missing = || large.iter().flat_map(|file| file.missing().into_iter().map(move |index| (file, index)));
    let wanted: HashSet<_> = missing().map(|(file, index)| file.chunks[index].blake3).collect();
    let index_of_store = ChunkIndex::of(store, &wanted)?;
    if index_of_store.is_empty() {
        return Ok(());
    }
    for (file, index) in missing().collect::<Vec<_>>() {
        let chunk = file.chunks[index];
        let Some(bytes) = index_of_store.read(store, &chunk.blake3, chunk.length) else { continue };
        file.accept(index, &[bytes])?;
        recovery.meter.change(|progress| {
            progress.bytes_done += u64::from(chunk.length);
            progress.bytes_reused += u64::from(chunk.length);
        });
    }
    Ok(())
}

/// Finds out whether a delta is smaller than what is missing, and has it rebuild what it can.
async fn with_delta(
    recovery: &Recovery,
    staging: &Staging,
    queue: Queue,
    large: &[Arc<LargeFile>],
) -> Result<Queue, PullError> {
    let manifest = staging.manifest();
    let Some(delta) = delta::find(recovery, staging.store(), manifest, queue.large_bytes()).await? else {
        return Ok(queue);
    };
    let files: HashMap<_, _> = large.iter().map(|file| (&file.entry.path, file)).collect();
    let blocks = delta.records().iter().filter_map(|&record| {
        let file = files.get(&manifest.files()[record.file].path)?;
        (!file.is_done(record.chunk)).then(|| Rebuild { file: Arc::clone(file), record })
    });
    let blocks = blocks.collect();
    Ok(queue.with_delta(delta, blocks, large))
}

fn announce(recovery: &Recovery, queue: &Queue) {
    let small = queue.small().map(|file| file.path.clone());
    let large = queue.large().map(|file| file.entry.path.clone());
    recovery.urls.announce(small.chain(large));
}

/// Fetches everything and compares every file with its SHA-256. The first error ends all.
async fn fetch_all(crew: &Arc<Crew>, workers: u32, large: Vec<Arc<LargeFile>>) -> Result<(), PullError> {
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        tasks.spawn(Arc::clone(crew).work());
    }
    let mut beside = JoinSet::new();
    if crew.sharing.is_some() {
        (0..READERS).for_each(|_| drop(tasks.spawn(Arc::clone(crew).read_from_peers())));
        beside.spawn(Arc::clone(crew).tell_windows());
    }
    let turns = Arc::new(Semaphore::new(HASH_TURNS));
    for file in large {
        let (crew, turns) = (Arc::clone(crew), Arc::clone(&turns));
        tasks.spawn(async move {
            Arc::clone(&file).hash_in_order(turns).await?;
            crew.staging.mark_verified(file.entry.sha256);
            crew.recovery.urls.finish(&file.entry.path);
            crew.recovery.meter.change(|progress| progress.files_done += 1);
            Ok(())
        });
    }
    let mut tell = tokio::time::interval(TELL);
    loop {
        tokio::select! {
            done = tasks.join_next() => match done {
                None => return Ok(()),
                Some(done) => done.map_err(|_| PullError::Cancelled)??,
            },
            _ = tell.tick() => {
                let ranges = crew.recovery.limiter.in_flight();
                let idle = crew.queue().is_empty();
                crew.recovery.meter.change(|progress| {
                    progress.ranges = ranges;
                    if idle && ranges == 0 {
                        progress.stage = Stage::Verifying;
                    }
                });
            }
        }
    }
}

/// File system work away from the threads that serve the network.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, PullError> {
    spawn_blocking(work).await.map_err(|_| PullError::Cancelled)?.map_err(PullError::Store)
}
