//! What a ModelVersion's status says after an attempt to resolve it. Pure: the object, the outcome and the time in, the
//! status out.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nave_crds::{
    ModelVersion, ModelVersionStatus, VerifiedSignature,
    view::conditions::{self, Status, Update},
};

use super::{error::ResolveError, manifest::Resolved};

/// What an attempt found.
pub type Outcome = Result<(Resolved, Signed), ResolveError>;

/// What is known of the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// None is asked for.
    NotAsked,
    /// It is good, and of exactly the version's files.
    Verified(VerifiedSignature),
    /// One is asked for; the version is not served.
    Unverified {
        /// One CamelCase word.
        reason: &'static str,
        /// For people.
        message: String,
    },
}

/// The status after the attempt; equal to the one before when nothing is new.
pub fn status_after(version: &ModelVersion, outcome: &Outcome, now: Timestamp) -> ModelVersionStatus {
    let mut status = version.status.clone().unwrap_or_default();
    let observed_generation = version.metadata.generation;
    match outcome {
        Ok((resolved, signed)) => {
            let digest = resolved.digest.to_string();
            if status.manifest_digest.as_ref() != Some(&digest) {
                status.manifest_digest = Some(digest);
                status.resolved_at = Some(Time(now));
            }
            status.size_bytes = i64::try_from(resolved.size).ok();
            status.file_count = i64::try_from(resolved.files).ok();
            succeed(&mut status, resolved, signed, observed_generation, now);
        }
        Err(error) if error.is_transient() && was_ready(version) => {}
        Err(error) => {
            for type_ in [conditions::RESOLVED, conditions::READY] {
                let message = error.to_string();
                let update = Update {
                    type_,
                    status: Status::False,
                    reason: error.reason(),
                    message,
                    observed_generation,
                };
                conditions::set(&mut status.conditions, update, now);
            }
        }
    }
    status.observed_generation = observed_generation;
    status
}

fn succeed(
    status: &mut ModelVersionStatus,
    resolved: &Resolved,
    signed: &Signed,
    observed_generation: Option<i64>,
    now: Timestamp,
) {
    // How the manifest came about is told once; a later check finds it there in any case.
    let was = conditions::find(&status.conditions, conditions::RESOLVED).filter(|c| c.status == "True");
    let reason = match was {
        Some(before) if !resolved.computed => before.reason.clone(),
        Some(_) | None if resolved.computed => "ManifestComputed".to_owned(),
        Some(_) | None => "ManifestRead".to_owned(),
    };
    let message = format!("{} files, {} bytes", resolved.files, resolved.size);
    let update = |type_, holds: bool, reason, message| Update {
        type_,
        status: holds.into(),
        reason,
        message,
        observed_generation,
    };
    conditions::set(&mut status.conditions, update(conditions::RESOLVED, true, &reason, message), now);
    match signed {
        Signed::NotAsked => {
            conditions::remove(&mut status.conditions, conditions::VERIFIED);
            let ready = update(conditions::READY, true, "Resolved", String::new());
            conditions::set(&mut status.conditions, ready, now);
        }
        Signed::Verified(signature) => {
            let message = format!("signed by {}", signature.signer);
            let verified = update(conditions::VERIFIED, true, "SignatureVerified", message);
            conditions::set(&mut status.conditions, verified, now);
            let ready = update(conditions::READY, true, "Verified", String::new());
            conditions::set(&mut status.conditions, ready, now);
            status.signature = Some(signature.clone());
        }
        Signed::Unverified { reason, message } => {
            for type_ in [conditions::VERIFIED, conditions::READY] {
                conditions::set(&mut status.conditions, update(type_, false, reason, message.clone()), now);
            }
        }
    }
}

fn was_ready(version: &ModelVersion) -> bool {
    version.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, conditions::READY))
}

#[cfg(test)]
mod tests {
    use nave_crds::ModelVersionSpec;
    use nave_names::Digest;

    use super::*;
    use crate::resolve::source::SourceError;

    fn version() -> ModelVersion {
        let spec: ModelVersionSpec = serde_json::from_value(serde_json::json!({
            "model": "bridge-defects", "version": "1.0.0", "source": {"s3": {"bucket": "w", "prefix": "m/1"}}
        }))
        .unwrap();
        ModelVersion::new("bridge-defects-1", spec)
    }

    fn resolved() -> Outcome {
        let digest = Digest::of(b"manifest");
        let resolved = Resolved { digest, size: 7, files: 2, computed: true };
        Ok((resolved, Signed::NotAsked))
    }

    fn s3(code: &str) -> Outcome {
        let (place, detail) = ("s3://w/m/1".to_owned(), "no".to_owned());
        Err(SourceError::S3 { action: "list", place, code: code.to_owned(), detail }.into())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(status: &ModelVersionStatus) -> (&str, &str) {
        let ready = conditions::find(&status.conditions, conditions::READY).unwrap();
        (&ready.status, &ready.reason)
    }

    #[test]
    fn a_second_look_that_finds_the_same_changes_nothing() {
        let mut version = version();
        let first = status_after(&version, &resolved(), at(10));
        assert_eq!(ready(&first), ("True", "Resolved"));
        assert_eq!(first.manifest_digest, Some(Digest::of(b"manifest").to_string()));
        version.status = Some(first.clone());
        let Ok((again, signed)) = resolved() else { unreachable!() };
        let again = Ok((Resolved { computed: false, ..again }, signed));
        assert_eq!(status_after(&version, &again, at(99)), first);
    }

    #[test]
    fn an_outage_of_s3_does_not_take_ready_away_but_a_changed_object_does() {
        let mut version = version();
        version.status = Some(status_after(&version, &resolved(), at(10)));
        assert_eq!(Some(status_after(&version, &s3("Unreachable"), at(20))), version.status);
        let changed = ResolveError::ObjectChanged { key: "m/1/a.bin".into(), problem: "was changed".into() };
        let status = status_after(&version, &Err(changed), at(30));
        assert_eq!(ready(&status), ("False", "ObjectChanged"));
        let message = &conditions::find(&status.conditions, conditions::RESOLVED).unwrap().message;
        assert!(message.contains("m/1/a.bin"), "{message}");
        assert!(status.manifest_digest.is_some(), "the identity stays");
    }

    #[test]
    fn what_was_never_resolved_says_why() {
        let status = status_after(&version(), &s3("NoSuchBucket"), at(10));
        assert_eq!(ready(&status), ("False", "NoSuchBucket"));
        assert_eq!(status.manifest_digest, None);
        assert_eq!(ready(&status_after(&version(), &s3("Unreachable"), at(10))), ("False", "Unreachable"));
    }

    #[test]
    fn only_a_verified_signature_makes_a_version_ready_that_asks_for_one() {
        let look = |version: &ModelVersion, signed: Signed, second| {
            let Ok((resolved, _)) = resolved() else { unreachable!() };
            status_after(version, &Ok((resolved, signed)), at(second))
        };
        let foreign = || Signed::Unverified { reason: "SignedByAnotherKey", message: "no".into() };
        let good = VerifiedSignature { public_key: "PEM".into(), signer: "key 1".into() };
        let mut version = version();
        let status = look(&version, foreign(), 10);
        assert_eq!(ready(&status), ("False", "SignedByAnotherKey"));
        assert!(conditions::is_true(&status.conditions, conditions::RESOLVED));
        assert!(!conditions::is_true(&status.conditions, conditions::VERIFIED));
        assert_eq!(status.signature, None);

        version.status = Some(status);
        let status = look(&version, Signed::Verified(good.clone()), 20);
        assert_eq!(ready(&status), ("True", "Verified"));
        assert!(conditions::is_true(&status.conditions, conditions::VERIFIED));
        assert_eq!(status.signature, Some(good.clone()));

        version.status = Some(status.clone());
        assert_eq!(look(&version, Signed::Verified(good), 30), status, "nothing new is nothing written");
        let status = look(&version, foreign(), 40);
        assert_eq!(ready(&status), ("False", "SignedByAnotherKey"), "replaced by someone else's later");
    }
}
