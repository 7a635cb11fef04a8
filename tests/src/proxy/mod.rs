//! A proxy in front of the S3 server that misbehaves as it is told: errors, bodies that end early, wrong bytes, stalls,
//! delays, a thin line, a clock that is off. It counts what went through. Signatures stay valid, since the Host header
//! is passed on.

mod answer;
mod body;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, extract::connect_info::Connected, serve::IncomingStream};
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::use_ring;

/// What is done to one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503, without asking the server.
    Unavailable,
    /// 403, as for an expired URL, without asking the server.
    Forbidden,
    /// This status, without asking the server.
    Status(u16),
    /// The body and its Content-Length are one byte shorter than the answer's Content-Range says.
    WrongLength,
    /// The answer's Content-Range is not the one that was asked for.
    WrongRange,
    /// The connection breaks after that many bytes of the body.
    CutAfter(u64),
    /// One bit of the byte at that offset of the body is wrong.
    FlipAt(u64),
    /// After that many bytes nothing more comes, and the connection stays open.
    StallAfter(u64),
    /// The answer begins that much later.
    Delay(Duration),
}

/// What went through for one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// GETs.
    pub requests: u64,
    /// Bytes of bodies that were sent on.
    pub bytes: u64,
    /// GETs that were answered by a fault.
    pub faults: u64,
}

/// One answer as it went through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Number of the connection that it went over, from 0.
    pub connection: u64,
    /// Of the object.
    pub path: String,
    /// Asked for by a presigned URL, as spokes do; the hub and the CLI sign each request in its head.
    pub presigned: bool,
    /// The object's first byte that was sent.
    pub begin: u64,
    /// Bytes that were sent on.
    pub bytes: u64,
    /// What was done to it.
    pub fault: Option<Fault>,
}

/// The proxy; ends when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    client: reqwest::Client,
    orders: Mutex<Orders>,
    line: body::Line,
}

#[derive(Debug, Default)]
struct Orders {
    pending: VecDeque<Order>,
    traffic: BTreeMap<String, Traffic>,
    /// Answers with a body, in the order in which they began.
    passed: Vec<Passed>,
    latency: Duration,
    clock_off: SignedDuration,
}

/// Which connection a request came over.
#[derive(Clone, Copy, Debug)]
struct Connection(u64);

/// Of all proxies of this process.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(0);

impl Connected<IncomingStream<'_, TcpListener>> for Connection {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        Self(NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Order {
    fault: Fault,
    path_part: String,
    left: u64,
}

impl FaultProxy {
    /// Starts one in front of `upstream`, which is `http://host:port`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(upstream: &str) -> anyhow::Result<Self> {
        use_ring();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding the fault proxy")?;
        let address = listener.local_addr().context("asking for the fault proxy's address")?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: reqwest::Client::builder()
                .no_proxy()
                .build()
                .context("making the fault proxy's client")?,
            orders: Mutex::default(),
            line: body::Line::default(),
        });
        let app = Router::new().fallback(answer::forward).with_state(Arc::clone(&shared));
        let app = app.into_make_service_with_connect_info::<Connection>();
        let stop = CancellationToken::new();
        let ended = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                result = axum::serve(listener, app) => {
                    if let Err(error) = result {
                        tracing::error!(%error, "the fault proxy ended");
                    }
                }
            }
        });
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next `times` GETs whose path contains `path_part` get this fault. Orders are used up one after the other.
    pub fn inject(&self, fault: Fault, times: u64, path_part: &str) {
        let order = Order { fault, path_part: path_part.to_owned(), left: times };
        self.shared.orders().pending.push_back(order);
    }

    /// The number that the next connection to any proxy gets: all that were made before have smaller ones.
    pub fn next_connection() -> u64 {
        NEXT_CONNECTION.load(Ordering::Relaxed)
    }

    /// Forgets faults that were not used up.
    pub fn clear(&self) {
        self.shared.orders().pending.clear();
    }

    /// All bodies together get no more than that many bytes per second; `None` = no limit.
    pub fn limit(&self, bytes_per_second: Option<u64>) {
        self.shared.line.limit(bytes_per_second);
    }

    /// Every answer begins that much later.
    pub fn delay(&self, latency: Duration) {
        self.shared.orders().latency = latency;
    }

    /// The server's clock is ahead by that much: it says so in its answers, and refuses what was signed more than a
    /// quarter of an hour away from its own time.
    pub fn set_clock_off(&self, ahead: SignedDuration) {
        self.shared.orders().clock_off = ahead;
    }

    /// Every answer with a body whose path contains `path_part`, in the order in which they began.
    pub fn passed(&self, path_part: &str) -> Vec<Passed> {
        self.shared.orders().passed.iter().filter(|one| one.path.contains(path_part)).cloned().collect()
    }

    /// What went through, for all paths that contain `path_part`.
    pub fn traffic(&self, path_part: &str) -> Traffic {
        let orders = self.shared.orders();
        let matching = orders.traffic.iter().filter(|(path, _)| path.contains(path_part));
        matching.fold(Traffic::default(), |sum, (_, one)| Traffic {
            requests: sum.requests + one.requests,
            bytes: sum.bytes + one.bytes,
            faults: sum.faults + one.faults,
        })
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a GET and takes the fault that is ordered for it, if any.
    fn next_fault(&self, path: &str) -> Option<Fault> {
        let mut orders = self.orders();
        let found = orders.pending.iter_mut().find(|order| order.left > 0 && path.contains(&order.path_part));
        let fault = found.map(|order| {
            order.left -= 1;
            order.fault
        });
        orders.pending.retain(|order| order.left > 0);
        let traffic = orders.traffic.entry(path.to_owned()).or_default();
        traffic.requests += 1;
        traffic.faults += u64::from(fault.is_some());
        fault
    }

    /// An answer begins; gives its number, for [`Shared::count`].
    fn begin(&self, passed: Passed) -> usize {
        let mut orders = self.orders();
        orders.passed.push(passed);
        orders.passed.len() - 1
    }

    fn count(&self, path: &str, answer: usize, bytes: usize) {
        let mut orders = self.orders();
        orders.traffic.entry(path.to_owned()).or_default().bytes += bytes as u64;
        orders.passed[answer].bytes += bytes as u64;
    }
}
