//! Durations, times of day, days and time zones.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{matches, rule, text};

/// Ten years: longer ones are mistakes, and some overflow when they are added to a time.
const LONGEST: &str = "87600h";
const DURATION: &str = r"(0|([0-9]{1,9}(\.[0-9]{1,9})?(h|m|s|ms|us|µs|ns))+)";

/// Go's form of a duration, not negative.
pub(crate) fn duration(_: &mut SchemaGenerator) -> Schema {
    let form = matches(DURATION);
    let bounded = format!("!({form}) || duration(self) <= duration('{LONGEST}')");
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [
            rule(&form, "must be a duration such as 90s, 10m or 1h30m"),
            rule(&bounded, &format!("must be a duration of at most {LONGEST}")),
        ],
    })
}

/// `HH:MM`.
pub(crate) fn time_of_day(_: &mut SchemaGenerator) -> Schema {
    text(5, "([01][0-9]|2[0-3]):[0-5][0-9]", "must be a time of day between 00:00 and 23:59, such as 22:00")
}

/// Any of the week's days.
pub(crate) fn days(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 7,
        "items": {"type": "string", "enum": ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]},
    })
}

/// An IANA name. The API server looks it up in its own copy of the time zone database; a name that is not in it makes
/// the second rule fail with the lookup's error.
pub(crate) fn time_zone(_: &mut SchemaGenerator) -> Schema {
    let form = matches("[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*");
    let known = format!("!({form}) || timestamp('2000-01-01T00:00:00Z').getHours(self) >= 0");
    json_schema!({
        "type": "string",
        "maxLength": 64,
        "x-kubernetes-validations": [
            rule(&format!("{form} && self != 'Local'"), "must be an IANA time zone such as Europe/Paris or UTC"),
            rule(&known, "must be a known IANA time zone"),
        ],
    })
}
