//! The main job, end to end, as a user meets it: a server, a photograph, a workflow, an image.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    nodes,
    serving::{self, Server},
    setup,
    shell::{Profile, cargo, root, run, target_dir},
    stages::Stages,
};

const DEFAULT_PORT: u16 = 8188;
const WORKFLOW: &str = "tests/workflows/photo-postcard/workflow.json";
const PHOTO: &str = "tests/workflows/photo-postcard/photo.jpg";

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
        run(&mut cargo(&["build", "--release", "--package", "vivarium-cli", "--bin", "vivarium"]))
    })?;
    stages.run("nodes", "the stock packs, in release", nodes::build)?;

    let mut server = stages.run("serve", "start the server", || start(options.port))?;
    let images = stages.run("submit", "upload the photograph, run the workflow", || submit(&mut server))?;
    stages.summary();
    println!();
    for image in &images {
        println!("The image: {}", image.display());
    }
    if options.once {
        return server.stop();
    }
    println!("Still serving {} until Ctrl-C. Its log: {}", server.url(), server.log().display());
    server.wait()
}

fn parse(arguments: &[String]) -> Result<Options> {
    let mut options = Options { once: false, port: DEFAULT_PORT };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--once" => options.once = true,
            "--port" => {
                let port = arguments.next().context("--port needs a number, for example --port 8288")?;
                options.port = port.parse().with_context(|| format!("--port {port} is not a port number"))?;
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
    let mut command = Command::new(serving::vivarium(Profile::Release));
    command
        .args(["submit", WORKFLOW, "--upload", PHOTO, "--server", &server.url(), "--output-directory"])
        .arg(&results)
        .current_dir(root())
        .stderr(Stdio::inherit());
    println!("  $ vivarium submit {WORKFLOW} --upload {PHOTO} --server {} -o {}", server.url(), results.display());
    let output = command.output().context("could not start `vivarium submit`")?;
    if !output.status.success() {
        server.show_log();
        bail!("`vivarium submit` failed ({})", output.status);
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let images: Vec<PathBuf> = stdout.lines().map(PathBuf::from).collect();
    ensure!(!images.is_empty(), "`vivarium submit` succeeded, but saved no image");
    images.iter().try_for_each(|image| is_a_png(image))?;
    Ok(images)
}

fn is_a_png(image: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| format!("could not read {}", image.display()))?;
    ensure!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{} is not a PNG image", image.display());
    Ok(())
}

fn start(port: u16) -> Result<Server> {
    Server::start(Profile::Release, &target_dir().join("demo"), port, &[])
}
