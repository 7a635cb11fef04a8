//! Label selectors with Kubernetes' semantics: everything must hold; `NotIn` and `DoesNotExist` hold where there is no
//! such label.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A checked selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    equal: Vec<(String, String)>,
    terms: Vec<(String, Term)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

/// A selector that Kubernetes would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SelectorError {
    #[error(
        "label selector: key {key:?} has operator {operator:?}: expected In, NotIn, Exists or DoesNotExist"
    )]
    Operator { key: String, operator: String },
    #[error("label selector: key {key:?}: {operator} needs values")]
    NoValues { key: String, operator: String },
    #[error("label selector: key {key:?}: {operator} takes no values")]
    Values { key: String, operator: String },
}

impl Selector {
    /// Checks a selector; an absent one selects everything.
    pub(crate) fn parse(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else { return Ok(Self::default()) };
        let equal = selector.match_labels.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut terms = Vec::new();
        for requirement in selector.match_expressions.iter().flatten() {
            let values: BTreeSet<String> = requirement.values.iter().flatten().cloned().collect();
            let (key, operator) = (requirement.key.clone(), requirement.operator.clone());
            let term = match (operator.as_str(), values.is_empty()) {
                ("In", false) => Term::In(values),
                ("NotIn", false) => Term::NotIn(values),
                ("Exists", true) => Term::Exists,
                ("DoesNotExist", true) => Term::DoesNotExist,
                ("In" | "NotIn", true) => return Err(SelectorError::NoValues { key, operator }),
                ("Exists" | "DoesNotExist", false) => return Err(SelectorError::Values { key, operator }),
                _ => return Err(SelectorError::Operator { key, operator }),
            };
            terms.push((key, term));
        }
        Ok(Self { equal, terms })
    }

    /// Whether an object with these labels is selected.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.equal.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.terms.iter().all(|(key, term)| {
                let value = labels.get(key);
                match term {
                    Term::In(values) => value.is_some_and(|value| values.contains(value)),
                    Term::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
                    Term::Exists => value.is_some(),
                    Term::DoesNotExist => value.is_none(),
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &serde_json::Value) -> LabelSelector {
        serde_json::from_value(json.clone()).unwrap()
    }

    #[test]
    fn everything_must_hold() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        for (selector, selected) in [
            (serde_json::json!({}), true),
            (serde_json::json!({"matchLabels": {"a": "1"}}), true),
            (serde_json::json!({"matchLabels": {"a": "1", "b": "3"}}), false),
            (
                serde_json::json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "9"]}]}),
                true,
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "c", "operator": "In", "values": ["1"]}]}),
                false,
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["1"]}]}),
                true,
            ),
            (
                serde_json::json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}),
                false,
            ),
            (serde_json::json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}), true),
            (serde_json::json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}), false),
            (
                serde_json::json!({"matchLabels": {"a": "1"},
                "matchExpressions": [{"key": "c", "operator": "Exists"}]}),
                false,
            ),
        ] {
            assert_eq!(
                Selector::parse(Some(&spec(&selector))).unwrap().matches(&labels),
                selected,
                "{selector}"
            );
        }
        assert!(Selector::parse(None).unwrap().matches(&labels));
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for bad in [
            serde_json::json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["1"]}]}),
            serde_json::json!({"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}),
            serde_json::json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["1"]}]}),
        ] {
            assert!(Selector::parse(Some(&spec(&bad))).is_err(), "{bad}");
        }
    }
}
