//! What Vivarium adds to ComfyUI's protocol.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use serde_json::{Value, json};

use vivarium_worker::PackOffers;

use super::{Answer, Server, prompt};
use crate::ServerConfig;

fn partly() -> Value {
    json!({"prompt": {"1": {"class_type": "Known", "inputs": {}}, "2": {"class_type": "Broken", "inputs": {}}}})
}

async fn post_with_key(server: &Server, path: &str, key: &str, body: &Value) -> Answer {
    let request = Request::builder().method("POST").uri(path).header("idempotency-key", key);
    server.ask(request.body(Body::from(body.to_string())).unwrap()).await
}

async fn waiting(server: &Server) -> Value {
    server.get("/prompt").await.json()["exec_info"]["queue_remaining"].clone()
}

#[tokio::test]
async fn strict_refuses_what_would_run_in_part_only() {
    let server = Server::new();
    for path in ["/prompt?strict=true", "/api/prompt?strict=1", "/prompt?strict"] {
        let refused = server.post(path, partly()).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(refused.json()["error"]["type"], "prompt_partly_invalid", "{path}");
        assert!(refused.json()["node_errors"]["2"].is_object(), "{path}");
    }
    assert_eq!(waiting(&server).await, 0);
    assert_eq!(server.post("/prompt?strict=true", prompt("Known")).await.status, StatusCode::OK);
    for path in ["/prompt", "/prompt?strict=false"] {
        let accepted = server.post(path, partly()).await;
        assert_eq!(accepted.status, StatusCode::OK, "{path}");
        assert!(accepted.json()["node_errors"]["2"].is_object(), "{path}");
    }
    assert_eq!(server.post("/prompt?strict=maybe", partly()).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_dry_run_tells_and_queues_nothing() {
    let server = Server::new();
    let found = async |body: Value| server.post("/vivarium/validate", body).await.json();
    let good = json!({"valid": true, "outputs": ["1"], "error": null, "node_errors": {}});
    assert_eq!(found(prompt("Known")).await, good);
    let in_part = found(partly()).await;
    assert_eq!((&in_part["valid"], &in_part["outputs"]), (&json!(false), &json!(["1"])));
    assert!(in_part["error"].is_null() && in_part["node_errors"]["2"].is_object());
    let bad = found(prompt("Broken")).await;
    assert_eq!((&bad["valid"], &bad["error"]["type"]), (&json!(false), &json!("prompt_outputs_failed_validation")));
    assert_eq!(server.send("POST", "/vivarium/validate", "{").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(server.post("/prompt", prompt("Known")).await.json()["number"], 0, "no number was used up");
    assert_eq!(waiting(&server).await, 1);
}

#[tokio::test]
async fn a_repeated_request_is_answered_again_and_queued_once() {
    let server = Server::new();
    let first = post_with_key(&server, "/prompt", "key-1", &partly()).await;
    assert_eq!(first.status, StatusCode::OK);
    let again = post_with_key(&server, "/api/prompt", "key-1", &partly()).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, first.json()));
    assert_eq!(waiting(&server).await, 1);

    let other = post_with_key(&server, "/prompt", "key-1", &prompt("Known")).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.json()["error"]["type"], "idempotency_key_reused");
    let strict = post_with_key(&server, "/prompt?strict=true", "key-1", &partly()).await;
    assert_eq!(strict.status, StatusCode::UNPROCESSABLE_ENTITY, "strict is a part of the request");

    let refused = post_with_key(&server, "/prompt", "key-2", &prompt("Broken")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let corrected = post_with_key(&server, "/prompt", "key-2", &prompt("Known")).await;
    assert_eq!(corrected.status, StatusCode::OK, "only what was queued is remembered");
    for key in ["", &"x".repeat(256)] {
        assert_eq!(post_with_key(&server, "/prompt", key, &partly()).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(waiting(&server).await, 2);
}

#[tokio::test]
async fn the_server_describes_itself() {
    let server = Server::new();
    for path in ["/openapi.json", "/api/openapi.json"] {
        let document = server.get(path).await.json();
        assert_eq!(document["openapi"], "3.1.0");
        for path in ["/prompt", "/view", "/vivarium/validate", "/internal/logs", "/openapi.json"] {
            assert!(document["paths"][path].is_object(), "{path}");
        }
    }
    let schema = server.get("/vivarium/schema/Known").await;
    assert_eq!((schema.status, &schema.json()["type"]), (StatusCode::OK, &json!("object")));
    assert_eq!(server.get("/vivarium/schema/None").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn answers_are_compressed_as_the_client_likes_when_the_operator_does() {
    let ask = async |server: &Server, path: &str, coding: &str| {
        let request = Request::builder().uri(path).header("accept-encoding", coding).body(Body::empty());
        server.ask(request.unwrap()).await
    };
    let server = Server::with(ServerConfig { compress_responses: true, ..ServerConfig::default() });
    for coding in ["gzip", "deflate", "br", "zstd"] {
        assert_eq!(ask(&server, "/openapi.json", coding).await.header("content-encoding"), coding);
    }
    assert_eq!(ask(&server, "/openapi.json", "identity").await.header("content-encoding"), "");
    assert_eq!(ask(&server, "/", "gzip").await.header("content-encoding"), "", "only JSON and text");
    assert_eq!(ask(&Server::new(), "/openapi.json", "gzip").await.header("content-encoding"), "");
}

/// What the packs of the test engine offer.
pub(super) fn offers() -> PackOffers {
    let one = |name: &str, value: Value| [(name.to_owned(), value)].into();
    let replacement = json!({"Gone": [{"old_node_id": "Gone", "new_node_id": "Known", "output_mapping": null}]});
    PackOffers {
        workflows: [("pack".to_owned(), one("First steps", json!({"nodes": []}))), ("bare".to_owned(), [].into())]
            .into(),
        subgraphs: [("pack".to_owned(), one("Twice", json!({"definitions": 1})))].into(),
        replacements: serde_json::from_value(replacement).unwrap(),
        translations: json!({"fr": {"nodeDefs": {"Known": {"display_name": "Connu"}}}}).as_object().unwrap().clone(),
    }
}

#[tokio::test]
async fn packs_offer_workflows_subgraphs_replacements_and_translations() {
    let server = Server::new();
    assert_eq!(server.get("/api/i18n").await.json()["fr"]["nodeDefs"]["Known"]["display_name"], "Connu");
    assert_eq!(server.get("/api/workflow_templates").await.json(), json!({"pack": ["First steps"]}));
    let workflow = server.get("/api/workflow_templates/pack/First%20steps.json").await;
    assert_eq!((workflow.status, workflow.json()), (StatusCode::OK, json!({"nodes": []})));
    assert_eq!(workflow.header("content-type"), "application/json; charset=utf-8");
    for missing in ["pack/First%20steps", "pack/..%2Fa.json", "none/First%20steps.json", "bare/a.json"] {
        let answer = server.get(&format!("/api/workflow_templates/{missing}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{missing}");
    }
    let subgraphs = server.get("/api/global_subgraphs").await.json();
    let (id, subgraph) = subgraphs.as_object().unwrap().iter().next().unwrap();
    assert_eq!((&subgraph["name"], &subgraph["info"]["node_pack"]), (&json!("Twice"), &json!("pack")));
    let whole = server.get(&format!("/api/global_subgraphs/{id}")).await.json();
    assert_eq!(whole["data"], r#"{"definitions":1}"#);
    assert_eq!(server.get("/api/global_subgraphs/none").await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.get("/api/node_replacements").await.json()["Gone"][0]["new_node_id"], "Known");
    assert_eq!(server.get("/api/features").await.json()["node_replacements"], true);
}
