//! What an import tells the executor while the agent runs: which version is on its way, and which are here. Written
//! down before it is answered, so that nothing that was brought is collected.

use std::collections::BTreeSet;

use nave_agent_plan::{Brought, Entry, Subject, plan};
use nave_names::Digest;
use nave_runtime::error_text::chain;
use tokio::sync::oneshot;

use super::{Executor, Spoke, blocking};

/// One thing that an import has to say.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// This version is being brought: a pull of it would only be in the way.
    Begins(Digest),
    /// It is in the store, verified.
    Arrived(Digest),
    /// All of a bundle is there.
    Complete {
        /// Of the bundle.
        source: String,
        /// What it is from now on.
        brought: Brought,
    },
    /// The import is over, however it went.
    Ends,
}

/// News, and who waits for it to be written down.
pub(super) struct Notice {
    news: News,
    done: oneshot::Sender<Result<(), String>>,
}

impl Spoke {
    /// Tells the executor, and returns when it has been written down. Blocks.
    pub(crate) fn notify(&self, news: News) -> Result<(), String> {
        let ending = || "the agent is ending".to_owned();
        let (done, answer) = oneshot::channel();
        self.notify.blocking_send(Notice { news, done }).map_err(|_| ending())?;
        answer.blocking_recv().unwrap_or_else(|_| Err(ending()))
    }
}

impl Executor {
    pub(super) async fn take_notice(&mut self, Notice { news, done }: Notice) {
        let outcome = self.take_news(news).await;
        if done.send(outcome).is_err() {
            tracing::debug!("the import that told this has ended");
        }
    }

    async fn take_news(&mut self, news: News) -> Result<(), String> {
        match news {
            News::Begins(digest) => {
                self.inventory.importing.insert(digest);
                self.pulls.cancel(&digest);
            }
            News::Arrived(digest) => {
                tracing::info!(%digest, "imported");
                self.imports.arrived(digest);
                self.inventory.held.insert(digest);
                self.inventory.partial.remove(&digest);
                self.forget_failures_of(&digest);
                self.write_imports().await?;
            }
            News::Complete { source, brought } => {
                self.imports.complete(&source, brought);
                self.settle_asked();
                self.write_imports().await?;
            }
            News::Ends => self.inventory.importing.clear(),
        }
        // What must stay is on the disk before the import goes on.
        let plan = plan(&self.ledger, &self.inventory, self.clock.now());
        self.protect(&plan).await;
        Ok(())
    }

    /// What the hub asks for now is the hub's, and no longer waits for it.
    pub(super) async fn settle_imports(&mut self) {
        if !self.settle_asked() {
            return;
        }
        if let Err(problem) = self.write_imports().await {
            // It stays longer than it has to, until the next time.
            tracing::warn!(error = problem, "cannot write what was imported");
        }
    }

    /// With the bytes here, neither weights nor signature have to wait for the hub any more.
    fn forget_failures_of(&mut self, digest: &Digest) {
        self.inventory.attempts.forget(&Subject::Pull(*digest));
        let entries = self.ledger.entries().iter().filter(|entry| entry.manifest_digest == *digest);
        for vouch in entries.filter_map(Entry::vouch) {
            self.inventory.attempts.forget(&Subject::Verify(vouch));
        }
    }

    fn settle_asked(&mut self) -> bool {
        let asked: BTreeSet<Digest> =
            self.ledger.entries().iter().map(|entry| entry.manifest_digest).collect();
        self.imports.asked(asked)
    }

    async fn write_imports(&mut self) -> Result<(), String> {
        self.inventory.imported = self.imports.waiting().clone();
        let (file, content) = (self.imports_file.clone(), self.imports.clone());
        match blocking(move || file.save(&content)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                self.trouble(&error);
                Err(chain(&error))
            }
            None => Err("the agent is ending".to_owned()),
        }
    }
}
