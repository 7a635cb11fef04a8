//! Annotations by which people steer a run: approve, resume, retry. A malformed one is ignored, and named.

use nave_crds::{
    APPROVE_ANNOTATION, PlacementPolicy, RESUME_ANNOTATION, RETRY_ANNOTATION,
    view::{approval, resumed_generation},
};

/// What the annotations of a policy ask, for its present generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Annotations {
    /// Steps up to this one are approved.
    pub(crate) approved: Option<usize>,
    /// The run no longer stops for its budget.
    pub(crate) resume: Option<i64>,
    /// A value of `nave.dev/retry`.
    pub(crate) retry: Option<String>,
    /// What is ignored, for people.
    pub(crate) malformed: Vec<String>,
}

impl Annotations {
    pub(crate) fn parse(policy: &PlacementPolicy) -> Self {
        // An object that no API server has stored yet is its own first generation.
        let generation = policy.metadata.generation.unwrap_or(1);
        let mut annotations = Self::default();
        match approval(policy) {
            Ok(Some(given)) if given.generation == generation => {
                annotations.approved = usize::try_from(given.index).ok();
            }
            Ok(_) => {}
            Err(text) => annotations.malformed.push(format!(
                "annotation {APPROVE_ANNOTATION} {text:?} is ignored: expected <step>/<generation>"
            )),
        }
        match resumed_generation(policy) {
            Ok(Some(given)) if given == generation => annotations.resume = Some(given),
            Ok(_) => {}
            Err(text) => annotations.malformed.push(format!(
                "annotation {RESUME_ANNOTATION} {text:?} is ignored: expected the policy's generation"
            )),
        }
        let retry = policy.metadata.annotations.as_ref().and_then(|all| all.get(RETRY_ANNOTATION));
        match retry {
            Some(value) if value.is_empty() => annotations.malformed.push(format!(
                "annotation {RETRY_ANNOTATION} is ignored: expected a value that was not used before"
            )),
            other => annotations.retry = other.cloned(),
        }
        annotations
    }
}
