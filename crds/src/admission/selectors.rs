//! Label selectors. Kubernetes' own schema of them leaves the checking to Go code; a CRD has to say it.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{field_rule, label_key, label_value};

/// `matchLabels` and `matchExpressions`, all of which must hold.
pub(crate) fn label_selector(generator: &mut SchemaGenerator) -> Schema {
    let mut key = label_key(generator);
    key.insert("description".to_owned(), "The label.".into());
    let value = label_value(generator);
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {
                "description": "Labels that the cluster must have, with these values.",
                "type": "object",
                "maxProperties": 32,
                "additionalProperties": value,
            },
            "matchExpressions": {
                "description": "Requirements on labels, all of which must hold.",
                "type": "array",
                "maxItems": 32,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": key,
                        "operator": {
                            "description": "How the label compares.",
                            "type": "string",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "description": "For In and NotIn.",
                            "type": "array",
                            "maxItems": 128,
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                    "x-kubernetes-validations": [
                        field_rule(
                            "values",
                            "!(self.operator in ['In', 'NotIn']) || (has(self.values) && self.values.size() > 0)",
                            "values must not be empty where operator is In or NotIn",
                        ),
                        field_rule(
                            "values",
                            "!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || self.values.size() == 0",
                            "values must be empty where operator is Exists or DoesNotExist",
                        ),
                    ],
                },
            },
        },
    })
}
