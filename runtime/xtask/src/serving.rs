//! A `vivarium serve` beside this process, for the demo and the browser tests.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{Profile, run, target_dir};

/// The first start compiles the packs to native code.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The binary that cargo built.
pub(crate) fn vivarium(profile: Profile) -> PathBuf {
    target_dir().join(profile.folder()).join("vivarium")
}

/// A port that nobody uses now.
///
/// # Errors
/// When the system has none.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("there is no free port")?;
    Ok(listener.local_addr().context("there is no free port")?.port())
}

/// A `vivarium serve` on 127.0.0.1. Dropping it kills it.
pub(crate) struct Server {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Server {
    /// Starts it over a base folder and waits until it answers. Its log is `server.log` in that folder.
    ///
    /// # Errors
    /// When it does not come up; the end of its log is printed.
    pub(crate) fn start(profile: Profile, base: &Path, port: u16, flags: &[&str]) -> Result<Self> {
        fs::create_dir_all(base).with_context(|| format!("could not create {}", base.display()))?;
        let log = base.join("server.log");
        let log_file = fs::File::create(&log).with_context(|| format!("could not write {}", log.display()))?;
        let process = Command::new(vivarium(profile))
            .args(["serve", "--listen", "127.0.0.1", "--port", &port.to_string(), "--base-directory"])
            .arg(base)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().context("could not share the log file")?)
            .stderr(log_file)
            .spawn()
            .context("could not start `vivarium serve`")?;
        let mut server = Self { process, port, log };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    /// Where it serves.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its log file.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let started = Instant::now();
        while !self.answers() {
            if let Some(status) = self.process.try_wait().context("could not look after `vivarium serve`")? {
                self.show_log();
                bail!("`vivarium serve` ended before it answered ({status})");
            }
            if started.elapsed() > START_LIMIT {
                self.show_log();
                bail!("`vivarium serve` did not answer within {} s", START_LIMIT.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
        println!("  {} answers after {:.1} s", self.url(), started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Whether `GET /system_stats` is answered with 200.
    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET /system_stats HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n", self.port)?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)?;
            Ok(head.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }

    /// Prints the end of its log.
    pub(crate) fn show_log(&self) {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("  the end of {}:", self.log.display());
        for line in &lines[lines.len().saturating_sub(20)..] {
            eprintln!("  | {line}");
        }
    }

    /// Serves until somebody stops it.
    ///
    /// # Errors
    /// When it ends badly.
    pub(crate) fn wait(mut self) -> Result<()> {
        let status = self.process.wait().context("could not wait for `vivarium serve`")?;
        ensure!(status.success(), "`vivarium serve` ended ({status}); see {}", self.log.display());
        Ok(())
    }

    /// Asks it to stop, as an operator would, and expects a clean end.
    ///
    /// # Errors
    /// When it does not end, or not cleanly.
    pub(crate) fn stop(mut self) -> Result<()> {
        // The standard library can only kill; a shell is on every system that this runs on.
        let kill = format!("kill -TERM {}", self.process.id());
        run(Command::new("sh").args(["-c", &kill]))?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if let Some(status) = self.process.try_wait().context("could not look after `vivarium serve`")? {
                ensure!(
                    status.success(),
                    "`vivarium serve` did not stop cleanly ({status}); see {}",
                    self.log.display()
                );
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("`vivarium serve` did not stop within {} s; see {}", STOP_LIMIT.as_secs(), self.log.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended in the good case, where killing does nothing.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
