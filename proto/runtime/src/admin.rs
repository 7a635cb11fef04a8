//! The HTTP port of a process: `/livez`, `/readyz` (503 and what is pending), `/metrics`, and whatever routes the
//! binary adds. It answers from memory and never waits for anything.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::{drain::Drain, readiness::Readiness};

/// What `/metrics` shows. Register into it before or while serving.
pub type SharedRegistry = Arc<Mutex<Registry>>;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until the drain begins, then finishes the requests in flight.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    registry: SharedRegistry,
    extra: Router,
    drain: Drain,
) -> io::Result<()> {
    let app = router(readiness, registry).merge(extra);
    axum::serve(listener, app).with_graceful_shutdown(async move { drain.started().await }).await
}

fn router(readiness: Readiness, registry: SharedRegistry) -> Router {
    let live = Router::new().route("/livez", get(async || "ok\n"));
    let ready = Router::new().route("/readyz", get(readyz)).with_state(readiness);
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(registry);
    live.merge(ready).merge(metrics)
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let pending = readiness.pending();
    if pending.is_empty() {
        return "ok\n".into_response();
    }
    let body = format!("not ready, waiting for:\n{}\n", pending.join("\n"));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(State(registry): State<SharedRegistry>) -> Response {
    let mut body = String::new();
    let encoded = {
        let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut body, &registry)
    };
    match encoded {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode the metrics: {error}\n"))
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn shows_health_metrics_and_the_binarys_own_routes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let readiness = Readiness::new();
        let guard = readiness.guard("hub session");
        let registry = SharedRegistry::default();
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.lock().unwrap().register("nave_test", "A count", counter.clone());
        counter.inc();
        let extra = Router::new().route("/page", axum::routing::get(async || "page"));
        let drain = Drain::new();
        let server = tokio::spawn(serve(listener, readiness.clone(), registry, extra, drain.clone()));

        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("hub session"), "{answer}");
        guard.release();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("nave_test_total 1"));
        assert!(get(address, "/page").await.ends_with("page"));
        drain.start();
        server.await.unwrap().unwrap();
    }
}
