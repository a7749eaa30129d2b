//! Loops that are made of expansions: a round costs the same, however many went before.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vivarium_protocol::event::Event;
use vivarium_tests::{Laboratory, Settings, failure};

fn counting_down(rounds: u64) -> Value {
    json!({
        "1": {"class_type": "TestWhileLoopOpen", "inputs": {"condition": true, "initial_value0": rounds}},
        "2": {"class_type": "TestIntMathOperation", "inputs": {"a": ["1", 1], "b": 1, "operation": "subtract"}},
        "3": {"class_type": "TestToBoolNode", "inputs": {"value": ["2", 0]}},
        "4": {
            "class_type": "TestWhileLoopClose",
            "inputs": {"flow_control": ["1", 0], "condition": ["3", 0], "initial_value0": ["2", 0]}
        },
        "5": {"class_type": "TestShow", "inputs": {"value": ["4", 0]}}
    })
}

/// Bytes of all events of a loop, and the longest of them.
fn bytes_of_events(rounds: u64) -> Result<(usize, usize)> {
    let laboratory = Laboratory::start(Settings::default())?;
    let entry = laboratory.run(&counting_down(rounds))?;
    assert!(failure(&entry).is_none(), "{:?}", failure(&entry));
    assert_eq!(entry.outputs["5"]["text"], json!(["0"]));
    let events = laboratory.recorder.events();
    let size = |event: &Event| serde_json::to_string(event).map(|text| text.len());
    let sizes = events.iter().map(size).collect::<serde_json::Result<Vec<_>>>()?;
    Ok((sizes.iter().sum(), sizes.into_iter().max().context("an event")?))
}

#[test]
fn a_round_costs_the_same_however_many_went_before() -> Result<()> {
    // The first rounds have short ids, and their nodes are all told.
    let sums = [50, 150, 250].map(bytes_of_events);
    let [(first, _), (second, longest), (third, still_longest)] = sums.map(Result::unwrap_or_default);
    let (early, late) = (second - first, third - second);
    println!("the longest event has {longest} bytes, then {still_longest}");
    println!("a hundred rounds are {early} bytes of events, the next hundred {late}");
    assert!(first > 0 && late <= early + early / 20, "{early}, then {late}");
    assert!(still_longest <= longest + longest / 20);
    Ok(())
}
