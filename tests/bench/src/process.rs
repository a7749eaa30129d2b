//! A server as a process: how long it takes to come up, what memory it holds, how it is stopped.

use std::{
    collections::HashSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::client::Client;

const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Between two tries to reach a server that starts.
const TRY_EVERY: Duration = Duration::from_millis(5);

/// A server that this program started. Dropping it stops it.
pub(crate) struct Server {
    process: Child,
    started_in: Duration,
}

impl Server {
    /// Starts a server and waits for the first good answer to `GET /system_stats`. What it says goes to `log`.
    ///
    /// # Errors
    /// When something else answers there, or when it ends or stays silent; the end of its log is in the message.
    pub(crate) fn start(mut command: Command, url: &str, log: &Path) -> Result<Self> {
        // Else what answers would be measured, whoever's it is, while ours ends because its port is taken.
        if Client::new(url).get("/system_stats").is_ok() {
            bail!("something answers at {url} already: choose a free port, or measure it with --peer if it is meant");
        }
        let file = fs::File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let begin = Instant::now();
        let process = command.spawn().with_context(|| format!("could not start {program}"))?;
        let mut server = Self { process, started_in: Duration::ZERO };
        // A new connection for each try.
        while Client::new(url).get("/system_stats").is_err() {
            if let Some(status) = server.process.try_wait()? {
                bail!("the server at {url} ended before it answered ({status}): {}", end_of(log));
            }
            if begin.elapsed() > START_LIMIT {
                bail!("the server at {url} did not answer within {} s: {}", START_LIMIT.as_secs(), end_of(log));
            }
            thread::sleep(TRY_EVERY);
        }
        server.started_in = begin.elapsed();
        Ok(server)
    }

    /// From its start to its first answer.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Resident memory of the process and all its descendants, in MB (10^6 bytes).
    ///
    /// # Errors
    /// When `/proc` does not tell.
    pub(crate) fn resident_mb(&self) -> Result<f64> {
        let mut kib = 0;
        for pid in self.family()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let figure = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib += figure.unwrap_or(0);
        }
        Ok(kib as f64 * 1024.0 / 1e6)
    }

    /// Processor time of the process and its descendants so far, in seconds, in steps of a hundredth.
    ///
    /// # Errors
    /// When `/proc` does not tell.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        let stats = self.family()?.into_iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        Ok(stats.filter_map(|stat| processor_ticks(&stat)).sum::<u64>() as f64 / 100.0)
    }

    /// Asks it to stop, as an operator would, and waits for its end.
    ///
    /// # Errors
    /// When it must be killed.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.terminate()
    }

    fn terminate(&mut self) -> Result<()> {
        if self.process.try_wait()?.is_some() {
            return Ok(());
        }
        self.signal("TERM")?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(TRY_EVERY);
        }
        self.signal("KILL")?;
        self.process.wait()?;
        bail!("a server did not stop within {} s and was killed", STOP_LIMIT.as_secs())
    }

    fn signal(&self, name: &str) -> Result<()> {
        let pids: Vec<String> = self.family()?.iter().map(u32::to_string).collect();
        // The standard library can only kill its own children; a shell is on every system that this runs on.
        let kill = format!("kill -{name} {} 2>/dev/null", pids.join(" "));
        Command::new("sh").args(["-c", &kill]).status().context("could not start `sh`")?;
        Ok(())
    }

    /// The process and its descendants.
    fn family(&self) -> Result<HashSet<u32>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").context("/proc is needed to measure memory")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            parents.extend(parent(&stat).map(|parent| (pid, parent)));
        }
        let mut family = HashSet::from([self.process.id()]);
        loop {
            let before = family.len();
            let children = parents.iter().filter(|(_, parent)| family.contains(parent)).map(|(pid, _)| *pid);
            family.extend(children.collect::<Vec<_>>());
            if family.len() == before {
                return Ok(family);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.terminate().ok();
    }
}

/// User and system time: the 14th and 15th field of `/proc/PID/stat`.
fn processor_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The fourth field of `/proc/PID/stat`. The second may hold anything, in parentheses.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// `vivarium serve` on a free port, and its URL.
///
/// # Errors
/// When there is no free port.
pub(crate) fn vivarium_serve(binary: &Path, base: &Path) -> Result<(Command, String)> {
    let port = TcpListener::bind(("127.0.0.1", 0)).context("there is no free port")?.local_addr()?.port();
    let mut command = Command::new(binary);
    command.args(["serve", "--port", &port.to_string(), "--base-directory"]).arg(base);
    // What is measured is what a user gets, whatever this shell was set up for.
    command.env_remove("VIVARIUM_BASE").env_remove("RUST_LOG");
    Ok((command, format!("http://127.0.0.1:{port}")))
}

/// A command as a person would type it.
pub(crate) fn shell(command_line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", command_line]);
    command
}

/// A log beside others in a folder.
pub(crate) fn log_in(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parent_and_processor_time_are_found_behind_any_name() {
        let stat = "12 (a) b) S 7 12 12 0 -1 4194560 1 0 0 0 250 50 0 0 20";
        assert_eq!(parent(stat), Some(7));
        assert_eq!(processor_ticks(stat), Some(300));
        assert_eq!(parent(""), None);
        assert_eq!(processor_ticks("12 (a) S 7"), None);
    }

    #[test]
    fn a_server_that_runs_there_already_is_not_taken_for_the_started_one() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stranger = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").unwrap();
        });
        let folder = tempfile::tempdir().unwrap();
        let error = Server::start(shell("sleep 60"), &url, &log_in(folder.path(), "log")).err().unwrap();
        assert!(error.to_string().contains("already"), "{error}");
        stranger.join().unwrap();
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let log = log_in(folder.path(), "log");
        let error = Server::start(shell("echo no luck; exit 3"), "http://127.0.0.1:1", &log).err().unwrap();
        assert!(error.to_string().contains("no luck"), "{error}");
    }
}
