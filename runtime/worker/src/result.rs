//! What a node produced, and what keeping it costs.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use vivarium_sandbox::NodeValue;
use vivarium_tensor::{Budget, BudgetExceeded, Charge};

/// What the tables around a result take, about.
const OVERHEAD: u64 = 256;

/// What a node produced. Tensors and objects are charged to the tenant where they are made; the rest is charged here, as long as anybody
/// holds the result: else a node could fill the host's memory with text.
#[derive(Debug, Default)]
pub(crate) struct NodeResult {
    /// One list of values per output slot.
    pub(crate) slots: Vec<Vec<NodeValue>>,
    /// ComfyUI's `ui` object.
    pub(crate) ui: Option<Map<String, Value>>,
    /// How long the node took.
    pub(crate) took: Duration,
    /// Of tensors and objects.
    charged_bytes: u64,
    plain_bytes: u64,
    charge: Option<Charge>,
}

impl NodeResult {
    /// Measures a result. Tensors that share a storage count once.
    pub(crate) fn new(slots: Vec<Vec<NodeValue>>, ui: Option<Map<String, Value>>, took: Duration) -> Self {
        let (mut storages, mut charged_bytes) = (HashSet::new(), 0);
        let mut plain_bytes =
            OVERHEAD + ui.iter().flatten().map(|(key, value)| text(key) + size_of_json(value)).sum::<u64>();
        for value in slots.iter().flatten() {
            plain_bytes += value.plain_bytes();
            charged_bytes += value.object_bytes();
            value.for_each_tensor(&mut |tensor| {
                if storages.insert(tensor.storage_id()) {
                    charged_bytes += tensor.charged_bytes();
                }
            });
        }
        Self { slots, ui, took, charged_bytes, plain_bytes, charge: None }
    }

    /// Charges what is neither.
    ///
    /// # Errors
    /// When the account has no room for it.
    pub(crate) fn charge(&mut self, budget: &Arc<Budget>) -> Result<(), BudgetExceeded> {
        self.charge = Some(budget.charge(self.plain_bytes)?);
        Ok(())
    }

    /// Bytes that this result keeps alive.
    pub(crate) fn bytes(&self) -> u64 {
        self.charged_bytes + self.plain_bytes
    }
}

fn text(text: &str) -> u64 {
    OVERHEAD / 4 + text.len() as u64
}

fn size_of_json(value: &Value) -> u64 {
    let inside = match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(size_of_json).sum(),
        Value::Object(entries) => entries.iter().map(|(key, value)| text(key) + size_of_json(value)).sum(),
        _ => 0,
    };
    size_of::<Value>() as u64 + inside
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;
    use vivarium_sandbox::NodeValue;
    use vivarium_tensor::{DType, OpContext, Tensor};

    use super::*;

    #[test]
    fn a_storage_counts_once_however_often_it_is_in_a_result() {
        let budget = Budget::root(1 << 20);
        let tensor = Tensor::zeros(&[4, 256], DType::Float32, &OpContext::new(budget)).unwrap();
        let row = tensor.slice(0, 0, 1, 1, &OpContext::new(Budget::root(1 << 20))).unwrap();
        let slots = vec![vec![NodeValue::Tensor(tensor.clone()), NodeValue::Tensor(row)]];
        let result = NodeResult::new(slots, None, Duration::ZERO);
        assert_eq!(result.charged_bytes, tensor.charged_bytes());
    }

    #[test]
    fn values_are_charged_until_nobody_holds_them() {
        let budget = Budget::root(1_000_000);
        let list = |items: usize| {
            let value = NodeValue::from_json(&json!(vec![1; items]));
            NodeResult::new(vec![vec![value]], None, Duration::ZERO)
        };
        let mut result = list(1000);
        result.charge(&budget).unwrap();
        assert!(budget.used() >= 1000 * size_of::<NodeValue>() as u64, "{} bytes are charged", budget.used());
        let refused = list(100_000).charge(&budget).unwrap_err();
        assert!(refused.to_string().contains("limited to 1000000 bytes"));
        drop(result);
        assert_eq!(budget.used(), 0);
    }
}
