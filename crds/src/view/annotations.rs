//! The annotations by which people steer a rollout. A malformed one is `Err` with its text, so that the hub can say so.

use crate::{APPROVE_ANNOTATION, PlacementPolicy, RESUME_ANNOTATION};

/// `nave.dev/approve: "<index>/<generation>"`: approves that step and those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The step, from 1.
    pub index: i32,
    /// The policy's `metadata.generation` that it was given for.
    pub generation: i64,
}

impl std::fmt::Display for Approval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.generation)
    }
}

/// What `nave.dev/approve` says; None where it is absent.
///
/// # Errors
/// The annotation's text where it is malformed.
pub fn approval(policy: &PlacementPolicy) -> Result<Option<Approval>, &str> {
    let Some(text) = annotation(policy, APPROVE_ANNOTATION) else { return Ok(None) };
    let parsed = text.split_once('/').and_then(|(index, generation)| {
        Some(Approval { index: index.parse().ok()?, generation: generation.parse().ok()? })
    });
    match parsed {
        Some(approval) if approval.index >= 1 && approval.generation >= 0 => Ok(Some(approval)),
        _ => Err(text),
    }
}

/// The generation that `nave.dev/resume` names; None where it is absent.
///
/// # Errors
/// The annotation's text where it is malformed.
pub fn resumed_generation(policy: &PlacementPolicy) -> Result<Option<i64>, &str> {
    let Some(text) = annotation(policy, RESUME_ANNOTATION) else { return Ok(None) };
    match text.parse() {
        Ok(generation) if generation >= 0 => Ok(Some(generation)),
        _ => Err(text),
    }
}

fn annotation<'a>(policy: &'a PlacementPolicy, name: &str) -> Option<&'a str> {
    policy.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, value: &str) -> PlacementPolicy {
        let mut policy = PlacementPolicy::new(
            "p",
            serde_json::from_value(serde_json::json!({
                "model": {"name": "m", "version": "1"}
            }))
            .unwrap(),
        );
        policy.metadata.annotations = Some([(name.to_owned(), value.to_owned())].into());
        policy
    }

    #[test]
    fn approvals_round_trip_and_malformed_ones_say_so() {
        let given = Approval { index: 2, generation: 7 };
        assert_eq!(approval(&policy(APPROVE_ANNOTATION, &given.to_string())), Ok(Some(given)));
        for bad in ["", "2", "/7", "0/7", "2/-1", "a/b", "1/2/3"] {
            assert_eq!(approval(&policy(APPROVE_ANNOTATION, bad)), Err(bad));
        }
    }

    #[test]
    fn resume_names_a_generation() {
        assert_eq!(resumed_generation(&policy(RESUME_ANNOTATION, "3")), Ok(Some(3)));
        assert_eq!(resumed_generation(&policy(RESUME_ANNOTATION, "yes")), Err("yes"));
        assert_eq!(resumed_generation(&policy("other", "3")), Ok(None));
    }
}
