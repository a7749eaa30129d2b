//! The same node in Rust, Python and JavaScript: what the language costs. The packs are those of `vivarium pack new`.

use std::{path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};
use vivarium_sandbox::{EngineConfig, Limits, NodeValue, SandboxEngine};

use super::{calls, calls::Caller, repeat};
use crate::{
    figure::{Better, Figure, Samples},
    options::Options,
};

const GROUP: &str = "Languages of packs";

/// Measures every language whose tools are here.
///
/// # Errors
/// When a pack is made and doesn't run.
pub(crate) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let place = tempfile::tempdir()?;
    let mut figures = Vec::new();
    for language in ["rust", "javascript", "python"] {
        eprintln!("  measuring: a pack in {language}");
        match build(&options.vivarium()?, place.path(), language) {
            Ok(component) => figures.extend(language_figures(options, language, &component)?),
            Err(error) => eprintln!("  left out: {error:#}"),
        }
    }
    Ok(figures)
}

/// Makes the pack of the template and builds it.
///
/// # Errors
/// When a tool is missing.
pub(crate) fn build(vivarium: &Path, place: &Path, language: &str) -> Result<Vec<u8>> {
    let (folder, file) = (place.join(language), place.join(format!("{language}.wasm")));
    let run = |command: &mut Command| -> Result<()> {
        let output = command.output().context("could not start vivarium")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    };
    run(Command::new(vivarium)
        .args(["pack", "new", "bench-pack-0000", "--language", language, "--folder"])
        .arg(&folder))?;
    run(Command::new(vivarium).args(["pack", "build"]).arg(&folder).arg("-o").arg(&file))?;
    Ok(std::fs::read(file)?)
}

fn language_figures(options: &Options, language: &str, component: &[u8]) -> Result<Vec<Figure>> {
    let figure = |name: &str, unit, samples: Samples| {
        Figure::new(GROUP, format!("{language}: {name}"), unit, Better::Lower).ours(samples)
    };
    let once = |value: f64| [value].into_iter().collect::<Samples>();
    let folder = tempfile::tempdir()?;
    let config = || EngineConfig { aot_folder: Some(folder.path().join("aot")), ..EngineConfig::default() };
    let begin = Instant::now();
    SandboxEngine::new(config())?.load(component)?;
    let compile = begin.elapsed().as_secs_f64() * 1e3;
    let mut code = 0;
    for entry in std::fs::read_dir(folder.path().join("aot"))? {
        code += entry?.metadata()?.len();
    }
    let engine = SandboxEngine::new(config())?;
    let load = repeat(options.times(15, 2), 1, || Ok(engine.load(component)?))?;
    let pack = engine.load(component)?;
    let caller = Caller::new();
    let image = NodeValue::Tensor(caller.zeros(&[1, 8, 8, 3])?);
    let stops = NodeValue::Number(serde_json::Number::from_f64(1.0).context("a number")?);
    let inputs = calls::inputs([("image", image), ("stops", stops)]);
    let class = "BenchPack0000Brighten";
    let called = repeat(options.times(15, 2), 50, || Ok(pack.execute(caller.context(), class, &inputs)?))?;
    let described = repeat(options.times(15, 2), 50, || Ok(pack.needed_inputs(caller.context(), class, &inputs)?))?;
    Ok(vec![
        figure("component", "MB", once(component.len() as f64 / 1e6)),
        figure("compiled", "MB", once(code as f64 / 1e6)),
        figure("compile, once per machine", "ms", once(compile)),
        figure("load it compiled", "ms", load.map(|seconds| seconds * 1e3)),
        figure("new instance, a call that does nothing", "µs", described.map(|seconds| seconds * 1e6)),
        figure("new instance, Brighten 8×8", "µs", called.map(|seconds| seconds * 1e6)),
        figure("guest memory of Brighten", "MB", least_memory(&caller, &pack, class, &inputs)?),
    ])
}

/// The least limit on guest memory under which the node runs, to the MB.
fn least_memory(
    caller: &Caller,
    pack: &std::sync::Arc<vivarium_sandbox::PackComponent>,
    class: &str,
    inputs: &NodeValue,
) -> Result<Samples> {
    let (mut too_little, mut enough) = (0u64, Limits::default().guest_memory >> 20);
    while enough - too_little > 1 {
        let middle = u64::midpoint(too_little, enough);
        let limits = Limits { guest_memory: middle << 20, ..Limits::default() };
        match pack.execute(caller.within(limits), class, inputs) {
            Ok(_) => enough = middle,
            Err(_) => too_little = middle,
        }
    }
    Ok([(enough << 20) as f64 / 1e6].into_iter().collect())
}
