//! The committed YAML is what the types say. `UPDATE=1` writes it anew.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_in_result, clippy::unwrap_used)] // Helpers of tests are not seen as tests.

use std::{collections::BTreeSet, fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

const HEADER: &str =
    "# Generated from the types in crds/src; `UPDATE=1 cargo test -p nave-crds` writes it anew.\n";

#[test]
fn the_committed_yaml_is_what_the_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let update = std::env::var_os("UPDATE").is_some();
    let mut expected = BTreeSet::new();
    for crd in nave_crds::all() {
        let file = format!("{}.yaml", crd.metadata.name.clone().unwrap());
        let text = format!("{HEADER}{}", serde_yaml::to_string(&crd).unwrap());
        let path = folder.join(&file);
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{} is not what the types say: run with UPDATE=1", path.display());
        expected.insert(file);
    }
    let present: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(present, expected, "files in {}", folder.display());
}

#[test]
fn every_kind_has_status_short_name_category_columns_and_conditions() {
    for crd in nave_crds::all() {
        let name = crd.metadata.name.unwrap();
        assert_eq!(crd.spec.names.categories, Some(vec!["nave".to_owned()]), "{name}");
        assert_eq!(crd.spec.names.short_names.map(|names| names.len()), Some(1), "{name}");
        let version = &crd.spec.versions[0];
        assert!(version.subresources.as_ref().unwrap().status.is_some(), "{name}");
        assert!(version.additional_printer_columns.as_ref().unwrap().len() > 2, "{name}");
        let root = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let status = root.properties.as_ref().unwrap()["status"].properties.as_ref().unwrap();
        assert!(status.contains_key("observedGeneration") && status.contains_key("conditions"), "{name}");
    }
}

#[test]
fn every_field_is_described() {
    for crd in nave_crds::all() {
        let version = &crd.spec.versions[0];
        let root = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        for part in ["spec", "status"] {
            let path = format!("{}.{part}", crd.spec.names.kind);
            check_described(&root.properties.as_ref().unwrap()[part], &path);
        }
    }
}

fn check_described(schema: &JSONSchemaProps, path: &str) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        assert!(property.description.as_ref().is_some_and(|text| !text.is_empty()), "{path}");
        check_described(property, &path);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        check_described(item, &format!("{path}[]"));
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
        check_described(value, &format!("{path}{{}}"));
    }
}
