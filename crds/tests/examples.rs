//! The examples in `crds/examples` are the contract: every field of them is one that the types know.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use std::{fs, path::Path};

use nave_crds::{EdgeCluster, FineTuneJob, ModelVersion, PlacementPolicy};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn round_trip<K: Serialize + DeserializeOwned>(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
    let text = fs::read_to_string(path).unwrap();
    let written: Value = serde_yaml::from_str(&text).unwrap();
    let object: K = serde_yaml::from_str(&text).unwrap();
    assert_contains(&serde_json::to_value(object).unwrap(), &written, file);
}

/// Every field of `part` is in `whole`, but for those that say what their absence says too.
fn assert_contains(whole: &Value, part: &Value, path: &str) {
    match part {
        Value::Object(fields) => {
            for (name, value) in fields {
                let there = whole.get(name).unwrap_or(&Value::Null);
                if !(there.is_null() && *value == Value::Bool(false)) {
                    assert_contains(there, value, &format!("{path}.{name}"));
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                assert_contains(&whole[index], item, &format!("{path}[{index}]"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            assert_eq!(whole, part, "{path}");
        }
    }
}

#[test]
fn edge_cluster() {
    round_trip::<EdgeCluster>("edgecluster.yaml");
}

#[test]
fn model_version() {
    round_trip::<ModelVersion>("modelversion.yaml");
}

#[test]
fn placement_policy() {
    round_trip::<PlacementPolicy>("placementpolicy.yaml");
}

#[test]
fn fine_tune_job() {
    round_trip::<FineTuneJob>("finetunejob.yaml");
}
