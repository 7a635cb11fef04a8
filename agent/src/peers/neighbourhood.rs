//! What the agent's parts share about its site: who the peers are, how they are reached, and which pulls are running. The
//! session fills it; pulls and the service for the peers read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use nave_names::{ClusterName, Digest};
use nave_proto::v1;
use nave_runtime::error_text::chain;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::{
    Bits, Layout, PeerTlsError, Share, follow,
    read::{PATIENCE, Patience},
    service::Layouts,
    tls::PeerTls,
};
use crate::{identity::Identity, metrics::Metrics, store::Store};

/// A peer on the same LAN that does not answer in this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection over which nothing comes back for twice this is given up: pulls must not wait for a dead peer.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Flow control of HTTP/2: enough for several chunks in flight on a gigabit LAN.
pub(super) const WINDOW: u32 = 8 << 20;

/// A spoke of the same site, as the hub named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPeer {
    /// `host:port`.
    pub address: String,
    /// The versions that it may have.
    pub assigned: BTreeSet<Digest>,
}

pub(super) type Named = BTreeMap<ClusterName, NamedPeer>;

/// The site. Clones share it.
#[derive(Clone, Debug)]
pub struct Neighbourhood(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    metrics: Metrics,
    named: watch::Sender<Arc<Named>>,
    tls: watch::Sender<Option<Arc<PeerTls>>>,
    shares: watch::Sender<BTreeMap<Digest, Arc<Share>>>,
    channels: Mutex<BTreeMap<ClusterName, (String, Channel)>>,
    layouts: Mutex<Layouts>,
    patience: Patience,
}

/// A pull that takes part; it ceases to when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    share: Arc<Share>,
    neighbourhood: Neighbourhood,
    followers: JoinHandle<()>,
}

impl Neighbourhood {
    /// A site without peers.
    pub fn new(store: Store, metrics: Metrics) -> Self {
        Self::with_patience(store, metrics, PATIENCE)
    }

    /// The same, where peers are waited for as long as this.
    pub(crate) fn with_patience(store: Store, metrics: Metrics, patience: Patience) -> Self {
        Self(Arc::new(Inner {
            store,
            metrics,
            named: watch::Sender::default(),
            tls: watch::Sender::default(),
            shares: watch::Sender::default(),
            channels: Mutex::default(),
            layouts: Mutex::default(),
            patience,
        }))
    }

    /// The hub named the peers: these, and no others.
    pub fn name(&self, peers: v1::Peers) {
        let read = |peer: v1::Peer| {
            let cluster = ClusterName::new(peer.cluster).ok()?;
            let assigned = peer.assigned.iter().filter_map(|digest| digest.parse().ok()).collect();
            Some((cluster, NamedPeer { address: peer.address, assigned }))
        };
        let named: Named = peers.peers.into_iter().filter_map(read).collect();
        tracing::info!(peers = named.len(), "the hub named the peers of this site");
        self.0.named.send_replace(Arc::new(named));
    }

    /// The spoke has this certificate from now on.
    pub fn use_identity(&self, identity: &Identity) {
        match PeerTls::new(identity) {
            Ok(tls) => drop(self.0.tls.send_replace(Some(Arc::new(tls)))),
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot set up TLS between the spokes of this site")
            }
        }
    }

    pub(super) fn named(&self) -> watch::Receiver<Arc<Named>> {
        self.0.named.subscribe()
    }

    pub(super) fn tls(&self) -> Option<Arc<PeerTls>> {
        self.0.tls.borrow().clone()
    }

    pub(super) fn shares(&self) -> watch::Receiver<BTreeMap<Digest, Arc<Share>>> {
        self.0.shares.subscribe()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn patience(&self) -> Patience {
        self.0.patience
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The chunks of a version that the store holds completely.
    pub(super) async fn layout_of_held(&self, version: Digest) -> Option<Arc<Layout>> {
        let store = self.store().clone();
        let known = self.layouts().get(&version).filter(|_| store.has(&version));
        if known.is_some() {
            return known;
        }
        let read = move || store.manifest(&version).ok().map(|manifest| Arc::new(Layout::of(&manifest)));
        let layout = tokio::task::spawn_blocking(read).await.ok()??;
        self.layouts().keep(version, Arc::clone(&layout));
        Some(layout)
    }

    fn layouts(&self) -> MutexGuard<'_, Layouts> {
        self.0.layouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pull begins. `None` = nobody to share it with could ever be known: the spoke has no certificate yet.
    pub(crate) fn begin(&self, digest: Digest, layout: Layout, verified: Bits) -> Option<Running> {
        let me = self.tls()?.cluster.clone();
        let share = Arc::new(Share::new(&me, digest, Arc::new(layout), verified));
        self.0.shares.send_modify(|shares| drop(shares.insert(digest, Arc::clone(&share))));
        follow::expect_all(&share, &self.0.named.borrow());
        let followers = tokio::spawn(follow::follow_all(self.clone(), Arc::clone(&share)));
        Some(Running { share, neighbourhood: self.clone(), followers })
    }

    /// A channel to a peer, which connects when it is used and again when it broke.
    pub(super) fn channel(&self, peer: &ClusterName) -> Option<Channel> {
        let address = self.0.named.borrow().get(peer)?.address.clone();
        let mut channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, channel)) = channels.get(peer)
            && *known == address
        {
            return Some(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .ok()?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let (this, name, target) = (self.clone(), peer.clone(), address.clone());
        let connector =
            tower::service_fn(move |_: http::Uri| dial(this.clone(), name.clone(), target.clone()));
        let channel = endpoint.connect_with_connector_lazy(connector);
        channels.insert(peer.clone(), (address, channel.clone()));
        Some(channel)
    }
}

#[cfg(test)]
impl Neighbourhood {
    /// Reaches a peer, as it was named, over this channel.
    pub(crate) fn reach(&self, peer: &ClusterName, channel: Channel) {
        let address = self.0.named.borrow()[peer].address.clone();
        self.0.channels.lock().unwrap().insert(peer.clone(), (address, channel));
    }
}

/// Why there is no connection to a peer.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("this spoke has no certificate yet")]
    NoIdentity,
    #[error(transparent)]
    Tls(#[from] PeerTlsError),
    #[error("cannot reach it")]
    Io(#[from] std::io::Error),
}

/// With the certificate of the moment: a renewed one is used from the next connection on.
async fn dial(
    neighbourhood: Neighbourhood,
    peer: ClusterName,
    address: String,
) -> Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>, DialError> {
    let tls = neighbourhood.tls().ok_or(DialError::NoIdentity)?.client(&peer)?;
    let tcp = TcpStream::connect(&address).await?;
    tcp.set_nodelay(true)?;
    // The name that TLS sends decides nothing: the certificate is compared with the cluster's.
    let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    Ok(TokioIo::new(TlsConnector::from(tls).connect(name, tcp).await?))
}

impl Running {
    pub(crate) fn neighbourhood(&self) -> &Neighbourhood {
        &self.neighbourhood
    }
}

impl Deref for Running {
    type Target = Share;

    fn deref(&self) -> &Share {
        &self.share
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.followers.abort();
        let ours = |share: &Arc<Share>| Arc::ptr_eq(share, &self.share);
        self.neighbourhood.0.shares.send_modify(|shares| shares.retain(|_, share| !ours(share)));
    }
}

#[cfg(test)]
mod tests {
    use nave_manifest::{FileHasher, Manifest};
    use nave_names::RelativePath;

    use super::*;

    /// On one thread no other task runs before the first await: what is known at once was not left to one.
    #[tokio::test]
    async fn a_pull_knows_its_company_before_it_fetches_anything() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        let site = Neighbourhood::new(Store::open(folder.path()).unwrap(), Metrics::default());
        site.use_identity(&Identity::alone("node-1"));
        let (shared, other) = (Digest::of(b"shared"), Digest::of(b"other"));
        let assigned = vec![shared.to_string()];
        let peer = v1::Peer { cluster: "node-2".into(), address: "127.0.0.1:1".into(), assigned };
        site.name(v1::Peers { peers: vec![peer] });
        let company = |digest| {
            let file = FileHasher::new(RelativePath::new("weights").unwrap()).finish();
            let layout = Layout::of(&Manifest::new(vec![file]).unwrap());
            let verified = Bits::none(layout.len());
            let running = site.begin(digest, layout, verified).unwrap();
            running.look(|view| view.has_company())
        };
        assert!(company(shared));
        assert!(!company(other), "a peer without the version is no company");
    }
}
