//! Tests of `sharing`: a pull whose site's window is closed, so that every byte comes from peers; and peers of every manner,
//! in memory. Who is asked, how often, and what becomes of the pull does not depend on the machine's speed.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream};
use hyper_util::rt::TokioIo;
use nave_manifest::FileHasher;
use nave_names::RelativePath;
use nave_proto::v1::{
    self, Holding, Piece, ReadRequest, WatchRequest,
    neighbour_server::{Neighbour, NeighbourServer},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::{Endpoint, Server},
};

use super::*;
use crate::{
    identity::Identity,
    metrics::Metrics,
    peers::Patience,
    pull::{
        Priority, Progress, PullRequest, Puller, SignedUrl, UrlError, UrlSource, recovery::tests::closed,
    },
    store::{Staging, Store},
};

const MIB: usize = 1 << 20;
/// Short, so that a peer that is not worth waiting for costs a test no time; and long, so that no machine is too slow.
const IMPATIENT: Patience = Patience { answer: Duration::from_millis(50), least_rate: 256 << 20 };
const PATIENT: Patience = Patience { answer: Duration::from_secs(60), least_rate: 1 << 10 };

/// What a peer does when it is asked for bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Honest,
    /// It takes the question and never answers.
    Silent,
    /// It sends the first byte and nothing more.
    Stops,
    /// It sends what was asked for with the last piece one byte too long.
    TooLong,
    OtherBytes,
    /// It ends the answer after half of it.
    EndsEarly,
    /// It says that it is ending.
    SaysNo,
}

/// A peer that says that it has some chunks of the version, or all.
#[derive(Debug)]
struct Peer {
    manner: Manner,
    bytes: Vec<u8>,
    holding: watch::Receiver<Holding>,
    asked: AtomicU64,
}

struct Desk(Arc<Peer>);

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Neighbour for Desk {
    type WatchStream = Answer<Holding>;
    type ReadStream = Answer<Piece>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let told = tokio_stream::wrappers::WatchStream::new(self.0.holding.clone());
        Ok(Response::new(Box::pin(told.map(Ok).chain(stream::pending()))))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let peer = &self.0;
        peer.asked.fetch_add(1, Ordering::Relaxed);
        let ReadRequest { offset, length, .. } = request.into_inner();
        let asked = peer.bytes[offset as usize..(offset + length) as usize].to_vec();
        let (half, one) = (asked.len() / 2, &asked[..1]);
        let pieces = match peer.manner {
            Manner::Honest => vec![asked[..half].to_vec(), asked[half..].to_vec()],
            Manner::Silent => std::future::pending().await,
            Manner::Stops => vec![one.to_vec()],
            Manner::TooLong => vec![asked[..half].to_vec(), [&asked[half..], one].concat()],
            Manner::OtherBytes => vec![asked.iter().map(|byte| byte ^ 1).collect()],
            Manner::EndsEarly => vec![asked[..half].to_vec()],
            Manner::SaysNo => return Err(Status::unavailable("this spoke is ending")),
        };
        let ends = peer.manner == Manner::EndsEarly;
        let pieces = stream::iter(pieces.into_iter().map(|data| Ok(Piece { data })));
        let rest = if ends { stream::empty().boxed() } else { stream::pending().boxed() };
        Ok(Response::new(Box::pin(pieces.chain(rest))))
    }
}

/// Nobody is asked for a URL while the window is closed.
#[derive(Debug)]
struct NoUrls;

impl UrlSource for NoUrls {
    fn urls<'a>(&'a self, _: &'a [RelativePath]) -> BoxFuture<'a, Result<Vec<SignedUrl>, UrlError>> {
        let error =
            UrlError::Refused { reason: "AskedS3".to_owned(), message: "in a closed window".to_owned() };
        Box::pin(async move { Err(error) })
    }
}

/// A spoke that knows a version's manifest, and its site.
struct Site {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
    manifest: Arc<Manifest>,
    neighbourhood: Neighbourhood,
    peers: BTreeMap<&'static str, (Arc<Peer>, watch::Sender<Holding>)>,
}

impl Site {
    /// Of a version with one file of `size` bytes.
    fn new(size: usize, patience: Patience) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut bytes = vec![0; size];
        blake3::Hasher::new().update(b"weights").finalize_xof().fill(&mut bytes);
        let mut hasher = FileHasher::new(RelativePath::new("model.bin").unwrap());
        hasher.update(&bytes);
        let manifest = Arc::new(Manifest::new(vec![hasher.finish()]).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Staging::open(&store, Arc::clone(&manifest)).begin().unwrap();
        let neighbourhood = Neighbourhood::with_patience(store, Metrics::default(), patience);
        neighbourhood.use_identity(&Identity::alone("node-1"));
        Self { folder, bytes, manifest, neighbourhood, peers: BTreeMap::new() }
    }

    fn chunks(&self) -> usize {
        self.manifest.files()[0].chunks.len()
    }

    /// What somebody says who has these chunks, and brings others from S3 if `fetching`.
    fn holding(&self, chunks: impl IntoIterator<Item = usize>, fetching: bool) -> Holding {
        let mut verified = Bits::none(self.chunks());
        chunks.into_iter().for_each(|chunk| assert!(verified.set(chunk, true)));
        Holding { verified: verified.write(), claimed: vec![], fetching }
    }

    /// The hub names these.
    fn name(&mut self, peers: &[(&'static str, Manner, Holding)]) {
        let assigned = vec![self.manifest.digest().to_string()];
        let named = peers.iter().map(|(name, _, _)| v1::Peer {
            cluster: (*name).to_owned(),
            address: "in memory".to_owned(),
            assigned: assigned.clone(),
        });
        self.neighbourhood.name(v1::Peers { peers: named.collect() });
        for (name, manner, holding) in peers {
            let (sender, holding) = watch::channel(holding.clone());
            let bytes = self.bytes.clone();
            let peer = Arc::new(Peer { manner: *manner, bytes, holding, asked: AtomicU64::new(0) });
            self.reach(name, &peer);
            self.peers.insert(name, (peer, sender));
        }
    }

    fn reach(&self, name: &str, peer: &Arc<Peer>) {
        let (client, server) = tokio::io::duplex(MIB);
        let connections = stream::iter([Ok::<_, io::Error>(server)]).chain(stream::pending());
        let desk = NeighbourServer::new(Desk(Arc::clone(peer)));
        tokio::spawn(Server::builder().add_service(desk).serve_with_incoming(connections));
        let mut client = Some(client);
        let connector = tower::service_fn(move |_: http::Uri| {
            let client = client.take().map(TokioIo::new).ok_or_else(|| io::Error::other("it broke"));
            async move { client }
        });
        let channel = Endpoint::from_static("http://peer").connect_with_connector_lazy(connector);
        self.neighbourhood.reach(&ClusterName::new(name).unwrap(), channel);
    }

    /// How often it was asked for bytes.
    fn asked(&self, name: &str) -> u64 {
        self.peers[name].0.asked.load(Ordering::Relaxed)
    }

    /// From now on it has all of the version.
    fn completes(&self, name: &str) {
        self.peers[name].1.send_replace(self.holding(0..self.chunks(), false));
    }

    fn begin(&self) -> (tokio::task::JoinHandle<Result<Progress, PullError>>, watch::Receiver<Progress>) {
        let puller = Puller::new(self.neighbourhood.store().clone(), 4, None).unwrap();
        let puller = puller.with_neighbourhood(self.neighbourhood.clone());
        let (progress, told) = watch::channel(Progress::default());
        let request = PullRequest {
            manifest_digest: self.manifest.digest(),
            source: Arc::new(NoUrls),
            limits: closed(),
            priority: Priority::Serve,
            patience: Duration::from_secs(60),
            progress,
            cancel: CancellationToken::new(),
        };
        (tokio::spawn(async move { puller.pull(request).await }), told)
    }

    /// Pulls to the end, and says how it was.
    async fn pull(&self) -> Progress {
        self.end(self.begin().0).await
    }

    async fn end(&self, pull: tokio::task::JoinHandle<Result<Progress, PullError>>) -> Progress {
        let pulled = tokio::time::timeout(Duration::from_secs(40), pull).await.expect("it goes no further");
        let progress = pulled.unwrap().unwrap();
        let store = self.neighbourhood.store();
        assert!(store.has(&self.manifest.digest()));
        assert_eq!(store.verify(false).unwrap().findings, [], "{}", self.folder.path().display());
        assert_eq!((progress.bytes_from_peers, progress.bytes_fetched), (self.bytes.len() as u64, 0));
        progress
    }
}

/// A pull for which `first` says that it has everything, and nobody else has anything. Goes on when `first` is known to be
/// of no use, and does not ask it for ever.
async fn pull_beside(
    site: &mut Site,
    manner: Manner,
    words: &str,
) -> tokio::task::JoinHandle<Result<Progress, PullError>> {
    let (all, none) = (site.holding(0..site.chunks(), false), site.holding([], true));
    site.name(&[("first", manner, all), ("second", Manner::Honest, none)]);
    let (pull, mut told) = site.begin();
    let known = told.wait_for(|progress| progress.trouble.contains(words));
    let known = tokio::time::timeout(Duration::from_secs(40), known).await.expect("it is asked, and blamed");
    drop(known.unwrap());
    // Long enough to ask it again ten times at least.
    tokio::time::sleep(10 * IMPATIENT.answer).await;
    let asked = site.asked("first");
    assert!(asked <= READERS as u64, "{manner:?}: asked {asked} times");
    pull
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_slow_is_left_alone_although_nobody_else_has_anything() {
    for manner in [Manner::Silent, Manner::Stops] {
        let mut site = Site::new(3 * MIB, IMPATIENT);
        let pull = pull_beside(&mut site, manner, "peer first: it is too slow").await;
        assert!(!pull.is_finished());
        pull.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_was_of_no_use_is_left_alone_and_its_chunks_come_from_elsewhere() {
    for (manner, size, words) in [
        (Manner::TooLong, 3 * MIB, "peer first: it served wrong bytes"),
        (Manner::OtherBytes, MIB / 2, "peer first: it served wrong bytes"),
        (Manner::EndsEarly, 3 * MIB, "peer first: it ended early"),
        (Manner::SaysNo, MIB / 2, "this spoke is ending"),
    ] {
        let lies = words.contains("wrong bytes");
        let mut site = Site::new(size, PATIENT);
        let pull = pull_beside(&mut site, manner, words).await;
        let asked = site.asked("first");
        site.completes("second");
        let done = site.end(pull).await;
        assert_eq!(done.corrupt_chunks > 0, lies, "{manner:?}: {done:?}");
        assert!(!lies || site.asked("first") == asked, "who lied is asked never again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_chunk_is_read_from_one_who_has_it() {
    let mut site = Site::new(5 * MIB, PATIENT);
    let holding = |chunks: &[usize]| site.holding(chunks.iter().copied(), false);
    let [even, odd] = [holding(&[0, 2, 4]), holding(&[1, 3])];
    site.name(&[("even", Manner::Honest, even), ("odd", Manner::Honest, odd)]);
    let done = site.pull().await;
    assert_eq!((done.trouble.as_str(), done.corrupt_chunks), ("", 0));
    assert_eq!((site.asked("even"), site.asked("odd")), (3, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_follow_one_another_are_read_together_and_by_all_readers_from_all_holders() {
    let mut site = Site::new(16 * MIB, PATIENT);
    let all = || site.holding(0..site.chunks(), false);
    let (one, other) = (all(), all());
    site.name(&[("one", Manner::Honest, one), ("other", Manner::Honest, other)]);
    let done = site.pull().await;
    assert_eq!(done.trouble, "");
    let (one, other) = (site.asked("one"), site.asked("other"));
    assert!(one > 0 && other > 0, "{one} and {other}");
    // Four chunks each, but for the two ends that a beginning in the middle makes.
    assert!((4..=6).contains(&(one + other)), "{one} and {other}");
}
