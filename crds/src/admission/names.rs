//! Names, addresses and other short texts: which characters they may hold, so that none is empty and none leaves its
//! folder, bucket or URL.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{matches, rule, text};

/// The part of a label's key before the slash, and its name.
const LABEL_KEY: &str =
    "([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?";
const LABEL_VALUE: &str = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?";
const LABEL_KEY_MESSAGE: &str = "must be a label key such as region or example.com/region";
/// 253 + `/` + 63.
const LONGEST_LABEL_KEY: u32 = 317;
const WORD: &str = "[A-Za-z0-9][A-Za-z0-9._/+-]*";

/// A model, a version, a dataset: becomes one folder's name (`nave_names` has the same rule).
pub(crate) fn folder_name(_: &mut SchemaGenerator) -> Schema {
    text(
        128,
        "[A-Za-z0-9][A-Za-z0-9._+-]*",
        "must not be empty, must start with a letter or digit and hold only letters, digits, '.', '_', '-' and '+'",
    )
}

/// The name of a Kubernetes object.
pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    text(
        253,
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "must be the name of an object: lower-case letters, digits, '-' and '.', not empty",
    )
}

/// A key in a Secret's data.
pub(crate) fn secret_key(_: &mut SchemaGenerator) -> Schema {
    text(253, "[A-Za-z0-9._-]+", "must be a key of a Secret's data, not empty")
}

/// A short name that Nave does not interpret, such as a metric's or a vendor's.
pub(crate) fn word(_: &mut SchemaGenerator) -> Schema {
    text(128, WORD, "must not be empty and hold only letters, digits, '.', '_', '/', '+' and '-'")
}

/// Architectures as OCI spells them.
pub(crate) fn architectures(_: &mut SchemaGenerator) -> Schema {
    words("must be an architecture such as amd64 or arm64")
}

/// Serving runtimes, any of which will do.
pub(crate) fn names_of_runtimes(_: &mut SchemaGenerator) -> Schema {
    words("must be the name of a serving runtime such as triton")
}

fn words(message: &str) -> Schema {
    json_schema!({"type": "array", "maxItems": 16, "items": text(128, WORD, message)})
}

/// The serving runtimes that an agent has.
pub(crate) fn runtime(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["triton", "files", "hook"]})
}

/// `sha256:<hex>`.
pub(crate) fn digest(_: &mut SchemaGenerator) -> Schema {
    text(71, "sha256:[0-9a-f]{64}", "must be a digest: sha256: and 64 lower-case hex digits")
}

/// An S3 bucket.
pub(crate) fn bucket(_: &mut SchemaGenerator) -> Schema {
    let form = matches("[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]");
    json_schema!({
        "type": "string",
        "maxLength": 63,
        "x-kubernetes-validations": [rule(
            &format!("{form} && !self.contains('..')"),
            "must be the name of a bucket: 3 to 63 letters, digits, '.', '_' and '-'",
        )],
    })
}

/// A key prefix that names a folder inside the bucket: every object below it belongs to the version.
pub(crate) fn key_prefix(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 512,
        "x-kubernetes-validations": [
            rule("self != ''", "must not be empty: a version has a folder of its own"),
            rule("!self.startsWith('/')", "must not start with '/'"),
            rule(
                r"!self.matches(r'(^|/)[.]{1,2}(/|$)')",
                "must not leave its folder or name it: no part may be '.' or '..'",
            ),
            rule(
                r"!self.contains('//') && !self.matches(r'[\x00-\x1f\x7f\\]')",
                "must not hold an empty part, a backslash or a control character",
            ),
        ],
    })
}

/// An S3 server's address.
pub(crate) fn endpoint(_: &mut SchemaGenerator) -> Schema {
    text(
        512,
        r"https?://[^/?#@\s]+(/[^?#\s]*)?",
        "must be the http:// or https:// address of an S3 server, without user, query or fragment",
    )
}

/// An S3 region.
pub(crate) fn region(_: &mut SchemaGenerator) -> Schema {
    text(64, "[A-Za-z0-9_-]+", "must be a region such as us-east-1, not empty")
}

/// A container image's reference.
pub(crate) fn image(_: &mut SchemaGenerator) -> Schema {
    text(1024, r"[^\s]+", "must be the reference of an image, not empty")
}

/// A program and its first arguments.
pub(crate) fn commands(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 256,
        "items": {"type": "string", "maxLength": 8192},
        "x-kubernetes-validations": [rule("self.size() == 0 || self[0] != ''", "must begin with a program, not with an empty text")],
    })
}

/// CEL expressions over a cluster. Whether one compiles is decided by the planner, which reports its position.
pub(crate) fn cel_expressions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {"type": "string", "minLength": 1, "maxLength": 4096},
    })
}

/// A label's key.
pub(crate) fn label_key(_: &mut SchemaGenerator) -> Schema {
    text(LONGEST_LABEL_KEY, LABEL_KEY, LABEL_KEY_MESSAGE)
}

/// A taint's key, or empty for every taint.
pub(crate) fn toleration_key(_: &mut SchemaGenerator) -> Schema {
    text(LONGEST_LABEL_KEY, &format!("({LABEL_KEY})?"), LABEL_KEY_MESSAGE)
}

/// A label's value; it may be empty.
pub(crate) fn label_value(_: &mut SchemaGenerator) -> Schema {
    text(63, LABEL_VALUE, "must be a label value: at most 63 letters, digits, '-', '_' and '.'")
}
