//! The body of one answer on its way through the proxy: counted, slowed, and damaged where a fault says so.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};

use super::{Fault, Passed, Shared};

/// A line that all bodies share.
#[derive(Debug, Default)]
pub(super) struct Line {
    state: Mutex<LineState>,
}

#[derive(Debug, Default)]
struct LineState {
    bytes_per_second: Option<u64>,
    free_at: Option<Instant>,
}

impl Line {
    pub(super) fn limit(&self, bytes_per_second: Option<u64>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = LineState { bytes_per_second, free_at: None };
    }

    /// Waits until these bytes have had their time on the line.
    async fn pass(&self, bytes: usize) {
        let until = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(rate) = state.bytes_per_second else { return };
            let now = Instant::now();
            let begins = state.free_at.map_or(now, |free_at| free_at.max(now));
            let until = begins + Duration::from_secs_f64(bytes as f64 / rate as f64);
            state.free_at = Some(until);
            until
        };
        tokio::time::sleep_until(until.into()).await;
    }
}

/// Where a body is.
struct Relay {
    shared: Arc<Shared>,
    path: String,
    answer: usize,
    fault: Option<Fault>,
    /// Bytes that may pass.
    limit: u64,
    source: stream::BoxStream<'static, reqwest::Result<Bytes>>,
    passed: u64,
    over: bool,
}

/// The body of `response`, whose head says `length`.
pub(super) fn relay(
    shared: Arc<Shared>,
    passed: Passed,
    length: u64,
    response: reqwest::Response,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let source = response.bytes_stream().boxed();
    let (path, fault) = (passed.path.clone(), passed.fault);
    let limit = match fault {
        Some(Fault::CutAfter(limit) | Fault::StallAfter(limit)) => limit,
        Some(Fault::WrongLength) => length.saturating_sub(1),
        _ => u64::MAX,
    };
    let answer = shared.begin(passed);
    let relay = Relay { shared, path, answer, fault, limit, source, passed: 0, over: false };
    stream::unfold(relay, |mut relay| async move {
        let part = relay.next().await?;
        Some((part, relay))
    })
}

impl Relay {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        if self.passed == self.limit {
            return self.give_up().await;
        }
        let part = match self.source.next().await? {
            Ok(part) => part,
            Err(error) => return Some(Err(io::Error::other(error))),
        };
        let part = self.up_to_limit(&part);
        let part = if let Some(Fault::FlipAt(at)) = self.fault { self.flip(at, part) } else { part };
        self.shared.line.pass(part.len()).await;
        self.passed += part.len() as u64;
        self.shared.count(&self.path, self.answer, part.len());
        Some(Ok(part))
    }

    /// What may still pass of this part.
    fn up_to_limit(&self, part: &Bytes) -> Bytes {
        let left = usize::try_from(self.limit - self.passed).unwrap_or(usize::MAX);
        part.slice(..left.min(part.len()))
    }

    async fn give_up(&mut self) -> Option<io::Result<Bytes>> {
        match self.fault {
            Some(Fault::StallAfter(_)) => std::future::pending::<()>().await,
            Some(Fault::WrongLength) => return None,
            _ => {}
        }
        // What passed before reaches the other side first; an error at once would take it along.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.over = true;
        Some(Err(io::Error::other("cut by the test")))
    }

    fn flip(&self, at: u64, part: Bytes) -> Bytes {
        let index = at.checked_sub(self.passed).and_then(|index| usize::try_from(index).ok());
        let Some(index) = index.filter(|index| *index < part.len()) else { return part };
        let mut damaged = BytesMut::from(part);
        damaged[index] ^= 1;
        damaged.freeze()
    }
}
