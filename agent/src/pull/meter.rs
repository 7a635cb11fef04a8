//! Counts what a pull does, and tells it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nave_manifest::Manifest;
use tokio::{sync::watch, time::Instant};

use super::{Progress, Stage};

/// The one writer of a pull's [`Progress`].
#[derive(Debug)]
pub(super) struct Meter {
    progress: watch::Sender<Progress>,
    last_byte: Mutex<Instant>,
}

impl Meter {
    pub(super) fn new(progress: watch::Sender<Progress>) -> Self {
        progress.send_replace(Progress::default());
        Self { progress, last_byte: Mutex::new(Instant::now()) }
    }

    pub(super) fn stage(&self, stage: Stage) {
        self.progress.send_modify(|progress| progress.stage = stage);
    }

    /// The version is in the store already.
    pub(super) fn already_held(&self, manifest: &Manifest) {
        self.progress.send_modify(|progress| {
            progress.stage = Stage::Complete;
            progress.bytes_total = manifest.total_size();
            progress.bytes_done = progress.bytes_total;
            progress.bytes_reused = progress.bytes_total;
            progress.files_total = manifest.files().len() as u64;
            progress.files_done = progress.files_total;
        });
    }

    pub(super) fn now(&self) -> Progress {
        self.progress.borrow().clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    /// Bytes came over the network. `kept` = they need not come again if the connection ends now; only those count as
    /// getting on.
    pub(super) fn fetched(&self, bytes: u64, kept: bool) {
        if kept {
            self.moved();
        }
        self.progress.send_modify(|progress| {
            progress.bytes_fetched += bytes;
            progress.trouble.clear();
        });
    }

    /// Restarts the clock of [`Meter::quiet_for`].
    pub(super) fn moved(&self) {
        *self.last_byte.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long no byte came.
    pub(super) fn quiet_for(&self) -> Duration {
        self.last_byte.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}
