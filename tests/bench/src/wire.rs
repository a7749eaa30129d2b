//! A keep-alive HTTP connection that costs as little as can be: on a machine where client and servers share the processor,
//! what the client takes is missing from what is measured.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, bail, ensure};

/// Sends bytes that were made before, and reads answers with a `Content-Length`.
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
    line: String,
}

impl Wire {
    /// Connects to a server at `http://host:port`.
    ///
    /// # Errors
    /// When it can't.
    pub(crate) fn connect(base: &str) -> Result<Self> {
        let reader = BufReader::with_capacity(64 * 1024, connect(base)?);
        Ok(Self { reader, body: Vec::new(), line: String::new() })
    }

    /// Sends the parts of a request, one after the other, and gives the body of a good answer.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn ask(&mut self, parts: &[&[u8]]) -> Result<&[u8]> {
        for part in parts {
            self.reader.get_mut().write_all(part)?;
        }
        let mut length = 0;
        let status = self.next_line()?.to_owned();
        loop {
            let line = self.next_line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        self.body.resize(length, 0);
        self.reader.read_exact(&mut self.body)?;
        if status.split(' ').nth(1) != Some("200") {
            bail!("{status}: {}", String::from_utf8_lossy(&self.body));
        }
        Ok(&self.body)
    }

    fn next_line(&mut self) -> Result<&str> {
        self.line.clear();
        ensure!(self.reader.read_line(&mut self.line)? > 0, "the server closed the connection");
        Ok(self.line.trim_end())
    }
}

/// Connects to a server at `http://host:port`.
///
/// # Errors
/// When it can't.
pub(crate) fn connect(base: &str) -> Result<TcpStream> {
    let address = base.strip_prefix("http://").with_context(|| format!("{base} should begin with http://"))?;
    let stream = TcpStream::connect(address).with_context(|| format!("could not connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A request without a body.
pub(crate) fn get(base: &str, path: &str) -> Vec<u8> {
    let host = base.trim_start_matches("http://");
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n").into_bytes()
}

const BOUNDARY: &str = "vivarium-bench-boundary";

/// What stands before and after the file of an upload of that many bytes.
pub(crate) fn upload(base: &str, name: &str, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let host = base.trim_start_matches("http://");
    let before = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let after = format!("\r\n--{BOUNDARY}--\r\n");
    let head = format!(
        "POST /upload/image HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n\
         Content-Length: {}\r\n\r\n",
        before.len() + bytes + after.len()
    );
    ((head + &before).into_bytes(), after.into_bytes())
}
