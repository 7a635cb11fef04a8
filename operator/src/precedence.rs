//! Which writes go first. The API server is one for both halves of a hub: what clusters are told must not wait behind what
//! a thousand of them answer to it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

/// The most that a status waits. Whoever plans reads statuses, so they may be late, and not stay away.
const LONGEST: Duration = Duration::from_secs(2);

/// Held by the planner and the gateway of one replica. Clones share it.
#[derive(Clone, Debug)]
pub struct Precedence {
    telling: Arc<watch::Sender<usize>>,
    longest: Duration,
}

/// Assignments are being written for as long as this lives.
#[derive(Debug)]
pub struct Telling(Precedence);

impl Default for Precedence {
    fn default() -> Self {
        Self::within(LONGEST)
    }
}

impl Precedence {
    /// With the most that a status waits.
    pub(crate) fn within(longest: Duration) -> Self {
        Self { telling: Arc::new(watch::Sender::new(0)), longest }
    }

    /// Says that assignments are about to be written.
    pub fn tell(&self) -> Telling {
        self.telling.send_modify(|telling| *telling += 1);
        Telling(self.clone())
    }

    /// Waits until no assignments are being written, but not for ever.
    pub async fn give_way(&self) {
        let mut telling = self.telling.subscribe();
        // The sender is ours; and after the longest wait it is this one's turn whatever goes on.
        timeout(self.longest, telling.wait_for(|telling| *telling == 0)).await.ok();
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.telling.send_modify(|telling| *telling -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_status_waits_for_assignments_and_not_for_ever() {
        let precedence = Precedence::default();
        assert!(precedence.give_way().now_or_never().is_some(), "nothing is being told");
        let (one, other) = (precedence.tell(), precedence.tell());
        let mut waiting = Box::pin(precedence.give_way());
        drop(one);
        assert!((&mut waiting).now_or_never().is_none(), "another is still being told");
        drop(other);
        assert!(waiting.now_or_never().is_some());

        let impatient = Precedence::within(Duration::from_millis(1));
        let _for_ever = impatient.tell();
        impatient.give_way().await;
    }
}
