//! The OpenAPI 3.1 document, made of the descriptions that stand beside the routes.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{body::Bytes, http::StatusCode, response::Response};
use serde_json::{Map, Value, json};

use crate::{
    json,
    routes::{
        self,
        table::{Answer, Body, Operation},
    },
};

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document(&routes::operations()).to_string().into());

/// `GET /openapi.json`
pub(crate) async fn show() -> Response {
    json::json_bytes(StatusCode::OK, DOCUMENT.clone())
}

/// The document of these routes.
fn document(operations: &[Operation]) -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let item = paths.entry(path(operation.path)).or_default();
        if !operation.twin {
            item.insert("servers".to_owned(), json!([{"url": "/"}]));
        }
        item.insert(operation.method.as_str().to_ascii_lowercase(), describe(operation));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Vivarium",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "ComfyUI's protocol, and what Vivarium adds to it under /vivarium",
        },
        "servers": [{"url": "/"}, {"url": "/api"}],
        "paths": paths,
        "components": {"schemas": schemas()},
    })
}

/// As OpenAPI writes it: without axum's mark of a parameter that takes the rest of the path.
fn path(path: &str) -> String {
    path.replace("{*", "{")
}

fn describe(operation: &Operation) -> Value {
    let about = &operation.about;
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path.map(|name| parameter(name.trim_start_matches('*'), "path")).collect();
    parameters.extend(about.query.iter().map(|name| parameter(name, "query")));
    if operation.path == "/prompt" && operation.method == axum::http::Method::POST {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 255});
        parameters.push(json!({"name": "Idempotency-Key", "in": "header", "required": false, "schema": schema}));
    }
    let mut described = json!({
        "operationId": operation_id(operation),
        "summary": about.summary,
        "tags": [operation.tag],
        "parameters": parameters,
        "responses": responses(about.answer),
    });
    if let (Some(body), Value::Object(described)) = (about.body, &mut described) {
        // Only an interrupt may come without a body, and a file may be empty.
        let required = operation.path != "/interrupt" && !matches!(body, Body::Bytes);
        described.insert("requestBody".to_owned(), json!({"required": required, "content": content(body)}));
    }
    described
}

/// A name with `!` must be given, one with `#` is a whole number.
fn parameter(name: &str, place: &str) -> Value {
    let schema = if name.ends_with('#') || name == "index" {
        json!({"type": "integer", "minimum": 0})
    } else {
        json!({"type": "string"})
    };
    let required = place == "path" || name.ends_with('!');
    json!({"name": name.trim_end_matches(['!', '#']), "in": place, "required": required, "schema": schema})
}

/// For example `post_jobs_id_cancel`.
fn operation_id(operation: &Operation) -> String {
    let words = operation.path.split(|character: char| !character.is_ascii_alphanumeric());
    let method = operation.method.as_str().to_ascii_lowercase();
    std::iter::once(method.as_str()).chain(words.filter(|word| !word.is_empty())).collect::<Vec<_>>().join("_")
}

fn content(body: Body) -> Value {
    match body {
        Body::Json(schema) => json!({"application/json": {"schema": reference(schema)}}),
        Body::Bytes => json!({"application/octet-stream": {}}),
        Body::Form(fields) => {
            let mut schema = texts(fields);
            schema["properties"][fields[0]] = json!({"type": "string", "format": "binary"});
            json!({"multipart/form-data": {"schema": schema}})
        }
        Body::Fields(fields) => json!({"application/x-www-form-urlencoded": {"schema": texts(fields)}}),
    }
}

/// Fields of a form; the first must be there.
fn texts(fields: &[&str]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
    json!({"type": "object", "properties": properties, "required": [fields.first()]})
}

fn responses(answer: Answer) -> Value {
    let (status, response) = match answer {
        Answer::Json(schema) => {
            ("200", json!({"description": "Done", "content": {"application/json": {"schema": reference(schema)}}}))
        }
        Answer::File => ("200", json!({"description": "The file", "content": {"application/octet-stream": {}}})),
        Answer::Empty => ("200", json!({"description": "Done"})),
        Answer::NoContent => ("204", json!({"description": "Done"})),
        Answer::Socket => ("101", json!({"description": "A WebSocket"})),
        Answer::Page => {
            ("200", json!({"description": "A page or its style", "content": {"text/html": {}, "text/css": {}}}))
        }
        Answer::Redirect => ("303", json!({"description": "Go on there"})),
    };
    let refused = json!({
        "description": "Refused; the error says why",
        "content": {"application/json": {"schema": reference("Error")}, "text/plain": {}, "text/html": {}},
    });
    json!({status: response, "default": refused})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let any_object = json!({"type": "object"});
    let detail = json!({
        "type": "object",
        "properties": {"type": text, "message": text, "details": text, "extra_info": any_object},
        "required": ["type", "message", "details", "extra_info"],
    });
    let item = json!({
        "description": "Number, prompt id, prompt, extra data, ids of output nodes",
        "type": "array",
        "prefixItems": [{"type": "number"}, text, reference("Prompt"), any_object, texts],
    });
    let items = json!({"type": "array", "items": item});
    json!({
        "Any": true,
        "Object": any_object,
        "Subscription": {
            "type": "object",
            "properties": {"clientId": text, "enabled": {"type": "boolean"}},
            "required": ["clientId", "enabled"],
        },
        "Error": {
            "type": "object",
            "properties": {"error": {"anyOf": [detail, text]}, "node_errors": reference("NodeErrors")},
            "required": ["error"],
        },
        "NodeErrors": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "errors": {"type": "array", "items": detail}, "dependent_outputs": texts, "class_type": text,
                },
            },
        },
        "Prompt": {
            "description": "Nodes by id; an input is a constant or [node id, output number]",
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"class_type": text, "inputs": any_object},
                "required": ["class_type"],
            },
        },
        "PromptRequest": {
            "type": "object",
            "properties": {
                "prompt": reference("Prompt"), "prompt_id": text, "client_id": text, "extra_data": any_object,
                "number": {"type": "number"}, "front": {"type": "boolean"},
                "partial_execution_targets": {"type": ["array", "null"], "items": text},
            },
            "required": ["prompt"],
        },
        "PromptAccepted": {
            "type": "object",
            "properties": {
                "prompt_id": text, "number": {"type": "number"}, "node_errors": reference("NodeErrors"),
            },
            "required": ["prompt_id", "number", "node_errors"],
        },
        "Findings": {
            "type": "object",
            "properties": {
                "valid": {"type": "boolean"}, "outputs": texts, "error": {"anyOf": [detail, {"type": "null"}]},
                "node_errors": reference("NodeErrors"),
            },
            "required": ["valid", "outputs", "error", "node_errors"],
        },
        "Remaining": {
            "type": "object",
            "properties": {
                "exec_info": {"type": "object", "properties": {"queue_remaining": {"type": "integer"}}},
            },
        },
        "Queue": {"type": "object", "properties": {"queue_running": items, "queue_pending": items}},
        "User": {"type": "object", "properties": {"username": {"type": "string"}}, "required": ["username"]},
        "Change": {"type": "object", "properties": {"clear": {"type": "boolean"}, "delete": texts}},
        "PromptId": {"type": "object", "properties": {"prompt_id": text}},
        "JobIds": {"type": "object", "properties": {"job_ids": texts}, "required": ["job_ids"]},
        "Free": {
            "type": "object",
            "properties": {"unload_models": {"type": "boolean"}, "free_memory": {"type": "boolean"}},
        },
        "History": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "prompt": item, "outputs": any_object, "status": {"type": ["object", "null"]}, "meta": any_object,
                },
            },
        },
        "Uploaded": {
            "type": "object",
            "properties": {"name": text, "subfolder": text, "type": text},
            "required": ["name", "subfolder", "type"],
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    /// Every `$ref` below a value.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    /// The routes that the first column of the tables in `docs/protocol.md` names, with the status beside them.
    fn documented() -> Vec<(String, String)> {
        let text = include_str!("../../../docs/protocol.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
        rows.flat_map(|(routes, rest)| {
            let status = rest.split(" | ").next().unwrap_or_default().to_owned();
            let spans = routes.split('`').skip(1).step_by(2);
            let routes = spans.filter(|span| span.split_once(' ').is_some_and(|(_, path)| path.starts_with('/')));
            routes.map(move |route| (route.to_owned(), status.clone())).collect::<Vec<_>>()
        })
        .collect()
    }

    #[test]
    fn the_matrix_names_every_route_once_and_no_other() {
        let operations = routes::operations();
        let routes = operations.iter().map(|operation| format!("{} {}", operation.method, path(operation.path)));
        let mut routes: Vec<String> = routes.chain(["GET /".to_owned()]).collect();
        let (absent, mut present): (Vec<_>, Vec<_>) =
            documented().into_iter().partition(|(_, status)| status == "not there");
        assert!(absent.len() > 3);
        for (route, _) in absent {
            assert!(!routes.contains(&route), "{route} is there");
        }
        let mut present: Vec<String> = present.drain(..).map(|(route, _)| route).collect();
        routes.sort_unstable();
        present.sort_unstable();
        assert_eq!(present, routes);
    }

    #[test]
    fn every_route_is_described_once_and_every_schema_exists() {
        let operations = routes::operations();
        let document = document(&operations);
        let mut ids = HashSet::new();
        for operation in &operations {
            let method = operation.method.as_str().to_ascii_lowercase();
            let described = &document["paths"][path(operation.path)][method];
            assert!(described["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{operation:?}");
            assert!(ids.insert(described["operationId"].as_str().unwrap().to_owned()), "{operation:?}");
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let preview = &document["paths"]["/experiment/models/preview/{folder}/{index}/{file}"]["get"];
        assert_eq!(preview["parameters"].as_array().unwrap().len(), 3);
    }
}
