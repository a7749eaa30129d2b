//! `cases/<case>/steps.json`: conversations with a fresh server over HTTP, as data.
//!
//! Each is held twice, once with plain paths and once below `/api`, unless it says `"only_plain"`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use vivarium_server::ServerConfig;
use vivarium_tests::{
    cases, read_json,
    server::{Answer, Field, PATIENCE, Server, form},
    tests_folder,
};

use crate::{
    likeness::{filled, filled_value, unlike},
    recordings,
};

/// A whole `steps.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conversation {
    /// What it is about, for the reader.
    #[serde(rename = "about")]
    _about: String,
    /// Why there is no recording of it.
    not_recorded: Option<String>,
    /// Settings of the server that differ from the defaults.
    #[serde(default)]
    server: Settings,
    /// Whether the paths have no twin below `/api`.
    #[serde(default)]
    only_plain: bool,
    /// Files of `tests/goldens/inputs` that are there before.
    #[serde(default)]
    inputs: Vec<String>,
    /// Files written below the base directory before, with their content.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// The same, their bytes in hexadecimal.
    #[serde(default)]
    binary_files: BTreeMap<String, String>,
    steps: Vec<Step>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    max_upload_size: Option<u64>,
    cors_origin: Option<String>,
    #[serde(default)]
    compress_responses: bool,
    #[serde(default)]
    multi_user: bool,
}

/// A request and what must come back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Why it is asked.
    #[serde(default)]
    say: String,
    /// Method and path.
    ask: String,
    /// Headers of the request.
    #[serde(default, rename = "with")]
    request_headers: BTreeMap<String, String>,
    /// A JSON body.
    #[serde(default, deserialize_with = "present")]
    send: Option<Value>,
    /// A body of text.
    send_text: Option<String>,
    /// A body of these bytes, in hexadecimal.
    send_hex: Option<String>,
    /// A body of so many bytes.
    send_bytes: Option<usize>,
    /// A form: texts, and files as `{"file": a golden input}` or `{"text": content}`, each with `"as"`, its name.
    form: Option<Map<String, Value>>,
    /// Asks again until the answer is so.
    #[serde(default)]
    until: bool,
    /// Why the real ComfyUI's answer is another.
    differs: Option<String>,
    status: u16,
    /// Headers of the answer as patterns; null for none.
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    /// The answer's JSON as a pattern.
    #[serde(default, deserialize_with = "present")]
    answer: Option<Value>,
    /// The answer's text as a pattern.
    text: Option<Value>,
    /// The answer is this golden input, byte for byte.
    file: Option<String>,
    /// The answer is an image of this kind.
    image: Option<Picture>,
    /// Parts of the answer kept under a name, as JSON pointers.
    #[serde(default)]
    keep: BTreeMap<String, String>,
}

/// What a picture is, without its pixels.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Picture {
    format: String,
    width: u32,
    height: u32,
    alpha: bool,
}

/// Tells `null` from nothing.
fn present<'a, D: serde::Deserializer<'a>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

#[test]
fn conversations_go_as_written() -> Result<()> {
    hold_all("")
}

#[test]
fn conversations_go_the_same_below_api() -> Result<()> {
    hold_all("/api")
}

fn hold_all(prefix: &str) -> Result<()> {
    let cases = cases(&tests_folder().join("conformance/cases"))?;
    let mut failures = Vec::new();
    for case in &cases {
        if let Err(error) = hold(case, prefix) {
            failures.push(format!("{}: {error:#}", case.file_name().unwrap_or_default().to_string_lossy()));
        }
    }
    if !failures.is_empty() {
        bail!("{} of {} conversations go otherwise:\n{}", failures.len(), cases.len(), failures.join("\n"));
    }
    Ok(())
}

fn hold(case: &Path, prefix: &str) -> Result<()> {
    let conversation: Conversation = serde_json::from_value(read_json(&case.join("steps.json"))?)?;
    if conversation.only_plain && !prefix.is_empty() {
        return Ok(());
    }
    let defaults = ServerConfig::default();
    let settings = conversation.server;
    let server = Server::start(ServerConfig {
        max_upload_size: settings.max_upload_size.unwrap_or(defaults.max_upload_size),
        cors_origin: settings.cors_origin,
        compress_responses: settings.compress_responses,
        multi_user: settings.multi_user,
        ..defaults
    })?;
    let texts = conversation.files.iter().map(|(path, content)| (path, Ok(content.clone().into_bytes())));
    let binaries = conversation.binary_files.iter().map(|(path, content)| (path, bytes_of(content)));
    for (path, content) in texts.chain(binaries) {
        let content = content?;
        let path = server.base().join(path);
        fs::create_dir_all(path.parent().context("a file needs a folder")?)?;
        fs::write(path, content)?;
    }
    for name in &conversation.inputs {
        server.upload(name, &golden(name)?)?;
    }
    let mut kept = BTreeMap::from([("address".to_owned(), server.address().to_string())]);
    let asks: Vec<&str> = conversation.steps.iter().map(|step| step.ask.as_str()).collect();
    let recorded = recordings::read(case, &asks)?;
    ensure!(recorded.is_some() != conversation.not_recorded.is_some(), "it is recorded, or says why not");
    let mut unlike_recorded = Vec::new();
    for (index, step) in conversation.steps.iter().enumerate() {
        let at = || format!("step {}, {} ({})", index + 1, step.ask, step.say);
        let answer = take(&server, step, prefix, &mut kept).with_context(at)?;
        if let Some(recorded) = recorded.as_ref().and_then(|recorded| recorded.get(index))
            && let Err(error) = recordings::check(recorded, &answer, &kept, step.differs.as_deref())
        {
            unlike_recorded.push(format!("{}: {error:#}", at()));
        }
    }
    ensure!(unlike_recorded.is_empty(), "{}", unlike_recorded.join("\n  "));
    Ok(())
}

fn bytes_of(hexadecimal: &str) -> Result<Vec<u8>> {
    let digits: Vec<char> = hexadecimal.chars().filter(|character| !character.is_whitespace()).collect();
    let byte = |pair: &[char]| Ok(u8::from_str_radix(&pair.iter().collect::<String>(), 16)?);
    digits.chunks(2).map(byte).collect()
}

fn golden(name: &str) -> Result<Vec<u8>> {
    let path: PathBuf = tests_folder().join("goldens/inputs").join(name);
    fs::read(&path).with_context(|| path.display().to_string())
}

fn take(server: &Server, step: &Step, prefix: &str, kept: &mut BTreeMap<String, String>) -> Result<Answer> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(server, step, prefix, kept)?;
        match check(step, &answer, kept) {
            Ok(()) => {
                for (name, pointer) in &step.keep {
                    let json = answer.json()?;
                    let value = json.pointer(pointer).with_context(|| format!("{json} has no {pointer}"))?;
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    kept.insert(name.clone(), text);
                }
                return Ok(answer);
            }
            Err(error) if !step.until || Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn ask(server: &Server, step: &Step, prefix: &str, kept: &BTreeMap<String, String>) -> Result<Answer> {
    let (method, path) = step.ask.split_once(' ').context("a step asks with a method and a path")?;
    let path = format!("{prefix}{}", filled(path, kept));
    let mut headers: Vec<(&str, String)> = Vec::new();
    let mut body = Vec::new();
    if let Some(json) = &step.send {
        headers.push(("content-type", "application/json".to_owned()));
        body = filled_value(json, kept).to_string().into_bytes();
    } else if let Some(text) = &step.send_text {
        body = filled(text, kept).into_bytes();
    } else if let Some(hexadecimal) = &step.send_hex {
        body = bytes_of(hexadecimal)?;
    } else if let Some(bytes) = step.send_bytes {
        body = vec![b' '; bytes];
    } else if let Some(fields) = &step.form {
        let (content_type, form) = form_of(fields)?;
        headers.push(("content-type", content_type));
        body = form;
    }
    for (name, value) in &step.request_headers {
        headers.retain(|(earlier, _)| earlier != name);
        headers.push((name, filled(value, kept)));
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    server.send(method, &path, &headers, &body)
}

fn form_of(fields: &Map<String, Value>) -> Result<(String, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for (name, field) in fields {
        if let Some(file) = field["file"].as_str() {
            files.insert(name, golden(file)?);
        } else if let Some(text) = field["text"].as_str() {
            files.insert(name, text.as_bytes().to_vec());
        }
    }
    let fields: Vec<Field> = fields
        .iter()
        .map(|(name, field)| match files.get(name) {
            Some(bytes) => {
                Field::file(name, field["as"].as_str().or(field["file"].as_str()).unwrap_or_default(), bytes)
            }
            None => Field::text(name, field.as_str().unwrap_or_default()),
        })
        .collect();
    Ok(form(&fields))
}

fn check(step: &Step, answer: &Answer, kept: &BTreeMap<String, String>) -> Result<()> {
    ensure!(answer.status == step.status, "the status is {}, not {}: {answer:?}", answer.status, step.status);
    for (name, pattern) in &step.headers {
        let value = answer.header(name).map_or(Value::Null, Value::from);
        fail_on(unlike(&value, &filled_value(pattern, kept), name))?;
    }
    if let Some(pattern) = &step.answer {
        fail_on(unlike(&answer.json()?, &filled_value(pattern, kept), "the answer"))?;
    }
    if let Some(pattern) = &step.text {
        fail_on(unlike(&Value::from(answer.text()), &filled_value(pattern, kept), "the answer"))?;
    }
    if let Some(name) = &step.file {
        ensure!(answer.body == golden(name)?, "the answer is not {name}");
    }
    if let Some(picture) = &step.image {
        let info = vivarium_image_codec::probe(&answer.body)?;
        let format = format!("{:?}", info.format).to_lowercase();
        let found = Picture { format, width: info.width, height: info.height, alpha: info.has_alpha };
        ensure!(found == *picture, "the answer is {found:?}, not {picture:?}");
    }
    Ok(())
}

fn fail_on(difference: Option<String>) -> Result<()> {
    match difference {
        Some(difference) => bail!("{difference}"),
        None => Ok(()),
    }
}
