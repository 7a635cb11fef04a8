//! Counts, percentages, weights and quantities.

use schemars::{Schema, SchemaGenerator, json_schema};

const PERCENT: &str = "^(100|[1-9]?[0-9])%$";
/// What follows a quantity's digits.
const SUFFIX: &str = "(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]{1,2}))?";

/// The longest text of a quantity; 9 EiB in nano-units is shorter.
const LONGEST_QUANTITY: u32 = 40;

fn between(least: i32, greatest: i32) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "minimum": least, "maximum": greatest})
}

/// Any 32-bit number: without the bounds a greater one would be stored, and then nobody could read the object.
pub(crate) fn int32(_: &mut SchemaGenerator) -> Schema {
    between(i32::MIN, i32::MAX)
}

/// 0 or more.
pub(crate) fn count(_: &mut SchemaGenerator) -> Schema {
    between(0, i32::MAX)
}

/// 1 or more.
pub(crate) fn count_at_least_one(_: &mut SchemaGenerator) -> Schema {
    between(1, i32::MAX)
}

/// A prioritizer's weight.
pub(crate) fn weight(_: &mut SchemaGenerator) -> Schema {
    between(-10, 10)
}

/// Bounds and pattern instead of CEL: for CEL an int-or-string has no longest length, which costs too much in a list.
fn int_or_percent_from(least: i32) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": least,
        "maximum": i32::MAX,
        "maxLength": 4,
        "pattern": PERCENT,
    })
}

/// A count from 0, or a percentage.
pub(crate) fn int_or_percent(_: &mut SchemaGenerator) -> Schema {
    int_or_percent_from(0)
}

/// A count from 1, or a percentage.
pub(crate) fn int_or_percent_at_least_one(_: &mut SchemaGenerator) -> Schema {
    int_or_percent_from(1)
}

/// A Kubernetes quantity, not negative.
pub(crate) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 0,
        "maxLength": LONGEST_QUANTITY,
        "pattern": format!(r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+){SUFFIX}$"),
    })
}

/// A Kubernetes quantity above 0.
pub(crate) fn positive_quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "maxLength": LONGEST_QUANTITY,
        "pattern": format!(r"^\+?0*([1-9][0-9]*(\.[0-9]*)?|0?\.0*[1-9][0-9]*){SUFFIX}$"),
    })
}
