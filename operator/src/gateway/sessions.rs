//! The sessions of this replica, by cluster: at most one each, and a way to tell one that its cluster's objects changed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nave_names::ClusterName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The sessions. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    live: Mutex<BTreeMap<ClusterName, Live>>,
}

#[derive(Debug)]
struct Live {
    id: u64,
    changed: watch::Sender<()>,
    replaced: CancellationToken,
}

/// A session's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    sessions: Sessions,
    cluster: ClusterName,
    pub(super) id: u64,
    /// Says that the cluster's objects changed. However often they do, there is one thing to look at: how they are now.
    pub(super) changed: watch::Receiver<()>,
    /// The same cluster has connected anew.
    pub(super) replaced: CancellationToken,
}

impl Sessions {
    /// Takes the cluster's seat; whoever held it is told to go.
    pub(super) fn take(&self, cluster: &ClusterName) -> Seat {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, changed) = watch::channel(());
        let replaced = CancellationToken::new();
        let live = Live { id, changed: sender, replaced: replaced.clone() };
        let mut all = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(former) = all.insert(cluster.clone(), live) {
            former.replaced.cancel();
        }
        Seat { sessions: self.clone(), cluster: cluster.clone(), id, changed, replaced }
    }

    /// The cluster's objects changed.
    pub(super) fn poke(&self, cluster: &str) {
        let all = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = all.get(cluster) {
            live.changed.send_replace(());
        }
    }

    /// Any cluster's objects may have changed. Returns them all.
    pub(super) fn poke_all(&self) -> Vec<ClusterName> {
        let all = self.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        for live in all.values() {
            live.changed.send_replace(());
        }
        all.keys().cloned().collect()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.sessions.0.live.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&self.cluster).is_some_and(|live| live.id == self.id) {
            all.remove(&self.cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_session_takes_the_seat_and_keeps_it() {
        let sessions = Sessions::default();
        let name = ClusterName::new("a").unwrap();
        let first = sessions.take(&name);
        let mut second = sessions.take(&name);
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        second.changed.mark_unchanged();
        sessions.poke("a");
        assert!(second.changed.has_changed().unwrap(), "the former's end did not free it");
        drop(second);
        assert!(sessions.poke_all().is_empty());
    }
}
