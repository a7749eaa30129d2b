//! Hostile packs on their way in, as data: `tests/attacks/packs/*.json`.
//!
//! A case has `files`, which are made, and `steps`, which are `vivarium pack …` commands over one base folder with what must
//! come of each: `exit`, and `says` (parts of what it prints). `{name}` in a command is the path of a file. A file is made
//! from a `component` (a stock or test pack; `replace` changes bytes in it), from `raw` bytes, or from a `bomb`; then gets a
//! manifest (`version`, `name`, `more` lines) unless `bare`; then `append` adds sections, `sign` signs with a named key, and
//! `flip` changes a bit (counted from the end), `trailing` adds bytes.
//!
//! With `VIVARIUM_ATTACKS=lines` in the environment (`cargo xtask attacks`) a server runs prompts of somebody else meanwhile, and
//! there is a line on standard output for each case, as from `tests/attacks/main.rs`.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use support::{Place, Server, ended};
use vivarium_packs::{file::PackFile, signature::SigningKey};
use wasm_encoder::{
    CodeSection, Component, ComponentImportSection, ComponentSection, ComponentTypeRef, ComponentTypeSection,
    ComponentValType, CustomSection, Function, FunctionSection, InstanceSection, InstanceType, Instruction,
    MemorySection, MemoryType, Module, ModuleArg, ModuleSection, NestedComponentSection, RefType, TableSection,
    TableType, TypeSection, ValType,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What is attacked, for readers.
    about: String,
    files: BTreeMap<String, FileRecipe>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    run: Vec<String>,
    exit: i32,
    #[serde(default)]
    says: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FileRecipe {
    component: Option<String>,
    replace: Vec<(String, String)>,
    raw: Option<String>,
    bomb: Option<String>,
    /// How much of it.
    size: u32,
    bare: bool,
    name: Option<String>,
    version: Option<String>,
    more: String,
    assets: BTreeMap<String, String>,
    append: Vec<(String, usize)>,
    sign: Option<String>,
    flip: Option<usize>,
    trailing: String,
    /// Beside the packs that are installed, as a stock pack would be.
    loose: bool,
}

const LIMIT: u64 = u64::MAX;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn component(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_BIN_EXE_vivarium")).parent().unwrap();
    let target = folder.parent().unwrap();
    let places = [folder.join("packs"), target.join("test-packs"), target.join("hostile-packs")];
    let file = places.iter().map(|place| place.join(format!("{name}.wasm"))).find(|file| file.is_file());
    fs::read(file.unwrap_or_else(|| panic!("no pack {name}: run `cargo xtask nodes` first"))).unwrap()
}

fn replaced(mut bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths stand in the file too");
    let mut found = false;
    for start in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[start..].starts_with(from.as_bytes()) {
            bytes[start..start + to.len()].copy_from_slice(to.as_bytes());
            found = true;
        }
    }
    assert!(found, "{from} is not in the component");
    bytes
}

fn core_module(functions: u32, body: &[Instruction<'_>], locals: u32) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let (mut declared, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..functions {
        declared.function(0);
        let mut function = Function::new([(locals, ValType::I64)]);
        body.iter().for_each(|instruction| {
            function.instruction(instruction);
        });
        function.instruction(&Instruction::End);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    module
}

fn instantiate(component: &mut Component, module: &Module, times: u32) {
    let mut instances = InstanceSection::new();
    for _ in 0..times {
        instances.instantiate::<[(&str, ModuleArg); 0], &str>(0, []);
    }
    component.section(&ModuleSection(module)).section(&instances);
}

fn bomb(kind: &str, size: u32) -> Vec<u8> {
    let mut component = Component::new();
    match kind {
        // Many small functions.
        "functions" => {
            let body = [Instruction::I32Const(1), Instruction::Drop];
            component.section(&ModuleSection(&core_module(size, &body, 0)));
        }
        // One function in which everything depends on everything.
        "locals" => {
            let mut body = Vec::new();
            for index in 0..size {
                let (one, other) = (index % 1000, index.wrapping_mul(7919) % 1000);
                body.extend([Instruction::Block(wasm_encoder::BlockType::Empty), Instruction::LocalGet(one)]);
                body.extend([Instruction::LocalGet(other), Instruction::I64Mul, Instruction::LocalTee(other)]);
                body.extend([Instruction::I32WrapI64, Instruction::BrIf(0), Instruction::End]);
            }
            component.section(&ModuleSection(&core_module(1, &body, 1000)));
        }
        "nesting" => {
            for _ in 0..size {
                let mut outer = Component::new();
                outer.section(&NestedComponentSection(&component));
                component = outer;
            }
        }
        // Every type holds the one before it many times over.
        "types" => {
            let mut types = ComponentTypeSection::new();
            types.defined_type().tuple([wasm_encoder::PrimitiveValType::U8]);
            for index in 0..size {
                types.defined_type().tuple([ComponentValType::Type(index); 16]);
            }
            component.section(&types);
        }
        // One module with a table or memories.
        "table" => {
            let mut tables = TableSection::new();
            let (minimum, element_type) = (size.into(), RefType::FUNCREF);
            tables.table(TableType { element_type, table64: false, minimum, maximum: None, shared: false });
            instantiate(&mut component, Module::new().section(&tables), 1);
        }
        "memories" => {
            let mut memories = MemorySection::new();
            let one = MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None };
            (0..size).for_each(|_| {
                memories.memory(one);
            });
            instantiate(&mut component, Module::new().section(&memories), 1);
        }
        "instances" => instantiate(&mut component, &Module::new(), size),
        "import" => {
            let mut types = ComponentTypeSection::new();
            let mut instance = InstanceType::new();
            instance.ty().function().params::<[(&str, ComponentValType); 0], _>([]).result(None);
            instance.export("travel", ComponentTypeRef::Func(0));
            types.instance(&instance);
            component.section(&types);
            let mut imports = ComponentImportSection::new();
            imports.import("vivarium:node/time-travel@9.0.0", ComponentTypeRef::Instance(0));
            component.section(&imports);
        }
        other => panic!("no bomb {other}"),
    }
    component.finish()
}

impl FileRecipe {
    fn make(&self, keys: &mut BTreeMap<String, SigningKey>) -> Vec<u8> {
        let mut bytes = match (&self.component, &self.raw, &self.bomb) {
            (Some(name), None, None) => component(name),
            (None, Some(raw), None) => return raw.clone().into_bytes(),
            (None, None, Some(kind)) => bomb(kind, self.size),
            _ => panic!("a file is made from one of component, raw and bomb"),
        };
        for (from, to) in &self.replace {
            bytes = replaced(bytes, from, to);
        }
        if !self.bare {
            bytes = self.with_manifest(&bytes);
        }
        for (name, size) in &self.append {
            let data = vec![b'x'; *size];
            CustomSection { name: name.into(), data: (&data).into() }.append_to_component(&mut bytes);
        }
        if let Some(name) = &self.sign {
            let key = keys.entry(name.clone()).or_insert_with(SigningKey::generate);
            bytes = PackFile::parse(bytes, LIMIT).unwrap().signed(key, LIMIT).unwrap().bytes().to_vec();
        }
        if let Some(from_end) = self.flip {
            let position = bytes.len() - from_end;
            bytes[position] ^= 1;
        }
        bytes.extend_from_slice(self.trailing.as_bytes());
        bytes
    }

    /// Written here and not by the product, which refuses to write most of them.
    fn with_manifest(&self, component: &[u8]) -> Vec<u8> {
        let name = self.name.as_deref().or(self.component.as_deref()).unwrap_or("bomb");
        let version = self.version.as_deref().unwrap_or("0.1.0");
        let manifest = format!(
            "name = \"{name}\"\nversion = \"{version}\"\npublisher = \"Mallory\"\nlicense = \"MIT\"\n{}",
            self.more
        );
        let mut bytes = component.to_vec();
        let mut append = |name: &str, data: &[u8]| {
            CustomSection { name: name.into(), data: data.into() }.append_to_component(&mut bytes);
        };
        append("vivarium:manifest", manifest.as_bytes());
        for (path, content) in &self.assets {
            append(&format!("vivarium:file/{path}"), content.as_bytes());
        }
        bytes
    }
}

/// Answers what was said last.
fn check(path: &Path) -> Result<String, String> {
    let case: Case = serde_json::from_slice(&fs::read(path).unwrap()).map_err(|error| error.to_string())?;
    let (place, mut keys) = (Place::new(), BTreeMap::new());
    fs::create_dir(place.path("loose")).unwrap();
    place.write("base/limits.toml", "query_time = \"1s\"\n");
    for (name, recipe) in &case.files {
        let bytes = recipe.make(&mut keys);
        place.write(&format!("{}{name}.wasm", if recipe.loose { "loose/" } else { "" }), bytes);
    }
    let mut last = String::new();
    for (number, step) in case.steps.iter().enumerate() {
        let fill = |word: &String| match word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
            Some(name) => place.text(&format!("{name}.wasm")),
            None => word.clone(),
        };
        let mut words: Vec<String> = ["pack".to_owned()].into_iter().chain(step.run.iter().map(fill)).collect();
        if step.run[0] != "check" {
            words.extend(["--base-directory".to_owned(), place.text("base")]);
        }
        if matches!(step.run[0].as_str(), "install" | "update" | "list") {
            words.extend(["--packs-directory".to_owned(), place.text("loose")]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, stdout, stderr) = ended(&words);
        let said = format!("{stdout}{stderr}");
        let missing: Vec<&String> = step.says.iter().filter(|part| !said.contains(part.as_str())).collect();
        if code != step.exit || !missing.is_empty() {
            let about = &case.about;
            return Err(format!("{about}, step {}: exit {code}, does not say {missing:?}: {said}", number + 1));
        }
        if said.chars().any(|c| matches!(c, '\x1b' | '\u{202a}'..='\u{202e}')) {
            return Err(format!("step {}: it shows control characters: {said:?}", number + 1));
        }
        last = format!("{}: {}", case.about, said.trim().lines().last().unwrap_or_default());
    }
    Ok(last)
}

/// Somebody else, who runs small prompts on a server of this machine.
struct Bystander {
    place: Place,
    server: Server,
}

impl Bystander {
    fn start() -> Self {
        let place = Place::new();
        let server = Server::start(&place, &[]);
        Self { place, server }
    }

    /// The time of one prompt while nothing else is done: the median of three.
    fn idle(&self, number: usize) -> Duration {
        median((0..3).map(|round| self.run(10_000 + 3 * number as i64 + round)).collect())
    }

    /// The time of one prompt; no two are of the same width, or the second would only be looked up.
    fn run(&self, width: i64) -> Duration {
        let (workflow, results) = (self.place.workflow(width), self.place.text("results"));
        let start = Instant::now();
        let (code, _, said) = ended(&["submit", &workflow, "--server", &self.server.url, "-o", &results]);
        assert_eq!(code, 0, "the bystander: {said}");
        start.elapsed()
    }

    /// How long prompts take while something is done: the median, of at least one.
    fn during<T>(&self, number: usize, work: impl FnOnce() -> T) -> (T, Duration) {
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let times = scope.spawn(|| {
                let mut times = Vec::new();
                while times.is_empty() || !ended.load(Ordering::Relaxed) {
                    times.push(self.run(10 + 100 * number as i64 + times.len() as i64 % 100));
                }
                median(times)
            });
            let answer = work();
            ended.store(true, Ordering::Relaxed);
            (answer, times.join().unwrap())
        })
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn check_and_report(path: &Path, number: usize, bystander: &Bystander) -> Result<String, String> {
    let idle = bystander.idle(number);
    let (outcome, meanwhile) = bystander.during(number, || check(path));
    let (word, said) = match &outcome {
        Ok(said) => ("stopped", said),
        Err(error) => ("failed", error),
    };
    let milliseconds = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    let case = path.file_stem().unwrap().to_string_lossy();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    println!("\nattack\t{case}\t{word}\t{}\t{}\t{said}", milliseconds(meanwhile), milliseconds(idle));
    outcome
}

#[test]
fn every_hostile_pack_is_refused_with_clear_words() {
    let folder = repository().join("tests/attacks/packs");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let bystander = (std::env::var("VIVARIUM_ATTACKS").as_deref() == Ok("lines")).then(Bystander::start);
    let mut failures = Vec::new();
    for (number, path) in cases.iter().enumerate() {
        let outcome = match &bystander {
            Some(bystander) => check_and_report(path, number, bystander),
            None => check(path),
        };
        if let Err(error) = outcome {
            failures.push(format!("{}: {error}", path.file_name().unwrap().to_string_lossy()));
        }
    }
    println!("{} stopped, {} failed", cases.len() - failures.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
