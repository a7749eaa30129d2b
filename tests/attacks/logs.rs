//! What the log says of requests (76): enough to find one again, and nothing that opens a door.

use std::{
    io::Write,
    sync::{Arc, LazyLock},
};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use serde_json::json;
use vivarium_server::{
    ServerConfig,
    auth::{Quotas, Registry, Scope},
};
use vivarium_tests::{
    Laboratory, Settings,
    server::{Server, Socket},
};

/// What any test of this program logs about requests, down to the finest. Compilers have much more to say, none of it of
/// requests. The test's own socket client is left out.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let finest = "off,axum=trace,h2=trace,hyper=trace,tower=trace,tower_http=trace,tungstenite=trace,tungstenite::handshake::client=off,vivarium=trace,\
                  vivarium_blobs=trace,node=info,vivarium_queue=trace,vivarium_server=trace,vivarium_worker=trace";
    let layer = tracing_subscriber::fmt().with_ansi(false).with_env_filter(tracing_subscriber::EnvFilter::new(finest));
    layer.with_writer(move || writer.clone()).init();
    log
});

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Other tests log millions of lines; those of this one come while it runs.
        let mut log = self.0.lock();
        if log.len() < 256 << 20 {
            log.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn logs_hold_no_secrets_and_one_line_per_request() -> Result<()> {
    let log = &*LOG;
    let folder = tempfile::tempdir()?;
    let registry = Registry::at(folder.path().join("tenants.json"));
    let name = "logged".parse()?;
    registry.change(|tenants| tenants.add(&name, Quotas::default()))?;
    let token = registry.change(|tenants| tenants.add_token(&name, &Scope::DEFAULT, None))?.0.reveal().to_owned();
    let server =
        Server::start(ServerConfig { tenants_file: Some(registry.path().to_owned()), ..ServerConfig::default() })?;
    let client = server.with_token(&token);
    let secrets = [token.as_str(), "key-9a8b7c", "viv_wrong-6d5e4f", "query-1c2d3e", "form-0b1a2c"];

    let prompt = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    });
    let extra = json!({"api_key_comfy_org": secrets[1], "auth_token_comfy_org": secrets[1]});
    let accepted = client.post("/prompt", &json!({"prompt": prompt, "extra_data": extra}))?;
    client.wait(accepted.json()?["prompt_id"].as_str().context("an id")?)?;
    let refused = client.post("/prompt", &json!({"prompt": {"1": {}}, "extra_data": extra}))?;
    ensure!(refused.status == 400);
    server.send("GET", "/queue", &[("authorization", &format!("Bearer {}", secrets[2]))], b"")?;
    server.send("GET", "/queue", &[("cookie", &format!("vivarium_token={}", secrets[2]))], b"")?;
    client.get(&format!("/view?filename={}.png&token={}", secrets[3], secrets[3]))?;
    Socket::open(server.address(), &format!("/ws?token={token}"), &[])?;
    ensure!(Socket::open(server.address(), &format!("/ws?token={}", secrets[2]), &[]).is_err());
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let login = server.send("POST", "/login", &form, format!("token={token}").as_bytes())?;
    ensure!(login.status == 303, "{login:?}");
    server.send("POST", "/login", &form, format!("token={}", secrets[4]).as_bytes())?;
    let last = client.get("/history/nobodys-9e8f7a")?;

    let text = String::from_utf8_lossy(&log.0.lock()).into_owned();
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(secret));
        ensure!(line.is_none(), "{line:?}");
    }
    let id = last.header("x-request-id").context("an id for each request")?;
    let of_request: Vec<_> = text.lines().filter(|line| line.contains(id) && line.contains("answered")).collect();
    ensure!(of_request.len() == 1, "{of_request:?}");
    for part in ["method=GET", "path=\"/history/nobodys-9e8f7a\"", "status=200", "milliseconds="] {
        ensure!(of_request[0].contains(part), "{part} is not in {}", of_request[0]);
    }
    Ok(())
}

/// 22, 24, 77: what a node writes is told from what the server says, line by line, and names its tenant.
#[test]
fn lines_of_nodes_cannot_pass_for_lines_of_the_server_or_of_others() -> Result<()> {
    let log = &*LOG;
    let laboratory = Laboratory::start(Settings::default())?;
    let mallory = "mallory-who-logs".parse()?;
    // Each holds an escape sequence, a change of direction and a line break before as many of `x`.
    let prompt = json!({"1": {"class_type": "HostileLog", "inputs": {"lines": 50, "length": 77}}});
    let id = laboratory.submit(&mallory, &prompt, None)?;
    laboratory.wait(&mallory, &id)?;
    let text = String::from_utf8_lossy(&log.0.lock()).into_owned();
    let mine: Vec<_> = text.lines().filter(|line| line.contains(&"x".repeat(77))).collect();
    let of_mallory = mine.iter().filter(|line| line.contains("tenant=\"mallory-who-logs\"")).count();
    ensure!(of_mallory == 50, "{of_mallory} of 50 lines: {:?}", mine.first());
    for line in mine {
        ensure!(line.contains(" node: ") && line.contains("pack=") && line.contains("tenant="), "{line:?}");
        ensure!(!line.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}')), "{line:?}");
    }
    // A failure's message is told in the log, too.
    let forged = "2026-01-01T00:00:00Z INFO forged-0a9b8c";
    let prompt = json!({"1": {"class_type": "HostilePanic", "inputs": {"message": format!("oh\n{forged}")}}});
    let id = laboratory.submit(&mallory, &prompt, None)?;
    laboratory.wait(&mallory, &id)?;
    let text = String::from_utf8_lossy(&log.0.lock()).into_owned();
    ensure!(text.contains(forged), "the failure is not in the log");
    let line = text.lines().find(|line| line.starts_with(forged));
    ensure!(line.is_none(), "{line:?}");
    Ok(())
}
