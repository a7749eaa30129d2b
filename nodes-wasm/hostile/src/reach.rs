//! Reaching for what was not given. Nodes that try show one line per attempt: `refused` or `GOT THROUGH`.

use std::fmt::Display;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use vivarium_node::files;
use vivarium_node::prelude::*;

/// Tries to read files that nobody gave it: image files of the tenant, and whatever WASI reaches.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileReadFile {
    /// The name of a file that exists, backwards: the name itself is then not among the inputs.
    #[input(optional, default = "")]
    reversed_name: String,
}

const NAMES: [&str; 10] = [
    "../../etc/passwd",
    "../../etc/passwd [output]",
    "/etc/passwd",
    "..\\..\\etc\\passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "a\0b.png",
    "",
    ".",
    "C:\\Windows\\win.ini",
    "\\\\server\\share\\x.png",
];

impl Run for HostileReadFile {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let other: String = self.reversed_name.chars().rev().collect();
        let mut attempts = Vec::new();
        for name in NAMES.into_iter().chain([other.as_str()]) {
            attempts
                .push(attempt(format_args!("image.exists {name:?}"), files::exists(name).then_some(()).ok_or("no")));
            attempts.push(attempt(format_args!("image.fingerprint {name:?}"), files::fingerprint(name)));
            attempts.push(attempt(format_args!("image.load {name:?}"), files::load(name)));
        }
        attempts.push(attempt("read /etc/passwd", std::fs::read("/etc/passwd")));
        attempts.push(attempt("read ../../etc/passwd", std::fs::read("../../etc/passwd")));
        attempts.push(attempt("list /", std::fs::read_dir("/")));
        attempts.push(attempt("list .", std::fs::read_dir(".")));
        attempts.push(attempt("write /hostile", std::fs::write("/hostile", "x")));
        attempts.push(attempt("make a folder", std::fs::create_dir("hostile")));
        attempts.push(attempt("environment", std::env::vars_os().next().ok_or("empty")));
        attempts.push(attempt("arguments", std::env::args_os().next().ok_or("empty")));
        Ok(Ui::new().entry("text", attempts))
    }
}

pub(crate) fn attempt<T>(what: impl Display, result: Result<T, impl Display>) -> String {
    match result {
        Ok(_) => format!("{what}: GOT THROUGH"),
        Err(error) => format!("{what}: refused ({error})"),
    }
}

/// Tries to use the network.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileNetwork {
    /// Tried besides the usual addresses; a test listens there.
    #[input(optional, default = "127.0.0.1:8188")]
    address: String,
}

impl Run for HostileNetwork {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let addresses = ["127.0.0.1:80", "[::1]:80", "169.254.169.254:80", "10.0.0.1:443", &self.address];
        let tcp = |address: &&str| attempt(format_args!("tcp {address}"), TcpStream::connect(address));
        let mut attempts: Vec<_> = addresses.iter().map(tcp).collect();
        attempts.push(attempt("resolve localhost", ("localhost", 80).to_socket_addrs()));
        attempts.push(attempt("resolve example.com", ("example.com", 80).to_socket_addrs()));
        attempts.push(attempt("udp 127.0.0.1", UdpSocket::bind("127.0.0.1:0")));
        attempts.push(attempt("listen", TcpListener::bind("0.0.0.0:0")));
        Ok(Ui::new().entry("text", attempts))
    }
}

/// An object whose methods misbehave.
#[derive(ValueType)]
#[value_type("HOSTILE_OBJECT")]
pub(crate) struct Recursive {}

impl Methods for Recursive {
    fn call(self, method: &str, mut arguments: Arguments) -> Result<Value> {
        match method {
            "again" => {
                let object: Object = arguments.take("object")?;
                again(&object)
            }
            "loop" => loop {
                std::hint::black_box(&arguments);
            },
            "panic" => panic!("a method panicked on purpose"),
            other => Err(Error::invalid(format!("no method `{other}`; it has again, loop and panic"))),
        }
    }
}

fn again(object: &Object) -> Result<Value> {
    let arguments = Value::Dict([("object".to_owned(), object.clone().into())].into());
    object.call("again", arguments)
}

/// Makes an object whose method calls itself without end, and calls it.
#[derive(Node)]
#[node(category = "testing/hostile", output_node, output_types("HOSTILE_OBJECT"))]
pub(crate) struct HostileObject {
    /// When off, the object is only handed out, for another pack to call.
    #[input(optional, default = true)]
    recurse: bool,
}

impl Run for HostileObject {
    type Output = Object;

    fn run(self) -> Result<Object> {
        let object = Object::create(Recursive {})?;
        if self.recurse {
            again(&object)?;
        }
        Ok(object)
    }
}
