//! The main job, end to end, as a user meets it: a server, a photograph, a workflow, an image.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    nodes, setup,
    shell::{Profile, cargo, root, run, target_dir},
    stages::Stages,
};

const DEFAULT_PORT: u16 = 8188;
const WORKFLOW: &str = "tests/workflows/photo-postcard/workflow.json";
const PHOTO: &str = "tests/workflows/photo-postcard/photo.jpg";
/// The first start compiles the stock packs to native code.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

struct Options {
    once: bool,
    port: u16,
}

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let options = parse(arguments)?;
    let mut stages = Stages::new();
    port_is_free(options.port)?;
    stages.run("setup", "what the build needs", setup::for_build)?;
    stages.run("host", "the vivarium binary, in release", || {
        run(&mut cargo(&[
            "build",
            "--release",
            "--package",
            "vivarium-cli",
            "--bin",
            "vivarium",
        ]))
    })?;
    stages.run("nodes", "the stock packs, in release", || {
        nodes::build(Profile::Release)
    })?;

    let mut server = stages.run("serve", "start the server", || Server::start(options.port))?;
    let images = stages.run("submit", "upload the photograph, run the workflow", || {
        submit(&mut server)
    })?;
    stages.summary();
    println!();
    for image in &images {
        println!("The image: {}", image.display());
    }
    if options.once {
        return server.stop();
    }
    println!(
        "Still serving {} until Ctrl-C. Its log: {}",
        server.url(),
        server.log.display()
    );
    server.wait()
}

fn parse(arguments: &[String]) -> Result<Options> {
    let mut options = Options {
        once: false,
        port: DEFAULT_PORT,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--once" => options.once = true,
            "--port" => {
                let port = arguments
                    .next()
                    .context("--port needs a number, for example --port 8288")?;
                options.port = port
                    .parse()
                    .with_context(|| format!("--port {port} is not a port number"))?;
            }
            other => bail!("`demo` takes --once and --port N, but got `{other}`"),
        }
    }
    Ok(options)
}

/// Asked before the long build, so that nobody waits ten minutes to hear it.
fn port_is_free(port: u16) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    TcpListener::bind(address).map(drop).with_context(|| {
        format!(
            "port {port} of 127.0.0.1 can't be used; choose another: cargo xtask demo --port {}",
            port.saturating_add(100)
        )
    })
}

/// The image files that `vivarium submit` saved.
fn submit(server: &mut Server) -> Result<Vec<PathBuf>> {
    let results = target_dir().join("demo/results");
    let mut command = Command::new(vivarium());
    command
        .args([
            "submit",
            WORKFLOW,
            "--upload",
            PHOTO,
            "--server",
            &server.url(),
            "--output-directory",
        ])
        .arg(&results)
        .current_dir(root())
        .stderr(Stdio::inherit());
    println!(
        "  $ vivarium submit {WORKFLOW} --upload {PHOTO} --server {} -o {}",
        server.url(),
        results.display()
    );
    let output = command
        .output()
        .context("could not start `vivarium submit`")?;
    if !output.status.success() {
        server.show_log();
        bail!("`vivarium submit` failed ({})", output.status);
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let images: Vec<PathBuf> = stdout.lines().map(PathBuf::from).collect();
    ensure!(
        !images.is_empty(),
        "`vivarium submit` succeeded, but saved no image"
    );
    images.iter().try_for_each(|image| is_a_png(image))?;
    Ok(images)
}

fn is_a_png(image: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| format!("could not read {}", image.display()))?;
    ensure!(
        bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        "{} is not a PNG image",
        image.display()
    );
    Ok(())
}

fn vivarium() -> PathBuf {
    target_dir()
        .join(Profile::Release.folder())
        .join("vivarium")
}

/// The demo's `vivarium serve`. Dropping it stops it.
struct Server {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until it answers.
    fn start(port: u16) -> Result<Self> {
        let base = target_dir().join("demo");
        fs::create_dir_all(&base)
            .with_context(|| format!("could not create {}", base.display()))?;
        let log = base.join("server.log");
        let log_file =
            fs::File::create(&log).with_context(|| format!("could not write {}", log.display()))?;
        let process = Command::new(vivarium())
            .args([
                "serve",
                "--listen",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--base-directory",
            ])
            .arg(&base)
            .stdin(Stdio::null())
            .stdout(
                log_file
                    .try_clone()
                    .context("could not share the log file")?,
            )
            .stderr(log_file)
            .spawn()
            .context("could not start `vivarium serve`")?;
        let mut server = Self { process, port, log };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let started = Instant::now();
        while !self.answers() {
            if let Some(status) = self
                .process
                .try_wait()
                .context("could not look after `vivarium serve`")?
            {
                self.show_log();
                bail!("`vivarium serve` ended before it answered ({status})");
            }
            if started.elapsed() > START_LIMIT {
                self.show_log();
                bail!(
                    "`vivarium serve` did not answer within {} s",
                    START_LIMIT.as_secs()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        println!(
            "  {} answers after {:.1} s",
            self.url(),
            started.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// Whether `GET /system_stats` is answered with 200.
    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(
                stream,
                "GET /system_stats HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n",
                self.port
            )?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)?;
            Ok(head.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }

    fn show_log(&self) {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("  the end of {}:", self.log.display());
        for line in &lines[lines.len().saturating_sub(20)..] {
            eprintln!("  | {line}");
        }
    }

    /// Serves until somebody stops it.
    fn wait(mut self) -> Result<()> {
        let status = self
            .process
            .wait()
            .context("could not wait for `vivarium serve`")?;
        ensure!(
            status.success(),
            "`vivarium serve` ended ({status}); see {}",
            self.log.display()
        );
        Ok(())
    }

    /// Asks it to stop, as an operator would, and expects a clean end.
    fn stop(mut self) -> Result<()> {
        // The standard library can only kill; a shell is on every system that this runs on.
        let kill = format!("kill -TERM {}", self.process.id());
        run(Command::new("sh").args(["-c", &kill]))?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if let Some(status) = self
                .process
                .try_wait()
                .context("could not look after `vivarium serve`")?
            {
                ensure!(
                    status.success(),
                    "`vivarium serve` did not stop cleanly ({status}); see {}",
                    self.log.display()
                );
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "`vivarium serve` did not stop within {} s; see {}",
            STOP_LIMIT.as_secs(),
            self.log.display()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended in the good case, where killing does nothing.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
