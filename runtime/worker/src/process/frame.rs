//! Frames on the socket between a server and its worker process: a JSON message, bytes that belong to it, and perhaps an open
//! file. Values that nest as deep as JSON may stand among the bytes, each as a text of its own: a reader counts depth.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use parking_lot::Mutex;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

/// Lengths of message and bytes.
const HEAD: usize = 16;
/// A message is JSON of our own making, but for texts in it.
const MESSAGE_BYTES: u64 = 256 << 20;
/// Prompts, results, code and pixels.
const TAIL_BYTES: u64 = 4 << 30;

/// A message with what belongs to it.
#[derive(Debug)]
pub(crate) struct Frame<M> {
    pub(crate) message: M,
    pub(crate) tail: Vec<u8>,
    pub(crate) file: Option<OwnedFd>,
}

/// Sends frames, from any thread.
pub(crate) struct Writer(Mutex<File>);

impl Writer {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(Mutex::new(File::from(socket)))
    }

    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[], None)
    }

    /// Blocks while the other side does not read.
    pub(crate) fn send_with(&self, message: &impl Serialize, tail: &[&[u8]], file: Option<&File>) -> io::Result<()> {
        let message = serde_json::to_vec(message)?;
        let length: usize = tail.iter().map(|part| part.len()).sum();
        let mut head = Vec::with_capacity(HEAD + message.len());
        head.extend((message.len() as u64).to_le_bytes());
        head.extend((length as u64).to_le_bytes());
        head.extend(&message);
        let mut socket = self.0.lock();
        let sent = match file {
            Some(file) => send_file(&socket, &head, file)?,
            None => 0,
        };
        socket.write_all(&head[sent..])?;
        tail.iter().try_for_each(|part| socket.write_all(part))
    }
}

/// A file goes along with the first byte.
fn send_file(socket: &File, bytes: &[u8], file: &File) -> io::Result<usize> {
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("there is no room for a file"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Reads frames; one thread does.
pub(crate) struct Reader {
    socket: File,
    /// Whether files are taken. Who reads from a process that may be hostile takes none.
    takes_files: bool,
}

impl Reader {
    pub(crate) fn new(socket: OwnedFd, takes_files: bool) -> Self {
        Self { socket: File::from(socket), takes_files }
    }

    /// The next frame; nothing when the other side is gone.
    ///
    /// # Errors
    /// The socket's own, or what is no frame.
    pub(crate) fn next<M: DeserializeOwned>(&mut self) -> io::Result<Option<Frame<M>>> {
        let (mut head, mut file) = ([0; HEAD], None);
        let mut read = 0;
        while read < HEAD {
            let got = if self.takes_files {
                self.receive(&mut head[read..], &mut file)?
            } else {
                match self.socket.read(&mut head[read..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    got => got?,
                }
            };
            match got {
                0 if read == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => read += got,
            }
        }
        let (message, tail) = head.split_at(HEAD / 2);
        let length = |bytes: &[u8]| bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
        let message = self.bytes(length(message), MESSAGE_BYTES)?;
        let message = serde_json::from_slice(&message)?;
        let tail = self.bytes(length(tail), TAIL_BYTES)?;
        Ok(Some(Frame { message, tail, file }))
    }

    fn receive(&self, into: &mut [u8], file: &mut Option<OwnedFd>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            match recvmsg(&self.socket, &mut [IoSliceMut::new(into)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                got => break got?,
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut files) = message {
                *file = files.next();
            }
        }
        Ok(got.bytes)
    }

    /// A length that lies costs no memory: what does not come is not allocated.
    fn bytes(&mut self, length: u64, most: u64) -> io::Result<Vec<u8>> {
        if length > most {
            let message = format!("a frame announces {length} bytes, more than {most}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length.min(1 << 20)).unwrap_or_default());
        (&mut self.socket).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Cuts a tail where its first text ends.
pub(crate) fn halves(tail: &[u8], first: u64) -> io::Result<(&[u8], &[u8])> {
    let at = usize::try_from(first).ok().and_then(|at| tail.split_at_checked(at));
    at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a frame is shorter than it says"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{io::Seek, os::unix::net::UnixStream};

    use super::*;

    fn pair(takes_files: bool) -> (Writer, Reader) {
        let (one, other) = UnixStream::pair().unwrap();
        (Writer::new(one.into()), Reader::new(other.into(), takes_files))
    }

    #[test]
    fn frames_arrive_whole_and_in_order_with_their_files() {
        let (writer, mut reader) = pair(true);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"inside").unwrap();
        file.rewind().unwrap();
        let thread = std::thread::spawn(move || {
            writer.send(&"one").unwrap();
            writer.send_with(&"two", &[&vec![7; 1 << 20], b"end"], Some(&file)).unwrap();
            writer.send(&"three").unwrap();
        });
        let one: Frame<String> = reader.next().unwrap().unwrap();
        assert!(one.message == "one" && one.tail.is_empty() && one.file.is_none());
        let two: Frame<String> = reader.next().unwrap().unwrap();
        assert_eq!(halves(&two.tail, 1 << 20).unwrap().1, b"end");
        let mut text = String::new();
        File::from(two.file.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        let three: Frame<String> = reader.next().unwrap().unwrap();
        assert!(three.message == "three" && three.file.is_none());
        thread.join().unwrap();
        assert!(reader.next::<String>().unwrap().is_none());
    }

    #[test]
    fn a_frame_that_lies_is_an_error_and_takes_no_memory() {
        let (one, other) = UnixStream::pair().unwrap();
        let mut reader = Reader::new(other.into(), false);
        let mut lie = |length: u64| {
            (&one).write_all(&length.to_le_bytes()).unwrap();
            (&one).write_all(&0_u64.to_le_bytes()).unwrap();
            let result = reader.next::<String>().unwrap_err().to_string();
            assert!(result.contains("announces"), "{result}");
        };
        lie(u64::MAX);
        lie(MESSAGE_BYTES + 1);
        (&one).write_all(&(1_u64 << 20).to_le_bytes()).unwrap();
        (&one).write_all(&0_u64.to_le_bytes()).unwrap();
        drop(one);
        assert!(reader.next::<String>().is_err(), "it ends before its message");
        assert!(halves(b"ab", 3).is_err());
    }
}
