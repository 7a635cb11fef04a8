//! Names of objects: which characters they may hold is decided here and nowhere else.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What the URI in a spoke's certificate begins with; the cluster's name follows. The hub writes it, and whoever is shown
/// such a certificate reads it.
pub const CLUSTER_URI: &str = "nave:cluster:";

/// Why a text is not a name. The message names the kind of name and the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} {value:?}: {reason}")]
pub struct NameError {
    kind: &'static str,
    value: String,
    reason: &'static str,
}

/// Which rule a kind of name follows.
enum Rule {
    /// RFC 1123 subdomain, at most 253 characters: what Kubernetes allows as `metadata.name`.
    Subdomain,
    /// RFC 1123 label, at most 63 characters: what Kubernetes allows as a namespace.
    Label,
    /// A folder name: letters, digits, `.`, `_`, `-`, `+`; starts with a letter or digit; at most 128 characters.
    /// Version numbers (SemVer build metadata included) and runtimes' model names fit; a path never does.
    Folder,
}

impl Rule {
    fn check(&self, value: &str) -> Result<(), &'static str> {
        match self {
            Self::Subdomain => {
                if value.len() > 253 {
                    return Err("longer than 253 characters");
                }
                value.split('.').try_for_each(check_label)
            }
            Self::Label => {
                if value.len() > 63 {
                    return Err("longer than 63 characters");
                }
                check_label(value)
            }
            Self::Folder => check_folder(value),
        }
    }
}

fn check_label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() {
        return Err("empty");
    }
    if !label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("only lower-case letters, digits, '-' and '.' are allowed");
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err("must start and end with a letter or digit");
    }
    Ok(())
}

fn check_folder(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("empty");
    }
    if value.len() > 128 {
        return Err("longer than 128 characters");
    }
    if !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+')) {
        return Err("only letters, digits, '.', '_', '-' and '+' are allowed");
    }
    if !value.as_bytes()[0].is_ascii_alphanumeric() {
        return Err("must start with a letter or digit");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the text.
            ///
            /// # Errors
            /// [`NameError`] names the kind of name, the text and the rule it breaks.
            pub fn new(value: impl Into<String>) -> Result<Self, NameError> {
                let value = value.into();
                match $rule.check(&value) {
                    Ok(()) => Ok(Self(value)),
                    Err(reason) => Err(NameError { kind: $kind, value, reason }),
                }
            }

            /// The text of the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                Self::new(value)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                Self::new(value)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The name of an EdgeCluster, and of its ClusterAssignment.
    ClusterName, "cluster name", Rule::Subdomain
);
name!(
    /// A Kubernetes namespace.
    Namespace, "namespace", Rule::Label
);
name!(
    /// The name of a PlacementPolicy within its namespace.
    PolicyName, "policy name", Rule::Subdomain
);
name!(
    /// What the serving runtime knows a model by.
    ModelName, "model name", Rule::Folder
);
name!(
    /// One version of a model, such as `1.2.0` or `1.2.0-a12`.
    VersionName, "version", Rule::Folder
);
name!(
    /// A dataset that a spoke's agent was configured with.
    DatasetName, "dataset name", Rule::Folder
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_names_are_accepted() {
        assert!(ClusterName::new("bridge-a12").is_ok());
        assert!(ClusterName::new("plant-7.eu-west").is_ok());
        assert!(Namespace::new("vision").is_ok());
    }

    #[test]
    fn a_refusal_names_kind_text_and_rule() {
        let error = ClusterName::new("Bridge").unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid cluster name \"Bridge\": only lower-case letters, digits, '-' and '.' are allowed"
        );
        for bad in ["", "-a", "a-", "a..b", "a/b", "a_b"] {
            assert!(ClusterName::new(bad).is_err(), "{bad}");
        }
        assert!(Namespace::new("a.b").is_err());
    }

    #[test]
    fn versions_are_folder_names_and_never_paths() {
        for good in ["1.2.0", "1.2.0-a12", "2026.11+build.7", "v1_rc"] {
            assert!(VersionName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "é"] {
            assert!(VersionName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn serde_checks_too() {
        assert!(serde_json::from_str::<ModelName>("\"bridge-defects\"").is_ok());
        assert!(serde_json::from_str::<ModelName>("\"../etc\"").is_err());
    }
}
