//! Looking things up in a ClusterAssignment, and what its words mean.

use std::fmt;

use crate::{Action, AssignmentEntry, ClusterAssignmentSpec, ClusterAssignmentStatus, EntryStatus, Phase};

impl Phase {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Pulling => "Pulling",
            Self::Verifying => "Verifying",
            Self::Staged => "Staged",
            Self::Activating => "Activating",
            Self::Serving => "Serving",
            Self::Failed => "Failed",
            Self::Rejected => "Rejected",
            Self::Removing => "Removing",
        }
    }

    /// The spoke gave up on it: Failed or Rejected.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Rejected)
    }

    /// The spoke holds the weights, verified: Staged, Activating or Serving.
    pub const fn is_verified(self) -> bool {
        matches!(self, Self::Staged | Self::Activating | Self::Serving)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Action {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prefetch => "Prefetch",
            Self::Serve => "Serve",
            Self::Wait => "Wait",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ClusterAssignmentSpec {
    /// The entries of one policy.
    pub fn entries_of<'a>(
        &'a self,
        namespace: &'a str,
        policy: &'a str,
    ) -> impl Iterator<Item = &'a AssignmentEntry> {
        let entries = self.entries.iter().map(AsRef::as_ref);
        entries.filter(move |entry: &&AssignmentEntry| entry.namespace == namespace && entry.policy == policy)
    }

    /// The Serve entry of one policy: at most one.
    pub fn serve_entry<'a>(&'a self, namespace: &'a str, policy: &'a str) -> Option<&'a AssignmentEntry> {
        self.entries_of(namespace, policy).find(|entry| entry.action == Action::Serve)
    }
}

impl ClusterAssignmentStatus {
    /// The row of one version of one model.
    pub fn entry(&self, namespace: &str, model: &str, version: &str) -> Option<&EntryStatus> {
        self.entries
            .iter()
            .find(|row| row.namespace == namespace && row.model == model && row.version == version)
    }

    /// The row of the version that the spoke serves of one model.
    pub fn serving(&self, namespace: &str, model: &str) -> Option<&EntryStatus> {
        self.entries
            .iter()
            .find(|row| row.namespace == namespace && row.model == model && row.phase == Phase::Serving)
    }
}

/// The first 12 hex digits of `sha256:<hex>`, as folders and tables show them; other text as it is.
pub fn short_digest(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_spelled_as_the_api_spells_them() {
        for phase in [
            Phase::Pending,
            Phase::Pulling,
            Phase::Verifying,
            Phase::Staged,
            Phase::Activating,
            Phase::Serving,
            Phase::Failed,
            Phase::Rejected,
            Phase::Removing,
        ] {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
            assert!(!(phase.is_failure() && phase.is_verified()));
        }
    }

    #[test]
    fn digests_are_shown_short() {
        assert_eq!(short_digest("sha256:4b1f6a0e2c9d8b7a5f3e"), "4b1f6a0e2c9d");
        assert_eq!(short_digest("4b1f"), "4b1f");
        assert_eq!(short_digest(""), "");
    }
}
