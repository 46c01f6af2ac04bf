//! The JSON Schema of policy files, for editors: `weir schema`.
//!
//! An editor completes and underlines by it. It says shapes and words; what makes
//! no sense together, only [`super::compile`] tells.

use serde_json::{Value, json};

use super::Algorithm;

/// The schema of a policy file.
pub fn schema() -> Value {
    let text = json!({ "type": "string" });
    let dialect = json!({ "enum": ["draft-10", "draft-07", "draft-03", "both", "none"] });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Weir policies",
        "type": "object",
        "additionalProperties": false,
        "required": ["policies"],
        "properties": {
            "policies": { "type": "array", "items": policy() },
            "jwt": object(json!({
                "header": text, "keys": text, "issuer": words(), "audience": words(),
                "unverified": { "type": "boolean" },
            })),
            "headers": { "anyOf": [
                dialect,
                object(json!({ "dialect": dialect, "partition_key": { "type": "boolean" } })),
            ] },
        },
        "$defs": { "limit": limit(), "span": {
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "description": "a span of time: 250ms, 10s, 5m, 1h, 7d"
        } },
    })
}

fn number() -> Value {
    json!({ "type": ["integer", "string"], "minimum": 0 })
}

fn span() -> Value {
    json!({ "$ref": "#/$defs/span" })
}

/// A word, or a list of words.
fn words() -> Value {
    json!({ "anyOf": [
        { "type": "string" },
        { "type": "array", "items": { "type": ["string", "integer"] } },
    ] })
}

fn limit() -> Value {
    object(json!({
        "quota": number(), "window": span(), "name": { "type": "string" },
        "algorithm": {
            "anyOf": [{ "enum": Algorithm::NAMES }, { "type": "string", "pattern": "^[^.]+[.].+$" }],
            "description": "how the limit is decided; or LIBRARY.FUNCTION"
        },
        "burst": number(), "begins": { "enum": ["clock", "first_hit"] },
        "candidate": { "$ref": "#/$defs/limit" },
    }))
}

fn policy() -> Value {
    let text = json!({ "type": "string" });
    let flag = json!({ "type": "boolean" });
    let fields =
        json!({ "type": "object", "additionalProperties": { "type": ["string", "integer"] } });
    let words = words();
    let limits = json!({ "type": "array", "items": { "$ref": "#/$defs/limit" }, "minItems": 1 });
    let list = object(json!({ "file": text, "of": text }));
    object(json!({
        "name": { "type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$" },
        "match": object(json!({ "path": text, "method": words, "host": text, "header": fields })),
        "key": words,
        "on_missing_key": { "enum": ["shared", "deny", "skip"] },
        "limits": limits,
        "mode": { "enum": ["enforce", "shadow"] },
        "tiers": object(json!({
            "by": text,
            "limits": { "type": "object", "additionalProperties": limits },
        })),
        "overrides": { "type": "array", "items": object(json!({
            "key": words, "when": fields, "limits": limits, "unlimited": flag, "deny": flag,
        })) },
        "allow": list, "deny": list,
        "cost": { "anyOf": [number(), text, object(json!({
            "from": text, "per": number(), "default": number(), "max": number(),
        }))] },
        "settle": object(json!({
            "from": text, "per": number(), "max": number(), "when_status": words,
            "reserve": span(),
        })),
        "on_deny": object(json!({
            "status": number(), "headers": fields, "body": text, "content_type": text,
            "jitter": span(),
            "delay": object(json!({
                "wait_max": span(), "waiting_max": number(),
                "memory_max": { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" },
            })),
        })),
        "penalty": object(json!({
            "refusals": number(), "window": span(), "ban": span(), "ban_max": span(),
        })),
        "key_budget": object(json!({ "keys": number(), "limits": limits })),
        "examples": { "type": "array", "items": object(json!({
            "request": text, "header": fields, "from": text, "key": text,
            "expect": { "enum": ["limited", "unmatched", "unlimited", "denied"] },
        })) },
    }))
}

/// A mapping of exactly these keys.
fn object(properties: Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::no_files;
    use crate::policy::{Functions, compile};

    /// Every key that the schema offers is one that a file may have.
    fn check_keys(schema: &Value, wrap: &dyn Fn(&str) -> String) {
        for key in schema["properties"].as_object().unwrap().keys() {
            let text = wrap(&format!("{key}: ~"));
            let told = compile("p.yaml", &text, &Functions::default(), &no_files);
            let told = told.map(|_| String::new()).unwrap_or_else(|problems| problems.to_string());
            assert!(!told.contains("unknown key"), "{text}\n{told}");
        }
    }

    #[test]
    fn the_schema_offers_no_key_that_a_file_may_not_have() {
        let schema = schema();
        let policy = &schema["properties"]["policies"]["items"];
        check_keys(&schema, &|pair| pair.to_owned());
        check_keys(policy, &|pair| format!("policies: [{{ {pair} }}]"));
        for key in ["match", "tiers", "allow", "settle", "on_deny", "penalty", "key_budget"] {
            let wrap = |pair: &str| format!("policies: [{{ {key}: {{ {pair} }} }}]");
            check_keys(&policy["properties"][key], &wrap);
        }
        let wrap = |pair: &str| format!("policies: [{{ limits: [{{ {pair} }}] }}]");
        check_keys(&schema["$defs"]["limit"], &wrap);
    }
}
