//! The router from the outside: routes, guard, files. The queue and the files are real; only the engine is a stand-in, since
//! running prompts is not this crate's business.

#![allow(clippy::unwrap_used)]

mod additions;
mod sockets;
mod tenants;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tower::ServiceExt;
use vivarium_blobs::{BlobStore, ModelFolders, TenantDirs, TenantFiles};
use vivarium_graph::Validated;
use vivarium_protocol::{
    error::{Invalid, NodeErrors, PromptError},
    prompt::Prompt,
    tenant::TenantId,
};
use vivarium_queue::SqliteQueue;
use vivarium_worker::{
    DeviceReport, PackOffers,
    engine::{Engine, RunningNode},
    report::{LimitReport, MemoryReport, PackReport},
};

use crate::{AppState, Application, Hub, LogRing, Parts, ServerConfig};

/// Knows two classes, and takes every prompt that uses nothing else. A `Broken` node cannot run; the others can.
struct TestEngine;

impl Engine for TestEngine {
    fn validate(&self, _: &TenantId, json: Value, _: Option<&[String]>) -> Result<Validated, Invalid> {
        let prompt: Prompt = serde_json::from_value(json.clone()).unwrap();
        if prompt.values().any(|node| !matches!(node.class_type.as_str(), "Known" | "Broken")) {
            return Err(PromptError::new("invalid_prompt", "does not exist", "").into());
        }
        let (mut outputs, mut node_errors) = (Vec::new(), NodeErrors::new());
        for (id, node) in &prompt {
            if node.class_type == "Known" {
                outputs.push(id.clone());
            } else {
                let report = json!({"errors": [], "dependent_outputs": [id], "class_type": "Broken"});
                node_errors.insert(id.clone(), serde_json::from_value(report).unwrap());
            }
        }
        if outputs.is_empty() {
            let error = PromptError::new("prompt_outputs_failed_validation", "Prompt outputs failed validation", "");
            return Err(Invalid { error, node_errors: Box::new(node_errors) });
        }
        Ok(Validated { json, outputs, node_errors })
    }
    fn check_lock(&self, _: &Map<String, Value>) -> Result<(), Invalid> {
        Ok(())
    }
    fn stop(&self, _: std::time::Duration) {}
    fn interrupt(&self, _: &TenantId, _: Option<&str>) -> bool {
        false
    }
    fn free(&self, _: &TenantId, _: bool, _: bool) {}
    fn running_node(&self, _: &TenantId) -> Option<RunningNode> {
        None
    }
    fn object_info(&self, _: &TenantId, class: Option<&str>) -> Map<String, Value> {
        match class {
            None | Some("Known") => Map::from_iter([("Known".to_owned(), json!({"name": "Known"}))]),
            Some(_) => Map::new(),
        }
    }
    fn catalog_generation(&self) -> u64 {
        1
    }
    fn packs(&self, _: &TenantId) -> Vec<PackReport> {
        Vec::new()
    }
    fn offers(&self, tenant: &TenantId) -> Arc<PackOffers> {
        Arc::new(if tenant.as_str() == "default" { additions::offers() } else { PackOffers::default() })
    }
    fn limits(&self, _: &TenantId) -> Vec<LimitReport> {
        Vec::new()
    }
    fn devices(&self) -> Vec<DeviceReport> {
        vec![DeviceReport { kind: "cpu".to_owned(), name: "cpu".to_owned(), ..DeviceReport::default() }]
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport { tensor_bytes_used: 1, tensor_bytes_limit: 3 }
    }
}

/// Everything but the engine is real, below a folder.
fn parts(base: &tempfile::TempDir, config: &ServerConfig) -> Parts {
    let tenant = TenantId::default_tenant();
    let store = BlobStore::open(&base.path().join("blobs")).unwrap();
    let dirs = TenantDirs::below(base.path(), &tenant);
    let files = Arc::new(TenantFiles::open(tenant, store, dirs).unwrap());
    Parts {
        engine: Arc::new(TestEngine),
        queue: Arc::new(SqliteQueue::open(base.path().join("queue.sqlite")).unwrap()),
        files: Arc::new(move |_| Ok(Arc::clone(&files))),
        models: Arc::new(ModelFolders::below(base.path())),
        hub: Arc::new(Hub::new(&config.limits)),
        logs: LogRing::new(10),
    }
}

struct Server {
    application: Application,
    _base: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Server {
    fn new() -> Self {
        Self::with(ServerConfig::default())
    }

    fn with(config: ServerConfig) -> Self {
        let base = tempfile::tempdir().unwrap();
        let parts = parts(&base, &config);
        Self { application: Application::new(AppState::new(config, parts).unwrap()), _base: base }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.application.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.ask(Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body.to_string()).await
    }

    async fn upload(&self, path: &str, fields: &[(&str, Option<&str>, &[u8])]) -> Answer {
        let mut body = Vec::new();
        for (name, filename, value) in fields {
            let file = filename.map_or(String::new(), |filename| format!("; filename=\"{filename}\""));
            body.extend_from_slice(
                format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--B--\r\n");
        let request =
            Request::builder().method("POST").uri(path).header("content-type", "multipart/form-data; boundary=B");
        self.ask(request.body(body.into()).unwrap()).await
    }
}

fn prompt(class: &str) -> Value {
    json!({"prompt": {"1": {"class_type": class, "inputs": {}}}, "extra_data": {"api_key_comfy_org": "secret"}})
}

#[tokio::test]
async fn a_prompt_is_queued_listed_and_deleted() {
    let server = Server::new();
    assert_eq!(server.get("/prompt").await.json(), json!({"exec_info": {"queue_remaining": 0}}));
    let first = server.post("/api/prompt", prompt("Known")).await;
    assert_eq!((first.status, &first.json()["number"]), (StatusCode::OK, &json!(0)));
    let refused = server.post("/prompt", prompt("Unknown")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["error"]["type"], "invalid_prompt");
    let third = server.post("/prompt", prompt("Known")).await.json();
    assert_eq!(third["number"], 2, "a refused prompt uses up its number");

    let queue = server.get("/api/queue").await;
    assert!(!String::from_utf8_lossy(&queue.body).contains("secret"));
    assert_eq!(queue.json()["queue_pending"].as_array().unwrap().len(), 2);
    let jobs = server.get("/api/jobs?status=pending,in_progress&limit=1").await.json();
    assert_eq!((jobs["jobs"].as_array().unwrap().len(), &jobs["pagination"]["total"]), (1, &json!(2)));

    assert_eq!(server.post("/queue", json!({"delete": [third["prompt_id"]]})).await.status, StatusCode::OK);
    assert_eq!(server.get("/prompt").await.json()["exec_info"]["queue_remaining"], 1);
    let id = first.json()["prompt_id"].as_str().unwrap().to_owned();
    assert_eq!(server.post(&format!("/jobs/{id}/cancel"), json!({})).await.json(), json!({"cancelled": true}));
    assert_eq!(server.post("/jobs/none/cancel", json!({})).await.json(), json!({"cancelled": false}));
    assert_eq!(server.get(&format!("/history/{id}")).await.json(), json!({}));
}

#[tokio::test]
async fn wrong_shapes_are_answered_with_400_and_a_reason() {
    let server = Server::new();
    for (path, body) in [
        ("/prompt", ""),
        ("/prompt", "{"),
        ("/prompt", "null"),
        ("/prompt", "[]"),
        ("/prompt", r#"{"prompt": null}"#),
        ("/prompt", r#"{"prompt": {}, "number": "x"}"#),
        ("/queue", "x"),
        ("/queue", "[]"),
        ("/queue", r#"{"delete": 3}"#),
        ("/history", ""),
        ("/free", "3"),
        ("/settings", "[]"),
        ("/settings/a", "{"),
        ("/upload/image", ""),
        ("/upload/mask", ""),
        ("/jobs/cancel", "[]"),
    ] {
        let answer = server.send("POST", path, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {body}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{path} {body}");
    }
    for path in ["/history?max_items=x", "/jobs?status=x", "/jobs?limit=-1", "/view?filename=", "/internal/files/etc"] {
        assert_eq!(server.get(path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(server.send("POST", "/interrupt", "not json").await.status, StatusCode::OK);
    assert_eq!(server.send("PATCH", "/internal/logs/subscribe", "{}").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn methods_and_paths_that_are_none() {
    let server = Server::new();
    let wrong = server.send("DELETE", "/prompt", "").await;
    assert_eq!((wrong.status, &wrong.body[..]), (StatusCode::METHOD_NOT_ALLOWED, &b"405: Method Not Allowed"[..]));
    assert!(
        wrong.header("allow").contains("GET") && wrong.header("allow").contains("POST"),
        "{}",
        wrong.header("allow")
    );
    let unknown = server.send("POST", "/userdata/a/b.json", "").await;
    assert_eq!((unknown.status, unknown.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET,HEAD"));
    for path in ["/nothing", "/api/nothing", "/api/internal/logs", "/../etc/passwd", "/assets/%2e%2e/%2e%2e/x"] {
        assert_eq!(server.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(server.send("OPTIONS", "/anything/at/all", "").await.status, StatusCode::OK);
    let head = server.send("HEAD", "/object_info", "").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert!(head.header("content-length").parse::<usize>().unwrap() > 0);
    assert!(!head.header("x-request-id").is_empty());
}

#[tokio::test]
async fn other_origins_reach_nothing() {
    let server = Server::new();
    for (name, value) in [("host", "evil.example"), ("origin", "null"), ("origin", "https://evil.example")] {
        for path in ["/prompt", "/api/prompt", "/ws", "/", "/view?filename=a.png", "/internal/logs"] {
            let builder = Request::builder().uri(path).header("host", "127.0.0.1:8188");
            let mut request = builder.body(Body::empty()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
            let answer = server.ask(request).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value} {path}");
            assert!(!answer.body.is_empty());
        }
    }
    let config = ServerConfig { cors_origin: Some("https://app.example".to_owned()), ..ServerConfig::default() };
    let answer = Server::with(config)
        .ask(Request::builder().uri("/prompt").header("origin", "https://app.example").body(Body::empty()).unwrap())
        .await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (StatusCode::OK, "https://app.example"));
}

#[tokio::test]
async fn a_large_body_is_refused_everywhere() {
    let server = Server::with(ServerConfig { max_upload_size: 100, ..ServerConfig::default() });
    let large = "x".repeat(101);
    for path in ["/prompt", "/queue", "/settings", "/userdata/a"] {
        let answer = server.send("POST", path, large.clone()).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert_eq!(answer.body, b"Maximum request body size 100 exceeded.");
    }
    let upload = server.upload("/upload/image", &[("image", Some("a.png"), large.as_bytes())]).await;
    assert_eq!(upload.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.get("/internal/files/input").await.json(), json!([]), "nothing is left of it");
}

#[tokio::test]
async fn uploads_get_comfyuis_names() {
    let server = Server::new();
    let upload = async |fields: &[(&str, Option<&str>, &[u8])]| server.upload("/upload/image", fields).await.json();
    let first = upload(&[("image", Some("a.png"), b"one")]).await;
    assert_eq!(first, json!({"name": "a.png", "subfolder": "", "type": "input"}));
    assert_eq!(upload(&[("image", Some("a.png"), b"one")]).await["name"], "a.png");
    assert_eq!(upload(&[("image", Some("a.png"), b"two")]).await["name"], "a (1).png");
    let late =
        upload(&[("image", Some("a.png"), b"three"), ("overwrite", None, b"true"), ("subfolder", None, b"s/t")]).await;
    assert_eq!(late, json!({"name": "a.png", "subfolder": "s/t", "type": "input"}));
    let view = server.get("/view?filename=a.png&type=input&subfolder=s/t&rand=1").await;
    assert_eq!((view.status, &view.body[..]), (StatusCode::OK, &b"three"[..]));

    for fields in [
        vec![("image", Some("../a.png"), &b"x"[..])],
        vec![("image", Some("/etc/a.png"), b"x")],
        vec![("image", Some("a.png"), b"x"), ("subfolder", None, b"../..")],
    ] {
        assert_eq!(server.upload("/upload/image", &fields).await.status, StatusCode::BAD_REQUEST, "{fields:?}");
    }
    for fields in [
        vec![("image", None, &b"text"[..])],
        vec![("image", Some(""), b"x")],
        vec![("image", Some("a.png"), b"x"), ("type", None, b"etc")],
        vec![("other", Some("a.png"), b"x")],
    ] {
        assert_eq!(server.upload("/upload/image", &fields).await.status, StatusCode::BAD_REQUEST, "{fields:?}");
    }
}

#[tokio::test]
async fn uploads_that_could_run_are_downloads() {
    let server = Server::new();
    for name in ["x.html", "x.svg", "x.js", "x.xhtml", "x.pdf"] {
        server.upload("/upload/image", &[("image", Some(name), b"<script>alert(1)</script>")]).await;
        let view = server.get(&format!("/view?filename={name}&type=input")).await;
        assert_eq!((view.status, view.header("content-type")), (StatusCode::OK, "application/octet-stream"), "{name}");
        assert!(view.header("content-disposition").starts_with("attachment"), "{name}");
        assert_eq!(view.header("x-content-type-options"), "nosniff");
        assert!(view.header("content-security-policy").starts_with("sandbox"));
        let stored = server.send("POST", &format!("/userdata/{name}"), "<script>alert(1)</script>").await;
        assert_eq!(stored.json(), json!(name));
        assert_eq!(server.get(&format!("/userdata/{name}")).await.header("content-type"), "application/octet-stream");
    }
}

#[tokio::test]
async fn images_are_viewed_in_other_forms_and_masked() {
    let server = Server::new();
    let pixels = [10, 20, 30, 255, 40, 50, 60, 0];
    let png = vivarium_image_codec::encode_png(&pixels, 2, 1, 4, 1, &[]).unwrap();
    server.upload("/upload/image", &[("image", Some("a.png"), &png)]).await;
    for (query, content_type) in [
        ("preview=webp;90", "image/webp"),
        ("preview=jpeg", "image/jpeg"),
        ("channel=rgb", "image/png"),
        ("channel=a", "image/png"),
        ("", "image/png"),
    ] {
        let view = server.get(&format!("/view?filename=a.png&type=input&{query}")).await;
        assert_eq!((view.status, view.header("content-type")), (StatusCode::OK, content_type), "{query}");
    }
    let mask = vivarium_image_codec::encode_png(&[0, 0, 0, 7, 0, 0, 0, 9], 2, 1, 4, 1, &[]).unwrap();
    let original = br#"{"filename": "a.png", "type": "input"}"#;
    let masked =
        server.upload("/upload/mask", &[("image", Some("m.png"), &mask), ("original_ref", None, original)]).await;
    assert_eq!(masked.json()["name"], "m.png");
    let alpha = server.get("/view?filename=m.png&type=input&channel=a").await.body;
    let frame = vivarium_image_codec::decode_first(&alpha, &Default::default()).unwrap();
    assert_eq!(frame.to_rgba8(), [0, 0, 0, 7, 0, 0, 0, 9]);

    let missing = br#"{"filename": "none.png", "type": "input"}"#;
    let lost = server.upload("/upload/mask", &[("image", Some("m.png"), &mask), ("original_ref", None, missing)]).await;
    assert_eq!(lost.status, StatusCode::NOT_FOUND);
    server.upload("/upload/image", &[("image", Some("t.txt"), b"no image")]).await;
    let text = server.get("/view?filename=t.txt&type=input&preview=webp").await;
    assert_eq!((text.status, &text.json()["error"]["type"]), (StatusCode::BAD_REQUEST, &json!("bad_image")));
}

#[tokio::test]
async fn user_data_and_settings() {
    let server = Server::new();
    let path = "/api/userdata/workflows%2Fa.json";
    assert_eq!(server.get("/api/userdata?dir=workflows").await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.send("POST", &format!("{path}?full_info=true"), "{}").await.json()["path"], "workflows/a.json");
    let again = server.send("POST", &format!("{path}?overwrite=false"), "{}").await;
    assert_eq!((again.status, &again.body[..]), (StatusCode::CONFLICT, &b"File already exists"[..]));
    assert_eq!(
        server.get("/userdata?dir=workflows&recurse=true&split=true").await.json(),
        json!([["a.json", "a.json"]])
    );
    assert_eq!(server.get("/v2/userdata?path=workflows").await.json()[0]["type"], "file");
    let moved = server.send("POST", &format!("{path}/move/workflows%2Fb.json"), "").await;
    assert_eq!((moved.status, moved.json()), (StatusCode::OK, json!("workflows/b.json")));
    assert_eq!(server.get(path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.send("DELETE", "/userdata/workflows%2Fb.json", "").await.status, StatusCode::NO_CONTENT);
    for bad in ["..%2Fx", "%2Fetc%2Fpasswd", "a%2F..%2F..%2Fx", "%252e%252e%252fx"] {
        assert!(server.send("POST", &format!("/userdata/{bad}"), "x").await.status.is_client_error(), "{bad}");
    }

    assert_eq!(server.get("/settings").await.json(), json!({}));
    assert_eq!(server.post("/settings", json!({"a": 1, "b": 2})).await.status, StatusCode::OK);
    assert_eq!(server.post("/settings/Comfy.X", json!("y")).await.status, StatusCode::OK);
    assert_eq!(server.get("/settings").await.json(), json!({"a": 1, "b": 2, "Comfy.X": "y"}));
    assert_eq!(server.get("/settings/none").await.json(), Value::Null);
}

#[tokio::test]
async fn everything_a_front_end_asks_for_at_boot() {
    let server = Server::new();
    for (path, shape) in [
        ("/api/features", json!({})),
        ("/api/users", json!({})),
        ("/api/settings", json!({})),
        ("/api/system_stats", json!({})),
        ("/api/i18n", json!({})),
        ("/api/extensions", json!([])),
        ("/api/object_info", json!({})),
        ("/api/global_subgraphs", json!({})),
        ("/internal/folder_paths", json!({})),
        ("/api/queue", json!({})),
        ("/api/history?max_items=64", json!({})),
        ("/api/jobs?status=in_progress,pending&limit=200&offset=0", json!({})),
        ("/api/experiment/models", json!([])),
        ("/api/models", json!([])),
        ("/api/embeddings", json!([])),
        ("/api/workflow_templates", json!({})),
        ("/templates/index.json", json!([])),
        ("/internal/logs/raw", json!({})),
        ("/vivarium/packs", json!({})),
        ("/vivarium/limits", json!({})),
        ("/vivarium/example-workflow", json!({})),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.json().is_array(), shape.is_array(), "{path}");
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8", "{path}");
    }
    let front = server.get("/").await;
    assert_eq!((front.status, front.header("cache-control")), (StatusCode::OK, "no-cache"));
    let info = server.get("/object_info").await;
    let again = Request::builder().uri("/object_info").header("if-none-match", info.header("etag")).body(Body::empty());
    assert_eq!(server.ask(again.unwrap()).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(server.get("/object_info/None").await.json(), json!({}));
}
