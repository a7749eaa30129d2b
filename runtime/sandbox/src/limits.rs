//! Every limit on what a guest can consume, with its default. The one place that knows them: checks, error texts,
//! `vivarium doctor` and `/vivarium/limits` all read this file.

use std::time::Duration;

use vivarium_protocol::limit::LimitEntry;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Limits on one call into a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, bytes.
    pub guest_memory: u64,
    /// Elements of one table.
    pub table_elements: u64,
    /// Core instances inside one component.
    pub core_instances: u64,
    /// Stack of a guest, bytes.
    pub guest_stack: u64,
    /// Wall time of one `execute`.
    pub execute_time: Duration,
    /// Wall time of one prompt from its first node to its last; the wait in the queue does not count.
    pub prompt_time: Duration,
    /// Wall time of one `describe`, `validate`, `fingerprint` or `needed-inputs`.
    pub query_time: Duration,
    /// Tensors that one call may hold at once, bytes.
    pub call_tensor_bytes: u64,
    /// Tensors and results that one tenant may hold at once, kept ones included, bytes.
    pub tenant_tensor_bytes: u64,
    /// Results that one tenant keeps for later prompts, bytes; beyond it those go that are cheapest to compute again.
    pub cache_bytes: u64,
    /// Tensors that all tenants together may hold, bytes.
    pub total_tensor_bytes: u64,
    /// Live handles of one call.
    pub handles: u64,
    /// Bytes that one host call may copy into or out of a guest.
    pub transfer_bytes: u64,
    /// Bytes that all host calls of one call may copy.
    pub total_transfer_bytes: u64,
    /// Captured text of one call: log, standard output and standard error each, bytes.
    pub log_bytes: u64,
    /// An error message, bytes; longer ones are cut.
    pub error_bytes: u64,
    /// The JSON of one value, bytes.
    pub value_json_bytes: u64,
    /// Nesting of the JSON of one value.
    pub value_json_depth: u64,
    /// The `ui` JSON of one call, bytes.
    pub ui_bytes: u64,
    /// Object methods that call each other.
    pub object_call_depth: u64,
    /// Files that one call may save.
    pub saved_files: u64,
    /// HTTP requests of one call.
    pub http_requests: u64,
    /// Body of one HTTP request, bytes.
    pub http_request_bytes: u64,
    /// Body of one HTTP answer, bytes.
    pub http_response_bytes: u64,
    /// Redirects that one HTTP request follows.
    pub http_redirects: u64,
    /// From an HTTP request to the end of its answer, redirects included.
    pub http_time: Duration,
    /// HTTP requests of one tenant under way.
    pub http_at_once: u64,
    /// Scratch files of one pack for one tenant, bytes.
    pub scratch_bytes: u64,
    /// Scratch files of one pack for one tenant.
    pub scratch_files: u64,
    /// Names that one listing of an input folder gives.
    pub listed_files: u64,
    /// A component file, bytes.
    pub component_bytes: u64,
    /// Memory of the process that compiles a component, bytes.
    pub compile_memory: u64,
    /// Time of one compilation, by the clock and by processor time of each core.
    pub compile_time: Duration,
    /// Native code that a component becomes, bytes.
    pub compiled_bytes: u64,
    /// Instances alive at once, over all tenants.
    pub instances: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            guest_memory: 256 * MIB,
            table_elements: 20_000,
            core_instances: 32,
            guest_stack: 512 * KIB,
            execute_time: Duration::from_secs(600),
            prompt_time: Duration::from_secs(24 * 60 * 60),
            query_time: Duration::from_secs(10),
            call_tensor_bytes: 4096 * MIB,
            tenant_tensor_bytes: 6144 * MIB,
            cache_bytes: 4096 * MIB,
            total_tensor_bytes: 8192 * MIB,
            handles: 10_000,
            transfer_bytes: 64 * MIB,
            total_transfer_bytes: 4096 * MIB,
            log_bytes: 64 * KIB,
            error_bytes: 8 * KIB,
            value_json_bytes: 16 * MIB,
            value_json_depth: 100,
            ui_bytes: MIB,
            object_call_depth: 8,
            saved_files: 4096,
            http_requests: 64,
            http_request_bytes: 16 * MIB,
            http_response_bytes: 32 * MIB,
            http_redirects: 5,
            http_time: Duration::from_secs(60),
            http_at_once: 16,
            scratch_bytes: 256 * MIB,
            scratch_files: 1000,
            listed_files: 10_000,
            component_bytes: 64 * MIB,
            compile_memory: 4096 * MIB,
            compile_time: Duration::from_secs(300),
            compiled_bytes: 1024 * MIB,
            instances: 64,
        }
    }
}

impl Limits {
    /// Every limit, in the order of the fields.
    #[must_use]
    pub fn entries(&self) -> Vec<LimitEntry> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let entry = |name, value, unit, description| LimitEntry { name, value, unit, description };
        vec![
            entry("guest_memory", self.guest_memory, "bytes", "memory of one node while it runs (--guest-memory)"),
            entry("table_elements", self.table_elements, "count", "function table of one node"),
            entry("core_instances", self.core_instances, "count", "modules inside one component"),
            entry("guest_stack", self.guest_stack, "bytes", "call stack of one node"),
            entry("execute_time", ms(self.execute_time), "ms", "time of one node execution (--node-timeout)"),
            entry("prompt_time", ms(self.prompt_time), "ms", "time of all nodes of one prompt (--prompt-timeout)"),
            entry("query_time", ms(self.query_time), "ms", "time of one validation or description by a node"),
            entry(
                "call_tensor_bytes",
                self.call_tensor_bytes,
                "bytes",
                "tensors one node may hold at once (--node-tensor-memory)",
            ),
            entry(
                "tenant_tensor_bytes",
                self.tenant_tensor_bytes,
                "bytes",
                "tensors and results one tenant may hold, kept ones included (--tenant-tensor-memory)",
            ),
            entry(
                "cache_bytes",
                self.cache_bytes,
                "bytes",
                "results that one tenant keeps for later prompts (--cache-memory)",
            ),
            entry(
                "total_tensor_bytes",
                self.total_tensor_bytes,
                "bytes",
                "tensors of all tenants together (--tensor-memory)",
            ),
            entry("handles", self.handles, "count", "tensors and objects one node may hold at once"),
            entry("transfer_bytes", self.transfer_bytes, "bytes", "data copied by one host call"),
            entry(
                "total_transfer_bytes",
                self.total_transfer_bytes,
                "bytes",
                "data copied by all host calls of a node",
            ),
            entry("log_bytes", self.log_bytes, "bytes", "log and standard output of one node execution, each"),
            entry("error_bytes", self.error_bytes, "bytes", "length of a node's error message"),
            entry("value_json_bytes", self.value_json_bytes, "bytes", "JSON of one value"),
            entry("value_json_depth", self.value_json_depth, "count", "nesting of one value"),
            entry("ui_bytes", self.ui_bytes, "bytes", "what one node may show in clients and history"),
            entry("object_call_depth", self.object_call_depth, "count", "objects whose methods call each other"),
            entry("saved_files", self.saved_files, "count", "files one node execution may save"),
            entry("http_requests", self.http_requests, "count", "HTTP requests one node execution may send"),
            entry("http_request_bytes", self.http_request_bytes, "bytes", "body of one HTTP request"),
            entry("http_response_bytes", self.http_response_bytes, "bytes", "body of one HTTP answer"),
            entry("http_redirects", self.http_redirects, "count", "redirects of one HTTP request"),
            entry("http_time", ms(self.http_time), "ms", "time from an HTTP request to the end of its answer"),
            entry("http_at_once", self.http_at_once, "count", "HTTP requests of one tenant under way"),
            entry("scratch_bytes", self.scratch_bytes, "bytes", "scratch files of one pack for one tenant"),
            entry("scratch_files", self.scratch_files, "count", "scratch files of one pack for one tenant"),
            entry("listed_files", self.listed_files, "count", "names in one listing of an input folder"),
            entry("component_bytes", self.component_bytes, "bytes", "size of a pack's component"),
            entry(
                "compile_memory",
                self.compile_memory,
                "bytes",
                "memory of the process that compiles a pack (--compile-memory)",
            ),
            entry("compile_time", ms(self.compile_time), "ms", "time of compiling one pack (--compile-time)"),
            entry("compiled_bytes", self.compiled_bytes, "bytes", "native code that one pack becomes"),
            entry("instances", self.instances, "count", "node instances alive at once"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_listed_once() {
        let limits = Limits::default();
        let names: std::collections::HashSet<_> = limits.entries().into_iter().map(|entry| entry.name).collect();
        let shown = format!("{limits:?}");
        for name in &names {
            assert!(shown.contains(&format!("{name}:")), "{name} is not a field");
        }
        assert_eq!(names.len(), shown.matches(": ").count(), "a field of Limits is not listed");
    }
}
