//! What waits, what runs and what has ended: prompts of all tenants, surviving the death of the process.
//!
//! A prompt that was accepted by [`Queue::enqueue`] ends exactly once in its tenant's history, unless its tenant deletes it
//! while it waits. Whoever runs it holds a [`Lease`]; if the holder dies, the prompt is run again, a limited number of times.
//! Which tenant is next is decided by [`fair`], inside a tenant the lower number goes first.
//!
//! It is not an executor, knows nothing of nodes, and sends no events. All calls block; call them from blocking threads.
//!
//! # Layout
//! - [`fair`]: whose turn it is (pure)
//! - [`quota`]: what one tenant may take
//! - [`jobs`]: a prompt as the newer job list shows it (pure)
//! - [`sqlite`]: the queue of one machine, in one file
//! - [`error`]: everything that can go wrong

#![forbid(unsafe_code)]

pub mod error;
pub mod fair;
pub mod jobs;
pub mod quota;
pub mod sqlite;

use std::time::Duration;

use indexmap::IndexMap;
use serde_json::{Map, Value};
use vivarium_protocol::history::{HistoryEntry, QueueItem};
use vivarium_protocol::limit::LimitEntry;
use vivarium_protocol::tenant::TenantId;

pub use error::QueueError;
pub use jobs::{Job, JobDetail, JobFilter, JobPage, Pagination, PromptState};
pub use quota::{QuotasOf, TenantQuota};
pub use sqlite::SqliteQueue;

/// What a queue refuses to exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Prompts of one tenant that may wait at once; one more is refused.
    pub max_pending_per_tenant: usize,
    /// Ended prompts of one tenant that are remembered; the oldest is forgotten.
    pub max_history_per_tenant: usize,
    /// How often a prompt is started before it is given up, should its worker die each time.
    pub max_attempts: u32,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { max_pending_per_tenant: 10_000, max_history_per_tenant: 10_000, max_attempts: 3 }
    }
}

impl QueueLimits {
    /// Every limit, in the order of the fields.
    #[must_use]
    pub fn entries(&self) -> Vec<LimitEntry> {
        let entry = |name, value, description| LimitEntry { name, value, unit: "count", description };
        vec![
            entry(
                "max_pending_per_tenant",
                self.max_pending_per_tenant as u64,
                "prompts of one tenant that wait; vivarium tenant quota sets less",
            ),
            entry("max_history_per_tenant", self.max_history_per_tenant as u64, "ended prompts of one tenant"),
            entry("max_attempts", self.max_attempts.into(), "starts of a prompt whose server dies each time"),
        ]
    }
}

/// A prompt on its way into the queue, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPrompt {
    /// Whose it is.
    pub tenant: TenantId,
    /// Usually unique; a repeated one is queued again, and its history entry replaces the earlier one.
    pub prompt_id: String,
    /// An explicit place in the queue: lower runs first. Without it the tenant's counter decides.
    pub number: Option<f64>,
    /// Without an explicit number: before everything that waits now.
    pub front: bool,
    /// Nodes by id.
    pub prompt: Value,
    /// What the client sent along.
    pub extra_data: Map<String, Value>,
    /// Ids of the output nodes to run.
    pub outputs: Vec<String>,
    /// The client that wants the events.
    pub client_id: Option<String>,
}

/// What lets a client repeat a request: the key is the client's, the rest tells and answers repetitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// The client's key, unique in its tenant for a day.
    pub key: String,
    /// A digest of the whole request: another request under the same key is a mistake.
    pub request: String,
    /// Handed back with repetitions; the queue does not read it.
    pub note: String,
}

/// What was queued before under a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// As in [`Once::request`].
    pub request: String,
    /// The prompt's id.
    pub prompt_id: String,
    /// Its place in the queue.
    pub number: f64,
    /// As in [`Once::note`].
    pub note: String,
}

/// A prompt that waits from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// The prompt's id.
    pub prompt_id: String,
    /// Its place in the queue.
    pub number: f64,
}

/// How [`Queue::enqueue_once`] went.
#[derive(Clone, Debug, PartialEq)]
pub enum Enqueued {
    /// The prompt is queued now.
    Now(Queued),
    /// Something was queued under this key before; the prompt is not queued.
    Before(Remembered),
}

/// The right to run a prompt, until [`Queue::finish`] or [`Queue::requeue`].
#[derive(Clone, Debug)]
pub struct Lease {
    /// Whose prompt it is.
    pub tenant: TenantId,
    /// The prompt, secrets included.
    pub item: QueueItem,
    /// The client that wants the events.
    pub client_id: Option<String>,
    /// 1 on the first run; more when earlier workers died.
    pub attempt: u32,
    /// In how many earlier runs, one after the other, the GPU failed.
    pub gpu_failures: u32,
    pub(crate) ticket: Ticket,
}

impl Lease {
    /// What a worker in another process knows of a lease. Only the process that took it can end it: to every queue this one is
    /// a lease that was taken away.
    #[must_use]
    pub fn carried(tenant: TenantId, item: QueueItem, client_id: Option<String>) -> Self {
        Self {
            tenant,
            item,
            client_id,
            attempt: 1,
            gpu_failures: 0,
            ticket: Ticket { row: -1, number: -1, estimate: 0.0 },
        }
    }
}

/// Which lease of which row; tells a live lease from one that was taken away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ticket {
    pub(crate) row: i64,
    pub(crate) number: i64,
    /// Seconds charged to the tenant in advance.
    pub(crate) estimate: f64,
}

/// The queue and the history of all tenants. Every call sees only the tenant it names.
pub trait Queue: Send + Sync {
    /// Adds a prompt, gives it its number, and stamps `extra_data.create_time` (milliseconds since 1970) where it is missing.
    ///
    /// # Errors
    /// [`QueueError::Full`], [`QueueError::Number`], or what the storage says.
    fn enqueue(&self, prompt: NewPrompt) -> Result<Queued, QueueError>;

    /// As [`Queue::enqueue`], unless something was queued under the same key within a day. Of two calls at the same time one
    /// queues; the key is as durable as the prompt.
    ///
    /// # Errors
    /// As [`Queue::enqueue`].
    fn enqueue_once(&self, prompt: NewPrompt, once: Once) -> Result<Enqueued, QueueError>;

    /// What was queued under a key within a day.
    ///
    /// # Errors
    /// What the storage says.
    fn remembered(&self, tenant: &TenantId, key: &str) -> Result<Option<Remembered>, QueueError>;

    /// Uses up a number, as a refused prompt does too.
    ///
    /// # Errors
    /// What the storage says.
    fn next_number(&self, tenant: &TenantId) -> Result<i64, QueueError>;

    /// Limits tenants further than [`QueueLimits`] does, from now on. They are asked for every time, so they may change.
    fn limit_tenants(&self, quotas: QuotasOf);

    /// Seconds of workers that a tenant used in the last hour; what runs is counted when it ends.
    fn spent_seconds(&self, tenant: &TenantId) -> f64;

    /// Counts seconds that kernels of a tenant's prompt ran on a GPU.
    ///
    /// # Errors
    /// What the storage says.
    fn spend_gpu(&self, tenant: &TenantId, seconds: f64) -> Result<(), QueueError>;

    /// Seconds of GPUs that a tenant used in the last hour.
    fn spent_gpu_seconds(&self, tenant: &TenantId) -> f64;

    /// Takes the next prompt, if any waits. `worker` is a name for people.
    ///
    /// # Errors
    /// What the storage says.
    fn lease(&self, worker: &str) -> Result<Option<Lease>, QueueError>;

    /// As [`Queue::lease`], but waits for work up to `timeout`.
    ///
    /// # Errors
    /// What the storage says.
    fn lease_wait(&self, worker: &str, timeout: Duration) -> Result<Option<Lease>, QueueError>;

    /// Moves a prompt from the queue into the history, without its secrets. `seconds` is the time it took, which is what the
    /// tenant pays with.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`] when the prompt is no longer held under this lease; nothing changes then.
    fn finish(&self, lease: &Lease, entry: HistoryEntry, seconds: f64) -> Result<(), QueueError>;

    /// Gives a prompt back unrun, at its old place; this does not count as an attempt.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`] as for [`Queue::finish`].
    fn requeue(&self, lease: &Lease) -> Result<(), QueueError>;

    /// As [`Queue::requeue`], for a prompt whose GPU failed while it ran; [`Lease::gpu_failures`] counts that.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`] as for [`Queue::finish`].
    fn requeue_lost(&self, lease: &Lease) -> Result<(), QueueError>;

    /// Takes prompts back from workers of dead processes; call it at start. Those with too many attempts end in the history as
    /// errors. The answer counts both.
    ///
    /// # Errors
    /// What the storage says.
    fn recover(&self) -> Result<usize, QueueError>;

    /// What runs, without secrets.
    ///
    /// # Errors
    /// What the storage says.
    fn running(&self, tenant: &TenantId) -> Result<Vec<QueueItem>, QueueError>;

    /// What waits, the next one first, without secrets.
    ///
    /// # Errors
    /// What the storage says.
    fn pending(&self, tenant: &TenantId) -> Result<Vec<QueueItem>, QueueError>;

    /// How many wait or run. Costs nothing.
    fn remaining(&self, tenant: &TenantId) -> usize;

    /// Removes waiting prompts; ids that are unknown or run are passed over. The answer counts the removed.
    ///
    /// # Errors
    /// What the storage says.
    fn delete_pending(&self, tenant: &TenantId, prompt_ids: &[String]) -> Result<usize, QueueError>;

    /// Removes all waiting prompts. The answer counts them.
    ///
    /// # Errors
    /// What the storage says.
    fn clear_pending(&self, tenant: &TenantId) -> Result<usize, QueueError>;

    /// Ended prompts in the order in which they ended. At most `max_items`, beginning with the entry at `offset`; without an
    /// offset (or with a negative one) the newest `max_items`.
    ///
    /// # Errors
    /// What the storage says.
    fn history(
        &self,
        tenant: &TenantId,
        max_items: Option<i64>,
        offset: Option<i64>,
    ) -> Result<IndexMap<String, HistoryEntry>, QueueError>;

    /// One ended prompt.
    ///
    /// # Errors
    /// What the storage says.
    fn history_entry(&self, tenant: &TenantId, prompt_id: &str) -> Result<Option<HistoryEntry>, QueueError>;

    /// Forgets ended prompts; unknown ids are passed over. The answer counts the forgotten.
    ///
    /// # Errors
    /// What the storage says.
    fn delete_history(&self, tenant: &TenantId, prompt_ids: &[String]) -> Result<usize, QueueError>;

    /// Forgets all ended prompts. The answer counts them.
    ///
    /// # Errors
    /// What the storage says.
    fn clear_history(&self, tenant: &TenantId) -> Result<usize, QueueError>;

    /// Where a prompt stands; what runs or waits goes before an earlier end under the same id.
    ///
    /// # Errors
    /// What the storage says.
    fn status_of(&self, tenant: &TenantId, prompt_id: &str) -> Result<Option<PromptState>, QueueError>;

    /// A page of the job list.
    ///
    /// # Errors
    /// What the storage says.
    fn jobs(&self, tenant: &TenantId, filter: &JobFilter) -> Result<JobPage, QueueError>;

    /// One job with everything about it, without secrets.
    ///
    /// # Errors
    /// What the storage says.
    fn job(&self, tenant: &TenantId, prompt_id: &str) -> Result<Option<JobDetail>, QueueError>;
}
