//! An object server on loopback: GET with ranges, and trouble on request.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use nave_manifest::{FileHasher, Manifest};
use nave_names::{Digest, RelativePath};

#[derive(Clone, Default)]
pub struct Objects {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Vec<u8>>,
    /// Objects whose path has this in it are refused.
    broken: Option<String>,
    gets: usize,
    refused: usize,
}

impl Objects {
    pub async fn serve() -> (Self, SocketAddr) {
        let objects = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/{*path}", get(read)).with_state(objects.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (objects, address)
    }

    /// Stores a version below `prefix` and gives its identity.
    pub fn publish(&self, prefix: &str, files: &[(&str, Vec<u8>)]) -> Digest {
        let entry = |(path, bytes): &(&str, Vec<u8>)| {
            let mut hasher = FileHasher::new(RelativePath::new(*path).unwrap());
            hasher.update(bytes);
            hasher.finish()
        };
        let manifest = Manifest::new(files.iter().map(entry).collect()).unwrap();
        let mut inner = self.inner.lock().unwrap();
        inner.objects.insert(format!("{prefix}/manifest.json"), manifest.to_canonical_bytes());
        for (path, bytes) in files {
            inner.objects.insert(format!("{prefix}/{path}"), bytes.clone());
        }
        manifest.digest()
    }

    /// Changes one byte of an object that was published.
    pub fn flip(&self, path: &str, at: usize) {
        self.inner.lock().unwrap().objects.get_mut(path).unwrap()[at] ^= 1;
    }

    /// While true, every request is answered with 503.
    pub fn set_broken(&self, broken: bool) {
        self.inner.lock().unwrap().broken = broken.then(String::new);
    }

    /// Requests for objects with this in their path are answered with 503 from now on, the others are served.
    pub fn break_only(&self, part_of_path: &str) {
        self.inner.lock().unwrap().broken = Some(part_of_path.to_owned());
    }

    /// Requests that were answered with 503.
    pub fn refused(&self) -> usize {
        self.inner.lock().unwrap().refused
    }

    pub fn gets(&self) -> usize {
        self.inner.lock().unwrap().gets
    }
}

async fn read(State(objects): State<Objects>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let mut inner = objects.inner.lock().unwrap();
    inner.gets += 1;
    if inner.broken.as_ref().is_some_and(|part| path.contains(part)) {
        inner.refused += 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let Some(bytes) = inner.objects.get(&path) else { return StatusCode::NOT_FOUND.into_response() };
    let range = headers.get(header::RANGE).and_then(|range| {
        let (begin, end) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        let begin: usize = begin.parse().ok()?;
        let end = end.parse().map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
        (begin < bytes.len()).then_some((begin, end))
    });
    match range {
        None => bytes.clone().into_response(),
        Some((begin, end)) => {
            let content = format!("bytes {begin}-{}/{}", end - 1, bytes.len());
            let body = bytes[begin..end].to_vec();
            (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, content)], body).into_response()
        }
    }
}
