//! One pull as its site sees it: what is here, what is on its way, and what the others said. Changed by the pull's
//! workers and by those who follow the peers; read by the service that the peers ask.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nave_names::{ClusterName, Digest};
use tokio::{sync::watch, time::Instant};

use super::{
    bits::Bits,
    layout::Layout,
    view::{SiteView, Told},
};

/// A running pull of a version.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) digest: Digest,
    pub(crate) layout: Arc<Layout>,
    pub(crate) begun: Instant,
    view: Mutex<SiteView>,
    changed: watch::Sender<()>,
}

impl Share {
    pub(super) fn new(me: &ClusterName, digest: Digest, layout: Arc<Layout>, verified: Bits) -> Self {
        let begun = Instant::now();
        let view = Mutex::new(SiteView::new(me, verified, begun));
        Self { digest, layout, begun, view, changed: watch::channel(()).0 }
    }

    /// Hears of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Asks what is known.
    pub(crate) fn look<T>(&self, ask: impl FnOnce(&mut SiteView) -> T) -> T {
        ask(&mut self.view())
    }

    /// What the peers are told.
    pub(super) fn told(&self) -> Told {
        self.view().told()
    }

    /// These chunks of a file are on their way from S3.
    pub(crate) fn claim(&self, chunks: impl IntoIterator<Item = usize>) {
        {
            let mut view = self.view();
            chunks.into_iter().for_each(|chunk| view.claim(chunk, true));
        }
        self.tell();
    }

    /// These chunks are here.
    pub(crate) fn verified(&self, chunks: impl IntoIterator<Item = usize>) {
        let now = Instant::now();
        {
            let mut view = self.view();
            chunks.into_iter().for_each(|chunk| view.verify(chunk, now));
        }
        self.tell();
    }

    /// Whether anything is fetched from S3 now.
    pub(crate) fn set_fetching(&self, fetching: bool) {
        if self.view().set_fetching(fetching) {
            self.tell();
        }
    }

    pub(super) fn hear(&self, peer: &ClusterName, told: Told) {
        self.view().hear(peer, told, Instant::now());
        self.tell();
    }

    pub(super) fn lose(&self, peer: &ClusterName) {
        self.view().lose(peer);
        self.tell();
    }

    /// Something is worth another look.
    pub(crate) fn tell(&self) {
        self.changed.send_replace(());
    }

    fn view(&self) -> MutexGuard<'_, SiteView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
