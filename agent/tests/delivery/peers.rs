//! Spokes of one site that share: real stores, real mutual TLS on loopback, and an object server that counts.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use nave_agent::{
    identity::Identity,
    metrics::Metrics,
    peers::{self, Neighbourhood},
    pull::{Limits, Priority, Progress, PullRequest, Puller, UrlSource},
    store::Store,
};
use nave_manifest::FileHasher;
use nave_names::{CLUSTER_URI, ClusterName, Digest, RelativePath};
use nave_proto::v1;
use nave_runtime::drain::Drain;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    server::{Fault, Server},
    world::{MIB, Source, noise, objects},
};

/// A hub's certificate authority.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test hub");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// As the hub issues them: one name, twice, and for clients only.
    fn identity(&self, cluster: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, cluster);
        params.subject_alt_names = vec![SanType::URI(format!("{CLUSTER_URI}{cluster}").try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        let now = Timestamp::now();
        Identity {
            cluster: ClusterName::new(cluster).unwrap(),
            key: key.serialize_pem(),
            chain,
            ca_bundle: self.pem.clone(),
            not_before: now,
            not_after: now + SignedDuration::from_hours(1),
        }
    }
}

/// A version in S3.
struct Version {
    server: Server,
    digest: Digest,
    source: Arc<Source>,
    size: u64,
    weights: Vec<u8>,
}

impl Version {
    async fn of(chunks: usize) -> Self {
        let weights = noise(7, chunks * MIB);
        let files = [("model.bin".to_owned(), weights.clone()), ("labels.txt".to_owned(), b"crack".to_vec())];
        let (digest, objects) = objects(&files.into());
        let server = Server::start(objects).await;
        let source = Source::of(&server);
        Self { digest, source, size: weights.len() as u64 + 5, server, weights }
    }

    fn sha256(&self) -> Digest {
        let mut hasher = FileHasher::new(RelativePath::new("model.bin").unwrap());
        hasher.update(&self.weights);
        hasher.finish().sha256
    }
}

struct Node {
    name: String,
    address: String,
    puller: Puller,
    neighbourhood: Neighbourhood,
    metrics: Metrics,
    _folder: tempfile::TempDir,
    drain: Drain,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drain.start();
    }
}

impl Node {
    async fn start(name: &str, identity: &Identity) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let (metrics, drain) = (Metrics::default(), Drain::new());
        let neighbourhood = Neighbourhood::new(store.clone(), metrics.clone());
        neighbourhood.use_identity(identity);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(peers::serve(listener, neighbourhood.clone(), drain.clone()));
        let puller = Puller::new(store, 4, None).unwrap().with_neighbourhood(neighbourhood.clone());
        Self { name: name.to_owned(), address, puller, neighbourhood, metrics, _folder: folder, drain }
    }

    async fn of_site(ca: &Ca, name: &str) -> Self {
        Self::start(name, &ca.identity(name)).await
    }

    /// As the hub names it.
    fn named(&self, assigned: &[Digest]) -> v1::Peer {
        let assigned = assigned.iter().map(ToString::to_string).collect();
        v1::Peer { cluster: self.name.clone(), address: self.address.clone(), assigned }
    }

    /// Puts other bytes into the place of a file that it holds.
    fn spoil(&self, sha256: &Digest, bytes: &[u8]) {
        let blob = self.puller.store().blob_path(sha256);
        fs::set_permissions(&blob, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&blob, bytes).unwrap();
    }

    async fn pull(&self, version: &Version) -> Progress {
        let request = PullRequest {
            manifest_digest: version.digest,
            source: Arc::clone(&version.source) as Arc<dyn UrlSource>,
            limits: Limits::default(),
            priority: Priority::Serve,
            patience: Duration::from_secs(60),
            progress: watch::channel(Progress::default()).0,
            cancel: CancellationToken::new(),
        };
        let progress = self.puller.pull(request).await.unwrap();
        assert_eq!(self.puller.store().verify(false).unwrap().findings, []);
        progress
    }
}

/// Names all of them to each of them.
fn introduce(nodes: &[&Node], version: &Version) {
    for node in nodes {
        let others = nodes.iter().filter(|other| other.name != node.name);
        let peers = others.map(|other| other.named(&[version.digest])).collect();
        node.neighbourhood.name(v1::Peers { peers });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_starts_at_once_pulls_about_one_copy() {
    let (ca, version) = (Ca::new(), Version::of(30).await);
    let nodes = [
        Node::of_site(&ca, "node-0").await,
        Node::of_site(&ca, "node-1").await,
        Node::of_site(&ca, "node-2").await,
    ];
    introduce(&nodes.iter().collect::<Vec<_>>(), &version);
    let pulled = futures::future::join_all(nodes.iter().map(|node| node.pull(&version))).await;
    let from_peers: u64 = pulled.iter().map(|progress| progress.bytes_from_peers).sum();
    let served: u64 = nodes.iter().map(|node| node.metrics.peer_served_bytes.get()).sum();
    assert!(version.server.sent() < version.size * 13 / 10, "{} of {}", version.server.sent(), version.size);
    assert!(
        from_peers > version.size * 17 / 10 && served >= from_peers,
        "{from_peers} from peers, {served} served"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_later_takes_everything_from_the_site() {
    let (ca, version) = (Ca::new(), Version::of(6).await);
    let (first, second) = (Node::of_site(&ca, "node-0").await, Node::of_site(&ca, "node-1").await);
    introduce(&[&first, &second], &version);
    first.pull(&version).await;
    let before = version.server.sent();
    let progress = second.pull(&version).await;
    assert_eq!(progress.bytes_from_peers, version.size);
    assert!(version.server.sent() - before < 10_000, "the manifest alone comes from S3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lies_is_named_and_left_and_the_chunk_comes_from_elsewhere() {
    let (ca, version) = (Ca::new(), Version::of(6).await);
    let (liar, node) = (Node::of_site(&ca, "liar").await, Node::of_site(&ca, "node-1").await);
    liar.pull(&version).await;
    introduce(&[&liar, &node], &version);
    liar.spoil(&version.sha256(), &noise(8, 6 * MIB));
    // A link on which asking the peer comes before everything is there from S3.
    version.server.script(|seen| seen.range.is_some().then_some(Fault::Slow(1 << 20)));

    let progress = node.pull(&version).await;
    assert!(
        (1..=4).contains(&progress.corrupt_chunks),
        "none is asked again of who lied, beside the four reads at most that were under way: {progress:?}"
    );
    assert!(progress.bytes_fetched >= 6 * MIB as u64, "from S3 instead");
    assert!(progress.trouble.is_empty() || progress.trouble.contains("liar"), "{}", progress.trouble);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_of_a_peer_is_hashed_too() {
    let (ca, version) = (Ca::new(), Version::of(2).await);
    let (liar, node) = (Node::of_site(&ca, "liar").await, Node::of_site(&ca, "node-1").await);
    liar.pull(&version).await;
    introduce(&[&liar, &node], &version);
    liar.spoil(&Digest::of(b"crack"), b"crock");
    let progress = node.pull(&version).await;
    assert!(progress.corrupt_chunks >= 1, "the peer was asked, and its answer seen through: {progress:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing() {
    let (ca, version) = (Ca::new(), Version::of(2).await);
    let holder = Node::of_site(&ca, "holder").await;
    holder.pull(&version).await;
    // It trusts the site's CA, so that nobody but the holder can refuse it.
    let foreign = Identity { ca_bundle: ca.pem.clone(), ..Ca::new().identity("node-1") };
    let foreigner = Node::start("node-1", &foreign).await;
    let unnamed = Node::of_site(&ca, "node-2").await;
    let unassigned = Node::of_site(&ca, "node-3").await;
    holder
        .neighbourhood
        .name(v1::Peers { peers: vec![foreigner.named(&[version.digest]), unassigned.named(&[])] });
    for stranger in [&foreigner, &unnamed, &unassigned] {
        stranger.neighbourhood.name(v1::Peers { peers: vec![holder.named(&[version.digest])] });
        let progress = stranger.pull(&version).await;
        assert_eq!(progress.bytes_from_peers, 0, "{} was served", stranger.name);
    }
    assert_eq!(holder.metrics.peer_served_bytes.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_at_a_peers_address_is_asked_for_its_name() {
    let (ca, version) = (Ca::new(), Version::of(2).await);
    // It lets everybody of the site in, so that nobody but the node itself can refuse it.
    let foreign = Identity { ca_bundle: ca.pem.clone(), ..Ca::new().identity("holder") };
    for (name, identity) in [("other", ca.identity("other")), ("holder", foreign)] {
        let impostor = Node::start(name, &identity).await;
        impostor.pull(&version).await;
        let node = Node::of_site(&ca, "node-1").await;
        impostor.neighbourhood.name(v1::Peers { peers: vec![node.named(&[version.digest])] });
        let named = v1::Peer { cluster: "holder".into(), ..impostor.named(&[version.digest]) };
        node.neighbourhood.name(v1::Peers { peers: vec![named] });
        assert_eq!(node.pull(&version).await.bytes_from_peers, 0, "from {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_are_silent_or_gone_hold_nothing_up() {
    let (ca, version) = (Ca::new(), Version::of(4).await);
    let node = Node::of_site(&ca, "node-1").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let assigned = vec![version.digest.to_string()];
    let peer = |cluster: &str, address: String| v1::Peer {
        cluster: cluster.into(),
        address,
        assigned: assigned.clone(),
    };
    let peers =
        vec![peer("silent", silent.local_addr().unwrap().to_string()), peer("gone", gone.to_string())];
    node.neighbourhood.name(v1::Peers { peers });
    let progress = tokio::time::timeout(Duration::from_secs(60), node.pull(&version)).await.unwrap();
    assert_eq!((progress.bytes_from_peers, progress.bytes_done), (0, version.size));
}
