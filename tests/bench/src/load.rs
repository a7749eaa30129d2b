//! Many connections asked by one thread that waits for all of them at once, as wrk and its like do it. A thread for each
//! would be woken for every answer; on a machine where client and servers share the processor, that is missing from what
//! is measured.

use std::{
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::wire;

/// An answer that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(20);

/// One keep-alive connection with one request under way.
struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    asked: Instant,
}

/// Sends a request again and again on each of some connections, the next when the answer is there, for that long. Gives the
/// milliseconds that each took.
///
/// # Errors
/// When there is no good answer.
pub(crate) fn ask_for(base: &str, request: &[u8], connections: usize, time: Duration) -> Result<Vec<f64>> {
    let mut poll = Poll::new()?;
    let mut all = Vec::new();
    for number in 0..connections {
        let stream = wire::connect(base)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        all.push(Connection { stream, answer: Vec::new(), asked: Instant::now() });
    }
    all.iter_mut().try_for_each(|connection| connection.ask(request))?;
    let (begin, mut times) = (Instant::now(), Vec::new());
    let (mut events, mut buffer) = (Events::with_capacity(connections), vec![0; 64 * 1024]);
    while begin.elapsed() < time {
        poll.poll(&mut events, Some(PATIENCE))?;
        ensure!(!events.is_empty(), "the server did not answer for {} s", PATIENCE.as_secs());
        for event in &events {
            let connection = &mut all[event.token().0];
            if connection.read(&mut buffer)? {
                times.push(connection.asked.elapsed().as_secs_f64() * 1e3);
                connection.ask(request)?;
            }
        }
    }
    Ok(times)
}

impl Connection {
    fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.answer.clear();
        self.asked = Instant::now();
        // Nothing else is on its way, so a few hundred bytes always fit.
        Ok(self.stream.write_all(request)?)
    }

    /// Takes what is there, and says whether that is all of a good answer.
    fn read(&mut self, buffer: &mut [u8]) -> Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(bytes) => {
                    self.answer.extend_from_slice(&buffer[..bytes]);
                    if bytes < buffer.len() {
                        return is_whole(&self.answer);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return is_whole(&self.answer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether an answer is there as a whole.
///
/// # Errors
/// When it is not one of status 200.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(begin) = head.parse(answer)? else { return Ok(false) };
    ensure!(
        head.code == Some(200),
        "the server answers {:?}: {}",
        head.code,
        String::from_utf8_lossy(&answer[begin..])
    );
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    match length {
        Some(length) => {
            let length: usize = std::str::from_utf8(length.value)?.trim().parse().context("Content-Length")?;
            Ok(answer.len() >= begin + length)
        }
        // In chunks: JSON has no line ends that look like the last of them.
        None => Ok(answer.ends_with(b"0\r\n\r\n")),
    }
}
