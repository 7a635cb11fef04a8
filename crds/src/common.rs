//! Parts that several kinds share.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A time of the week, in a named time zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// `Mon` to `Sun`; absent or empty = every day. A window over midnight belongs to the day it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::admission::days")]
    pub days: Vec<String>,
    /// Time of day, `22:00`. Equal to `end` = the whole day.
    #[schemars(schema_with = "crate::admission::time_of_day")]
    pub start: String,
    /// Time of day; earlier than `start` = the next day's.
    #[schemars(schema_with = "crate::admission::time_of_day")]
    pub end: String,
    /// IANA name, such as `Europe/Paris`.
    #[schemars(schema_with = "crate::admission::time_zone")]
    pub time_zone: String,
}

/// Limits of a site for all weights that it pulls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// Bytes per second, such as `20Mi`; absent = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::positive_quantity")]
    pub max_bandwidth: Option<Quantity>,
    /// When weights may be pulled; empty = always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub windows: Vec<Window>,
}

/// A place in an S3 bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Source {
    /// The bucket.
    #[schemars(schema_with = "crate::admission::bucket")]
    pub bucket: String,
    /// Key prefix; every object below it is one of the version's files.
    #[schemars(schema_with = "crate::admission::key_prefix")]
    pub prefix: String,
    /// `http://` or `https://` address of the S3 server; absent = AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::endpoint")]
    pub endpoint: Option<String>,
    /// Region; absent = `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::admission::region")]
    pub region: Option<String>,
    /// Secret in the same namespace with `accessKeyId`, `secretAccessKey` and, optionally, `sessionToken`; absent =
    /// requests are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretReference>,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Its name.
    #[schemars(schema_with = "crate::admission::object_name")]
    pub name: String,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// The Secret's name.
    #[schemars(schema_with = "crate::admission::object_name")]
    pub name: String,
    /// The key in its data.
    #[schemars(schema_with = "crate::admission::secret_key")]
    pub key: String,
}

/// What a spoke does with a model when no policy asks for it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnRemoval {
    /// Stop serving and drop the weights.
    #[default]
    Delete,
    /// Go on serving.
    Keep,
}
