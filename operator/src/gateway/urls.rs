//! Presigned URLs: for files of the spoke's own assignment and nothing else, so that no S3 key lives on a spoke and
//! weights do not pass through the hub.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::ResourceExt as _;
use nave_crds::{Action, ClusterAssignment, ModelVersion, view::conditions};
use nave_names::{ClusterName, RelativePath};
use nave_proto::{
    MAX_URL_PATHS,
    v1::{SignedUrl, UrlRequest, UrlResponse},
};
use object_store::{
    aws::AmazonS3,
    path::Path,
    signer::{Method, Signer as _},
};
use tokio::time::Instant;

use nave_runtime::error_text::chain;

use super::metrics::GatewayMetrics;
use crate::{resolve::source, watch::World};

/// How long a client with its credentials is kept: a changed Secret counts after this.
const CLIENT_LIFE: Duration = Duration::from_secs(60);

/// Why there are no URLs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("{model} {version} is not assigned to this cluster with that digest")]
    NotAssigned { model: String, version: String },
    #[error("{model} {version} is not ready at the hub")]
    NotReady { model: String, version: String },
    #[error("more than {MAX_URL_PATHS} files in one request")]
    TooMany,
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    CredentialsMissing(String),
    #[error("{0}")]
    Source(String),
}

impl Refused {
    fn reason(&self) -> &'static str {
        match self {
            Self::NotAssigned { .. } => "NotAssigned",
            Self::NotReady { .. } => "NotReady",
            Self::TooMany => "TooMany",
            Self::Malformed(_) => "Malformed",
            Self::CredentialsMissing(_) => "CredentialsMissing",
            Self::Source(_) => "SourceInvalid",
        }
    }
}

/// Hands out URLs. Clones share the clients.
#[derive(Clone, Debug)]
pub(super) struct Minter {
    world: World,
    life: Duration,
    metrics: GatewayMetrics,
    clients: Arc<Mutex<Clients>>,
}

/// S3 clients, each with when it was made.
type Clients = BTreeMap<ClientKey, (Arc<AmazonS3>, Instant)>;

/// Namespace, name and resourceVersion of the ModelVersion.
type ClientKey = (String, String, Option<String>);

impl Minter {
    pub(super) fn new(world: World, life: Duration, metrics: GatewayMetrics) -> Self {
        Self { world, life, metrics, clients: Arc::default() }
    }

    /// Answers a request.
    pub(super) async fn answer(&self, cluster: &ClusterName, request: UrlRequest) -> UrlResponse {
        let request_id = request.request_id;
        match self.mint(cluster, request).await {
            Ok(urls) => {
                self.metrics.urls.inc_by(urls.len() as u64);
                UrlResponse { request_id, urls, ..UrlResponse::default() }
            }
            Err(refused) => {
                tracing::info!(%cluster, reason = refused.reason(), message = %refused, "no URLs handed out");
                let (error, error_reason) = (refused.to_string(), refused.reason().to_owned());
                UrlResponse { request_id, urls: Vec::new(), error, error_reason }
            }
        }
    }

    async fn mint(&self, cluster: &ClusterName, request: UrlRequest) -> Result<Vec<SignedUrl>, Refused> {
        if request.paths.len() > MAX_URL_PATHS {
            return Err(Refused::TooMany);
        }
        let paths: Result<Vec<_>, _> =
            request.paths.iter().map(|path| RelativePath::new(path.as_str())).collect();
        let paths = paths.map_err(|error| Refused::Malformed(error.to_string()))?;
        let assignment = self.world.assignment(cluster.as_str());
        if !is_assigned(assignment.as_deref(), &request) {
            return Err(Refused::NotAssigned { model: request.model, version: request.version });
        }
        let version = self.world.version_of(&request.namespace, &request.model, &request.version);
        let version = version
            .filter(|version| is_ready(version, &request.manifest_digest))
            .ok_or(Refused::NotReady { model: request.model, version: request.version })?;
        let client = self.client(&version).await?;
        let prefix = version.spec.source.s3.prefix.trim_matches('/');
        let mut urls = Vec::with_capacity(paths.len());
        for path in paths {
            let key = Path::parse(format!("{prefix}/{path}").trim_start_matches('/'))
                .map_err(|error| Refused::Malformed(error.to_string()))?;
            let url = client.signed_url(Method::GET, &key, self.life).await;
            let url = url.map_err(|error| Refused::Source(chain(&error)))?;
            let valid_seconds = u32::try_from(self.life.as_secs()).unwrap_or(u32::MAX);
            urls.push(SignedUrl { path: path.to_string(), url: url.to_string(), valid_seconds });
        }
        Ok(urls)
    }

    async fn client(&self, version: &ModelVersion) -> Result<Arc<AmazonS3>, Refused> {
        let namespace = version.namespace().unwrap_or_default();
        let key = (namespace.clone(), version.name_any(), version.resource_version());
        let now = Instant::now();
        {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            clients.retain(|_, (_, made)| now.duration_since(*made) < CLIENT_LIFE);
            if let Some((client, _)) = clients.get(&key) {
                return Ok(Arc::clone(client));
            }
        }
        let client = source::open(&self.world.client, &namespace, &version.spec.source.s3).await;
        let client = Arc::new(client.map_err(|error| match error {
            source::SourceError::CredentialsMissing { .. } => Refused::CredentialsMissing(error.to_string()),
            source::SourceError::SecretUnreadable { .. }
            | source::SourceError::Invalid(_)
            | source::SourceError::S3 { .. } => Refused::Source(chain(&error)),
        })?);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.insert(key, (Arc::clone(&client), now));
        Ok(client)
    }
}

fn is_assigned(assignment: Option<&ClusterAssignment>, request: &UrlRequest) -> bool {
    assignment.is_some_and(|assignment| {
        assignment.spec.entries.iter().any(|entry| {
            entry.action != Action::Wait
                && entry.namespace == request.namespace
                && entry.model == request.model
                && entry.version == request.version
                && entry.manifest_digest == request.manifest_digest
        })
    })
}

fn is_ready(version: &ModelVersion, digest: &str) -> bool {
    version.status.as_ref().is_some_and(|status| {
        status.manifest_digest.as_deref() == Some(digest)
            && conditions::is_true(&status.conditions, conditions::READY)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request() -> UrlRequest {
        UrlRequest {
            namespace: "vision".into(),
            model: "m".into(),
            version: "1".into(),
            manifest_digest: "sha256:1".into(),
            ..UrlRequest::default()
        }
    }

    /// What was asked for, assigned with one field changed.
    fn assigned(change: &Value) -> ClusterAssignment {
        let mut entry = json!({
            "namespace": "vision", "policy": "p", "model": "m", "version": "1", "action": "Serve",
            "manifestDigest": "sha256:1",
        });
        entry.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(
            json!({"metadata": {"name": "a"}, "spec": {"generation": 1, "entries": [entry]}}),
        )
        .unwrap()
    }

    #[test]
    fn files_are_of_an_assigned_version_in_every_part_of_its_name() {
        for same in [json!({}), json!({"action": "Prefetch"}), json!({"policy": "q"})] {
            assert!(is_assigned(Some(&assigned(&same)), &request()), "{same}");
        }
        for other in [
            json!({"action": "Wait"}),
            json!({"namespace": "traffic"}),
            json!({"model": "n"}),
            json!({"version": "2"}),
            json!({"manifestDigest": "sha256:2"}),
        ] {
            assert!(!is_assigned(Some(&assigned(&other)), &request()), "{other}");
        }
        assert!(!is_assigned(None, &request()));
    }

    #[tokio::test]
    async fn nothing_is_signed_for_who_is_not_assigned_it() {
        let (world, mut stores) = crate::watch::testing::world();
        let elsewhere = assigned(&json!({"version": "2"}));
        stores.assignments.apply_watcher_event(&kube::runtime::watcher::Event::Apply(elsewhere));
        let minter = Minter::new(world, Duration::from_secs(60), GatewayMetrics::default());
        let refused = minter.mint(&ClusterName::new("a").unwrap(), request()).await.unwrap_err();
        assert!(matches!(refused, Refused::NotAssigned { .. }), "{refused}");
    }
}
