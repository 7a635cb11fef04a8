//! What peers are answered: who may ask, what this spoke has of a version, and the bytes. Only verified chunks go out.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt as _, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use nave_names::{ClusterName, Digest};
use nave_proto::v1::{Holding, Piece, ReadRequest, WatchRequest, neighbour_server::Neighbour};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Bits, Layout, Neighbourhood, Share, follow, neighbourhood::Named, tls::cluster_of, view::Told};

/// Most bytes of one read: what the longest chunk has.
const MAX_READ: u64 = nave_manifest::MAX_CHUNK as u64;
/// Bytes of one message.
const PIECE: usize = 256 << 10;
/// Changes are told no more often than this; longer where a version has so many chunks that telling costs something.
const TELL_EVERY: Duration = Duration::from_millis(50);
const TELL_RATE: usize = 1 << 20;

/// The service.
#[derive(Debug)]
pub(super) struct Service(pub(super) Neighbourhood);

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Neighbour for Service {
    type WatchStream = Answer<Holding>;
    type ReadStream = Answer<Piece>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let asker = asker(&request)?;
        let version = parse("manifest_digest", &request.get_ref().manifest_digest)?;
        permit(&self.0.named().borrow(), &asker, &version)?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(tell(self.0.clone(), asker, version, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let asker = asker(&request)?;
        let request = request.into_inner();
        let version = parse("manifest_digest", &request.manifest_digest)?;
        let sha256 = parse("sha256", &request.sha256)?;
        permit(&self.0.named().borrow(), &asker, &version)?;
        if request.length > MAX_READ {
            return Err(Status::invalid_argument(format!("length: at most {MAX_READ} bytes at once")));
        }
        let share = self.0.shares().borrow().get(&version).cloned();
        let (layout, verified) = match share {
            Some(share) => (Arc::clone(&share.layout), share.told().verified),
            None => held(&self.0, version).await?,
        };
        let covering = layout.covering(&sha256, request.offset, request.length);
        let here = covering.is_some_and(|mut chunks| chunks.all(|chunk| verified.get(chunk)));
        if !here {
            return Err(Status::out_of_range("these bytes are not here, or not verified yet"));
        }
        let file = open(&self.0, version, sha256).await?;
        self.0.metrics().peer_served_bytes.inc_by(request.length);
        let (sender, receiver) = mpsc::channel(4);
        spawn_blocking(move || send(&file, request.offset, request.length, &sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Who asks, by the certificate that TLS has checked against the hub's CA.
fn asker<T>(request: &Request<T>) -> Result<ClusterName, Status> {
    let certificates = request.peer_certs();
    let leaf = certificates.as_ref().and_then(|chain| chain.first());
    let cluster = leaf.and_then(|leaf| cluster_of(leaf));
    cluster.ok_or_else(|| refused("a certificate that names no cluster", None))
}

/// Only whom the hub named, and only what the hub assigned to them.
fn permit(named: &Named, asker: &ClusterName, version: &Digest) -> Result<(), Status> {
    let Some(peer) = named.get(asker) else {
        return Err(refused("the hub does not name it as a peer of this site", Some(asker)));
    };
    if peer.assigned.contains(version) {
        return Ok(());
    }
    tracing::debug!(%asker, %version, "a peer asks for a version that is not assigned to it, or not yet");
    Err(Status::permission_denied(format!("{version} is not assigned to cluster {asker}")))
}

fn refused(why: &'static str, asker: Option<&ClusterName>) -> Status {
    let name = asker.map_or("unknown", ClusterName::as_str);
    tracing::warn!(asker = name, why, "refused a peer");
    Status::permission_denied(format!("cluster {name}: {why}"))
}

fn parse(field: &'static str, text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

/// Says what is here of a version, now and after every change, until the peer goes or is not to be told any more.
async fn tell(
    neighbourhood: Neighbourhood,
    asker: ClusterName,
    version: Digest,
    sender: mpsc::Sender<Result<Holding, Status>>,
) {
    let mut shares = neighbourhood.shares();
    let mut named = neighbourhood.named();
    let mut last = None;
    loop {
        let permitted = permit(&named.borrow_and_update(), &asker, &version);
        if let Err(status) = permitted {
            // Either it reads this, or it has gone.
            drop(sender.send(Err(status)).await);
            return;
        }
        let share = shares.borrow_and_update().get(&version).cloned();
        let mut changes = share.as_ref().map(|share| share.changes());
        let told = now(&neighbourhood, share.as_deref(), version).await;
        let pause = TELL_EVERY + Duration::from_secs((told.verified.len() / 8 / TELL_RATE) as u64);
        if last.as_ref() != Some(&told) {
            if sender.send(Ok(follow::write(&told))).await.is_err() {
                return;
            }
            last = Some(told);
        }
        sleep(pause).await;
        tokio::select! {
            () = sender.closed() => return,
            _ = named.changed() => {}
            _ = shares.changed() => {}
            () = changed(changes.as_mut()) => {}
        }
    }
}

async fn changed(changes: Option<&mut watch::Receiver<()>>) {
    let ended = match changes {
        Some(changes) => changes.changed().await.is_err(),
        None => true,
    };
    // A pull that ended shows in the list of pulls.
    if ended {
        std::future::pending().await
    }
}

async fn now(neighbourhood: &Neighbourhood, share: Option<&Share>, version: Digest) -> Told {
    if let Some(share) = share {
        return share.told();
    }
    let verified =
        held(neighbourhood, version).await.map_or_else(|_| Bits::none(0), |(_, verified)| verified);
    Told { verified, claimed: Bits::none(0), fetching: false }
}

/// A version that the store holds completely.
async fn held(neighbourhood: &Neighbourhood, version: Digest) -> Result<(Arc<Layout>, Bits), Status> {
    let absent = || Status::not_found(format!("{version} is not here"));
    let known = neighbourhood.layout_of_held(version).await.ok_or_else(absent)?;
    let verified = Bits::all(known.len());
    Ok((known, verified))
}

async fn open(neighbourhood: &Neighbourhood, version: Digest, sha256: Digest) -> Result<File, Status> {
    let store = neighbourhood.store().clone();
    let opened = spawn_blocking(move || store.open_verified(&version, &sha256)).await;
    let opened = opened.map_err(|_| Status::unavailable("this spoke is ending"))?;
    opened.map_err(|error| Status::not_found(error.to_string()))
}

/// Reads and sends; blocks. A peer that went away ends it.
fn send(file: &File, mut offset: u64, length: u64, sender: &mpsc::Sender<Result<Piece, Status>>) {
    let end = offset + length;
    while offset < end {
        let size = usize::try_from(end - offset).map_or(PIECE, |left| left.min(PIECE));
        let mut data = vec![0; size];
        let piece = file.read_exact_at(&mut data, offset).map(|()| Piece { data });
        let failed = piece.is_err();
        let piece = piece.map_err(|error| Status::not_found(format!("cannot read it any more: {error}")));
        if sender.blocking_send(piece).is_err() || failed {
            return;
        }
        offset += size as u64;
    }
}

/// Layouts of versions that were asked for lately: reading a manifest for each chunk would cost more than the chunk.
#[derive(Debug, Default)]
pub(super) struct Layouts(BTreeMap<Digest, Arc<Layout>>);

/// Versions that a site pulls at a time.
const LAYOUTS: usize = 8;

impl Layouts {
    pub(super) fn get(&self, version: &Digest) -> Option<Arc<Layout>> {
        self.0.get(version).cloned()
    }

    pub(super) fn keep(&mut self, version: Digest, layout: Arc<Layout>) {
        if self.0.len() >= LAYOUTS {
            self.0.pop_first();
        }
        self.0.insert(version, layout);
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
