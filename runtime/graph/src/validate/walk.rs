//! Goes from output nodes up their links and checks every node once.

use std::collections::HashMap;
use std::rc::Rc;

use indexmap::IndexMap;
use serde_json::{Map, Value};
use vivarium_protocol::definition::{InputDefinition, NodeDefinition, Section, Validator};
use vivarium_protocol::error::PromptError;
use vivarium_protocol::prompt::as_link_ref;

use super::check::{Choices, Exception, InputCheck};
use super::graph::{Conversion, PostedGraph, PostedNode};
use super::{HookError, ValidateHook};
use crate::definitions::Definitions;
use crate::limits::GraphLimits;

/// How many nodes of a cycle are shown.
const MAX_SHOWN_CYCLE: usize = 20;

pub(super) struct Walk<'a> {
    pub(super) graph: &'a PostedGraph<'a>,
    definitions: &'a dyn Definitions,
    hook: &'a dyn ValidateHook,
    limits: &'a GraphLimits,
    states: Vec<State>,
    errors: IndexMap<usize, Vec<PromptError>>,
    conversions: Vec<Conversion>,
    /// Asked for once per declared input, by its address.
    choices: HashMap<*const InputDefinition, Option<Rc<Choices>>>,
    /// The first cycle found: node indices, each with a link to the next, the last to the first.
    cycle: Option<Vec<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Active,
    Good,
    Bad,
}

/// A node whose checks are under way.
struct Frame<'a> {
    node: usize,
    /// The names to check, declared ones first.
    names: Vec<(&'a str, Option<&'a InputDefinition>)>,
    next: usize,
    good: bool,
    errors: Vec<PromptError>,
    /// Inputs with errors of their own: the class's validator is not asked about them.
    failed: Vec<&'a str>,
    constants: Map<String, Value>,
    received_types: Map<String, Value>,
}

enum Progress {
    Checked,
    /// The input depends on this node, which is to be checked first.
    Descend(usize),
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        graph: &'a PostedGraph<'a>,
        definitions: &'a dyn Definitions,
        hook: &'a dyn ValidateHook,
        limits: &'a GraphLimits,
    ) -> Self {
        Self {
            graph,
            definitions,
            hook,
            limits,
            states: vec![State::New; graph.nodes.len()],
            errors: IndexMap::new(),
            conversions: Vec::new(),
            choices: HashMap::new(),
            cycle: None,
        }
    }

    /// Checks an output node and all that it depends on.
    pub(super) fn check_output(&mut self, output: usize) -> bool {
        if self.states[output] == State::New {
            self.walk(output);
        }
        self.states[output] == State::Good
    }

    /// The errors of one node.
    pub(super) fn errors_of(&self, node: usize) -> &[PromptError] {
        self.errors.get(&node).map_or(&[], Vec::as_slice)
    }

    /// The nodes that have errors, in the order in which their checks ended, without the first `known` of them.
    pub(super) fn errors_after(&self, known: usize) -> impl Iterator<Item = (usize, &[PromptError])> {
        let news = self.errors.get_range(known..).into_iter().flatten();
        news.map(|(node, errors)| (*node, errors.as_slice()))
    }

    /// Values that were converted.
    pub(super) fn into_conversions(self) -> Vec<Conversion> {
        self.conversions
    }

    /// Where the first cycle is, in words.
    pub(super) fn describe_cycle(&self) -> Option<String> {
        let (_, error) = self.cycle_error()?;
        Some(format!("{}: {}", error.message, error.details))
    }

    /// The first cycle as an error of one of its nodes.
    pub(super) fn cycle_error(&self) -> Option<(usize, PromptError)> {
        let cycle = self.cycle.as_ref()?;
        let first = *cycle.first()?;
        let id = |node: &usize| self.graph.nodes[*node].id;
        let mut shown: Vec<&str> = cycle.iter().take(MAX_SHOWN_CYCLE).map(id).collect();
        if cycle.len() > shown.len() {
            shown.push("…");
        }
        shown.push(id(&first));
        Some((first, PromptError::new("dependency_cycle", "Dependency cycle detected", shown.join(" <- "))))
    }

    fn walk(&mut self, output: usize) {
        let mut stack = Vec::new();
        let mut raised = match self.enter(output) {
            Ok(frame) => {
                stack.push(frame);
                None
            }
            Err(exception) => Some((output, exception)),
        };
        loop {
            if let Some((node, exception)) = raised.take() {
                self.attach(node, &exception, stack.last_mut());
                continue_after_source(stack.last_mut());
            }
            let Some(frame) = stack.last_mut() else { return };
            if frame.next < frame.names.len() {
                match self.check_input(frame) {
                    Ok(Progress::Checked) => frame.next += 1,
                    Ok(Progress::Descend(source)) => match self.states[source] {
                        State::New => match self.enter(source) {
                            Ok(frame) => stack.push(frame),
                            Err(exception) => raised = Some((source, exception)),
                        },
                        State::Active => {
                            frame.good = false;
                            frame.next += 1;
                            self.note_cycle(source, &stack);
                        }
                        state => {
                            frame.good &= state == State::Good;
                            frame.next += 1;
                        }
                    },
                    Err(exception) => {
                        raised = Some((frame.node, exception));
                        stack.pop();
                    }
                }
                continue;
            }
            let Some(mut frame) = stack.pop() else { return };
            match self.ask_validator(&mut frame) {
                Ok(()) => {
                    let good = self.leave(frame);
                    if let Some(reader) = stack.last_mut() {
                        reader.good &= good;
                    }
                    continue_after_source(stack.last_mut());
                }
                Err(exception) => raised = Some((frame.node, exception)),
            }
        }
    }

    fn enter(&mut self, node: usize) -> Result<Frame<'a>, Exception> {
        self.states[node] = State::Active;
        let posted = &self.graph.nodes[node];
        let Some(inputs) = posted.inputs else {
            return Err(Exception {
                exception_type: "KeyError".to_owned(),
                message: "'inputs'".to_owned(),
                explanation: format!("Node '{}' has no \"inputs\"; send an empty object if it needs none.", posted.id),
            });
        };
        Ok(Frame {
            node,
            names: names_to_check(posted.definition, inputs),
            next: 0,
            good: true,
            errors: Vec::new(),
            failed: Vec::new(),
            constants: Map::new(),
            received_types: Map::new(),
        })
    }

    /// Checks the next input. When it descends, the same input is looked at again afterwards only to go on.
    fn check_input(&mut self, frame: &mut Frame<'a>) -> Result<Progress, Exception> {
        let (name, definition) = frame.names[frame.next];
        let choices = self.choices_of(definition);
        let check = InputCheck { name, definition, choices };
        let posted: &'a PostedNode<'a> = &self.graph.nodes[frame.node];
        let Some(value) = posted.inputs.and_then(|inputs| inputs.get(name)) else {
            if definition.is_some_and(|definition| definition.section == Section::Required) {
                frame.fail(name, check.missing());
            }
            return Ok(Progress::Checked);
        };
        let Some(items) = value.as_array() else {
            self.check_constant(frame, &check, value)?;
            return Ok(Progress::Checked);
        };
        let [node, slot] = items.as_slice() else {
            frame.fail(name, check.bad_link(value));
            return Ok(Progress::Checked);
        };
        let source = check.follow(self.graph, posted.id, node, slot)?;
        frame.received_types.insert(name.to_owned(), source.received_type.into());
        let checked_by_class = posted.definition.validator.as_ref().is_some_and(|validator| validator.input_types);
        let mismatch = if checked_by_class { None } else { check.mismatch(source.received_type, value) };
        match mismatch {
            Some(error) => {
                frame.fail(name, error);
                Ok(Progress::Checked)
            }
            None => Ok(Progress::Descend(source.node)),
        }
    }

    fn check_constant(
        &mut self,
        frame: &mut Frame<'a>,
        check: &InputCheck<'a>,
        posted: &Value,
    ) -> Result<(), Exception> {
        let node: &PostedNode<'a> = &self.graph.nodes[frame.node];
        let converted = match check.converted(posted) {
            Ok(converted) => converted,
            Err(error) => {
                frame.fail(check.name, error);
                return Ok(());
            }
        };
        let value = converted.as_ref().unwrap_or(posted);
        let validator = node.definition.validator.as_ref();
        let checked_by_class = validator.is_some_and(|validator| covers(validator, check.name));
        if checked_by_class {
            frame.constants.insert(check.name.to_owned(), value.clone());
        } else if let Some(error) = check.out_of_bounds(node.id, value)? {
            frame.fail(check.name, error);
        }
        if let Some(value) = converted.filter(|value| value != posted) {
            let node = self.graph.nodes[frame.node].id.to_owned();
            self.conversions.push(Conversion { node, input: check.name.to_owned(), value });
        }
        Ok(())
    }

    fn choices_of(&mut self, definition: Option<&'a InputDefinition>) -> Option<Rc<Choices>> {
        let definition = definition?;
        let definitions = self.definitions;
        self.choices
            .entry(definition)
            .or_insert_with(|| definitions.choices(definition).map(|values| Rc::new(Choices::new(values))))
            .clone()
    }

    /// Asks the class's own validator, unless an input that it is about has an error already.
    fn ask_validator(&self, frame: &mut Frame<'a>) -> Result<(), Exception> {
        let node = &self.graph.nodes[frame.node];
        let Some(validator) = &node.definition.validator else { return Ok(()) };
        if frame.failed.iter().any(|name| covers(validator, name)) {
            return Ok(());
        }
        let no_types = Map::new();
        let types = if validator.input_types { &frame.received_types } else { &no_types };
        let findings = match self.hook.validate(node.id, &node.definition.class_type, &frame.constants, types) {
            Ok(findings) => findings,
            Err(HookError { exception_type, message }) => {
                let class = &node.definition.class_type;
                let explanation = format!("The validator of class '{class}' failed for node '{}'.", node.id);
                return Err(Exception { exception_type, message, explanation });
            }
        };
        for (input, message) in findings {
            match input {
                Some(input) => frame.errors.push(finding(&input, &message)),
                None if frame.constants.is_empty() => frame.errors.push(finding_on_node(message)),
                None => frame.errors.extend(frame.constants.keys().map(|input| finding(input, &message))),
            }
        }
        Ok(())
    }

    /// Ends the checks of a node.
    fn leave(&mut self, frame: Frame<'a>) -> bool {
        let good = frame.good && frame.errors.is_empty();
        self.states[frame.node] = if good { State::Good } else { State::Bad };
        self.keep(frame.node, frame.errors);
        good
    }

    /// Ends the checks of a node with an exception, told in the words of the node that depends on it.
    fn attach(&mut self, node: usize, exception: &Exception, reader: Option<&mut Frame<'a>>) {
        self.states[node] = State::Bad;
        let error = match reader {
            None => PromptError::new(
                "exception_during_validation",
                "Exception when validating node",
                exception.message.clone(),
            )
            .with("exception_type", exception.exception_type.clone())
            .with("traceback", vec![exception.explanation.clone()]),
            Some(reader) => {
                reader.good = false;
                let (name, definition) = reader.names[reader.next];
                let check = InputCheck { name, definition, choices: self.choices_of(definition) };
                let inputs = self.graph.nodes[reader.node].inputs;
                let link = inputs.and_then(|inputs| inputs.get(name)).unwrap_or(&Value::Null);
                check.inner_exception(exception, link)
            }
        };
        self.keep(node, vec![error]);
    }

    fn keep(&mut self, node: usize, errors: Vec<PromptError>) {
        if !errors.is_empty() && self.errors.len() < self.limits.max_reported_nodes {
            self.errors.insert(node, errors);
        }
    }

    fn note_cycle(&mut self, start: usize, stack: &[Frame<'a>]) {
        if self.cycle.is_none() {
            let position = stack.iter().position(|frame| frame.node == start).unwrap_or(0);
            self.cycle = Some(stack[position..].iter().map(|frame| frame.node).collect());
        }
    }
}

impl<'a> Frame<'a> {
    fn fail(&mut self, name: &'a str, error: PromptError) {
        self.errors.push(error);
        self.failed.push(name);
    }
}

/// The node that an input depends on has been checked; the next input is due.
fn continue_after_source(reader: Option<&mut Frame<'_>>) {
    if let Some(reader) = reader {
        reader.next += 1;
    }
}

fn covers(validator: &Validator, name: &str) -> bool {
    validator.all_inputs || validator.inputs.iter().any(|input| input == name)
}

/// Declared inputs in declaration order; then, for classes that take them, links of undeclared inputs in prompt order.
fn names_to_check<'a>(
    definition: &'a NodeDefinition,
    inputs: &'a Map<String, Value>,
) -> Vec<(&'a str, Option<&'a InputDefinition>)> {
    let declared = definition.inputs.iter().filter(|input| input.section != Section::Hidden);
    let mut names: Vec<_> = declared.map(|input| (input.name.as_str(), Some(input))).collect();
    if definition.accepts_undeclared {
        let undeclared =
            inputs.iter().filter(|(name, value)| as_link_ref(value).is_some() && definition.input(name).is_none());
        names.extend(undeclared.map(|(name, _)| (name.as_str(), None)));
    }
    names
}

fn finding(input: &str, message: &str) -> PromptError {
    let details = if message.is_empty() { input.to_owned() } else { format!("{input} - {message}") };
    finding_on_node(details).with("input_name", input)
}

fn finding_on_node(details: String) -> PromptError {
    PromptError::new("custom_validation_failed", "Custom validation failed for node", details)
}
