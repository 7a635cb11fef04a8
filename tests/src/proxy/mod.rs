//! A proxy in front of the S3 server that misbehaves as it is told: errors, bodies that end early, wrong bytes, stalls,
//! delays, a thin line. It counts what went through. Signatures stay valid, since the Host header is passed on.

mod body;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::use_ring;

/// What is done to one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 503, without asking the server.
    Unavailable,
    /// 403, as for an expired URL, without asking the server.
    Forbidden,
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
        let listener =
            tokio::net::TcpListener::bind("127.0.0.1:0").await.context("binding the fault proxy")?;
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
        let app = Router::new().fallback(forward).with_state(Arc::clone(&shared));
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

    /// Forgets faults that were not used up.
    pub fn clear(&self) {
        self.shared.orders().pending.clear();
    }

    /// All bodies together get no more than that many bytes per second; `None` = no limit.
    pub fn limit(&self, bytes_per_second: Option<u64>) {
        self.shared.line.limit(bytes_per_second);
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

    fn count(&self, path: &str, bytes: usize) {
        self.orders().traffic.entry(path.to_owned()).or_default().bytes += bytes as u64;
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let fault = if request.method() == Method::GET { shared.next_fault(&path) } else { None };
    match fault {
        Some(Fault::Unavailable) => return (StatusCode::SERVICE_UNAVAILABLE, SLOW_DOWN).into_response(),
        Some(Fault::Forbidden) => return (StatusCode::FORBIDDEN, EXPIRED).into_response(),
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::CutAfter(_) | Fault::FlipAt(_) | Fault::StallAfter(_)) | None => {}
    }
    match ask(&shared, request).await {
        Ok(answer) => pass_on(shared, path, fault, answer),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>ordered by the test</Message></Error>";
const EXPIRED: &str = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";

async fn ask(shared: &Shared, request: Request) -> anyhow::Result<reqwest::Response> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().context("a request without a path")?;
    let mut asked = shared.client.request(parts.method.clone(), format!("{}{target}", shared.upstream));
    asked = asked.headers(parts.headers);
    // A GET with a body of unknown length would be sent in chunks, which no signature foresees.
    if parts.method != Method::GET && parts.method != Method::HEAD {
        asked = asked.body(reqwest::Body::wrap_stream(body.into_data_stream()));
    }
    asked.send().await.with_context(|| format!("asking {}", shared.upstream))
}

fn pass_on(shared: Arc<Shared>, path: String, fault: Option<Fault>, answer: reqwest::Response) -> Response {
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        // They are about the hop, not about the object.
        if name != header::CONNECTION && name != header::TRANSFER_ENCODING {
            response = response.header(name, value);
        }
    }
    let body = Body::from_stream(body::relay(shared, path, fault, answer));
    response.body(body).unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response())
}
