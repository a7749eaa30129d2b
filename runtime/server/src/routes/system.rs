//! `/system_stats` and `/features`: what this server is and can.

use axum::{extract::State, response::Response};
use serde_json::{Map, Value, json};

use vivarium_protocol::tenant::TenantId;
use vivarium_worker::{DeviceReport, DeviceState};

use crate::{config::ServerConfig, json, state::AppState, tenant::Tenant};

/// The ComfyUI whose protocol this server speaks; front ends compare it with what they need.
const COMFYUI_VERSION: &str = "0.3.64";
/// The front end that this ComfyUI came with, and its templates.
const FRONT_END_VERSION: &str = "1.27.10";
const TEMPLATES_VERSION: &str = "0.1.95";

/// `GET /features`
pub(crate) async fn show_features(State(state): State<AppState>, Tenant(tenant): Tenant) -> Response {
    json::ok(&features_for(&state, &tenant))
}

/// What this tenant is told. Front ends ask for replacements of classes only when there are said to be some.
pub(crate) fn features_for(state: &AppState, tenant: &TenantId) -> Map<String, Value> {
    let mut features = features(state.config());
    if !state.engine().offers(tenant).replacements.is_empty() {
        features.insert("node_replacements".to_owned(), json!(true));
    }
    features
}

fn features(config: &ServerConfig) -> Map<String, Value> {
    #[expect(clippy::cast_precision_loss, reason = "ComfyUI computes it as a float; no real limit reaches 2^53 bytes")]
    let size =
        if config.max_upload_size_given { json!(config.max_upload_size as f64) } else { json!(config.max_upload_size) };
    Map::from_iter([("supports_preview_metadata".to_owned(), json!(true)), ("max_upload_size".to_owned(), size)])
}

/// `GET /system_stats`. What computes now comes first: every GPU that works, or else the CPU, which stands for tensor memory.
/// There is neither Python nor PyTorch.
pub(crate) async fn stats(State(state): State<AppState>) -> Response {
    let (ram_total, ram_free) = ram();
    let memory = state.engine().memory();
    let tensors_free = memory.tensor_bytes_limit.saturating_sub(memory.tensor_bytes_used);
    let version = env!("CARGO_PKG_VERSION");
    let (ram, tensors) = ((ram_total, ram_free), (memory.tensor_bytes_limit, tensors_free));
    let devices: Vec<Value> = state.engine().devices().iter().map(|each| device(each, ram, tensors)).collect();
    json::ok(&json!({
        "system": {
            "os": if cfg!(windows) { "nt" } else { "posix" },
            "ram_total": ram_total,
            "ram_free": ram_free,
            "comfyui_version": COMFYUI_VERSION,
            "required_frontend_version": FRONT_END_VERSION,
            "installed_templates_version": TEMPLATES_VERSION,
            "required_templates_version": TEMPLATES_VERSION,
            "python_version": format!("none (Vivarium {version})"),
            "pytorch_version": format!("none (Vivarium {version})"),
            "embedded_python": false,
            "argv": shown_arguments(&state.config().argv),
            "vivarium_version": version,
        },
        "devices": devices,
    }))
}

/// What computes tensors, as ComfyUI shows it. `vivarium` has what ComfyUI has no place for: what a GPU did, whether it works,
/// and why it does not, or why there is none. A GPU that does not work has no memory to give.
fn device(device: &DeviceReport, ram: (u64, u64), tensors: (u64, u64)) -> Value {
    let gpu = device.kind != "cpu";
    let free = |bytes: u64| match device.state {
        DeviceState::Working => bytes.saturating_sub(device.memory_used),
        DeviceState::Failed | DeviceState::GivenUp => 0,
    };
    let (memory, tensors) = match gpu {
        true => ((device.memory_bytes, free(device.memory_bytes)), (device.memory_limit, free(device.memory_limit))),
        false => (ram, tensors),
    };
    let mut shown = json!({
        "name": if gpu { format!("{}:{} {}", device.kind, device.index.unwrap_or_default(), device.name) } else { device.name.clone() },
        "type": device.kind,
        "index": device.index,
        "vram_total": memory.0,
        "vram_free": memory.1,
        "torch_vram_total": tensors.0,
        "torch_vram_free": tensors.1,
    });
    if gpu || device.note.is_some() {
        shown["vivarium"] = json!({ "state": device.state, "work": device.work, "note": device.note });
    }
    shown
}

/// The command line as every tenant may see it: the program's name without its folder, and the names of options. Values are
/// paths, addresses and names of hosts, which are the operator's business.
fn shown_arguments(argv: &[String]) -> Vec<&str> {
    let program = argv.first().map(|program| program.rsplit(['/', '\\']).next().unwrap_or_default());
    let options = argv.iter().skip(1).filter(|word| word.starts_with("--"));
    program.into_iter().chain(options.map(|option| option.split('=').next().unwrap_or_default())).collect()
}

/// Total and available memory of the machine in bytes; zeros where the system does not say.
fn ram() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (meminfo(&text, "MemTotal:"), meminfo(&text, "MemAvailable:"))
}

fn meminfo(text: &str, key: &str) -> u64 {
    let kibibytes = |line: &str| line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    text.lines().find(|line| line.starts_with(key)).and_then(kibibytes).map_or(0, |number| number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       2048 kB\nMemFree:         512 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(meminfo(text, "MemTotal:"), 2048 * 1024);
        assert_eq!(meminfo(text, "MemAvailable:"), 1024 * 1024);
        assert_eq!(meminfo("", "MemTotal:"), 0);
    }

    #[test]
    fn a_gpu_is_shown_as_comfyui_shows_it_and_a_missing_one_with_the_reason() {
        let gpu = DeviceReport {
            kind: "cuda".to_owned(),
            index: Some(1),
            name: "H200".to_owned(),
            memory_bytes: 1000,
            memory_limit: 900,
            memory_used: 100,
            ..DeviceReport::default()
        };
        let shown = device(&gpu, (7, 5), (3, 2));
        assert_eq!(shown["name"], "cuda:1 H200");
        assert_eq!((&shown["vram_total"], &shown["vram_free"]), (&json!(1000), &json!(900)));
        assert_eq!((&shown["torch_vram_total"], &shown["torch_vram_free"]), (&json!(900), &json!(800)));
        assert_eq!(shown["vivarium"]["state"], "working");
        let failed = DeviceReport { state: DeviceState::GivenUp, note: Some("it failed".to_owned()), ..gpu };
        let shown = device(&failed, (7, 5), (3, 2));
        assert_eq!((&shown["vram_total"], &shown["vram_free"]), (&json!(1000), &json!(0)));
        let said = (&shown["vivarium"]["state"], &shown["vivarium"]["note"]);
        assert_eq!(said, (&json!("given_up"), &json!("it failed")));
        let none =
            DeviceReport { kind: "cpu".to_owned(), note: Some("no driver".to_owned()), ..DeviceReport::default() };
        let shown = device(&none, (7, 5), (3, 2));
        assert_eq!((&shown["vram_total"], &shown["torch_vram_free"]), (&json!(7), &json!(2)));
        assert_eq!(shown["vivarium"]["note"], "no driver");
    }

    #[test]
    fn the_command_line_is_shown_without_values() {
        let argv = ["/home/me/bin/vivarium", "serve", "--base-directory", "/home/me/x", "--listen=10.0.0.4", "--json"];
        let shown = argv.map(str::to_owned);
        assert_eq!(shown_arguments(&shown), ["vivarium", "--base-directory", "--listen", "--json"]);
        assert!(shown_arguments(&[]).is_empty());
    }

    #[test]
    fn the_upload_limit_is_a_float_only_when_it_was_given() {
        let text = |given| {
            let config =
                ServerConfig { max_upload_size: 1_048_576, max_upload_size_given: given, ..ServerConfig::default() };
            Value::from(features(&config)).to_string()
        };
        assert_eq!(text(false), r#"{"supports_preview_metadata":true,"max_upload_size":1048576}"#);
        assert_eq!(text(true), r#"{"supports_preview_metadata":true,"max_upload_size":1048576.0}"#);
    }
}
