//! The client against servers of this machine, under names that a resolver of the tests makes up.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use vivarium_outbound::{Bounds, HttpClient, HttpError, Offline, Outbound, Request, Resolve, Response};
use vivarium_protocol::host_rule::HostRule;

/// Answers every connection with what `answer` writes; keeps the heads and bodies that came.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = heard.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let request = read_request(&stream);
                kept.lock().unwrap().push(request.clone());
                answer(&request, &mut stream);
            }
        });
        Self { port, heard }
    }

    fn saying(text: &'static str) -> Self {
        Self::start(move |_, stream| drop(stream.write_all(text.as_bytes())))
    }

    fn redirecting(status: u16, location: String) -> Self {
        let text =
            format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        Self::start(move |_, stream| drop(stream.write_all(text.as_bytes())))
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    head + &String::from_utf8_lossy(&body)
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-y: z\r\n\r\nhello";

/// Names of the tests. Each look-up takes the next of a name's addresses, the last one for good.
#[derive(Default)]
struct Names {
    addresses: HashMap<&'static str, Vec<&'static str>>,
    asked: AtomicUsize,
}

impl Resolve for Names {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let known = self.addresses.get(host).ok_or_else(|| io::Error::other("no such name"))?;
        let address: IpAddr = known[asked.min(known.len() - 1)].parse().unwrap();
        Ok(vec![SocketAddr::new(address, port)])
    }
}

fn names<const N: usize>(addresses: [(&'static str, &'static [&'static str]); N]) -> Arc<Names> {
    let addresses = addresses.map(|(name, addresses)| (name, addresses.to_vec()));
    Arc::new(Names { addresses: addresses.into(), asked: AtomicUsize::new(0) })
}

fn get(url: &str) -> Request {
    Request { method: "GET".into(), url: url.into(), headers: Vec::new(), body: Vec::new() }
}

fn rules(texts: &[&str]) -> Vec<HostRule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn bounds() -> Bounds {
    Bounds { response_bytes: 1 << 20, redirects: 3, time: Duration::from_secs(20), at_once: 4 }
}

fn send(names: Arc<Names>, request: Request, allowed: &[&str]) -> Result<Response, HttpError> {
    Outbound::resolving_with(names).send("a", request, &rules(allowed), &bounds(), &|| false)
}

#[test]
fn a_granted_address_answers_and_is_told_only_what_it_has_to_know() {
    let server = Server::saying(HELLO);
    let local = format!("127.0.0.1:{}", server.port);
    let mut request = get(&format!("http://{local}/x?y=1"));
    request.headers.push(("X-Key".into(), "k".into()));
    let answer = send(names([]), request, &[&local]).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"hello".as_slice()));
    assert!(answer.headers.contains(&("x-y".into(), "z".into())));
    let heard = server.heard().remove(0).to_ascii_lowercase();
    assert!(heard.starts_with("get /x?y=1 http/1.1"), "{heard}");
    let mut headers: Vec<&str> = heard.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    headers.sort_unstable();
    assert_eq!(headers, ["accept", "accept-encoding", "host", "user-agent", "x-key"]);
}

#[test]
fn a_host_that_no_rule_names_is_not_even_looked_up() {
    let names = names([("other.example", &["1.2.3.4"])]);
    for url in
        ["http://other.example/", "http://api.example:8080/", "http://api.example.evil.net/", "http://127.0.0.1/"]
    {
        let refused = send(names.clone(), get(url), &["api.example", "127.0.0.1:1"]);
        assert!(matches!(refused, Err(HttpError::HostNotAllowed { .. })), "{url}: {refused:?}");
    }
    assert_eq!(names.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_granted_name_that_leads_inside_is_refused_until_the_address_is_granted_too() {
    let server = Server::saying(HELLO);
    let url = format!("http://api.example:{}/", server.port);
    let name = format!("api.example:{}", server.port);
    for inside in ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00:ec2::254", "100.100.100.200"] {
        let addresses = names([("api.example", Box::leak(Box::new([inside])))]);
        match send(addresses, get(&url), &[&name]) {
            Err(HttpError::AddressNotAllowed { address, .. }) => assert_eq!(address, inside.parse::<IpAddr>().unwrap()),
            other => panic!("{inside}: {other:?}"),
        }
    }
    assert!(server.heard().is_empty());
    let granted = [name.as_str(), &format!("127.0.0.1:{}", server.port)];
    assert_eq!(send(names([("api.example", &["127.0.0.1"])]), get(&url), &granted).unwrap().status, 200);
}

#[test]
fn a_name_that_changes_its_mind_is_looked_up_once() {
    let server = Server::saying(HELLO);
    let (name, local) = (format!("rebind.example:{}", server.port), format!("127.0.0.1:{}", server.port));
    // After the check it would lead to another machine of this network.
    let addresses = names([("rebind.example", &["127.0.0.1", "127.0.0.2"])]);
    let url = format!("http://{name}/");
    assert_eq!(send(addresses.clone(), get(&url), &[&name, &local]).unwrap().status, 200);
    assert_eq!(addresses.asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_redirect_leads_nowhere_that_could_not_be_asked() {
    let inner = Server::saying(HELLO);
    let inside = format!("http://inner.example:{}/", inner.port);
    for (location, allowed) in [
        (inside.clone(), vec![]),
        (inside.clone(), vec![format!("inner.example:{}", inner.port)]),
        (format!("http://127.0.0.1:{}/", inner.port), vec![]),
        (format!("//inner.example:{}/", inner.port), vec![]),
        ("file:///etc/passwd".to_owned(), vec![]),
        ("http://user@inner.example/".to_owned(), vec![]),
    ] {
        let outer = Server::redirecting(302, location.clone());
        let local = format!("127.0.0.1:{}", outer.port);
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).chain([local.as_str()]).collect();
        let addresses = names([("inner.example", &["127.0.0.1"])]);
        let refused = send(addresses, get(&format!("http://{local}/")), &allowed);
        assert!(matches!(refused, Err(HttpError::Redirect { .. })), "{location}: {refused:?}");
    }
    assert!(inner.heard().is_empty());
}

#[test]
fn redirects_end_and_keys_stay_behind() {
    let last = Server::saying(HELLO);
    let first = Server::redirecting(302, format!("http://127.0.0.1:{}/there", last.port));
    let (a, b) = (format!("127.0.0.1:{}", first.port), format!("127.0.0.1:{}", last.port));
    let request = Request {
        method: "POST".into(),
        url: format!("http://{a}/here"),
        headers: vec![("authorization".into(), "Bearer secret".into()), ("accept".into(), "text/plain".into())],
        body: b"private".to_vec(),
    };
    let answer = send(names([]), request.clone(), &[&a, &b]).unwrap();
    assert_eq!(answer.url, format!("http://{b}/there"));
    assert!(first.heard()[0].contains("Bearer secret") && first.heard()[0].ends_with("private"));
    let heard = last.heard().remove(0);
    assert!(heard.starts_with("GET /there") && heard.contains("text/plain"), "{heard}");
    assert!(!heard.contains("secret") && !heard.contains("private"), "{heard}");

    let kept = Server::redirecting(307, format!("http://{b}/there"));
    let c = format!("127.0.0.1:{}", kept.port);
    send(names([]), Request { url: format!("http://{c}/"), ..request }, &[&b, &c]).unwrap();
    let heard = last.heard().remove(1);
    assert!(heard.starts_with("POST /there") && heard.ends_with("private") && !heard.contains("secret"), "{heard}");

    let circle = Server::redirecting(302, "/again".into());
    let local = format!("127.0.0.1:{}", circle.port);
    let refused = send(names([]), get(&format!("http://{local}/")), &[&local]);
    assert_eq!(refused.unwrap_err(), HttpError::Redirects { limit: 3 });
    assert_eq!(circle.heard().len(), 4);
}

#[test]
fn answers_that_do_not_end_end() {
    let large = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nx");
    let endless = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(b"400\r\n").and_then(|()| stream.write_all(&[b'x'; 1024])).is_ok() {
            if stream.write_all(b"\r\n").is_err() {
                break;
            }
        }
    });
    let headers = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        while stream.write_all(b"x-more: and more and more and more\r\n").is_ok() {}
    });
    let ask = |server: &Server, time| {
        let local = format!("127.0.0.1:{}", server.port);
        let bounds = Bounds { time, ..bounds() };
        Outbound::default().send("a", get(&format!("http://{local}/")), &rules(&[&local]), &bounds, &|| false)
    };
    let twenty = Duration::from_secs(20);
    assert_eq!(ask(&endless, twenty).unwrap_err(), HttpError::ResponseTooLarge { limit: 1 << 20 });
    assert!(matches!(ask(&headers, twenty), Err(HttpError::Failed { .. })));
    assert!(ask(&large, twenty).is_err());

    // One byte now and then keeps a connection alive, not a request.
    let slow = Server::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").unwrap();
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let short = Duration::from_millis(300);
    assert_eq!(ask(&slow, short).unwrap_err(), HttpError::Timeout { limit: short });
    let silent = Server::start(|_, _| thread::sleep(Duration::from_secs(5)));
    assert_eq!(ask(&silent, short).unwrap_err(), HttpError::Timeout { limit: short });
}

#[test]
fn what_is_packed_stays_packed() {
    let packed = Server::saying("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nbomb");
    let local = format!("127.0.0.1:{}", packed.port);
    let answer = send(names([]), get(&format!("http://{local}/")), &[&local]).unwrap();
    assert_eq!(answer.body, b"bomb");
}

#[test]
fn who_stops_waiting_gets_away_at_once_and_the_rest_is_counted() {
    let silent = Server::start(|_, _| thread::sleep(Duration::from_secs(60)));
    let local = format!("127.0.0.1:{}", silent.port);
    let client = Outbound::default();
    let ask = |account: &str, stop: bool| {
        client.send(account, get(&format!("http://{local}/")), &rules(&[&local]), &bounds(), &|| stop)
    };
    for _ in 0..4 {
        assert_eq!(ask("a", true).unwrap_err(), HttpError::Interrupted);
    }
    // Their threads still wait for the server.
    assert_eq!(ask("a", true).unwrap_err(), HttpError::TooMany { limit: 4 });
    assert_eq!(ask("b", true).unwrap_err(), HttpError::Interrupted);
}

#[test]
fn what_does_not_speak_tls_is_not_taken_for_it() {
    let plain = Server::saying(HELLO);
    let local = format!("127.0.0.1:{}", plain.port);
    let refused = send(names([]), get(&format!("https://{local}/")), &[&local]);
    assert!(matches!(refused, Err(HttpError::Failed { .. })), "{refused:?}");
}

#[test]
fn offline_is_offline() {
    let refused = Offline.send("a", get("http://127.0.0.1/"), &rules(&["127.0.0.1"]), &bounds(), &|| false);
    assert_eq!(refused.unwrap_err(), HttpError::Offline);
}
