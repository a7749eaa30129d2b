//! What people are told about a pack. Every text of a pack goes through `text`, whatever was checked before.

use std::io::{IsTerminal, Write, stdin};

use serde_json::{Value, json};
use vivarium_packs::{
    file::PackFile,
    manifest::{Manifest, Request},
};
use vivarium_sandbox::PackComponent;

use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    output::say,
    text::{one_line, printable},
};

/// A pack file for programs.
pub(super) fn describe(file: &PackFile, manifest: &Manifest, component: &PackComponent) -> Value {
    let permissions = manifest.permissions.iter().map(|request| {
        let words = request.permission.in_words();
        json!({"permission": request.permission, "reason": request.reason, "means": words})
    });
    json!({
        "name": manifest.name,
        "version": manifest.version,
        "publisher": manifest.publisher,
        "license": manifest.license,
        "description": manifest.description,
        "world": manifest.world,
        "digest": file.digest(),
        "bytes": file.bytes().len(),
        "signer": file.signer(),
        "nodes": component.definition().nodes.iter().map(|node| &node.class_type).collect::<Vec<_>>(),
        "imports": component.imports(),
        "permissions": permissions.collect::<Vec<_>>(),
        "workflows": manifest.workflows,
        "help": manifest.help.keys().collect::<Vec<_>>(),
        "replacements": manifest.replacements,
    })
}

/// The same for people.
pub(super) fn print(file: &PackFile, manifest: &Manifest, component: &PackComponent) {
    let line = |text: &str| one_line(text, 300);
    say!("{} {} by {} ({})", manifest.name, manifest.version, line(&manifest.publisher), line(&manifest.license));
    if !manifest.description.is_empty() {
        say!("  {}", line(&manifest.description));
    }
    match file.signer() {
        Some(key) => say!("  signed by {key}"),
        None => say!("  NOT signed"),
    }
    say!("  sha256 {}", file.digest());
    let nodes: Vec<&str> = component.definition().nodes.iter().map(|node| node.class_type.as_str()).collect();
    say!("  nodes: {}", printable(&nodes.join(", ")));
    for workflow in &manifest.workflows {
        say!("  example: {}", line(&workflow.title));
    }
    print_requests(&manifest.permissions);
}

/// What a pack asks for, in words.
pub(super) fn print_requests(requests: &[Request]) {
    if requests.is_empty() {
        say!("  It asks for nothing: it can only compute.");
        return;
    }
    say!("  It asks to:");
    for request in requests {
        say!("    - {} ({})", request.permission.in_words(), request.permission);
        say!("      because: {}", one_line(&request.reason, 300));
    }
}

/// Asks a question on the terminal. Without one, nobody can answer: `flag` is what would have.
///
/// # Errors
/// When there is nobody to ask, or the answer is no.
pub(super) fn confirm(question: &str, flag: &str) -> Outcome<()> {
    if !stdin().is_terminal() {
        fail!(Exit::Usage, "nothing was changed: there is nobody to ask here; {flag} answers beforehand");
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush().ok();
    let mut answer = String::new();
    stdin().read_line(&mut answer).or_fail(Exit::Machine, || "could not read the answer")?;
    if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
        return Ok(());
    }
    fail!(Exit::Work, "nothing was changed")
}
