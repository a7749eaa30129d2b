//! Two tenants on one server: what one guesses of the other's gives nothing, whatever way it asks.

use std::{net::TcpStream, sync::Arc};

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;
use tungstenite::client::IntoClientRequest;
use vivarium_blobs::{BlobStore, Folder, TenantDirs, TenantFiles};
use vivarium_protocol::{
    event::Event,
    history::{HistoryEntry, QueueItem},
    tenant::TenantId,
};
use vivarium_queue::Queue;
use vivarium_worker::events::{EventSink, Message as Outgoing, Target};

use super::{Answer, parts, prompt};
use crate::{
    AppState, Application, Hub, Parts, ServerConfig, ServerError,
    auth::{Quotas, Registry, Scope},
    bind, serve,
};

struct World {
    state: AppState,
    queue: Arc<dyn Queue>,
    hub: Arc<Hub>,
    registry: Registry,
    config: ServerConfig,
    base: tempfile::TempDir,
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn new_token(registry: &Registry, name: &str, scopes: &[Scope]) -> String {
    registry.change(|tenants| tenants.add_token(&tenant(name), scopes, None)).unwrap().0.reveal().to_owned()
}

impl World {
    /// Tenants `a` and `b` with a token each, which allows the usual.
    fn new(quotas: Quotas) -> (Self, String, String) {
        Self::serving(quotas, ServerConfig::default())
    }

    fn serving(quotas: Quotas, config: ServerConfig) -> (Self, String, String) {
        let base = tempfile::tempdir().unwrap();
        let registry = Registry::at(base.path().join("private/tenants.json"));
        for name in ["a", "b"] {
            registry.change(|tenants| tenants.add(&tenant(name), quotas)).unwrap();
        }
        let [a, b] = ["a", "b"].map(|name| new_token(&registry, name, &Scope::DEFAULT));
        let config = ServerConfig { tenants_file: Some(registry.path().to_owned()), ..config };
        let store = BlobStore::open(&base.path().join("shared-blobs")).unwrap();
        let (root, opened) = (base.path().to_owned(), Mutex::new(std::collections::HashMap::new()));
        let files = move |name: &TenantId| -> Result<Arc<TenantFiles>, vivarium_blobs::BlobError> {
            let mut opened = opened.lock();
            if let Some(files) = opened.get(name) {
                return Ok(Arc::clone(files));
            }
            let files = TenantFiles::open(name.clone(), store.clone(), TenantDirs::below(&root, name)).map(Arc::new)?;
            opened.insert(name.clone(), files.clone());
            Ok(files)
        };
        let parts = Parts { files: Arc::new(files), ..parts(&base, &config) };
        let (queue, hub) = (Arc::clone(&parts.queue), Arc::clone(&parts.hub));
        let state = AppState::new(config.clone(), parts).unwrap();
        (Self { state, queue, hub, registry, config, base }, a, b)
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = Application::new(self.state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn send(&self, token: &str, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.with(&[("authorization", &format!("Bearer {token}"))], method, path, body).await
    }

    async fn with(&self, headers: &[(&str, &str)], method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(body.into()).unwrap()).await
    }

    async fn submit(&self, token: &str) -> Answer {
        self.send(token, "POST", "/prompt", prompt("Known").to_string()).await
    }

    async fn upload(&self, token: &str, name: &str, bytes: &[u8]) -> Answer {
        let mut body =
            format!("--B\r\ncontent-disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\r\n").into_bytes();
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n--B--\r\n");
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "multipart/form-data; boundary=B")];
        self.with(&headers, "POST", "/upload/image", body).await
    }

    /// Ends what a tenant has next in the queue.
    fn run_next(&self, seconds: f64) -> TenantId {
        let lease = self.queue.lease("test").unwrap().unwrap();
        let entry = HistoryEntry {
            prompt: QueueItem { ..lease.item.clone() },
            outputs: json!({"1": {"images": [{"filename": "secret.png"}]}}).as_object().unwrap().clone(),
            status: None,
            meta: serde_json::Map::new(),
        };
        self.queue.finish(&lease, entry, seconds).unwrap();
        lease.tenant
    }
}

fn error_type(answer: &Answer) -> String {
    answer.json()["error"]["type"].as_str().unwrap_or_default().to_owned()
}

/// The bodies of two answers, without what differs by nature.
fn same(one: &Answer, other: &Answer, this: &str, that: &str) {
    let text = |answer: &Answer, name: &str| String::from_utf8_lossy(&answer.body).replace(name, "NAME");
    assert_eq!((one.status, text(one, this)), (other.status, text(other, that)));
}

#[tokio::test]
async fn without_a_token_there_is_only_the_login() {
    let (world, a, _) = World::new(Quotas::default());
    for path in ["/prompt", "/api/queue", "/history", "/view?filename=x.png", "/object_info", "/ws", "/settings", "/"] {
        let answer = world.with(&[], "GET", path, "").await;
        assert_eq!(
            (answer.status, error_type(&answer).as_str()),
            (StatusCode::UNAUTHORIZED, "unauthenticated"),
            "{path}"
        );
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let navigation = [("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")];
    let answer = world.with(&navigation, "GET", "/", "").await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/login"));
    // A token in an address counts for sockets only, and a user's name for nothing.
    assert_eq!(world.with(&[], "GET", &format!("/queue?token={a}"), "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.with(&[("comfy-user", "a")], "GET", "/queue", "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.send(&a, "GET", "/queue", "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_login_page_turns_a_token_into_a_cookie() {
    let (world, a, _) = World::new(Quotas::default());
    let page = world.with(&[], "GET", "/login", "").await;
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(!String::from_utf8_lossy(&page.body).contains("<script"));
    let form = [
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-site", "same-origin"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let answer = world.with(&form, "POST", "/login", format!("token={a}")).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/"));
    let cookie = answer.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().unwrap().to_owned();
    assert_eq!(world.with(&[("cookie", &pair)], "GET", "/queue", "").await.status, StatusCode::OK);
    let left = world.with(&form, "POST", "/logout", "").await;
    assert!(left.header("set-cookie").contains("Max-Age=0"));

    // Another site can post no login, and no form goes anywhere else.
    let foreign = [("sec-fetch-mode", "navigate"), ("sec-fetch-site", "cross-site"), ("origin", "http://evil.example")];
    assert_eq!(world.with(&foreign, "POST", "/login", format!("token={a}")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.with(&form, "POST", "/prompt", "{}").await.status, StatusCode::FORBIDDEN);

    for _ in 0..10 {
        let wrong = world.with(&form, "POST", "/login", "token=viv_wrong").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        assert!(!String::from_utf8_lossy(&wrong.body).contains("viv_wrong"));
    }
    let limited = world.with(&form, "POST", "/login", format!("token={a}")).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_ne!(limited.header("retry-after"), "");
}

#[tokio::test]
async fn scopes_bound_what_a_token_does() {
    let (world, usual, _) = World::new(Quotas::default());
    let reads = new_token(&world.registry, "a", &[Scope::Read]);
    let admin = new_token(&world.registry, "a", &[Scope::Read, Scope::Admin]);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(world.send(&reads, "GET", "/queue", "").await.status, StatusCode::OK);
    let refused = world.submit(&reads).await;
    assert_eq!((refused.status, error_type(&refused).as_str()), (StatusCode::FORBIDDEN, "scope"));
    assert_eq!(world.send(&usual, "GET", "/internal/logs", "").await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.send(&admin, "GET", "/internal/logs", "").await.status, StatusCode::OK);
}

/// 66, 67, 76.
#[tokio::test]
async fn where_folders_are_is_told_to_operators_only() {
    let (world, token, _) = World::new(Quotas::default());
    let admin = new_token(&world.registry, "a", &[Scope::Read, Scope::Admin]);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let base = world.base.path().to_string_lossy().into_owned();
    for path in ["/internal/folder_paths", "/experiment/models"] {
        let (shown, whole) = (world.send(&token, "GET", path, "").await, world.send(&admin, "GET", path, "").await);
        let (shown, whole) = (shown.json().to_string(), whole.json().to_string());
        assert!(whole.contains(&base) && !shown.contains(&base), "{path}: {shown}");
        assert!(shown.contains("\"models/loras\""), "{path}: {shown}");
        assert_eq!(shown.matches("loras").count(), whole.matches("loras").count(), "{path}: {shown}");
    }
}

#[tokio::test]
async fn guessing_gives_what_nothing_gives() {
    let (world, a, b) = World::new(Quotas::default());
    let bytes = b"\x89PNG the same bytes";
    assert_eq!(world.upload(&a, "secret.png", bytes).await.json()["name"], "secret.png");
    let running = world.submit(&a).await.json()["prompt_id"].as_str().unwrap().to_owned();
    assert_eq!(world.run_next(1.0), tenant("a"));
    let waiting = world.submit(&a).await.json()["prompt_id"].as_str().unwrap().to_owned();
    world.send(&a, "POST", "/settings/Secret", "1").await;
    world.send(&a, "POST", "/userdata/secret.json", "{}").await;

    let nothing = "00000000-0000-4000-8000-000000000000";
    for id in [&running, &waiting] {
        for path in ["/history/", "/api/jobs/"] {
            let guessed = world.send(&b, "GET", &format!("{path}{id}"), "").await;
            let unknown = world.send(&b, "GET", &format!("{path}{nothing}"), "").await;
            same(&guessed, &unknown, id, nothing);
        }
        let cancel = |id: &str| format!("/jobs/{id}/cancel");
        let guessed = world.send(&b, "POST", &cancel(id), "{}").await;
        same(&guessed, &world.send(&b, "POST", &cancel(nothing), "{}").await, id, nothing);
        for path in ["/queue", "/history"] {
            world.send(&b, "POST", path, json!({"delete": [id]}).to_string()).await;
            world.send(&b, "POST", path, json!({"clear": true}).to_string()).await;
        }
        world.send(&b, "POST", "/interrupt", json!({"prompt_id": id}).to_string()).await;
    }
    for query in ["secret.png&type=input", "secret.png%20%5Binput%5D", "../a/input/secret.png&type=input"] {
        let guessed = world.send(&b, "GET", &format!("/view?filename={query}"), "").await;
        assert!(guessed.status.is_client_error(), "{query}: {}", guessed.status);
    }
    let (guessed, unknown) = (
        world.send(&b, "GET", "/view?filename=secret.png&type=input", "").await,
        world.send(&b, "GET", "/view?filename=nowhere.png&type=input", "").await,
    );
    same(&guessed, &unknown, "secret.png", "nowhere.png");
    assert_eq!(world.send(&b, "GET", "/userdata/secret.json", "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.send(&b, "GET", "/settings", "").await.json(), json!({}));
    for path in ["/history", "/queue", "/api/jobs", "/internal/files/input", "/userdata?dir=.", "/vivarium/limits"] {
        let answer = world.send(&b, "GET", path, "").await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"), "{path}");
    }
    // The same bytes are new to everybody: neither the name nor the answer tells that they are stored already.
    assert_eq!(
        world.upload(&b, "secret.png", bytes).await.json(),
        json!({"name": "secret.png", "subfolder": "", "type": "input"})
    );

    // It is all there still, for whom it belongs to; and without the key that came with the prompt.
    let history = world.send(&a, "GET", &format!("/history/{running}"), "").await;
    assert_eq!(history.json()[&running]["outputs"]["1"]["images"][0]["filename"], "secret.png");
    assert!(!String::from_utf8_lossy(&history.body).contains("api_key"));
    assert_eq!(world.send(&a, "GET", "/prompt", "").await.json()["exec_info"]["queue_remaining"], 1);
    // A user's name changes nothing inside a tenant either.
    let named = [("authorization", format!("Bearer {a}")), ("comfy-user", "b".to_owned())];
    let named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(world.with(&named, "GET", "/settings", "").await.json()["Secret"], 1);
}

/// 68, 75.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_id_of_another_tenant_hears_and_says_nothing() {
    let (world, a, b) = World::new(Quotas::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve(vec![listener], world.state.clone(), async { drop(stopped.await) }));
    let connect = move |path: String, token: Option<&str>| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        tungstenite::client(request, stream).map(|(socket, _)| socket).ok()
    };
    let hub = Arc::clone(&world.hub);
    let heard = tokio::task::spawn_blocking(move || {
        assert!(connect("/ws?clientId=same".to_owned(), None).is_none());
        let mut of_a = connect("/ws?clientId=same".to_owned(), Some(&a)).unwrap();
        let mut of_b = connect(format!("/ws?clientId=same&token={b}"), None).unwrap();
        of_a.read().unwrap();
        of_b.read().unwrap();
        let event = Event::ExecutionStart { prompt_id: "secret".to_owned(), timestamp: 1, device: None };
        for target in [Target::Client("same".to_owned()), Target::Tenant] {
            hub.send(&tenant("a"), target, Outgoing::Event(event.clone()));
        }
        // What a client says is no event for anybody.
        of_b.send(tungstenite::Message::text(json!({"type": "executing", "data": {"node": "1"}}).to_string())).unwrap();
        let read = |socket: &mut tungstenite::WebSocket<TcpStream>| {
            let mut heard = Vec::new();
            while let Ok(message) = socket.read() {
                heard.push(message.to_string());
            }
            heard
        };
        (read(&mut of_a), read(&mut of_b))
    });
    let (of_a, of_b) = heard.await.unwrap();
    assert_eq!(of_a.iter().filter(|text| text.contains("secret")).count(), 2, "{of_a:?}");
    assert!(of_a.iter().all(|text| !text.contains("executing")), "{of_a:?}");
    assert!(of_b.iter().all(|text| !text.contains("secret")), "{of_b:?}");
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
}

/// 74.
#[tokio::test]
async fn quotas_are_of_tenants_and_not_of_tokens() {
    let quotas = Quotas {
        storage_bytes: 2000,
        queue_length: 2,
        concurrent_jobs: 1,
        cpu_seconds_per_hour: 10,
        ..Quotas::default()
    };
    let (world, a, b) = World::new(quotas);
    let second = new_token(&world.registry, "a", &Scope::DEFAULT);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    for token in [&a, &second] {
        assert_eq!(world.submit(token).await.status, StatusCode::OK);
    }
    let full = world.submit(&second).await;
    assert_eq!((full.status, error_type(&full).as_str()), (StatusCode::TOO_MANY_REQUESTS, "queue_full"));
    assert_ne!(full.header("retry-after"), "");
    assert!(String::from_utf8_lossy(&full.body).contains("vivarium tenant quota"));
    assert_eq!(world.submit(&b).await.status, StatusCode::OK);

    let first = world.queue.lease("one").unwrap().unwrap();
    let other = world.queue.lease("two").unwrap().unwrap();
    assert_ne!(first.tenant, other.tenant, "one tenant has both workers");
    assert!(world.queue.lease("three").unwrap().is_none());
    for lease in [first, other] {
        world.queue.requeue(&lease).unwrap();
    }
    while world.run_next(11.0) != tenant("a") {}
    let spent = world.submit(&a).await;
    assert_eq!((spent.status, error_type(&spent).as_str()), (StatusCode::TOO_MANY_REQUESTS, "cpu_seconds_used_up"));
    let wait: u32 = spent.header("retry-after").parse().unwrap();
    assert!((60..=3600).contains(&wait), "{wait}");

    assert_eq!(world.upload(&b, "small.png", &[1; 500]).await.status, StatusCode::OK);
    let large = world.upload(&b, "large.png", &[2; 5000]).await;
    assert_eq!((large.status, error_type(&large).as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "storage_quota"));
    assert!(!TenantDirs::below(world.base.path(), &tenant("b")).input.join("large.png").exists());
    let written = world.send(&b, "POST", "/userdata/large.txt", vec![b'x'; 5000]).await;
    assert_eq!(written.status, StatusCode::PAYLOAD_TOO_LARGE);
    let limits = world.send(&b, "GET", "/vivarium/limits", "").await.json();
    let limits = limits["limits"].as_array().unwrap().clone();
    let storage = limits.iter().find(|limit| limit["name"] == "quota_storage").unwrap();
    assert!(storage["value"] == 2000 && storage["used"].as_u64().unwrap() >= 500, "{storage}");
}

#[tokio::test]
async fn many_tokens_and_sockets_of_a_tenant_get_one_share_of_the_machine() {
    let (world, a, b) = World::new(Quotas::default());
    let mut tokens: Vec<String> = (0..8).map(|_| new_token(&world.registry, "a", &Scope::DEFAULT)).collect();
    tokens.push(a);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    for token in tokens.iter().cycle().take(36) {
        for client in ["one", "two"] {
            let mut body = prompt("Known");
            body["client_id"] = client.into();
            assert_eq!(world.send(token, "POST", "/prompt", body.to_string()).await.status, StatusCode::OK);
        }
    }
    for _ in 0..6 {
        assert_eq!(world.submit(&b).await.status, StatusCode::OK);
    }
    // The tenant with one token comes last and pays as much for a prompt, and still has every second turn.
    let turns: Vec<TenantId> = (0..12).map(|_| world.run_next(2.0)).collect();
    assert_eq!(turns.iter().filter(|served| **served == tenant("b")).count(), 6, "{turns:?}");
}

#[tokio::test]
async fn only_a_server_with_tenants_listens_to_other_machines() {
    let (world, _, _) = World::new(Quotas::default());
    let open = ServerConfig { listen: vec!["0.0.0.0".to_owned()], port: 0, ..world.config.clone() };
    assert!(bind(&open).await.is_ok());
    let closed = ServerConfig { tenants_file: Some(world.base.path().join("none.json")), ..open };
    let error = bind(&closed).await.unwrap_err();
    assert!(
        matches!(error, ServerError::Unauthenticated { .. }) && error.to_string().contains("tenant add"),
        "{error}"
    );
    std::fs::write(world.registry.path(), "nonsense").unwrap();
    assert!(matches!(bind(&world.config).await.unwrap_err(), ServerError::Tenants(_)));
}

#[tokio::test]
async fn each_tenant_lists_its_own_files() {
    let (world, a, b) = World::new(Quotas::default());
    world.upload(&a, "a.png", b"a").await;
    world.upload(&b, "b.png", b"b").await;
    for (token, name) in [(&a, "a.png"), (&b, "b.png")] {
        assert_eq!(world.send(token, "GET", "/internal/files/input", "").await.json(), json!([name]) as Value);
    }
    let files = world.state.files(&tenant("a")).unwrap();
    assert_eq!(*files.list(Folder::Input).unwrap(), ["a.png".to_owned()]);
}

/// 66: with several users in a tenant, the header chooses among its own, whatever it says.
#[tokio::test]
async fn a_user_is_known_in_its_own_tenant_only() {
    let (world, a, b) = World::serving(Quotas::default(), ServerConfig { multi_user: true, ..ServerConfig::default() });
    let as_user = async |token: &str, user: &str, method: &str, path: &str, body: &'static str| {
        let headers = [("authorization", format!("Bearer {token}")), ("comfy-user", user.to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        world.with(&headers, method, path, body).await
    };
    let made = world.send(&a, "POST", "/users", json!({"username": "Ann"}).to_string()).await.json();
    let ann = made.as_str().unwrap();
    assert_eq!(as_user(&a, ann, "POST", "/settings", r#"{"Secret": 1}"#).await.status, StatusCode::OK);
    assert_eq!(as_user(&a, ann, "GET", "/settings", "").await.json(), json!({"Secret": 1}));
    assert_eq!(world.send(&b, "GET", "/users", "").await.json()["users"], json!({}));
    let answer = as_user(&b, ann, "GET", "/settings", "").await;
    assert_eq!((answer.status, error_type(&answer).as_str()), (StatusCode::UNAUTHORIZED, "unknown_user"));
    for id in ["../../a/users/x", "..", "a/b", ""] {
        assert_eq!(as_user(&b, id, "GET", "/userdata?dir=.", "").await.status, StatusCode::UNAUTHORIZED, "{id}");
    }
    // Users of one tenant share its quota.
    assert!(world.base.path().join("tenants/a/users").join(ann).join("comfy.settings.json").is_file());
}
