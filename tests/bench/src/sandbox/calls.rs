//! Calls into packs as the worker makes them, for nobody in particular.

use std::sync::Arc;

use anyhow::Result;
use vivarium_protocol::tenant::TenantId;
use vivarium_sandbox::{CallContext, Limits, NodeValue};
use vivarium_tensor::{Budget, DType, OpContext, Tensor};

use super::nobody::Nobody;

/// Makes contexts of calls.
pub(super) struct Caller {
    template: CallContext,
}

impl Caller {
    /// With the limits of `vivarium serve`.
    pub(super) fn new() -> Self {
        let limits = Arc::new(Limits::default());
        let template = CallContext {
            tenant: TenantId::default_tenant(),
            prompt_id: Arc::from("bench"),
            node_id: Arc::from("1"),
            budget: Budget::root(limits.tenant_tensor_bytes),
            gpu: None,
            limits,
            interrupt: Arc::default(),
            services: Arc::new(Nobody),
            deadline: None,
            depth: 0,
        };
        Self { template }
    }

    pub(super) fn context(&self) -> CallContext {
        self.template.clone()
    }

    /// With other limits.
    pub(super) fn within(&self, limits: Limits) -> CallContext {
        CallContext { limits: Arc::new(limits), ..self.template.clone() }
    }

    /// A float32 tensor.
    pub(super) fn zeros(&self, shape: &[u64]) -> Result<Tensor> {
        Ok(Tensor::zeros(shape, DType::Float32, &OpContext::new(self.template.budget.clone()))?)
    }
}

/// The inputs of a node.
pub(super) fn inputs(entries: impl IntoIterator<Item = (&'static str, NodeValue)>) -> NodeValue {
    NodeValue::Map(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
