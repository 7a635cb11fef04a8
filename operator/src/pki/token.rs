//! Join tokens: whether one lets a spoke in, and taking one of its uses. The Secret holds a hash, never the token.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::PostParams};
use nave_crds::join_token::{
    AUTO_ACCEPT_KEY, CLUSTER_KEY, EXPIRES_AT_KEY, HASH_KEY, JoinToken, SECRET_TYPE, USES_KEY,
};
use nave_names::ClusterName;

/// How often a use is tried to be taken when other spokes take one at the same moment.
const ATTEMPTS: usize = 20;

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The name that joins.
    pub cluster: ClusterName,
    /// Whether the hub consents at once.
    pub auto_accept: bool,
    /// Uses that are left before this one; None = any number.
    pub uses: Option<u32>,
}

/// Why a token lets nobody in. The texts are for the person who installs the agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none with that id, or its secret part is another one: the two must not be told apart from outside.
    #[error("unknown join token: was it deleted, or mistyped? Make one with `kubectl nave token create`")]
    Unknown,
    /// Too late.
    #[error("the join token expired at {0}: make a new one with `kubectl nave token create`")]
    Expired(Timestamp),
    /// Too many.
    #[error("the join token is used up: make a new one with `kubectl nave token create`")]
    UsedUp,
    /// It is somebody else's.
    #[error("the join token is for cluster {token}, not for {wanted}")]
    OtherCluster {
        /// The token's.
        token: String,
        /// The spoke's.
        wanted: String,
    },
    /// Nobody said which cluster it is.
    #[error("the join token names no cluster: say which one this is (--cluster)")]
    NoCluster,
    /// The name cannot be one.
    #[error("{0}")]
    Name(String),
    /// The Secret is not what `token create` makes.
    #[error("the join token's Secret is malformed ({0}): make a new one with `kubectl nave token create`")]
    Malformed(&'static str),
}

/// Whether the token lets a spoke in that wants to be called `wanted` (empty = the token's name).
///
/// # Errors
/// [`Refusal`].
pub fn may_join(secret: &Secret, token: &JoinToken, wanted: &str, now: Timestamp) -> Result<Grant, Refusal> {
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    let text = |key: &str| data.get(key).and_then(|ByteString(bytes)| std::str::from_utf8(bytes).ok());
    if secret.type_.as_deref() != Some(SECRET_TYPE) {
        return Err(Refusal::Unknown);
    }
    let stored = text(HASH_KEY).ok_or(Refusal::Malformed("hash"))?;
    if !same(stored.trim().as_bytes(), token.hash().as_bytes()) {
        return Err(Refusal::Unknown);
    }
    let expires: Timestamp =
        text(EXPIRES_AT_KEY).and_then(|at| at.trim().parse().ok()).ok_or(Refusal::Malformed("expiresAt"))?;
    if expires <= now {
        return Err(Refusal::Expired(expires));
    }
    let uses = match text(USES_KEY).map(str::trim) {
        None | Some("") => None,
        Some(number) => Some(number.parse::<u32>().map_err(|_| Refusal::Malformed("uses"))?),
    };
    if uses == Some(0) {
        return Err(Refusal::UsedUp);
    }
    let bound = text(CLUSTER_KEY).map(str::trim).unwrap_or_default();
    let name = match (bound, wanted) {
        ("", "") => return Err(Refusal::NoCluster),
        ("", name) | (name, "") => name,
        (token, wanted) if token != wanted => {
            return Err(Refusal::OtherCluster { token: token.into(), wanted: wanted.into() });
        }
        (name, _) => name,
    };
    let cluster = ClusterName::new(name).map_err(|error| Refusal::Name(error.to_string()))?;
    Ok(Grant { cluster, auto_accept: text(AUTO_ACCEPT_KEY).map(str::trim) == Some("true"), uses })
}

/// Equality in time that does not tell where the first difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// A use could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The token lets nobody in any more.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The API server did not give or take the Secret.
    #[error("cannot use join token {id}")]
    Api {
        /// The token's public part.
        id: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// Too many took one at the same time.
    #[error("too many spokes join with token {0} at this moment")]
    Contended(String),
}

/// Reads the token's Secret and decides.
///
/// # Errors
/// [`TakeError`].
pub async fn look_up(
    secrets: &Api<Secret>,
    token: &JoinToken,
    wanted: &str,
) -> Result<(Secret, Grant), TakeError> {
    let api = |source| TakeError::Api { id: token.id().to_owned(), source: Box::new(source) };
    let secret = secrets.get_opt(&token.secret_name()).await.map_err(api)?.ok_or(Refusal::Unknown)?;
    let grant = may_join(&secret, token, wanted, Timestamp::now())?;
    Ok((secret, grant))
}

/// Takes one use. N uses are N uses with any number of hubs: the write holds only for the Secret that was read.
///
/// # Errors
/// [`TakeError`]; then no use was taken.
pub async fn take(secrets: &Api<Secret>, token: &JoinToken, wanted: &str) -> Result<Grant, TakeError> {
    for _ in 0..ATTEMPTS {
        let (mut secret, grant) = look_up(secrets, token, wanted).await?;
        let Some(uses) = grant.uses else { return Ok(grant) };
        let left = uses.saturating_sub(1).to_string();
        secret.data.get_or_insert_default().insert(USES_KEY.to_owned(), ByteString(left.into_bytes()));
        match secrets.replace(&token.secret_name(), &PostParams::default(), &secret).await {
            Ok(_) => return Ok(grant),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(source) => {
                return Err(TakeError::Api { id: token.id().to_owned(), source: Box::new(source) });
            }
        }
    }
    Err(TakeError::Contended(token.id().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn token() -> JoinToken {
        JoinToken::from_parts("abcd1234", SECRET).unwrap()
    }

    fn stored(change: &[(&str, &str)]) -> Secret {
        let hash = token().hash();
        let mut data = BTreeMap::from([
            (HASH_KEY, hash.as_str()),
            (EXPIRES_AT_KEY, "2026-11-24T12:00:00Z"),
            (USES_KEY, "1"),
            (AUTO_ACCEPT_KEY, "true"),
        ]);
        data.extend(change.iter().copied());
        let data = data.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v.as_bytes().to_vec()))).collect();
        Secret { type_: Some(SECRET_TYPE.into()), data: Some(data), ..Secret::default() }
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn decide(change: &[(&str, &str)], wanted: &str, now: &str) -> Result<Grant, Refusal> {
        may_join(&stored(change), &token(), wanted, at(now))
    }

    #[test]
    fn a_token_lets_in_until_it_expires_or_is_used_up() {
        let before = "2026-11-24T11:59:59Z";
        let grant = decide(&[], "bridge-a12", before).unwrap();
        assert_eq!((grant.cluster.as_str(), grant.auto_accept, grant.uses), ("bridge-a12", true, Some(1)));
        assert!(matches!(decide(&[], "x", "2026-11-24T12:00:00Z"), Err(Refusal::Expired(_))));
        assert_eq!(decide(&[(USES_KEY, "0")], "x", before), Err(Refusal::UsedUp));
        assert_eq!(decide(&[(USES_KEY, "")], "x", before).unwrap().uses, None);
        assert_eq!(decide(&[(USES_KEY, "many")], "x", before), Err(Refusal::Malformed("uses")));
        assert!(!decide(&[(AUTO_ACCEPT_KEY, "false")], "x", before).unwrap().auto_accept);
    }

    #[test]
    fn a_tokens_own_name_binds() {
        let now = "2026-11-24T11:00:00Z";
        let bound = [(CLUSTER_KEY, "bridge-b7")];
        assert_eq!(decide(&bound, "", now).unwrap().cluster.as_str(), "bridge-b7");
        assert!(matches!(decide(&bound, "bridge-a12", now), Err(Refusal::OtherCluster { .. })));
        assert_eq!(decide(&[], "", now), Err(Refusal::NoCluster));
        assert!(matches!(decide(&[], "../etc", now), Err(Refusal::Name(_))));
    }

    #[test]
    fn another_secret_or_another_kind_of_secret_is_unknown() {
        let other = JoinToken::from_parts("abcd1234", &SECRET.replace('0', "9")).unwrap();
        let now = "2026-11-24T11:00:00Z".parse().unwrap();
        assert_eq!(may_join(&stored(&[]), &other, "x", now), Err(Refusal::Unknown));
        let opaque = Secret { type_: Some("Opaque".into()), ..stored(&[]) };
        assert_eq!(may_join(&opaque, &token(), "x", now), Err(Refusal::Unknown));
    }
}
