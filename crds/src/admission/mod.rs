//! What the API server refuses: schemas and CEL rules that the types name with `schema_with` and `extend`. There is no
//! webhook; whatever is refused is refused by these. The API server puts the field's path before each message.
//!
//! Every text has a longest length and every list a greatest one: without them the API server takes the rules' cost for
//! unbounded and refuses the CRD itself.

mod amounts;
mod names;
mod objects;
mod selectors;
mod times;

pub(crate) use amounts::{
    count, count_at_least_one, int_or_percent, int_or_percent_at_least_one, int32, positive_quantity,
    quantity, weight,
};
pub(crate) use names::{
    architectures, bucket, cel_expressions, commands, digest, endpoint, folder_name, image, key_prefix,
    label_key, label_value, names_of_runtimes, object_name, region, runtime, secret_key, toleration_key,
    word,
};
pub(crate) use objects::{
    gate_compares_with_one, generation_only_grows, immutable_except_withdrawn, prioritizer_has_its_key,
    toleration_is_whole, trainer_has_one_form,
};
pub(crate) use selectors::label_selector;
pub(crate) use times::{days, duration, time_of_day, time_zone};

use schemars::{Schema, json_schema};
use serde_json::{Value, json};

/// A rule over `self` with what the user is told when it does not hold.
fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// A rule of an object that speaks of one of its fields.
fn field_rule(field: &str, rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message, "fieldPath": format!(".{field}")})
}

/// A text of at most `longest` characters that matches `pattern` as a whole.
fn text(longest: u32, pattern: &str, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": longest,
        "x-kubernetes-validations": [rule(&matches(pattern), message)],
    })
}

/// The CEL call; the pattern is a raw literal, so backslashes stay as they are.
fn matches(pattern: &str) -> String {
    format!("self.matches(r'^{pattern}$')")
}
