//! A loop that counts down, made of a while loop.

use vivarium_node::prelude::*;

use crate::variants::check_own_types;
use crate::while_loop::TOKEN;

/// Begins the loop: everything between this and the other end runs `remaining` times.
#[derive(Node)]
#[node(
    category = "Testing/Flow",
    validate_types,
    output_types("FLOW_CONTROL", "INT", "*", "*", "*", "*"),
    output_names("flow_control", "remaining", "initial_value1", "initial_value2", "initial_value3", "initial_value4")
)]
pub(crate) struct TestForLoopOpen {
    #[input(default = 1, min = 0, max = 100_000, step = 1)]
    remaining: i64,
    initial_value1: Option<Value>,
    initial_value2: Option<Value>,
    initial_value3: Option<Value>,
    initial_value4: Option<Value>,
    /// What remains, once the loop runs.
    #[input(hidden = "*")]
    initial_value0: Option<Value>,
}

type Opened = (String, Value, Option<Value>, Option<Value>, Option<Value>, Option<Value>);

impl Run for TestForLoopOpen {
    type Output = Expansion<Opened>;

    fn run(self) -> Result<Expansion<Opened>> {
        let remaining = match self.initial_value0 {
            Some(remaining) => remaining,
            None => self.remaining.into_value()?,
        };
        let mut expansion = Expansion::new();
        expansion
            .node("while_open", "TestWhileLoopOpen")
            .input("condition", remaining.clone())?
            .input("initial_value0", remaining.clone())?
            .input("initial_value1", self.initial_value1.clone())?
            .input("initial_value2", self.initial_value2.clone())?
            .input("initial_value3", self.initial_value3.clone())?
            .input("initial_value4", self.initial_value4.clone())?;
        expansion
            .value(TOKEN.to_owned())?
            .value(remaining)?
            .value(self.initial_value1)?
            .value(self.initial_value2)?
            .value(self.initial_value3)?
            .value(self.initial_value4)
    }
}

/// Ends the loop. Its inputs are links, for their values are computed anew in every round.
#[derive(Node)]
#[node(
    category = "Testing/Flow",
    validate_types,
    output_types("*", "*", "*", "*"),
    output_names("initial_value1", "initial_value2", "initial_value3", "initial_value4")
)]
pub(crate) struct TestForLoopClose {
    #[input(raw_link, type = "FLOW_CONTROL")]
    flow_control: NodeOutput,
    #[input(raw_link)]
    initial_value1: Option<Value>,
    #[input(raw_link)]
    initial_value2: Option<Value>,
    #[input(raw_link)]
    initial_value3: Option<Value>,
    #[input(raw_link)]
    initial_value4: Option<Value>,
}

type Values = (Value, Value, Value, Value);

impl Run for TestForLoopClose {
    type Output = Expansion<Values>;

    fn run(self) -> Result<Expansion<Values>> {
        let mut expansion = Expansion::new();
        let remaining = expansion
            .node("remaining", "TestIntMathOperation")
            .link("a", NodeOutput::of(self.flow_control.node_id(), 1))
            .input("b", 1i64)?
            .input("operation", "subtract".to_owned())?
            .output(0);
        let goes_on = expansion.node("goes_on", "TestToBoolNode").link("value", remaining.clone()).output(0);
        let mut close = expansion
            .node("while_close", "TestWhileLoopClose")
            .link("flow_control", self.flow_control)
            .link("condition", goes_on)
            .link("initial_value0", remaining);
        let values = [self.initial_value1, self.initial_value2, self.initial_value3, self.initial_value4];
        for (index, value) in values.into_iter().enumerate() {
            if let Some(value) = value {
                close = close.input(&format!("initial_value{}", index + 1), value)?;
            }
        }
        let outputs = [1, 2, 3, 4].map(|slot| close.output(slot));
        Ok(outputs.into_iter().fold(expansion, Expansion::slot))
    }
}

check_own_types!(TestForLoopOpen, TestForLoopClose);
