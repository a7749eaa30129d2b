//! The checks of `POST /prompt`, with ComfyUI's error types, messages and shapes.
//!
//! Every output node is checked together with all that it depends on. Bad outputs are reported, good ones run anyway; only
//! when none is good is the prompt refused. Values are converted as Python would, and the prompt is answered with the
//! converted ones.
//!
//! Where ComfyUI raises an exception, the same error is reported and its `traceback` says in words what is wrong. Where
//! ComfyUI overflows its stack (chains of 1 000 nodes, cycles), this does not: links are followed with an explicit stack.
//! A cycle leaves `node_errors` empty as in ComfyUI, but `details` tells where it is.

mod check;
mod convert;
mod graph;
mod walk;

use std::collections::HashSet;

use serde_json::{Map, Value};
use vivarium_protocol::error::{Invalid, NodeErrorReport, NodeErrors, PromptError};
use vivarium_protocol::prompt::check_depth;

use crate::definitions::Definitions;
use crate::limits::GraphLimits;
use graph::PostedGraph;
use walk::Walk;

/// A prompt that may run.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// The prompt, values converted, every key where the client put it: for the queue, the history and the metadata of
    /// images. It reads as a [`Prompt`](vivarium_protocol::prompt::Prompt).
    pub json: Value,
    /// The output nodes to run, in prompt order; at least one.
    pub outputs: Vec<String>,
    /// What is wrong with the other output nodes.
    pub node_errors: NodeErrors,
}

/// Why a class's own validator could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{exception_type}: {message}")]
pub struct HookError {
    /// A name for programs.
    pub exception_type: String,
    /// For people.
    pub message: String,
}

/// Runs the validators of classes that have one.
pub trait ValidateHook {
    /// Findings about a node; none when it is fine. `constants` are those of the inputs named by the class's
    /// [`Validator`](vivarium_protocol::definition::Validator) that are not links, converted; `input_types` the types that
    /// linked inputs receive, if the validator takes them. A finding names its input, or none when it is about the node: it
    /// is then reported for every one of `constants`, as clients know it. An empty message is reported without one.
    ///
    /// # Errors
    /// [`HookError`] when the validator failed or could not be run.
    fn validate(
        &self,
        node_id: &str,
        class: &str,
        constants: &Map<String, Value>,
        input_types: &Map<String, Value>,
    ) -> Result<Vec<(Option<String>, String)>, HookError>;
}

/// Finds nothing; for classes without validators.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

impl ValidateHook for NoHook {
    fn validate(
        &self,
        _: &str,
        _: &str,
        _: &Map<String, Value>,
        _: &Map<String, Value>,
    ) -> Result<Vec<(Option<String>, String)>, HookError> {
        Ok(Vec::new())
    }
}

/// Checks a prompt, which becomes the valid one. With `targets`, only those output nodes count.
///
/// # Errors
/// [`Invalid`], fit for a 400 answer, when nothing of the prompt can run.
pub fn validate(
    mut prompt: Value,
    targets: Option<&[String]>,
    definitions: &dyn Definitions,
    hook: &dyn ValidateHook,
    limits: &GraphLimits,
) -> Result<Validated, Invalid> {
    check_depth(&prompt, limits.max_depth)?;
    let graph = PostedGraph::read(&prompt, definitions, limits)?;
    let targets: Option<HashSet<&str>> = targets.map(|targets| targets.iter().map(String::as_str).collect());
    let outputs = graph.outputs(targets.as_ref());
    if outputs.is_empty() {
        return Err(PromptError::new("prompt_no_outputs", "Prompt has no outputs", "").into());
    }

    let mut walk = Walk::new(&graph, definitions, hook, limits);
    let mut good = Vec::new();
    let mut reports = Reports::default();
    let mut lines = Vec::new();
    for output in outputs {
        let id = graph.nodes[output].id;
        if walk.check_output(output) {
            good.push(id.to_owned());
            continue;
        }
        lines.extend(walk.errors_of(output).iter().map(|error| format!("{}: {}", error.message, error.details)));
        reports.add_output(id, &walk, limits);
    }

    let mut node_errors = reports.node_errors;
    if good.is_empty() {
        lines.extend(walk.describe_cycle());
        let message = "Prompt outputs failed validation";
        let error = PromptError::new("prompt_outputs_failed_validation", message, lines.join("\n"));
        return Err(Invalid { error, node_errors: Box::new(node_errors) });
    }
    if let Some((node, error)) = walk.cycle_error() {
        let report = || NodeErrorReport {
            errors: Vec::new(),
            dependent_outputs: Vec::new(),
            class_type: graph.nodes[node].definition.class_type.clone(),
        };
        node_errors.entry(graph.nodes[node].id.to_owned()).or_insert_with(report).errors.push(error);
    }
    let conversions = walk.into_conversions();
    conversions.into_iter().for_each(|conversion| conversion.apply(&mut prompt));
    Ok(Validated { json: prompt, outputs: good, node_errors })
}

/// Who is bad, and which outputs fail for it.
#[derive(Default)]
struct Reports {
    /// In the order of [`Walk::errors_after`].
    node_errors: NodeErrors,
    /// Nodes before this one have as many dependent outputs as are shown.
    first_open: usize,
}

impl Reports {
    /// Adds a failed output to the reports of all nodes found bad so far, as ComfyUI does.
    fn add_output(&mut self, output: &str, walk: &Walk<'_>, limits: &GraphLimits) {
        for (node, errors) in walk.errors_after(self.node_errors.len()) {
            let node = &walk.graph.nodes[node];
            let report = NodeErrorReport {
                errors: errors.to_vec(),
                dependent_outputs: Vec::new(),
                class_type: node.definition.class_type.clone(),
            };
            self.node_errors.insert(node.id.to_owned(), report);
        }
        for position in self.first_open..self.node_errors.len() {
            let Some((_, report)) = self.node_errors.get_index_mut(position) else {
                break;
            };
            if report.dependent_outputs.len() < limits.max_dependent_outputs {
                report.dependent_outputs.push(output.to_owned());
            } else {
                self.first_open = position + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
