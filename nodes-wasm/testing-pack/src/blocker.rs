//! A stop sign.

use vivarium_node::prelude::*;

use crate::variants::check_own_types;

/// Lets a value through, or stops everything behind it.
#[derive(Node)]
#[node(category = "Testing/Flow", output_names("output"), validate_types)]
pub(crate) struct TestExecutionBlocker {
    input: Value,
    block: bool,
    /// Tell the client.
    #[input(default = false)]
    verbose: bool,
}

impl Run for TestExecutionBlocker {
    type Output = Blockable<Value>;

    fn run(self) -> Result<Blockable<Value>> {
        if !self.block {
            return Ok(Blockable::Value(self.input));
        }
        Ok(Blockable::Blocked(self.verbose.then(|| "Blocked Execution".to_owned())))
    }
}

check_own_types!(TestExecutionBlocker);
