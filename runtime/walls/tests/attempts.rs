//! What a process tries behind the walls, and what becomes of it.
//!
//! Without arguments this starts itself again for every attempt, without walls and behind them. An attempt must succeed without:
//! else it would prove nothing. Then it must fail behind them, or succeed there too, as the table says.

#![forbid(unsafe_code)]

use std::{
    env, fs, io,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
};

use rustix::{
    net::{AddressFamily, SocketType, socket},
    process::{Pid, Resource, Rlimit, Signal},
};
use vivarium_walls::{Kernel, Walls};

/// A process that did what it was told, that was refused, and that was let down by its walls.
const DONE: u8 = 0;
const REFUSED: u8 = 10;
const NO_WALLS: u8 = 11;

/// What an attempt works with.
struct Place {
    /// May be read.
    open: PathBuf,
    /// May not.
    closed: PathBuf,
    port: u16,
}

type Attempt = fn(&Place) -> io::Result<()>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Refused,
    Done,
}
use Expected::{Done, Refused};

const ATTEMPTS: &[(&str, Expected, Attempt)] = &[
    // Sockets of every family that an ordinary user may make.
    ("ipv4-udp", Refused, |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
    ("ipv4-connect", Refused, |place| TcpStream::connect((Ipv4Addr::LOCALHOST, place.port)).map(drop)),
    ("ipv4-listen", Refused, |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
    ("ipv6", Refused, |_| socket_of(AddressFamily::INET6, SocketType::DGRAM)),
    ("netlink", Refused, |_| socket_of(AddressFamily::NETLINK, SocketType::RAW)),
    ("unix", Refused, |_| socket_of(AddressFamily::UNIX, SocketType::STREAM)),
    ("unix-listen", Refused, |place| UnixListener::bind(place.open.join("socket")).map(drop)),
    ("socketpair", Refused, |_| std::os::unix::net::UnixStream::pair().map(drop)),
    // Files outside, and changes inside.
    ("read-outside", Refused, |place| fs::read(place.closed.join("secret")).map(drop)),
    ("read-etc", Refused, |_| fs::read("/etc/passwd").map(drop)),
    ("read-own-program", Refused, |_| fs::read("/proc/self/exe").map(drop)),
    ("list-outside", Refused, |place| fs::read_dir(&place.closed).map(drop)),
    ("list-root", Refused, |_| fs::read_dir("/").map(drop)),
    ("through-a-link", Refused, |place| fs::read(place.open.join("link")).map(drop)),
    ("create-outside", Refused, |place| fs::write(place.closed.join("new"), "x")),
    ("create-inside", Refused, |place| fs::write(place.open.join("new"), "x")),
    ("overwrite", Refused, |place| fs::write(place.open.join("file"), "x")),
    ("truncate", Refused, |place| truncate(&place.open.join("file"))),
    ("remove", Refused, |place| fs::remove_file(place.open.join("file"))),
    ("rename", Refused, |place| fs::rename(place.open.join("file"), place.open.join("other"))),
    ("hard-link", Refused, |place| fs::hard_link(place.open.join("file"), place.open.join("other"))),
    ("symbolic-link", Refused, |place| std::os::unix::fs::symlink("/etc", place.open.join("etc"))),
    ("make-folder", Refused, |place| fs::create_dir(place.open.join("folder"))),
    ("permissions", Refused, |place| fs::set_permissions(place.open.join("file"), fs::Permissions::from_mode(0o777))),
    ("working-folder", Refused, |place| env::set_current_dir(&place.open)),
    ("memory-of-the-parent", Refused, |_| {
        fs::File::open(format!("/proc/{}/mem", parent()?.as_raw_nonzero())).map(drop)
    }),
    // Programs, processes, powers.
    ("start-a-program", Refused, |_| Command::new("/bin/true").status().map(drop)),
    ("signal-the-parent", Refused, |_| Ok(rustix::process::test_kill_process(parent()?)?)),
    ("stop-itself-with-kill", Refused, |_| Ok(rustix::process::kill_process(rustix::process::getpid(), Signal::CONT)?)),
    ("handle-on-the-parent", Refused, |_| {
        Ok(rustix::process::pidfd_open(parent()?, rustix::process::PidfdFlags::empty()).map(drop)?)
    }),
    ("more-files", Refused, |_| {
        let lower = Rlimit { current: Some(64), maximum: Some(64) };
        Ok(rustix::process::setrlimit(Resource::Nofile, lower)?)
    }),
    ("be-dumpable", Refused, |_| {
        Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?)
    }),
    // What workers do all day.
    ("read-inside", Done, |place| fs::read(place.open.join("file")).map(drop)),
    ("list-inside", Done, |place| fs::read_dir(&place.open)?.try_for_each(|entry| entry.map(drop))),
    ("threads", Done, |_| {
        let threads: Vec<_> = (0..8).map(|n| thread::spawn(move || vec![n; 1 << 20].len())).collect();
        let all = threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum::<usize>();
        if all == 8 << 20 { Ok(()) } else { Err(io::Error::other("a thread failed")) }
    }),
    ("time", Done, |_| {
        thread::sleep(std::time::Duration::from_millis(1));
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map(drop).map_err(io::Error::other)
    }),
    ("hash-seeds", Done, |_| {
        std::collections::HashMap::from([(1, 2)]).get(&1).map(drop).ok_or_else(|| io::Error::other("lost"))
    }),
    ("memory-file", Done, |_| {
        let file = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC)?;
        Ok(rustix::fs::ftruncate(&file, 1 << 16)?)
    }),
];

fn socket_of(family: AddressFamily, kind: SocketType) -> io::Result<()> {
    Ok(socket(family, kind, None).map(drop)?)
}

fn truncate(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).truncate(true).open(path).map(drop)
}

fn parent() -> io::Result<Pid> {
    rustix::process::getppid().ok_or_else(|| io::Error::other("no parent"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let answer = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["attempt", name, walls, open, closed, port] => {
            return try_one(
                name,
                *walls == "behind",
                &Place { open: open.into(), closed: closed.into(), port: port.parse().unwrap_or_default() },
            );
        }
        // What cargo and its users may add is no filter of ours.
        ["--list", ..] => Ok(()),
        _ => try_all(),
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn try_one(name: &str, behind: bool, place: &Place) -> ExitCode {
    let Some((.., attempt)) = ATTEMPTS.iter().find(|(known, ..)| *known == name) else {
        return ExitCode::from(NO_WALLS);
    };
    if behind && let Err(error) = (Walls { readable: vec![place.open.clone()], descriptors: 64 }).enter() {
        eprintln!("{error}");
        return ExitCode::from(NO_WALLS);
    }
    match attempt(place) {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(REFUSED)
        }
    }
}

fn try_all() -> Result<(), String> {
    let version = Kernel::probe().check().map_err(|error| error.to_string())?;
    println!("landlock {version}; {} attempts", ATTEMPTS.len());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let mut wrong = Vec::new();
    for (name, expected, _) in ATTEMPTS {
        let without = run(name, "without", port).map_err(|error| error.to_string())?;
        if without != Some(DONE) {
            wrong.push(format!("{name}: fails without walls, too ({without:?}): it proves nothing"));
        }
        let behind = run(name, "behind", port).map_err(|error| error.to_string())?;
        let wanted = if *expected == Refused { REFUSED } else { DONE };
        if behind != Some(wanted) {
            wrong.push(format!("{name}: ended with {behind:?} instead of {wanted}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn run(name: &str, walls: &str, port: u16) -> io::Result<Option<u8>> {
    let (open, closed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    fs::write(open.path().join("file"), "x")?;
    fs::write(closed.path().join("secret"), "x")?;
    std::os::unix::fs::symlink(closed.path().join("secret"), open.path().join("link"))?;
    let output = Command::new(env::current_exe()?)
        .args(["attempt", name, walls])
        .args([open.path(), closed.path()])
        .arg(port.to_string())
        .output()?;
    print!("{name:<24} {walls:<8} {}", String::from_utf8_lossy(&output.stderr));
    if output.stderr.is_empty() {
        println!("done");
    }
    Ok(output.status.code().and_then(|code| u8::try_from(code).ok()))
}
