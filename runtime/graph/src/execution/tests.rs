#![allow(clippy::unwrap_used)]
use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};
use vivarium_protocol::definition::DefinitionMap;
use vivarium_protocol::prompt::Prompt;

use super::*;
use crate::limits::GraphLimits;
use crate::testing::{chain, definitions, prompt};

fn nothing_cached(_: &str) -> bool {
    false
}

struct Run {
    prompt: DynamicPrompt,
    definitions: DefinitionMap,
    list: ExecutionList,
}

impl Run {
    fn new(prompt: Prompt, outputs: &[&str]) -> Self {
        let mut run = Self {
            prompt: DynamicPrompt::new(prompt, &GraphLimits::default()),
            definitions: definitions(),
            list: ExecutionList::new(),
        };
        for output in outputs {
            run.on(|list, lookup| list.add_node(output, lookup)).unwrap();
        }
        run
    }

    fn on<T>(&mut self, act: impl FnOnce(&mut ExecutionList, &Lookup<'_>) -> T) -> T {
        let lookup = Lookup { prompt: &self.prompt, definitions: &self.definitions, is_cached: &nothing_cached };
        act(&mut self.list, &lookup)
    }

    fn next(&mut self) -> Step {
        self.list.stage_next(&self.prompt)
    }

    fn run(&mut self, id: &str) {
        assert_eq!(self.next(), Step::Run(id.to_owned()));
    }

    /// Runs everything and answers the order.
    fn order(&mut self) -> Vec<String> {
        let mut order = Vec::new();
        loop {
            match self.next() {
                Step::Run(id) => {
                    self.list.complete(&id);
                    order.push(id);
                }
                Step::Done => return order,
                other => panic!("{other:?} after {order:?}"),
            }
        }
    }
}

#[test]
fn outputs_are_shown_as_soon_as_they_can_be() {
    let mut run = Run::new(
        prompt(&[
            ("save", "Save", json!({"images": ["far", 0]})),
            ("far", "Invert", json!({"image": ["source", 0]})),
            ("source", "Empty", json!({})),
            ("preview", "Show", json!({"any": ["source", 0]})),
        ]),
        &["save", "preview"],
    );
    assert_eq!(run.order(), ["source", "preview", "far", "save"]);
}

#[test]
fn ancestors_of_the_last_link_come_first() {
    let mut run = Run::new(
        prompt(&[
            ("save", "Save", json!({"images": ["blend", 0]})),
            ("blend", "Blend", json!({"image": ["a2", 0], "image2": ["b2", 0]})),
            ("a2", "Invert", json!({"image": ["a1", 0]})),
            ("a1", "Empty", json!({})),
            ("b2", "Invert", json!({"image": ["b1", 0]})),
            ("b1", "Empty", json!({})),
        ]),
        &["save"],
    );
    assert_eq!(run.order(), ["b1", "b2", "a1", "a2", "blend", "save"]);
}

#[test]
fn what_an_output_waits_for_goes_before_the_rest() {
    let mut run = Run::new(
        prompt(&[
            ("deep", "Save", json!({"images": ["d2", 0]})),
            ("d2", "Invert", json!({"image": ["d1", 0]})),
            ("d1", "Invert", json!({"image": ["d0", 0]})),
            ("d0", "Empty", json!({})),
            ("shallow", "Save", json!({"images": ["s0", 0]})),
            ("s0", "Empty", json!({})),
            ("middle", "Save", json!({"images": ["m1", 0]})),
            ("m1", "Invert", json!({"image": ["m0", 0]})),
            ("m0", "Empty", json!({})),
        ]),
        &["deep", "shallow", "middle"],
    );
    assert_eq!(run.order(), ["s0", "shallow", "m0", "m1", "middle", "d0", "d1", "d2", "deep"]);
}

#[test]
fn lazy_inputs_wait_until_they_are_asked_for() {
    let nodes = prompt(&[
        ("save", "Save", json!({"images": ["switch", 0]})),
        ("switch", "Switch", json!({"which": 1, "a": ["a", 0], "b": ["b", 0]})),
        ("a", "Empty", json!({})),
        ("b", "Empty", json!({})),
    ]);
    let mut run = Run::new(nodes, &["save"]);
    run.run("switch");
    run.on(|list, lookup| list.need_input("switch", "a", lookup)).unwrap();
    run.on(|list, lookup| list.need_input("switch", "a", lookup)).unwrap();
    run.list.unstage("switch");
    assert_eq!(run.order(), ["a", "switch", "save"]);

    let absent = run.on(|list, lookup| list.need_input("switch", "c", lookup)).unwrap_err();
    assert_eq!(absent.to_string(), "Node switch says it needs input c, but there is no input to that node at all");
    let constant = run.on(|list, lookup| list.need_input("switch", "which", lookup)).unwrap_err();
    assert_eq!(constant.to_string(), "Node switch says it needs input which, but that value is a constant");
}

#[test]
fn lazy_means_nothing_without_the_hook() {
    let mut definitions = definitions();
    definitions.get_mut("Switch").unwrap().has_needed_inputs = false;
    let nodes = prompt(&[("s", "Switch", json!({"a": ["a", 0]})), ("a", "Empty", json!({}))]);
    let mut run =
        Run { prompt: DynamicPrompt::new(nodes, &GraphLimits::default()), definitions, list: ExecutionList::new() };
    run.on(|list, lookup| list.add_node("s", lookup)).unwrap();
    assert_eq!(run.order(), ["a", "s"]);
}

#[test]
fn cached_nodes_are_not_waited_for_and_hide_what_is_behind_them() {
    let prompt = DynamicPrompt::new(serde_json::from_value(chain(5)).unwrap(), &GraphLimits::default());
    let definitions = definitions();
    let mut list = ExecutionList::new();
    let lookup = Lookup { prompt: &prompt, definitions: &definitions, is_cached: &|id| id == "3" };
    list.add_node("save", &lookup).unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!(list.stage_next(&prompt), Step::Run("4".to_owned()));
}

#[test]
fn an_expansion_runs_before_its_parent_goes_on() {
    let mut run = Run::new(
        prompt(&[
            ("save", "Save", json!({"images": ["x", 0]})),
            ("x", "Invert", json!({"image": ["e", 0]})),
            ("e", "Empty", json!({})),
        ]),
        &["save"],
    );
    run.run("e");
    run.list.complete("e");
    run.run("x");
    let graph = prompt(&[
        ("x.1", "Invert", json!({"image": ["e", 0]})),
        ("x.2", "Show", json!({"any": ["x.1", 0]})),
        ("x.unused", "Empty", json!({})),
    ]);
    let added = run.prompt.expand("x", graph).unwrap();
    let results = [Link { node: "x.1".to_owned(), slot: 0 }];
    let lookup = Lookup { prompt: &run.prompt, definitions: &run.definitions, is_cached: &|id| id == "e" };
    run.list.add_expansion("x", &added, &results, &lookup).unwrap();
    run.list.unstage("x");
    assert_eq!(run.order(), ["x.1", "x.2", "x", "save"]);
}

#[test]
fn a_link_to_nowhere_names_both_ends() {
    let mut run = Run::new(prompt(&[("x", "Invert", json!({"image": ["77", 0]}))]), &[]);
    let error = run.on(|list, lookup| list.add_node("x", lookup)).unwrap_err();
    assert_eq!(error.to_string(), "Node x has a link to node 77, which is not in the prompt");
    assert_eq!(error.node(), "x");
    let mut run = Run::new(prompt(&[("x", "Nope", json!({}))]), &[]);
    let error = run.on(|list, lookup| list.add_node("x", lookup)).unwrap_err();
    assert_eq!(error.to_string(), "Node x is of class Nope, which does not exist; install the pack that offers it");
}

#[test]
fn a_cycle_is_found_when_nothing_can_run_and_blamed_on_a_posted_node() {
    let mut run = Run::new(
        prompt(&[
            ("save", "Save", json!({"images": ["a", 0]})),
            ("a", "Invert", json!({"image": ["b", 0]})),
            ("b", "Invert", json!({"image": ["a", 0]})),
        ]),
        &["save"],
    );
    let Step::Cycle(cycle) = run.next() else { panic!() };
    assert_eq!((cycle.blamed.as_str(), cycle.nodes.len()), ("a", 2));
    assert_eq!(cycle.to_string(), "Dependency cycle detected");

    let mut run = Run::new(prompt(&[("x", "Switch", json!({}))]), &["x"]);
    run.run("x");
    let graph =
        prompt(&[("x.1", "Invert", json!({"image": ["x.2", 0]})), ("x.2", "Invert", json!({"image": ["x.1", 0]}))]);
    let added = run.prompt.expand("x", graph).unwrap();
    let results = [Link { node: "x.1".to_owned(), slot: 0 }];
    run.on(|list, lookup| list.add_expansion("x", &added, &results, lookup)).unwrap();
    assert_eq!(run.next(), Step::Wait);
    run.list.unstage("x");
    let Step::Cycle(cycle) = run.next() else { panic!() };
    assert_eq!(cycle.blamed, "x");
    assert_eq!(cycle.nodes, ["x.2", "x.1"]);
}

#[test]
fn a_node_that_links_to_itself_is_a_cycle() {
    let mut run = Run::new(prompt(&[("a", "Invert", json!({"image": ["a", 0]}))]), &["a"]);
    assert_eq!(run.next(), Step::Cycle(DependencyCycle { blamed: "a".to_owned(), nodes: vec!["a".to_owned()] }));
}

#[test]
fn several_nodes_may_run_at_once() {
    let mut run = Run::new(
        prompt(&[
            ("save", "Save", json!({"images": ["blend", 0]})),
            ("blend", "Blend", json!({"image": ["a", 0], "image2": ["b", 0]})),
            ("a", "Empty", json!({})),
            ("b", "Empty", json!({})),
        ]),
        &["save"],
    );
    run.run("b");
    run.run("a");
    assert_eq!(run.next(), Step::Wait);
    run.list.complete("b");
    assert_eq!(run.next(), Step::Wait);
    run.list.complete("a");
    run.run("blend");
}

#[test]
fn size_costs_no_more_than_linear_time() {
    let start = Instant::now();
    let mut run = Run::new(serde_json::from_value(chain(100_000)).unwrap(), &["save"]);
    assert_eq!(run.order().len(), 100_002);

    let mut fan = serde_json::Map::new();
    fan.insert("source".to_owned(), json!({"class_type": "Empty", "inputs": {}}));
    let mut inputs = serde_json::Map::new();
    for index in 0..50_000 {
        fan.insert(index.to_string(), json!({"class_type": "Invert", "inputs": {"image": ["source", 0]}}));
        inputs.insert(format!("i{index}"), json!([index.to_string(), 0]));
    }
    fan.insert("join".to_owned(), json!({"class_type": "Variadic", "inputs": inputs}));
    fan.insert("save".to_owned(), json!({"class_type": "Save", "inputs": {"images": ["join", 0]}}));
    let mut run = Run::new(serde_json::from_value(Value::Object(fan)).unwrap(), &["save"]);
    assert_eq!(run.order().len(), 50_003);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

/// The rules, written down naively: ready nodes in order of age, then the four groups.
fn naive_pick(nodes: &[(String, bool)], edges: &[(usize, usize)], gone: &[bool]) -> Option<usize> {
    let blocks = |from: usize| edges.iter().filter(move |edge| edge.0 == from).map(|edge| edge.1);
    let ready: Vec<usize> = (0..nodes.len())
        .filter(|index| !gone[*index] && edges.iter().all(|edge| edge.1 != *index || gone[edge.0]))
        .collect();
    let output = |index: usize| nodes[index].1;
    let groups: [&dyn Fn(usize) -> bool; 4] = [
        &output,
        &|index| blocks(index).any(output),
        &|index| blocks(index).any(|next| blocks(next).any(output)),
        &|_| true,
    ];
    groups.iter().find_map(|group| ready.iter().copied().find(|index| group(*index)))
}

proptest! {
    #[test]
    fn picks_as_the_rules_say(shape in proptest::collection::vec((any::<bool>(), proptest::collection::vec(0_usize..12, 0..3)), 1..12)) {
        let mut nodes = serde_json::Map::new();
        for (index, (output, sources)) in shape.iter().enumerate() {
            let class = if *output { "Show" } else { "Variadic" };
            let name = |position: usize| if *output { "any".to_owned() } else { format!("i{position}") };
            let inputs: serde_json::Map<String, Value> = sources
                .iter()
                .filter(|source| **source < index)
                .enumerate()
                .map(|(position, source)| (name(position), json!([source.to_string(), 0])))
                .collect();
            nodes.insert(index.to_string(), json!({"class_type": class, "inputs": inputs}));
        }
        let last = (shape.len() - 1).to_string();
        let mut run = Run::new(serde_json::from_value(Value::Object(nodes)).unwrap(), &[&last]);
        let known: Vec<(String, bool)> = run.list.entries.iter().map(|entry| (entry.id.clone(), entry.output)).collect();
        let edges: Vec<(usize, usize)> = run.list.edges.iter().copied().collect();
        let mut gone = vec![false; known.len()];
        while let Some(expected) = naive_pick(&known, &edges, &gone) {
            prop_assert_eq!(run.next(), Step::Run(known[expected].0.clone()));
            gone[expected] = true;
            run.list.complete(&known[expected].0);
        }
        prop_assert_eq!(run.next(), Step::Done);
    }
}

#[test]
fn what_could_run_ahead_is_known_without_running_it() {
    let nodes = prompt(&[
        ("a", "Empty", json!({})),
        ("a1", "Invert", json!({"image": ["a", 0]})),
        ("b", "Empty", json!({})),
        ("b1", "Blend", json!({"image": ["b", 0], "image2": ["a", 0]})),
        ("save", "Save", json!({"images": ["a1", 0]})),
        ("show", "Show", json!({"any": ["b1", 0]})),
        ("first", "Show", json!({"any": 1})),
    ]);
    let mut run = Run::new(nodes, &["save", "show", "first"]);
    let ready = |run: &Run| run.list.ready().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(ready(&run), ["a", "b"], "output nodes run in their turn only");
    run.run("first");
    run.run("a");
    assert_eq!(ready(&run), ["b"], "what runs is not ready");
    assert!(run.list.unlocked_by("b", |id| id == "b").is_empty(), "b1 waits for a, too");
    assert_eq!(run.list.unlocked_by("b", |id| id == "b" || id == "a"), ["b1"]);
    run.list.complete("a");
    assert_eq!(run.list.unlocked_by("b", |id| id == "b"), ["b1"]);
    assert!(run.list.unlocked_by("a", |_| true).is_empty(), "what has run unlocked already");
}
