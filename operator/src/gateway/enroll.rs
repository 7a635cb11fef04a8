//! Enrolment: a spoke's first certificate, and a new one for a spoke that was offline past the end of its old one.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Api, Client, api::PostParams};
use nave_crds::{EdgeCluster, EdgeClusterSpec, Identity, join_token::JoinToken};
use nave_names::{ClusterName, Digest};
use nave_proto::v1::{EnrollRequest, EnrollResponse, enrollment_server::Enrollment};
use serde_json::json;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use nave_runtime::error_text::chain;

use super::{
    admission::{Admission, Denied, Proof, admit},
    attempts::Attempts,
    metrics::{EnrolmentOutcome, GatewayMetrics},
    tls::PeerInfo,
};
use crate::{
    json_patch::{self, Operation, Part, Target, Written},
    pki::{Authority, check_request, token},
};

/// Most labels that a spoke may bring for its EdgeCluster; the API server checks their keys and values.
const MAX_LABELS: usize = 64;
const FIELD_MANAGER: &str = "nave-gateway";

/// The service.
pub(super) struct Enroller {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) authority: Authority,
    pub(super) certificate_life: Duration,
    pub(super) metrics: GatewayMetrics,
    pub(super) attempts: Mutex<Attempts>,
}

#[tonic::async_trait]
impl Enrollment for Enroller {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let address = request.extensions().get::<PeerInfo>().map(|peer| peer.address.ip());
        let address = address.ok_or_else(|| Status::internal("the connection has no address"))?;
        let waiting =
            self.attempts.lock().unwrap_or_else(PoisonError::into_inner).wait(address, Instant::now());
        if let Some(wait) = waiting {
            self.metrics.enrolment(EnrolmentOutcome::Limited);
            let seconds = wait.as_secs().max(1);
            return Err(Status::resource_exhausted(format!(
                "too many failed attempts to join from {address}: try again in {seconds} s"
            )));
        }
        match self.admit(request.into_inner()).await {
            Ok(response) => {
                self.metrics.enrolment(EnrolmentOutcome::Admitted);
                Ok(Response::new(response))
            }
            Err(status) => {
                if status.code() == tonic::Code::Internal || status.code() == tonic::Code::Unavailable {
                    self.metrics.enrolment(EnrolmentOutcome::Failed);
                } else {
                    self.metrics.enrolment(EnrolmentOutcome::Refused);
                    self.attempts
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .failed(address, Instant::now());
                }
                tracing::info!(%address, code = ?status.code(), reason = status.message(), "enrolment refused");
                Err(status)
            }
        }
    }
}

impl Enroller {
    async fn admit(&self, request: EnrollRequest) -> Result<EnrollResponse, Status> {
        let checked = check_request(&request.certificate_request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let key = checked.public_key_digest();
        let labels = checked_labels(request.labels)?;
        let cluster = if request.token.trim().is_empty() {
            let cluster = ClusterName::new(request.cluster)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            let known = self.known(&cluster).await?;
            admit(cluster.as_str(), known.as_ref(), key, Proof::Key)?;
            self.record(known, &cluster, key).await?
        } else {
            self.join(&request.token, &request.cluster, key, labels).await?
        };
        let name = ClusterName::new(cluster.metadata.name.clone().unwrap_or_default())
            .map_err(|error| Status::internal(error.to_string()))?;
        let issued = self
            .authority
            .issue_client(&name, &checked, self.certificate_life, Timestamp::now())
            .map_err(|error| {
                tracing::error!(cluster = %name, error = %chain(&error), "cannot issue a certificate");
                Status::internal("the hub cannot issue certificates now")
            })?;
        tracing::info!(cluster = %name, accepted = cluster.spec.accepted, "spoke enrolled");
        Ok(EnrollResponse {
            cluster: name.to_string(),
            certificate_chain: issued.chain,
            ca_bundle: self.authority.bundle_pem().to_owned(),
            accepted: cluster.spec.accepted,
        })
    }

    async fn join(
        &self,
        text: &str,
        wanted: &str,
        key: Digest,
        labels: BTreeMap<String, String>,
    ) -> Result<EdgeCluster, Status> {
        // A spoke that was let in and did not hear the answer asks again: its key, not the token, lets it in then.
        if let Ok(name) = ClusterName::new(wanted)
            && let Some(known) = self.known(&name).await?
            && admit(wanted, Some(&known), key, Proof::Key) == Ok(Admission::Rejoin)
        {
            return Ok(known);
        }
        let token = JoinToken::parse(text).map_err(|error| Status::unauthenticated(error.to_string()))?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let (_, grant) = token::look_up(&secrets, &token, wanted).await.map_err(|e| refused(&e))?;
        let known = self.known(&grant.cluster).await?;
        let admission = admit(grant.cluster.as_str(), known.as_ref(), key, Proof::Token)?;
        if admission == Admission::Join {
            token::take(&secrets, &token, wanted).await.map_err(|e| refused(&e))?;
        }
        let known = match known {
            Some(cluster) => cluster,
            None => self.create(&grant, labels).await?,
        };
        self.record(Some(known), &grant.cluster, key).await
    }

    async fn known(&self, cluster: &ClusterName) -> Result<Option<EdgeCluster>, Status> {
        let api: Api<EdgeCluster> = Api::all(self.client.clone());
        api.get_opt(cluster.as_str()).await.map_err(|error| unavailable("read the EdgeCluster", &error))
    }

    async fn create(
        &self,
        grant: &token::Grant,
        labels: BTreeMap<String, String>,
    ) -> Result<EdgeCluster, Status> {
        let spec = EdgeClusterSpec { accepted: grant.auto_accept, ..EdgeClusterSpec::default() };
        let mut cluster = EdgeCluster::new(grant.cluster.as_str(), spec);
        cluster.metadata.labels = (!labels.is_empty()).then_some(labels);
        let api: Api<EdgeCluster> = Api::all(self.client.clone());
        let by = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&by, &cluster).await {
            Ok(created) => Ok(created),
            Err(kube::Error::Api(status)) if status.code == 409 => self
                .known(&grant.cluster)
                .await?
                .ok_or_else(|| Status::unavailable("the EdgeCluster came and went: try again")),
            Err(kube::Error::Api(status)) if status.code == 422 => {
                Err(Status::invalid_argument(format!("the EdgeCluster is refused: {}", status.message)))
            }
            Err(error) => Err(unavailable("create the EdgeCluster", &error)),
        }
    }

    /// Puts the key on record before the spoke gets its certificate, for that very state of the object: of two machines
    /// with one name the second is refused.
    async fn record(
        &self,
        known: Option<EdgeCluster>,
        name: &ClusterName,
        key: Digest,
    ) -> Result<EdgeCluster, Status> {
        let mut cluster = known.ok_or_else(|| Status::from(Denied::UnknownCluster(name.to_string())))?;
        for _ in 0..5 {
            if admit(name.as_str(), Some(&cluster), key, Proof::Token)? == Admission::Rejoin {
                return Ok(cluster);
            }
            let mut status = cluster.status.clone().unwrap_or_default();
            let enrolled_at = Some(Time(Timestamp::now()));
            status.identity = Some(Identity { public_key_digest: key.to_string(), enrolled_at });
            let operations = [
                Operation::Test {
                    path: "/metadata/resourceVersion",
                    value: json!(cluster.metadata.resource_version),
                },
                Operation::Add { path: "/status", value: json!(status) },
            ];
            let target = Target {
                namespace: None,
                name: name.as_str(),
                part: Part::Status,
                field_manager: FIELD_MANAGER,
            };
            match json_patch::send::<EdgeCluster>(&self.client, target, &operations).await {
                Written::Stored(stored) => return Ok(*stored),
                Written::Conflict(_) => {
                    cluster = self.known(name).await?.ok_or_else(|| gone(name))?;
                }
                Written::Gone => return Err(gone(name)),
                Written::Failed(error) => return Err(unavailable("record the spoke's key", &error)),
                Written::NotSent => return Err(Status::unavailable("the hub is stopping: try again")),
            }
        }
        Err(Status::unavailable("the EdgeCluster changes too often: try again"))
    }
}

fn gone(name: &ClusterName) -> Status {
    Status::unavailable(format!("EdgeCluster {name} was deleted meanwhile: try again"))
}

fn refused(error: &token::TakeError) -> Status {
    match error {
        token::TakeError::Refused(refusal) => match refusal {
            token::Refusal::OtherCluster { .. } => Status::permission_denied(refusal.to_string()),
            token::Refusal::NoCluster | token::Refusal::Name(_) => {
                Status::invalid_argument(refusal.to_string())
            }
            token::Refusal::Unknown
            | token::Refusal::Expired(_)
            | token::Refusal::UsedUp
            | token::Refusal::Malformed(_) => Status::unauthenticated(refusal.to_string()),
        },
        token::TakeError::Api { source, .. } => unavailable("read the join token", source),
        token::TakeError::Contended(_) => Status::unavailable(error.to_string()),
    }
}

fn unavailable(action: &str, error: &kube::Error) -> Status {
    tracing::warn!(action, error = %chain(error), "enrolment could not be finished");
    Status::unavailable(format!("the hub could not {action}: try again"))
}

fn checked_labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Status> {
    if labels.len() > MAX_LABELS {
        return Err(Status::invalid_argument(format!("more than {MAX_LABELS} labels")));
    }
    Ok(labels)
}
