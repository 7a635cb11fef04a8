//! Joining, and joining again with the old key. Both end with an identity on disk.

use std::time::Duration;

use nave_names::ClusterName;
use nave_proto::v1::{self, enrollment_client::EnrollmentClient};
use tonic::{Code, Request, Status};

use super::{dial::dial, error::SessionError};
use crate::{
    config::Config,
    identity::{self, Identity, IdentityStore},
};

/// A hub that makes a certificate does so within this time, an API server in trouble included.
const ENROL_TIMEOUT: Duration = Duration::from_secs(30);

/// Joins, with the token or (for a spoke that was in before) with its old key alone, then with the token.
pub(super) async fn enrol(
    config: &Config,
    store: &IdentityStore,
    known: Option<&Identity>,
) -> Result<Identity, SessionError> {
    let Some(identity) = known else {
        let token = config.join_token.read()?.ok_or(SessionError::NoToken)?;
        return ask(config, store, None, token).await;
    };
    let with_key = ask(config, store, Some(identity), String::new()).await;
    let Err(SessionError::JoinRefused(refusal)) = with_key else { return with_key };
    // The hub may not know the key any more, where the EdgeCluster was deleted: then a token is as good as new.
    match config.join_token.read() {
        Ok(Some(token)) => ask(config, store, Some(identity), token).await,
        Ok(None) | Err(_) => Err(SessionError::JoinRefused(refusal)),
    }
}

async fn ask(
    config: &Config,
    store: &IdentityStore,
    known: Option<&Identity>,
    token: String,
) -> Result<Identity, SessionError> {
    let pinned = store.pinned()?;
    // A pin that was changed since is a person's word for "the hub has a new CA".
    let trusted = known.filter(|_| config.ca_hash.is_none() || config.ca_hash == pinned);
    let tls = identity::joining(config.ca_hash.or(pinned), trusted)?;
    let key = store.key()?;
    let cluster = known.map(|identity| &identity.cluster).or(config.cluster.as_ref());
    let channel = dial(&config.hub, tls).await?;
    let mut request = Request::new(v1::EnrollRequest {
        token,
        cluster: cluster.map(ToString::to_string).unwrap_or_default(),
        certificate_request: identity::request(&key, cluster)?,
        agent_version: nave_runtime::build::VERSION.to_owned(),
        labels: config.labels.clone(),
    });
    request.set_timeout(ENROL_TIMEOUT);
    let mut client = EnrollmentClient::new(channel).max_decoding_message_size(nave_proto::MAX_MESSAGE_BYTES);
    let answer = client.enroll(request).await;
    let answer = answer.map_err(|status| refused(&status, config))?.into_inner();
    let identity = store.keep(&answer.certificate_chain, &answer.ca_bundle)?;
    if let Some(hash) = config.ca_hash {
        store.pin(&hash)?;
    }
    tracing::info!(
        cluster = %identity.cluster,
        hub = %config.hub,
        accepted = answer.accepted,
        until = %identity.not_after,
        again = known.is_some(),
        "enrolled"
    );
    Ok(identity)
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the list of codes is gRPC's")]
fn refused(status: &Status, config: &Config) -> SessionError {
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::NotFound => SessionError::JoinRefused(status.message().to_owned()),
        _ => SessionError::of_status(status, &config.hub),
    }
}

/// The identity on disk belongs to the cluster that the configuration names.
pub(super) fn check_name(config: &Config, identity: &Identity) -> Result<(), SessionError> {
    let differs = |name: &&ClusterName| **name != identity.cluster;
    match config.cluster.as_ref().filter(differs) {
        None => Ok(()),
        Some(configured) => Err(SessionError::Renamed {
            joined: identity.cluster.to_string(),
            configured: configured.to_string(),
        }),
    }
}
