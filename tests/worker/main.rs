//! A worker process of tests: does what `vivarium worker serve` does. Called with `attempts FOLDER PORT` it goes behind the same
//! walls and tries to get out, telling on standard output what it could do; without walls when it is `without` that come last.

#![forbid(unsafe_code)]

use std::{
    env, fs, io,
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, ExitCode, exit},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["attempts", folder, port, walls] => {
            attempt(Path::new(folder), port.parse().unwrap_or_default(), *walls != "without")
        }
        _ => exit(vivarium_worker::process::serve()),
    }
}

fn attempt(base: &Path, port: u16, behind: bool) -> ExitCode {
    if behind && let Err(error) = vivarium_worker::process::walls().enter() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    tell("connect", TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
    tell("socket", UnixStream::pair());
    tell("read a tenant's file", fs::read(base.join("input/secret.png")));
    tell("list a tenant's folder", fs::read_dir(base.join("input")));
    tell("read the queue", fs::read(base.join("queue.sqlite")));
    tell("write into a tenant's folder", fs::write(base.join("output/new.png"), "x"));
    tell("write into the temporary folder", fs::write(env::temp_dir().join(format!("vivarium-{port}")), "x"));
    tell("write over a file", fs::write(base.join("input/secret.png"), "x"));
    tell(
        "read the environment of another process",
        fs::read(format!("/proc/{}/environ", std::os::unix::process::parent_id())),
    );
    tell("start a program", Command::new("/bin/true").status());
    ExitCode::SUCCESS
}

fn tell<T>(what: &str, result: io::Result<T>) {
    match result {
        Ok(_) => println!("{what}: done"),
        Err(error) => println!("{what}: {error}"),
    }
}
