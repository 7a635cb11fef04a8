//! Waiting for something with a deadline, and saying what was last seen when it does not come.

use std::{
    fmt::Display,
    future::Future,
    time::{Duration, Instant},
};

/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(100);

/// What one look found.
#[derive(Debug)]
pub enum Progress<T> {
    /// It is there.
    Done(T),
    /// Not yet; this is what was seen instead.
    Pending(String),
}

impl<T> Progress<T> {
    /// Done with `value` if `there`, else what was seen.
    pub fn when(there: bool, value: T, seen: impl Display) -> Self {
        if there { Self::Done(value) } else { Self::Pending(seen.to_string()) }
    }
}

/// Looks until it is there or `within` has passed. An error counts as not yet: servers that start or restart give some.
///
/// # Errors
/// Time is up; the error says what was waited for and what the last look saw.
pub async fn eventually<T, Look, Looking>(what: &str, within: Duration, mut look: Look) -> anyhow::Result<T>
where
    Look: FnMut() -> Looking,
    Looking: Future<Output = anyhow::Result<Progress<T>>>,
{
    let deadline = Instant::now() + within;
    loop {
        let seen = match look().await {
            Ok(Progress::Done(value)) => return Ok(value),
            Ok(Progress::Pending(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            anyhow::bail!("waited {within:?} for {what}; last seen: {seen}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
