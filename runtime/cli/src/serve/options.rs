//! The flags of `vivarium serve`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vivarium_worker::{CacheMode, Devices, PreviewSettings, WorkerConfig};

use super::processes::ProcessOptions;
use crate::{
    failure::{Exit, Outcome, fail},
    logging::Verbosity,
    options::{DevicesOptions, FolderOptions, GrantOptions, LimitOptions, OutsideOptions},
};

/// Serve workflows to user interfaces and programs.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium serve
  vivarium serve --port 8288 --base-directory ~/art
  vivarium serve --front-end-root ./comfyui_frontend_package/static
  vivarium tenant add alice && vivarium serve --listen       # other machines need a token
  vivarium serve --listen --allow-unauthenticated-remote     # every machine of your network can use it
  vivarium serve --cache-lru 100 --tensor-memory 16G
  vivarium serve --listen --worker-processes per-tenant      # a second wall around nodes

Flags that ComfyUI has too have its names and meanings. Without --front-end-root the built-in page is served.
Ctrl-C or SIGTERM stops it: a running prompt gets 5 seconds to end, then it goes back into the queue, which the next start
takes up. A second signal stops at once.")]
pub(crate) struct Serve {
    /// Addresses to listen on; the bare flag means every address of this machine
    #[arg(
        long,
        value_name = "ADDRESS,…",
        value_delimiter = ',',
        num_args = 0..=1,
        default_value = "127.0.0.1",
        default_missing_value = "0.0.0.0,::"
    )]
    pub(super) listen: Vec<String>,

    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8188)]
    pub(super) port: u16,

    /// Listen beyond this machine although nobody has to log in: whoever can reach the port can use the server
    #[arg(long)]
    pub(super) allow_unauthenticated_remote: bool,

    /// Another host name by which browsers may know the server, for example that of a reverse proxy; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) allowed_host: Vec<String>,

    /// Keep workflows and settings of several people apart, inside each tenant; the front end asks who it is. Nobody has to
    /// log in for that: where people must not see each other's work, make tenants
    #[arg(long)]
    pub(super) multi_user: bool,

    /// Let web pages of this origin use the server; the bare flag means every page
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, default_missing_value = "*")]
    pub(super) enable_cors_header: Option<String>,

    /// Largest request, in MB [default: 100]
    #[arg(long, value_name = "MB", allow_negative_numbers = true)]
    pub(super) max_upload_size: Option<f64>,

    /// Open connections, WebSockets among them; more wait until others end
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub(super) max_connections: usize,

    /// Open connections from one address but this machine's own; more are turned away
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(super) max_connections_per_address: usize,

    /// Compress JSON and text answers
    #[arg(long)]
    pub(super) enable_compress_response_body: bool,

    /// Serve this folder as the user interface, for example the official ComfyUI front end
    #[arg(long, value_name = "DIR")]
    pub(super) front_end_root: Option<PathBuf>,

    /// The workflow that the built-in page offers as an example
    #[arg(long, value_name = "FILE")]
    pub(super) example_workflow: Option<PathBuf>,

    /// Whether nodes may send previews while they run; every method but `none` sends what nodes offer
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = PreviewMethod::Auto)]
    pub(super) preview_method: PreviewMethod,

    /// Longest side of a preview, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 512)]
    pub(super) preview_size: u32,

    /// Don't put the workflow into saved images
    #[arg(long)]
    pub(super) disable_metadata: bool,

    /// Keep the results of the last prompt (the default)
    #[arg(long, group = "cache")]
    pub(super) cache_classic: bool,

    /// Keep up to N results, dropping those that were not used for longest
    #[arg(long, value_name = "N", group = "cache")]
    pub(super) cache_lru: Option<usize>,

    /// Keep all results until less than so many GB of the machine's memory are left; the bare flag means a tenth of it
    #[arg(long, value_name = "GB", group = "cache", num_args = 0..=1, allow_negative_numbers = true)]
    pub(super) cache_ram: Option<Option<f64>>,

    /// Keep no results: every node runs every time
    #[arg(long, group = "cache")]
    pub(super) cache_none: bool,

    /// Prompts that run at the same time, on each GPU if there are several; with more than one in all they may end in another
    /// order
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) workers: u16,

    /// Nodes of one prompt that may compute side by side; 1 runs one after another [default: cores / prompts, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) parallel_nodes: Option<u16>,

    /// Watch the folders of packs too, and exchange a pack when its file changes: for whoever writes one. Installed packs
    /// are always exchanged when `vivarium pack` changes them
    #[arg(long)]
    pub(super) watch: bool,

    /// How much to log; the bare flag means DEBUG
    #[arg(long, value_name = "LEVEL", value_enum, ignore_case = true, num_args = 0..=1, default_value = "INFO", default_missing_value = "DEBUG")]
    pub(super) verbose: Verbosity,

    #[command(flatten)]
    pub(super) folders: FolderOptions,

    #[command(flatten)]
    pub(super) devices: DevicesOptions,

    #[command(flatten)]
    pub(super) limits: LimitOptions,

    #[command(flatten)]
    pub(super) grants: GrantOptions,

    #[command(flatten)]
    pub(super) outside: OutsideOptions,

    #[command(flatten)]
    pub(super) processes: ProcessOptions,
}

/// ComfyUI's names. Its methods say how a latent becomes an image; here the node decides that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PreviewMethod {
    None,
    Auto,
    Latent2rgb,
    Taesd,
}

impl Serve {
    /// `--max-upload-size` in bytes.
    pub(super) fn max_upload_bytes(&self) -> Outcome<Option<u64>> {
        let Some(megabytes) = self.max_upload_size else { return Ok(None) };
        let bytes = megabytes * 1024.0 * 1024.0;
        if !(bytes >= 1.0 && bytes <= f64::from(u32::MAX) * 1024.0) {
            fail!(Exit::Usage, "--max-upload-size {megabytes} is not a size in MB");
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        Ok(Some(bytes as u64))
    }

    fn cache(&self) -> Outcome<CacheMode> {
        Ok(match (self.cache_lru, self.cache_ram) {
            (Some(results), _) => CacheMode::Lru(results),
            (None, Some(None)) => CacheMode::ram_of_this_machine(),
            (None, Some(Some(gigabytes))) => CacheMode::Ram { headroom: headroom(gigabytes)? },
            (None, None) if self.cache_none => CacheMode::None,
            (None, None) => CacheMode::Classic,
        })
    }

    pub(super) fn worker_config(&self, devices: Devices) -> Outcome<WorkerConfig> {
        let workers = usize::from(self.workers);
        let prompts = workers * devices.gpus().max(1);
        Ok(WorkerConfig {
            workers,
            devices,
            cache: self.cache()?,
            graph_limits: self.limits.graph(),
            parallel_nodes: self
                .parallel_nodes
                .map_or_else(|| WorkerConfig::parallel_nodes_of_this_machine(prompts), usize::from),
            preview: PreviewSettings {
                enabled: self.preview_method != PreviewMethod::None,
                max_size: self.preview_size,
            },
            save_metadata: !self.disable_metadata,
            ..WorkerConfig::default()
        })
    }
}

/// `--cache-ram` in bytes.
fn headroom(gigabytes: f64) -> Outcome<u64> {
    const GIB: f64 = (1_u64 << 30) as f64;
    if !(0.0..=1e6).contains(&gigabytes) {
        fail!(Exit::Usage, "--cache-ram {gigabytes} is not a size in GB");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok((gigabytes * GIB) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Command {
        #[command(flatten)]
        serve: Serve,
    }

    fn parse(flags: &str) -> Serve {
        let arguments = std::iter::once("vivarium").chain(flags.split_whitespace());
        Command::try_parse_from(arguments).unwrap().serve
    }

    #[test]
    fn bare_flags_mean_what_they_mean_in_comfyui() {
        assert_eq!(parse("").listen, ["127.0.0.1"]);
        assert_eq!(parse("--listen").listen, ["0.0.0.0", "::"]);
        assert_eq!(parse("--listen 127.0.0.1,::1 --port 1").listen, ["127.0.0.1", "::1"]);
        assert_eq!(parse("").enable_cors_header, None);
        assert_eq!(parse("--enable-cors-header").enable_cors_header.as_deref(), Some("*"));
        assert_eq!(parse("--verbose").verbose, Verbosity::Debug);
        assert_eq!(parse("--verbose warning").verbose, Verbosity::Warning);
    }

    #[test]
    fn cache_flags_choose_one_mode() {
        let cache = |flags: &str| parse(flags).worker_config(Devices::default()).unwrap().cache;
        assert_eq!(cache(""), CacheMode::Classic);
        assert_eq!(cache("--cache-lru 3"), CacheMode::Lru(3));
        assert_eq!(cache("--cache-none"), CacheMode::None);
        assert_eq!(cache("--cache-ram 1.5"), CacheMode::Ram { headroom: 3 << 29 });
        assert!(matches!(cache("--cache-ram"), CacheMode::Ram { headroom } if headroom >= 1 << 30));
        assert!(parse("--cache-ram -1").worker_config(Devices::default()).is_err());
        assert!(Command::try_parse_from(["vivarium", "--cache-none", "--cache-ram"]).is_err());
        assert!(Command::try_parse_from(["vivarium", "--cache-none", "--cache-lru", "3"]).is_err());
    }

    #[test]
    fn upload_sizes_are_in_megabytes() {
        assert_eq!(parse("--max-upload-size 0.5").max_upload_bytes().unwrap(), Some(512 << 10));
        assert!(parse("--max-upload-size 0").max_upload_bytes().is_err());
        assert_eq!(parse("").max_upload_bytes().unwrap(), None);
    }

    #[test]
    fn previews_can_be_switched_off() {
        assert!(!parse("--preview-method none").worker_config(Devices::default()).unwrap().preview.enabled);
        assert_eq!(parse("--preview-size 256").worker_config(Devices::default()).unwrap().preview.max_size, 256);
    }

    #[test]
    fn limits_on_prompts_reach_the_worker() {
        let config = parse("--prompt-nodes 7 --expansion-depth 8 --expanded-nodes 9 --parallel-nodes 3")
            .worker_config(Devices::default())
            .unwrap();
        let limits = config.graph_limits;
        assert_eq!((limits.max_nodes, limits.max_expansion_depth, limits.max_ephemeral_nodes), (7, 8, 9));
        assert_eq!(config.parallel_nodes, 3);
        assert!(parse("").worker_config(Devices::default()).unwrap().parallel_nodes >= 1);
        assert!(Command::try_parse_from(["vivarium", "--prompt-nodes", "0"]).is_err());
    }
}
