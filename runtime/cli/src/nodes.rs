//! `vivarium nodes`: the node classes that workflows can use.

use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use vivarium_packs::Snapshot;
use vivarium_protocol::{
    definition::{ChoicesFrom, InputDefinition, NodeDefinition, Section},
    object_info::object_info,
};
use vivarium_sandbox::PackComponent;

use crate::{
    failure::{Exit, Failure, Outcome},
    host,
    options::{LimitOptions, SourceOptions},
    output::say,
    text::one_line,
};

/// List the node classes, or describe one.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium nodes
  vivarium nodes ImageScale
  vivarium nodes --json | jq 'keys'

With --json, the output has the shape of ComfyUI's /object_info.")]
pub(crate) struct Nodes {
    /// Describe only this class: its inputs, their ranges and choices, its outputs
    class: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    folders: SourceOptions,

    #[command(flatten)]
    limits: LimitOptions,
}

impl Nodes {
    pub(crate) fn run(self) -> Outcome<()> {
        let folders = self.folders.resolve()?;
        let (_engine, catalog) = host::load_packs(&folders, self.limits.resolve_in(&folders)?)?;
        let snapshot = catalog.snapshot();
        if let Some(class) = &self.class {
            let Some(definition) = snapshot.definition(class) else { return Err(unknown(class, &snapshot)) };
            match self.json {
                true => print_json(&snapshot, Some(class)),
                false => describe(definition),
            }
        } else if self.json {
            print_json(&snapshot, None);
        } else {
            list(&snapshot);
        }
        Ok(())
    }
}

fn print_json(snapshot: &Snapshot, class: Option<&str>) {
    // Files and models differ from tenant to tenant; a running server lists them.
    let no_choices = |_: &ChoicesFrom| Vec::new();
    let wanted = snapshot.classes().filter(|(node, _)| class.is_none_or(|class| class == node.class_type));
    let entry = |(node, pack): (&NodeDefinition, &Arc<PackComponent>)| {
        let module = format!("custom_nodes.{}", pack.name());
        (node.class_type.clone(), object_info(node, &module, &no_choices))
    };
    say!("{}", Value::Object(wanted.map(entry).collect()));
}

fn list(snapshot: &Snapshot) {
    let width = snapshot.classes().map(|(node, _)| node.class_type.chars().count()).max().unwrap_or_default();
    for (node, pack) in snapshot.classes() {
        let (category, description) = (one_line(&node.category, 40), one_line(&node.description, 90));
        say!("{:<width$}  {}: {category}  {description}", node.class_type, pack.name());
    }
    if snapshot.packs().is_empty() {
        eprintln!("no packs are installed; `vivarium pack list` names the folders");
    }
}

fn describe(node: &NodeDefinition) {
    say!("{} ({}), {}", node.class_type, one_line(&node.display_name, 80), one_line(&node.category, 80));
    if !node.description.is_empty() {
        say!("{}", crate::text::printable(&node.description));
    }
    say!("\nInputs:");
    for input in node.inputs.iter().filter(|input| input.section != Section::Hidden) {
        say!("  {}", input_line(input));
    }
    say!("\nOutputs:");
    for (slot, output) in node.outputs.iter().enumerate() {
        say!("  {slot}: {} {}", one_line(&output.output_type, 60), one_line(&output.name, 60));
    }
    if node.output_node {
        say!("\nAn output node: a workflow with it is worth running.");
    }
}

fn input_line(input: &InputDefinition) -> String {
    let mut line = format!("{}: {}", input.name, one_line(&input.input_type, 60));
    if !input.choices.is_empty() {
        let choices: Vec<String> = input.choices.iter().map(Value::to_string).collect();
        line.push_str(&format!(" {}", one_line(&choices.join(" | "), 300)));
    }
    if input.section == Section::Optional {
        line.push_str(", optional");
    }
    for option in ["default", "min", "max", "step"] {
        if let Some(value) = input.options.get(option) {
            line.push_str(&format!(", {option} {}", one_line(&value.to_string(), 80)));
        }
    }
    if let Some(tooltip) = input.options.get("tooltip").and_then(Value::as_str) {
        line.push_str(&format!(". {}", one_line(tooltip, 200)));
    }
    line
}

fn unknown(class: &str, snapshot: &Snapshot) -> Failure {
    let same_but_for_case = snapshot.classes().find(|(node, _)| node.class_type.eq_ignore_ascii_case(class));
    let hint = match same_but_for_case {
        Some((node, _)) => format!("did you mean {}?", node.class_type),
        None => "`vivarium nodes` lists those there are".to_owned(),
    };
    Failure::new(Exit::Work, format!("no installed pack has a node class {class:?}; {hint}"))
}
