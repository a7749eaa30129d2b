//! A server on a real port, and sockets to it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tungstenite::{Message, WebSocket, client::IntoClientRequest};
use vivarium_protocol::{
    event::Event,
    frame::{ImageType, PreviewMetadata},
    tenant::TenantId,
};
use vivarium_worker::events::{EventSink, Message as Outgoing, Target};

use super::parts;
use crate::{AppState, Hub, ServerConfig, ServerError, serve};

struct Running {
    address: String,
    hub: Arc<Hub>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), ServerError>>,
    _base: tempfile::TempDir,
}

impl Running {
    async fn start(config: ServerConfig) -> Self {
        let base = tempfile::tempdir().unwrap();
        let parts = parts(&base, &config);
        let hub = Arc::clone(&parts.hub);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let state = AppState::new(config, parts).unwrap();
        let served = tokio::spawn(serve(vec![listener], state, async { drop(stopped.await) }));
        Self { address, hub, stop: Some(stop), served, _base: base }
    }

    /// A socket with its first message read.
    fn connect(&self, client: &str) -> (Socket, Value) {
        let mut socket = self.try_connect(client, None).unwrap();
        let welcome = socket.json();
        (socket, welcome)
    }

    fn try_connect(&self, client: &str, origin: Option<&str>) -> Result<Socket, tungstenite::Error> {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut request = format!("ws://{}/ws?clientId={client}", self.address).into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
            Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("no answer"),
        }
    }

    fn send(&self, target: Target, message: Outgoing) {
        self.hub.send(&TenantId::default_tenant(), target, message);
    }

    fn send_start(&self, client: &str, prompt_id: &str) {
        let event = Event::ExecutionStart { prompt_id: prompt_id.to_owned(), timestamp: 1, device: None };
        self.send(Target::Client(client.to_owned()), Outgoing::Event(event));
    }

    /// Waits until the server has seen that sockets came or went.
    fn wait_for_sockets(&self, count: usize) {
        for _ in 0..1000 {
            if self.hub.socket_count(&TenantId::default_tenant()) == count {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not have {count} sockets");
    }
}

struct Socket(WebSocket<TcpStream>);

impl Socket {
    /// The next event. Pings, which ask whether events arrived, come in between.
    fn json(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(text.as_str()).unwrap();
            }
        }
    }

    fn close(mut self) {
        self.0.close(None).unwrap();
        while self.0.read().is_ok() {}
    }
}

fn preview() -> Outgoing {
    let metadata = PreviewMetadata {
        node_id: "1".to_owned(),
        prompt_id: "p".to_owned(),
        display_node_id: "1".to_owned(),
        parent_node_id: None,
        real_node_id: "1".to_owned(),
        image_type: ImageType::Jpeg,
    };
    Outgoing::Preview { image: vec![1, 2, 3].into(), image_type: ImageType::Jpeg, metadata }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_welcomed_negotiates_and_comes_back() {
    let server = Running::start(ServerConfig::default()).await;
    tokio::task::block_in_place(|| {
        let (mut first, welcome) = server.connect("c");
        assert_eq!(welcome["data"], json!({"status": {"exec_info": {"queue_remaining": 0}}, "sid": "c"}));
        let (_nameless, welcome) = server.connect("");
        assert_eq!(welcome["data"]["sid"].as_str().unwrap().len(), 32);

        server.send(Target::Client("c".to_owned()), preview());
        assert_eq!(first.0.read().unwrap().into_data()[..], [0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3]);
        first.0.send(Message::text("no json")).unwrap();
        let flags = json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}});
        first.0.send(Message::text(flags.to_string())).unwrap();
        let answer = first.json();
        assert_eq!(
            (&answer["type"], &answer["data"]["supports_preview_metadata"]),
            (&json!("feature_flags"), &json!(true))
        );
        server.send(Target::Client("c".to_owned()), preview());
        assert_eq!(first.0.read().unwrap().into_data()[..4], [0, 0, 0, 4]);

        server.send_start("c", "seen");
        assert_eq!(first.json()["data"]["prompt_id"], "seen");
        first.close();
        server.wait_for_sockets(1);
        server.send_start("c", "missed");
        let (mut second, _) = server.connect("c");
        assert_eq!(second.json()["data"]["prompt_id"], "missed");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_loses_nothing_and_an_old_socket_silences_nobody() {
    let server = Running::start(ServerConfig::default()).await;
    tokio::task::block_in_place(|| {
        let (old, _) = server.connect("c");
        // Written into a connection whose other end reads no more.
        server.send_start("c", "unread");
        let (mut new, _) = server.connect("c");
        assert_eq!(new.json()["data"]["prompt_id"], "unread");
        drop(old);
        server.wait_for_sockets(1);
        server.send_start("c", "after");
        assert_eq!(new.json()["data"]["prompt_id"], "after");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_reads_nothing_is_cut_off_and_holds_nobody_up() {
    let mut config = ServerConfig::default();
    config.limits.socket_bytes = 1024 * 1024;
    let server = Running::start(config).await;
    tokio::task::block_in_place(|| {
        let (_deaf, _) = server.connect("deaf");
        let (mut other, _) = server.connect("other");
        let text = "x".repeat(256 * 1024);
        for _ in 0..100 {
            server.send(
                Target::Client("deaf".to_owned()),
                Outgoing::Event(Event::ExecutionStart { prompt_id: text.clone(), timestamp: 1, device: None }),
            );
        }
        server.send_start("other", "p");
        assert_eq!(other.json()["data"]["prompt_id"], "p");
        server.wait_for_sockets(1);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_too_slowly_is_refused() {
    use std::io::{Read, Write};
    let mut config = ServerConfig::default();
    config.limits.body_grace = Duration::from_millis(200);
    let server = Running::start(config).await;
    tokio::task::block_in_place(|| {
        for path in ["/prompt", "/upload/image", "/userdata/a.json"] {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 9000\r\n\r\n",
                server.address
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream
                .write_all(b"--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\nabc")
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 408 ") && answer.contains("1024 bytes per second"),
                "{path}: {answer}"
            );
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_pages_get_no_socket() {
    let server = Running::start(ServerConfig::default()).await;
    tokio::task::block_in_place(|| {
        for origin in ["null", "https://evil.example", "http://localhost:1"] {
            match server.try_connect("c", Some(origin)) {
                Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 403, "{origin}"),
                other => panic!("{origin}: {:?}", other.map(|_| ())),
            }
        }
        assert!(server.try_connect("c", Some(&format!("http://{}", server.address))).is_ok());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_closes_sockets_and_ends() {
    let mut server = Running::start(ServerConfig::default()).await;
    let mut socket = tokio::task::block_in_place(|| server.connect("c").0);
    server.stop.take().unwrap().send(()).unwrap();
    server.served.await.unwrap().unwrap();
    tokio::task::block_in_place(|| match socket.0.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("{other:?}"),
    });
}

#[tokio::test]
async fn nobody_listens_where_others_can_reach_it_by_accident() {
    let open = ServerConfig { listen: vec!["0.0.0.0".to_owned()], port: 0, ..ServerConfig::default() };
    let refused = crate::bind(&open).await.unwrap_err();
    assert!(
        matches!(refused, ServerError::Unauthenticated { .. })
            && refused.to_string().contains("--allow-unauthenticated-remote")
    );
    let meant = ServerConfig { allow_unauthenticated_remote: true, ..open };
    let listeners = crate::bind(&meant).await.unwrap();
    let port = listeners[0].local_addr().unwrap().port();
    let taken = ServerConfig { port, ..ServerConfig::default() };
    let error = crate::bind(&taken).await.unwrap_err().to_string();
    assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
}

/// Clients write head and body one after the other, and reuse the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_no_route_reads_keeps_its_connection() {
    let running = Running::start(ServerConfig::default()).await;
    let address = running.address.clone();
    let answers = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!("DELETE /userdata/none.json HTTP/1.1\r\nhost: {address}\r\ncontent-length: 6\r\n\r\n");
        for _ in 0..2 {
            stream.write_all(head.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            stream.write_all(b"unread").unwrap();
        }
        let last = format!("GET /users HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(last.as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        answers
    });
    let answers = answers.await.unwrap();
    assert_eq!((answers.matches(" 404 Not Found").count(), answers.matches(" 200 OK").count()), (2, 1), "{answers}");
}
