//! A loop by recursion: as long as its condition holds, the closing node answers with a copy of everything between the two
//! ends, itself included, fed with the values of the round before.

use std::collections::{BTreeMap, BTreeSet};

use vivarium_node::prelude::*;

use crate::variants::check_own_types;

/// What flows through FLOW_CONTROL; only the link itself matters.
pub(crate) const TOKEN: &str = "flow";
/// The copy of the closing node has the same name in every round, so that ids stay short.
const SELF: &str = "Recurse";

/// Begins the loop.
#[derive(Node)]
#[node(
    category = "Testing/Flow",
    validate_types,
    output_types("FLOW_CONTROL", "*", "*", "*", "*", "*"),
    output_names("FLOW_CONTROL", "value0", "value1", "value2", "value3", "value4")
)]
pub(crate) struct TestWhileLoopOpen {
    #[input(default = true, name = "condition")]
    _condition: bool,
    initial_value0: Option<Value>,
    initial_value1: Option<Value>,
    initial_value2: Option<Value>,
    initial_value3: Option<Value>,
    initial_value4: Option<Value>,
}

type Opened = (String, Option<Value>, Option<Value>, Option<Value>, Option<Value>, Option<Value>);

impl Run for TestWhileLoopOpen {
    type Output = Opened;

    fn run(self) -> Result<Opened> {
        Ok((
            TOKEN.to_owned(),
            self.initial_value0,
            self.initial_value1,
            self.initial_value2,
            self.initial_value3,
            self.initial_value4,
        ))
    }
}

/// Ends the loop, or begins another round.
#[derive(Node)]
#[node(
    category = "Testing/Flow",
    validate_types,
    output_types("*", "*", "*", "*", "*"),
    output_names("value0", "value1", "value2", "value3", "value4")
)]
pub(crate) struct TestWhileLoopClose {
    #[input(raw_link, type = "FLOW_CONTROL")]
    flow_control: NodeOutput,
    #[input(force_input)]
    condition: bool,
    initial_value0: Option<Value>,
    initial_value1: Option<Value>,
    initial_value2: Option<Value>,
    initial_value3: Option<Value>,
    initial_value4: Option<Value>,
    #[input(hidden = "DYNPROMPT")]
    dynprompt: Value,
    #[input(hidden = "UNIQUE_ID")]
    unique_id: String,
}

type Values = (Option<Value>, Option<Value>, Option<Value>, Option<Value>, Option<Value>);

impl Run for TestWhileLoopClose {
    type Output = Outcome<Values>;

    fn run(self) -> Result<Outcome<Values>> {
        let Self { initial_value0, initial_value1, initial_value2, initial_value3, initial_value4, .. } = self;
        let values = [initial_value0, initial_value1, initial_value2, initial_value3, initial_value4];
        if !self.condition {
            return Ok(Outcome::Outputs(values.into()));
        }
        let graph = Graph::read(self.dynprompt)?;
        let open = self.flow_control.node_id().to_owned();
        let names = names(&graph.body(&open, &self.unique_id), &self.unique_id, &graph);
        let mut expansion = Expansion::new();
        for (id, name) in &names {
            let node = graph.node(id)?;
            let mut copy = expansion.node(name, &node.class).display_as(id);
            for (input, value) in &node.inputs {
                copy = match link(value) {
                    Some((source, slot)) if names.contains_key(source) => {
                        copy.link(input, NodeOutput::of(&names[source], slot))
                    }
                    _ => copy.input(input, value.clone())?,
                };
            }
            if *id == open {
                for (index, value) in values.iter().enumerate() {
                    copy = copy.input(&format!("initial_value{index}"), value.clone())?;
                }
            }
        }
        let own = &names[&self.unique_id];
        let slots = (0..5).map(|slot| NodeOutput::of(own, slot));
        Ok(Outcome::Expansion(slots.fold(expansion, Expansion::slot)))
    }
}

check_own_types!(TestWhileLoopOpen, TestWhileLoopClose);

/// The live graph of the prompt.
struct Graph(BTreeMap<String, GraphNode>);

struct GraphNode {
    class: String,
    inputs: Vec<(String, Value)>,
}

impl Graph {
    fn read(value: Value) -> Result<Self> {
        let Value::Dict(nodes) = value else { return Err(Error::invalid("the live graph is no dictionary")) };
        let node = |(id, value): (String, Value)| {
            let Value::Dict(mut fields) = value else {
                return Err(Error::invalid(format!("node {id} of the live graph is no dictionary")));
            };
            let class = String::from_value(fields.shift_remove("class_type").unwrap_or_default())?;
            let inputs = match fields.shift_remove("inputs") {
                Some(Value::Dict(inputs)) => inputs.into_iter().collect(),
                _ => Vec::new(),
            };
            Ok((id, GraphNode { class, inputs }))
        };
        nodes.into_iter().map(node).collect::<Result<_>>().map(Self)
    }

    fn node(&self, id: &str) -> Result<&GraphNode> {
        self.0.get(id).ok_or_else(|| Error::invalid(format!("the live graph has no node {id}")))
    }

    fn sources(&self, id: &str) -> impl Iterator<Item = &str> {
        let inputs = self.0.get(id).into_iter().flat_map(|node| &node.inputs);
        inputs.filter_map(|(_, value)| link(value)).map(|(source, _)| source)
    }

    /// Both ends, and whatever lies on a way from `open` to `close`.
    fn body(&self, open: &str, close: &str) -> BTreeSet<String> {
        let mut readers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut seen = BTreeSet::from([close]);
        let mut stack = vec![close];
        while let Some(reader) = stack.pop() {
            for source in self.sources(reader) {
                readers.entry(source).or_default().push(reader);
                if seen.insert(source) {
                    stack.push(source);
                }
            }
        }
        let mut body = BTreeSet::from([open.to_owned(), close.to_owned()]);
        let mut stack = vec![open];
        while let Some(source) = stack.pop() {
            for reader in readers.get(source).into_iter().flatten() {
                if body.insert((*reader).to_owned()) {
                    stack.push(reader);
                }
            }
        }
        body
    }
}

fn link(value: &Value) -> Option<(&str, u32)> {
    match value {
        Value::List(items) => match items.as_slice() {
            [Value::String(node), Value::Number(slot)] => Some((node, u32::try_from(slot.as_u64()?).ok()?)),
            _ => None,
        },
        _ => None,
    }
}

/// Names for the copies that no node of the prompt has: links to nodes outside of the loop must keep their meaning.
fn names(body: &BTreeSet<String>, own_id: &str, graph: &Graph) -> BTreeMap<String, String> {
    let name = |(index, id): (usize, &String)| {
        let mut name = if id == own_id { SELF.to_owned() } else { format!("round{index}") };
        while graph.0.contains_key(&name) {
            name.push('_');
        }
        (id.clone(), name)
    };
    body.iter().enumerate().map(name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn graph(nodes: &[(&str, &[&str])]) -> Graph {
        let node = |(id, sources): &(&str, &[&str])| {
            let link = |source: &&str| {
                let slot = Value::Number(0.into());
                ((*source).to_owned(), Value::List(vec![Value::String((*source).to_owned()), slot]))
            };
            let inputs = sources.iter().map(link).collect();
            ((*id).to_owned(), GraphNode { class: "X".to_owned(), inputs })
        };
        Graph(nodes.iter().map(node).collect())
    }

    #[test]
    fn the_body_is_what_lies_between_the_ends() {
        let graph = graph(&[
            ("before", &[]),
            ("open", &["before"]),
            ("a", &["open", "beside"]),
            ("beside", &[]),
            ("b", &["a"]),
            ("after", &["a"]),
            ("close", &["open", "b"]),
        ]);
        let body = graph.body("open", "close");
        assert_eq!(body.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "close", "open"]);
    }

    #[test]
    fn copies_take_no_name_that_is_in_use() {
        let graph = graph(&[("open", &[]), ("close", &["open"]), ("round1", &[]), ("Recurse", &[])]);
        let names = names(&graph.body("open", "close"), "close", &graph);
        assert_eq!(names["close"], "Recurse_");
        assert_eq!(names["open"], "round1_");
    }
}
