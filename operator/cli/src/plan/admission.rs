//! What the API server would refuse, found in files: the CRDs' own schemas and rules, applied to a spec. A plan of
//! objects that nobody could apply, or of a misspelt field that nobody reads, would mislead.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use anyhow::anyhow;
use cel::{Context, Env, Program};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use serde_json::{Map, Value};

/// Problems that are told at once.
const MOST_TOLD: usize = 5;

/// The schemas of the specs, and their rules once compiled.
pub(super) struct Admission {
    specs: BTreeMap<String, JSONSchemaProps>,
    env: Arc<Env>,
    programs: RefCell<BTreeMap<String, Option<Arc<Program>>>>,
}

impl Default for Admission {
    fn default() -> Self {
        let specs = nave_crds::all().into_iter().filter_map(|crd| {
            let schema = crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
            Some((crd.spec.names.kind, schema.properties?.remove("spec")?))
        });
        Self { specs: specs.collect(), env: Arc::new(Env::stdlib()), programs: RefCell::default() }
    }
}

impl Admission {
    /// Fails with the fields of the object's spec that the API server would refuse.
    pub(super) fn check(&self, kind: &str, object: &Value) -> anyhow::Result<()> {
        let (Some(schema), Some(spec)) = (self.specs.get(kind), object.get("spec")) else { return Ok(()) };
        let mut spec = spec.clone();
        fill_defaults(schema, &mut spec);
        let mut problems = Vec::new();
        self.look(schema, &spec, "spec", &mut problems);
        if problems.is_empty() {
            return Ok(());
        }
        problems.truncate(MOST_TOLD);
        Err(anyhow!(problems.join("; ")))
    }

    fn look(&self, schema: &JSONSchemaProps, value: &Value, path: &str, problems: &mut Vec<String>) {
        let known = problems.len();
        match value {
            Value::Object(fields) => self.look_at_fields(schema, fields, path, problems),
            Value::Array(items) => self.look_at_items(schema, items, path, problems),
            Value::String(text) => self.look_at_text(schema, text, path, problems),
            Value::Number(number) => look_at_number(schema, number.as_f64(), path, problems),
            Value::Bool(_) | Value::Null => {}
        }
        // As at the API server: rules may take for granted what the schema says.
        if problems.len() == known {
            for rule in schema.x_kubernetes_validations.iter().flatten() {
                self.look_by_rule(rule, value, path, problems);
            }
        }
    }

    fn look_at_fields(
        &self,
        schema: &JSONSchemaProps,
        fields: &Map<String, Value>,
        path: &str,
        problems: &mut Vec<String>,
    ) {
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            match (
                schema.properties.as_ref().and_then(|known| known.get(name)),
                &schema.additional_properties,
            ) {
                (Some(property), _) => self.look(property, value, &path, problems),
                (None, Some(JSONSchemaPropsOrBool::Schema(of_all))) => {
                    self.look(of_all, value, &path, problems)
                }
                (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
                (None, Some(JSONSchemaPropsOrBool::Bool(false)) | None) => {
                    problems.push(format!("{path}: unknown field"));
                }
            }
        }
    }

    fn look_at_items(
        &self,
        schema: &JSONSchemaProps,
        items: &[Value],
        path: &str,
        problems: &mut Vec<String>,
    ) {
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(least) = schema.min_items.filter(|least| count < *least) {
            problems.push(format!("{path}: must have at least {least} items"));
        }
        if let Some(most) = schema.max_items.filter(|most| count > *most) {
            problems.push(format!("{path}: must have at most {most} items"));
        }
        if let Some(JSONSchemaPropsOrArray::Schema(of_each)) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                self.look(of_each, item, &format!("{path}[{index}]"), problems);
            }
        }
    }

    fn look_at_text(&self, schema: &JSONSchemaProps, text: &str, path: &str, problems: &mut Vec<String>) {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if schema.min_length.is_some_and(|least| length < least) {
            problems.push(format!("{path}: must not be empty"));
        }
        if let Some(most) = schema.max_length.filter(|most| length > *most) {
            problems.push(format!("{path}: must have at most {most} characters"));
        }
        if let Some(allowed) = &schema.enum_ {
            let allowed: Vec<&str> = allowed.iter().filter_map(|JSON(value)| value.as_str()).collect();
            if !allowed.contains(&text) {
                problems.push(format!("{path}: {text:?} is none of {}", allowed.join(", ")));
            }
        }
        if let Some(pattern) = &schema.pattern
            && self.holds(&format!("self.matches(r'{pattern}')"), &Value::from(text)) == Some(false)
        {
            problems.push(format!("{path}: {text:?} does not match {pattern}"));
        }
    }

    fn look_by_rule(&self, rule: &ValidationRule, value: &Value, path: &str, problems: &mut Vec<String>) {
        // A file has no past that it could contradict.
        if !rule.rule.contains("oldSelf") && self.holds(&rule.rule, value) == Some(false) {
            let field = rule.field_path.as_deref().unwrap_or_default();
            problems.push(format!("{path}{field}: {}", rule.message.as_deref().unwrap_or(&rule.rule)));
        }
    }

    /// Whether the rule holds; None where this CEL lacks one of the API server's functions (time zones' names, which
    /// the planner checks itself).
    fn holds(&self, rule: &str, value: &Value) -> Option<bool> {
        let program = Arc::clone(
            self.programs
                .borrow_mut()
                .entry(rule.to_owned())
                .or_insert_with(|| self.env.compile(rule).ok().map(Arc::new))
                .as_ref()?,
        );
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.add_variable("self", value).ok()?;
        match program.execute(&context) {
            Ok(cel::Value::Bool(holds)) => Some(holds),
            Ok(_) | Err(_) => None,
        }
    }
}

fn look_at_number(schema: &JSONSchemaProps, number: Option<f64>, path: &str, problems: &mut Vec<String>) {
    let Some(number) = number else { return };
    if let Some(least) = schema.minimum.filter(|least| number < *least) {
        problems.push(format!("{path}: {number} is less than {least}"));
    }
    if let Some(most) = schema.maximum.filter(|most| number > *most) {
        problems.push(format!("{path}: {number} is more than {most}"));
    }
}

/// The API server fills defaults in before it looks, and drops nulls.
fn fill_defaults(schema: &JSONSchemaProps, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            for (name, property) in schema.properties.iter().flatten() {
                if let Some(JSON(default)) = &property.default {
                    fields.entry(name).or_insert_with(|| default.clone());
                }
                if let Some(field) = fields.get_mut(name) {
                    fill_defaults(property, field);
                }
            }
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(of_each)) = &schema.items {
                items.iter_mut().for_each(|item| fill_defaults(of_each, item));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(kind: &str, spec: &Value) -> String {
        Admission::default()
            .check(kind, &json!({"spec": spec}))
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn the_examples_are_admitted() {
        for text in [
            include_str!("../../../../crds/examples/edgecluster.yaml"),
            include_str!("../../../../crds/examples/modelversion.yaml"),
            include_str!("../../../../crds/examples/placementpolicy.yaml"),
            include_str!("../../../../crds/examples/finetunejob.yaml"),
        ] {
            let object: Value = serde_yaml::from_str(text).unwrap();
            Admission::default().check(object["kind"].as_str().unwrap(), &object).unwrap();
        }
    }

    /// The whole table of what is refused is tests/tests/api: here one row for each way of refusing.
    #[test]
    fn what_the_api_server_refuses_is_refused_with_its_field() {
        let policy = |part: Value| {
            let mut spec = json!({"model": {"name": "m", "version": "1"}});
            spec.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            refusal("PlacementPolicy", &spec)
        };
        for (part, expected) in [
            (json!({"rollout": {"maxConcurent": 1}}), "spec.rollout.maxConcurent: unknown field"),
            (
                json!({"rollout": {"maxConcurrent": "101%"}}),
                "spec.rollout.maxConcurrent: \"101%\" does not match",
            ),
            (json!({"rollout": {"maxConcurrent": 0}}), "spec.rollout.maxConcurrent: 0 is less than 1"),
            (json!({"rollout": {"steps": []}}), "spec.rollout.steps: must have at least 1 items"),
            (
                json!({"rollout": {"onFailure": "Explode"}}),
                "spec.rollout.onFailure: \"Explode\" is none of Pause, Rollback",
            ),
            (
                json!({"rollout": {"progressDeadline": "soon"}}),
                "spec.rollout.progressDeadline: must be a duration",
            ),
            (
                json!({"placement": {"tolerations": [{"effect": "NoSelect"}]}}),
                "spec.placement.tolerations[0].operator: operator must be Exists",
            ),
            (
                json!({"placement": {"prioritizers": [{"by": "Label"}]}}),
                "spec.placement.prioritizers[0].key: key is required",
            ),
            (
                json!({"placement": {"clusterSelector": {"matchLabels": {"a": "b c"}}}}),
                "spec.placement.clusterSelector.matchLabels.a: must be a label value",
            ),
        ] {
            let refusal = policy(part);
            assert!(refusal.contains(expected), "{refusal:?} lacks {expected:?}");
        }
        assert_eq!(policy(json!({"rollout": {"steps": null}})), "");
    }

    #[test]
    fn rules_between_fields_are_applied() {
        let refusal =
            refusal("FineTuneJob", &json!({"trainer": {"builtin": "x", "process": {"command": ["y"]}}}));
        assert!(refusal.contains("spec.trainer: trainer must have exactly one of"), "{refusal}");
    }
}
