//! Presigned URLs over the session: pulls ask here, and wait when the hub is away.

use std::{fmt, time::Duration};

use futures::future::BoxFuture;
use nave_agent_plan::EntryKey;
use nave_names::{Digest, RelativePath};
use nave_proto::v1;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::pull::{SignedUrl, UrlError, UrlSource};

/// A hub that is there answers within this time even when it signs a thousand URLs for a hundred spokes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a question waits for a session before the puller is told that there is none.
const SESSION_TIMEOUT: Duration = Duration::from_secs(5);

/// A question to the hub and where its answer goes.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) request: v1::UrlRequest,
    pub(super) answer: oneshot::Sender<v1::UrlResponse>,
}

/// Where questions go while there is a session.
pub(super) type Line = Option<mpsc::Sender<Ask>>;

/// Makes [`UrlSource`]s that ask over whatever session there is.
#[derive(Clone, Debug)]
pub struct UrlDesk {
    line: watch::Receiver<Line>,
}

/// The session's end of a [`UrlDesk`].
#[derive(Debug)]
pub struct DeskEnd {
    line: watch::Sender<Line>,
}

/// A desk without a session, and the end that sessions plug into.
pub fn desk() -> (UrlDesk, DeskEnd) {
    let (sender, receiver) = watch::channel(None);
    (UrlDesk { line: receiver }, DeskEnd { line: sender })
}

impl DeskEnd {
    /// A session is there: questions come out of the receiver.
    pub(super) fn open(&self) -> mpsc::Receiver<Ask> {
        let (sender, receiver) = mpsc::channel(16);
        self.line.send_replace(Some(sender));
        receiver
    }

    /// The session is over.
    pub(super) fn close(&self) {
        self.line.send_replace(None);
    }
}

impl UrlDesk {
    /// Resolves when a session comes up after this call.
    pub async fn opened(&mut self) {
        loop {
            if self.line.changed().await.is_err() {
                // No session will ever come again: the agent is ending.
                std::future::pending::<()>().await;
            }
            if self.line.borrow_and_update().is_some() {
                return;
            }
        }
    }

    /// The source of URLs for one entry.
    pub fn source(&self, key: EntryKey, digest: Digest) -> HubUrls {
        HubUrls { line: self.line.clone(), key, digest }
    }
}

/// Asks the hub for the URLs of one entry's files.
pub struct HubUrls {
    line: watch::Receiver<Line>,
    key: EntryKey,
    digest: Digest,
}

impl fmt::Debug for HubUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubUrls({})", self.key)
    }
}

impl UrlSource for HubUrls {
    fn urls<'a>(&'a self, paths: &'a [RelativePath]) -> BoxFuture<'a, Result<Vec<SignedUrl>, UrlError>> {
        Box::pin(self.ask(paths))
    }
}

impl HubUrls {
    async fn ask(&self, paths: &[RelativePath]) -> Result<Vec<SignedUrl>, UrlError> {
        let away = || UrlError::Unavailable("there is no session with the hub".to_owned());
        let mut line = self.line.clone();
        let found = timeout(SESSION_TIMEOUT, line.wait_for(Option::is_some)).await;
        let Some(sender) = found.ok().and_then(Result::ok).and_then(|line| line.clone()) else {
            return Err(away());
        };
        let (answer, answered) = oneshot::channel();
        let request = v1::UrlRequest {
            // The session numbers its questions.
            request_id: 0,
            namespace: self.key.namespace.to_string(),
            model: self.key.model.to_string(),
            version: self.key.version.to_string(),
            manifest_digest: self.digest.to_string(),
            paths: paths.iter().map(ToString::to_string).collect(),
        };
        sender.send(Ask { request, answer }).await.map_err(|_| away())?;
        let response = timeout(ANSWER_TIMEOUT, answered)
            .await
            .map_err(|_| UrlError::Unavailable("the hub did not answer in time".to_owned()))?
            .map_err(|_| away())?;
        read_response(response)
    }
}

fn read_response(response: v1::UrlResponse) -> Result<Vec<SignedUrl>, UrlError> {
    if !response.error.is_empty() || !response.error_reason.is_empty() {
        return Err(match response.error_reason.as_str() {
            // The hub that signs is not always the one that told: it may not have seen the assignment yet.
            "NotReady" | "NotAssigned" => UrlError::Unavailable(response.error),
            _ => UrlError::Refused { reason: response.error_reason, message: response.error },
        });
    }
    let read = |signed: v1::SignedUrl| {
        let path = RelativePath::new(signed.path).ok()?;
        let url = signed.url.parse().ok()?;
        Some(SignedUrl { path, url, valid_for: Duration::from_secs(signed.valid_seconds.into()) })
    };
    response.urls.into_iter().map(read).collect::<Option<Vec<_>>>().ok_or_else(|| UrlError::Refused {
        reason: "Malformed".to_owned(),
        message: "the hub sent a URL that is none".to_owned(),
    })
}
