//! Ending in good order: one [`Drain`] is handed to every task; the first SIGTERM or SIGINT starts it.

use std::io;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Tells tasks to finish what they are at and return. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    token: CancellationToken,
}

impl Drain {
    /// One that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the drain; later calls change nothing.
    pub fn start(&self) {
        self.token.cancel();
    }

    /// Whether it has begun.
    pub fn is_started(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Resolves when it begins, at once if it has.
    pub fn started(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }

    /// The token itself, for libraries that take one.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// One that begins with this one, or alone when it is started itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }
}

/// Starts `drain` at the first SIGTERM or SIGINT. How long a drain may take is each binary's own limit.
///
/// # Errors
/// The handlers could not be installed.
pub fn signal(drain: &Drain) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drain = drain.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "draining");
        drain.start();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clones_share_and_children_do_not_reach_up() {
        let drain = Drain::new();
        let child = drain.child();
        child.start();
        assert!(!drain.is_started());
        let other = drain.clone();
        other.start();
        drain.started().await;
        assert!(drain.is_started());
    }
}
