//! A server of this machine for hostile nodes to ask, and names that lead to it and elsewhere. No test asks the internet.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Result;
use vivarium_outbound::{Outbound, Resolve};
use vivarium_packs::{Grant, Grants};

/// Names that the hostile pack may ask, and where they lead. Only the first is the server's.
const GRANTED: [(&str, &str); 8] = [
    ("granted.test", "127.0.0.1"),
    ("loopback.granted.test", "127.0.0.2"),
    ("metadata.granted.test", "169.254.169.254"),
    ("metadata6.granted.test", "fd00:ec2::254"),
    ("mapped.granted.test", "::ffff:10.0.0.1"),
    ("private.granted.test", "192.168.1.1"),
    ("provider.granted.test", "100.100.100.200"),
    ("nowhere.granted.test", "0.0.0.0"),
];

struct Names;

impl Resolve for Names {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let known = GRANTED.iter().find(|(name, _)| name.eq_ignore_ascii_case(host.trim_end_matches('.')));
        let (_, address) = known.ok_or_else(|| io::Error::other("no such name"))?;
        let address: IpAddr = address.parse().map_err(io::Error::other)?;
        Ok(vec![SocketAddr::new(address, port)])
    }
}

/// A client under whose names the attacks ask.
pub(crate) fn client() -> Arc<Outbound> {
    Arc::new(Outbound::resolving_with(Arc::new(Names)))
}

/// What the hostile pack was granted: the server by name and by address, more names, scratch space, a folder and models.
pub(crate) fn grants(port: u16) -> Result<Grants> {
    let permissions = [
        format!("http/granted.test:{port}"),
        format!("http/127.0.0.1:{port}"),
        format!("http/*.granted.test:{port}"),
        "scratch".to_owned(),
        "input/photos".to_owned(),
        "models/loras".to_owned(),
    ];
    let grants = permissions.iter().map(|permission| format!("hostile:{permission}").parse());
    Ok(Grants::for_every_tenant(grants.collect::<Result<Vec<Grant>, _>>()?))
}

/// Starts the server, which ends with the process.
pub(crate) fn serve() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever asked may be gone.
            thread::spawn(move || answer(stream).unwrap_or_default());
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    match path.split_once('?') {
        Some(("/to", address)) => {
            let head = "HTTP/1.1 302 Found\r\ncontent-length: 0\r\nconnection: close\r\n";
            stream.write_all(format!("{head}location: {address}\r\n\r\n").as_bytes())
        }
        _ if path == "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }
        _ if path == "/headers" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(b"x-more: and more and more and more and more\r\n")?;
            }
        }
        _ if path == "/slow" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")?;
            loop {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(20));
            }
        }
        _ => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"),
    }
}
