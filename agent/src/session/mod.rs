//! The spoke's side of the wire: joins, keeps one connection, and starts another when it ends. What comes down goes to
//! the executor; what the executor and the site publish goes up.

mod backoff;
mod connection;
mod dial;
mod enrol;
mod error;
mod urls;
mod wire;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use nave_runtime::{drain::Drain, readiness::Guard};
use tokio::{sync::watch, time::timeout};

pub use error::SessionError;
pub use urls::{DeskEnd, HubUrls, UrlDesk, desk};
pub(crate) use wire::write_key;

use nave_runtime::error_text::chain;

use crate::{
    config::Config,
    execute::Spoke,
    identity::{self, Identity, IdentityStore},
    metrics::Metrics,
    observed::{Observed, Site},
    peers::Neighbourhood,
};
use backoff::Backoff;

/// What a session needs of the rest of the agent.
#[derive(Debug)]
pub struct Context {
    /// Where and who.
    pub config: Arc<Config>,
    /// The identity on disk.
    pub identities: IdentityStore,
    /// Takes what the hub tells.
    pub spoke: Spoke,
    /// What is published about the models.
    pub observed: watch::Receiver<Arc<Observed>>,
    /// What is published about the site.
    pub site: watch::Receiver<Arc<Site>>,
    /// Where pulls ask for URLs.
    pub desk: DeskEnd,
    /// The other spokes of the site, if the agent shares with them.
    pub neighbourhood: Option<Neighbourhood>,
    /// Counted.
    pub metrics: Metrics,
    /// The end.
    pub drain: Drain,
}

/// Keeps a session until the agent drains. The guards hold readiness until the spoke has joined, and has had a session.
pub async fn run(mut context: Context, mut joined: Option<Guard>, first_session: Option<Guard>) {
    let mut contact = Contact { established: false, first: first_session };
    let mut backoff = Backoff::default();
    let mut last_text = String::new();
    let mut renew = false;
    while !context.drain.is_started() {
        contact.established = false;
        let outcome = {
            let drain = context.drain.clone();
            let attempt = attempt(&mut context, renew, &mut joined, &mut contact);
            tokio::select! {
                outcome = attempt => outcome,
                () = give_up(&drain) => Ok(()),
            }
        };
        context.desk.close();
        context.metrics.connected.set(0);
        if contact.established {
            backoff.reset();
            last_text.clear();
        }
        let Err(error) = outcome else { return };
        let wait = backoff.next(error.class(), rand::random());
        context.metrics.session_ended(error.label());
        // A certificate that the hub does not take is renewed with the same key, once; then it is a refusal.
        renew = error.asks_for_new_certificate() && !renew;
        let text = chain(&error);
        let seconds = wait.as_secs_f32();
        if text == last_text {
            tracing::debug!(error = text, retry_seconds = seconds, "still no session with the hub");
        } else {
            tracing::warn!(error = text, retry_seconds = seconds, "no session with the hub");
            last_text = text;
        }
        // The drain ends the wait; either way the loop looks at it next.
        let _waited = timeout(wait, context.drain.started()).await;
    }
}

/// Whether the hub has said hello.
struct Contact {
    established: bool,
    first: Option<Guard>,
}

impl Contact {
    fn made(&mut self) {
        self.established = true;
        drop(self.first.take());
    }
}

/// A connection that hears of the drain itself gets a moment to say goodbye.
async fn give_up(drain: &Drain) {
    drain.started().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}

async fn attempt(
    context: &mut Context,
    renew: bool,
    joined: &mut Option<Guard>,
    contact: &mut Contact,
) -> Result<(), SessionError> {
    let mut identity = ensure_identity(context, renew).await?;
    drop(joined.take());
    if let Some(neighbourhood) = &context.neighbourhood {
        neighbourhood.use_identity(&identity);
    }
    let tls = identity::session(&identity)?;
    let channel = dial::dial(&context.config.hub, tls).await?;
    connection::run(context, channel, &mut identity, contact).await
}

async fn ensure_identity(context: &Context, renew: bool) -> Result<Identity, SessionError> {
    let known = context.identities.load()?;
    if let Some(identity) = &known {
        enrol::check_name(&context.config, identity)?;
    }
    match known {
        Some(identity) if !renew && !identity.is_expired(Timestamp::now()) => Ok(identity),
        known => enrol::enrol(&context.config, &context.identities, known.as_ref()).await,
    }
}
