//! Nodes that reach for the machine through WASI: files, sockets, the environment. For tests of the host.
//!
//! Not for users: the pack is never shipped. Every node shows one line per attempt: `refused` or `GOT THROUGH`.

use std::fmt::Display;
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};

use vivarium_node::prelude::*;

pack! {
    name: "hostile-wasi",
    version: env!("CARGO_PKG_VERSION"),
    publisher: "Nobody",
    description: "Attacks on the host through WASI, for its tests.",
    license: "Apache-2.0",
    nodes: [HostileFiles, HostileNetwork, HostileEnvironment],
}

fn attempt<T>(what: &str, result: Result<T, impl Display>) -> String {
    match result {
        Ok(_) => format!("{what}: GOT THROUGH"),
        Err(error) => format!("{what}: refused ({error})"),
    }
}

/// Tries to use the host's files.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
struct HostileFiles {}

impl Run for HostileFiles {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let attempts = [
            attempt("read /etc/passwd", std::fs::read("/etc/passwd")),
            attempt("read ../../etc/passwd", std::fs::read("../../etc/passwd")),
            attempt("list /", std::fs::read_dir("/")),
            attempt("list .", std::fs::read_dir(".")),
            attempt("write /tmp/hostile", std::fs::write("/tmp/hostile", "x")),
            attempt("make a folder", std::fs::create_dir("hostile")),
        ];
        Ok(Ui::new().entry("text", attempts))
    }
}

/// Tries to use the network.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
struct HostileNetwork {
    /// Tried besides the usual addresses.
    #[input(optional, default = "127.0.0.1:8188")]
    address: String,
}

impl Run for HostileNetwork {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let tcp = ["127.0.0.1:80", "[::1]:80", "169.254.169.254:80", "93.184.216.34:443", &self.address];
        let mut attempts: Vec<_> =
            tcp.iter().map(|address| attempt(&format!("tcp {address}"), TcpStream::connect(address))).collect();
        attempts.push(attempt("resolve localhost", ("localhost", 80).to_socket_addrs()));
        attempts.push(attempt("resolve example.com", ("example.com", 80).to_socket_addrs()));
        attempts.push(attempt("udp 127.0.0.1", UdpSocket::bind("127.0.0.1:0")));
        attempts.push(attempt("listen", std::net::TcpListener::bind("0.0.0.0:0")));
        Ok(Ui::new().entry("text", attempts))
    }
}

/// Shows what it sees of the environment: numbers, no names.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
struct HostileEnvironment {}

impl Run for HostileEnvironment {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let found = |what: &str, count: usize| match count {
            0 => format!("{what}: refused"),
            count => format!("{what}: GOT THROUGH ({count})"),
        };
        let attempts =
            [found("environment", std::env::vars_os().count()), found("arguments", std::env::args_os().count())];
        Ok(Ui::new().entry("text", attempts))
    }
}
