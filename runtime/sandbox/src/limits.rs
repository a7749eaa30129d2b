//! Every limit on what a guest can consume, with its default. The one place that knows them: checks, error texts,
//! `limits.toml`, `vivarium doctor` and `/vivarium/limits` all read this file.

use std::{collections::BTreeMap, time::Duration};

use vivarium_protocol::limit::LimitEntry;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// For whom a limit can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For the whole server only: all share what it bounds.
    Server,
    /// For the server and for a tenant.
    Tenant,
    /// For the server, a tenant, a pack, and a pack when it works for a tenant.
    Call,
    /// As [`Scope::Call`], but no higher than for the server, which has set aside that much.
    CallLower,
}

/// A value that a limit can have.
trait Value: Copy {
    /// As people see it.
    fn number(self) -> u64;
    fn of(number: u64) -> Self;
}

impl Value for u64 {
    fn number(self) -> u64 {
        self
    }

    fn of(number: u64) -> Self {
        number
    }
}

impl Value for Duration {
    fn number(self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }

    fn of(number: u64) -> Self {
        Self::from_millis(number)
    }
}

/// The struct, its defaults, and the same as a table: a limit that is not listed does not exist.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:expr, $unit:literal, $scope:ident, $words:literal;)+) => {
        /// Limits on one call into a guest.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: $kind,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Limits {
            /// Every limit, in the order of the fields.
            #[must_use]
            pub fn entries(&self) -> Vec<LimitEntry> {
                vec![$(LimitEntry {
                    name: stringify!($name),
                    value: self.$name.number(),
                    unit: $unit,
                    description: $words,
                }),+]
            }

            /// Every limit by name, for [`Limits::from_values`] in another process.
            #[must_use]
            pub fn to_values(&self) -> BTreeMap<String, u64> {
                self.entries().into_iter().map(|entry| (entry.name.to_owned(), entry.value)).collect()
            }

            /// The defaults with these values; names that are no limits are left out.
            #[must_use]
            pub fn from_values(values: &BTreeMap<String, u64>) -> Self {
                let mut limits = Self::default();
                values.iter().for_each(|(name, value)| {
                    limits.set(name, *value);
                });
                limits
            }

            /// For whom a limit can be set, and its unit. `None` for what is no limit.
            #[must_use]
            pub fn about(name: &str) -> Option<(Scope, &'static str)> {
                match name {
                    $(stringify!($name) => Some((Scope::$scope, $unit)),)+
                    _ => None,
                }
            }

            /// A limit's value in its unit.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => Some(self.$name.number()),)+
                    _ => None,
                }
            }

            /// Sets a limit to a value in its unit. Answers whether there is one of this name.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($name) => self.$name = <$kind as Value>::of(value),)+
                    _ => return false,
                }
                true
            }
        }
    };
}

limits! {
    /// Linear memory of one instance, bytes.
    guest_memory: u64 = 256 * MIB, "bytes", CallLower, "memory of one node while it runs (--guest-memory)";
    /// Elements of one table.
    table_elements: u64 = 20_000, "count", CallLower, "function table of one node";
    /// Core instances inside one component.
    core_instances: u64 = 64, "count", Server, "modules inside one component";
    /// Stack of a guest, bytes.
    guest_stack: u64 = 512 * KIB, "bytes", Server, "call stack of one node";
    /// Wall time of one `execute`.
    execute_time: Duration = Duration::from_secs(600), "ms", Call, "time of one node execution (--node-timeout)";
    /// Wall time of one prompt from its first node to its last; the wait in the queue does not count.
    prompt_time: Duration = Duration::from_secs(24 * 60 * 60), "ms", Tenant, "time of all nodes of one prompt (--prompt-timeout)";
    /// Wall time of one `describe`, `validate`, `fingerprint` or `needed-inputs`.
    query_time: Duration = Duration::from_secs(10), "ms", Call, "time of one validation or description by a node";
    /// Tensors that one call may hold at once, bytes.
    call_tensor_bytes: u64 = 4096 * MIB, "bytes", Call, "tensors one node may hold at once (--node-tensor-memory)";
    /// Tensors and results that one tenant may hold at once, kept ones included, bytes.
    tenant_tensor_bytes: u64 = 6144 * MIB, "bytes", Tenant, "tensors and results one tenant may hold, kept ones included (--tenant-tensor-memory)";
    /// Results that one tenant keeps for later prompts, bytes; beyond it those go that are cheapest to compute again.
    cache_bytes: u64 = 4096 * MIB, "bytes", Tenant, "results that one tenant keeps for later prompts (--cache-memory)";
    /// Tensors that all tenants together may hold, bytes.
    total_tensor_bytes: u64 = 8192 * MIB, "bytes", Server, "tensors of all tenants together (--tensor-memory)";
    /// Tensors of one tenant in a GPU's memory, bytes.
    tenant_gpu_bytes: u64 = 1024 * 1024 * MIB, "bytes", Tenant, "tensors of one tenant in the memory of each GPU, at most total_gpu_bytes (--tenant-gpu-memory)";
    /// Tensors of all tenants together in a GPU's memory, bytes.
    total_gpu_bytes: u64 = 1024 * 1024 * MIB, "bytes", Server, "tensors of all tenants in the memory of each GPU, at most nine tenths of what it has (--gpu-memory)";
    /// Live handles of one call.
    handles: u64 = 10_000, "count", Call, "tensors and objects one node may hold at once";
    /// Weights files that one call has open.
    open_files: u64 = 256, "count", Call, "weights files one node may have open at once";
    /// Bytes that one host call may copy into or out of a guest.
    transfer_bytes: u64 = 64 * MIB, "bytes", Call, "data copied by one host call";
    /// Bytes that all host calls of one call may copy.
    total_transfer_bytes: u64 = 4096 * MIB, "bytes", Call, "data copied by all host calls of a node";
    /// Bytes that one call may have copied from memory to the GPU and back.
    gpu_transfer_bytes: u64 = 256 * 1024 * MIB, "bytes", Call, "data copied between memory and the GPU by one node";
    /// Captured text of one call: log, standard output and standard error each, bytes.
    log_bytes: u64 = 64 * KIB, "bytes", Call, "log and standard output of one node execution, each";
    /// An error message, bytes; longer ones are cut.
    error_bytes: u64 = 8 * KIB, "bytes", Call, "length of a node's error message";
    /// The JSON of one value, bytes.
    value_json_bytes: u64 = 16 * MIB, "bytes", Call, "JSON of one value";
    /// Nesting of the JSON of one value.
    value_json_depth: u64 = 100, "count", Server, "nesting of one value";
    /// The `ui` JSON of one call, bytes.
    ui_bytes: u64 = MIB, "bytes", Call, "what one node may show in clients and history";
    /// Object methods that call each other.
    object_call_depth: u64 = 8, "count", Call, "objects whose methods call each other";
    /// Files that one call may save.
    saved_files: u64 = 4096, "count", Call, "files one node execution may save";
    /// HTTP requests of one call.
    http_requests: u64 = 64, "count", Call, "HTTP requests one node execution may send";
    /// Body of one HTTP request, bytes.
    http_request_bytes: u64 = 16 * MIB, "bytes", Call, "body of one HTTP request";
    /// Body of one HTTP answer, bytes.
    http_response_bytes: u64 = 32 * MIB, "bytes", Call, "body of one HTTP answer";
    /// Redirects that one HTTP request follows.
    http_redirects: u64 = 5, "count", Call, "redirects of one HTTP request";
    /// From an HTTP request to the end of its answer, redirects included.
    http_time: Duration = Duration::from_secs(60), "ms", Call, "time from an HTTP request to the end of its answer";
    /// HTTP requests of one tenant under way.
    http_at_once: u64 = 16, "count", Tenant, "HTTP requests of one tenant under way";
    /// Scratch files of one pack for one tenant, bytes.
    scratch_bytes: u64 = 256 * MIB, "bytes", Call, "scratch files of one pack for one tenant";
    /// Scratch files of one pack for one tenant.
    scratch_files: u64 = 1000, "count", Call, "scratch files of one pack for one tenant";
    /// Names that one listing of an input folder gives.
    listed_files: u64 = 10_000, "count", Call, "names in one listing of an input folder";
    /// A component file, bytes.
    component_bytes: u64 = 64 * MIB, "bytes", Server, "size of a pack's component";
    /// Memory of the process that compiles a component, bytes.
    compile_memory: u64 = 4096 * MIB, "bytes", Server, "memory of the process that compiles a pack (--compile-memory)";
    /// Time of one compilation, by the clock and by processor time of each core.
    compile_time: Duration = Duration::from_secs(300), "ms", Server, "time of compiling one pack (--compile-time)";
    /// Native code that a component becomes, bytes.
    compiled_bytes: u64 = 1024 * MIB, "bytes", Server, "native code that one pack becomes";
    /// Instances alive at once, over all tenants.
    instances: u64 = 64, "count", Server, "node instances alive at once";
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_limit_can_be_read_and_set_by_its_name() {
        let mut limits = Limits::default();
        for entry in Limits::default().entries() {
            let (_, unit) = Limits::about(entry.name).unwrap();
            assert_eq!((unit, limits.get(entry.name)), (entry.unit, Some(entry.value)));
            assert!(limits.set(entry.name, entry.value + 1));
            assert_eq!(limits.get(entry.name), Some(entry.value + 1));
        }
        assert!(!limits.set("everything", 1) && Limits::about("everything").is_none());
        assert_ne!(limits, Limits::default());
    }
}
