//! Rules that hold between the fields of one object, or between an object and what it was.

use serde_json::{Value, json};

use super::{field_rule, rule};

/// A ModelVersion's spec is what it was, but for `withdrawn`.
pub(crate) fn immutable_except_withdrawn() -> Value {
    let always = ["model", "version", "format", "source"]
        .map(|field| field_rule(field, &format!("self.{field} == oldSelf.{field}"), &immutable(field)));
    let sometimes = ["manifestDigest", "requirements", "signature", "lineage"].map(|field| {
        let rule = format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        );
        field_rule(field, &rule, &immutable(field))
    });
    always.into_iter().chain(sometimes).collect()
}

fn immutable(field: &str) -> String {
    format!("{field} is immutable: publish another ModelVersion instead")
}

/// An assignment's generation never goes down: spokes would refuse it.
pub(crate) fn generation_only_grows() -> Value {
    // Of the number alone: the same rule of the whole spec took the API server 5% of the time of a write.
    json!([rule("self >= oldSelf", "generation never goes down")])
}

/// As Kubernetes has it for pods.
pub(crate) fn toleration_is_whole() -> Value {
    json!([
        field_rule(
            "operator",
            "(has(self.key) && self.key != '') || self.operator == 'Exists'",
            "operator must be Exists where key is empty"
        ),
        field_rule(
            "value",
            "self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "value must be empty where operator is Exists"
        ),
    ])
}

/// Only `Label` scores by a key, and it cannot do without.
pub(crate) fn prioritizer_has_its_key() -> Value {
    json!([field_rule("key", "self.by != 'Label' || has(self.key)", "key is required where by is Label")])
}

/// Exactly one of `builtin`, `container` and `process`.
pub(crate) fn trainer_has_one_form() -> Value {
    json!([rule(
        "[has(self.builtin), has(self.container), has(self.process)].filter(given, given).size() == 1",
        "trainer must have exactly one of builtin, container and process"
    )])
}

/// A gate compares with a number or with the base, and only with one of them.
pub(crate) fn gate_compares_with_one() -> Value {
    json!([field_rule(
        "value",
        "has(self.value) != (has(self.baseline) && self.baseline)",
        "exactly one of value and baseline: true is required"
    )])
}
