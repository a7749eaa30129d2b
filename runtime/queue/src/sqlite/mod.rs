//! The queue of one machine: one SQLite file, one process.
//!
//! The file is the truth. Counts and turns are kept in memory beside it, changed under the same lock as the writing
//! connection, and are rebuilt from the file at start; that is why a second process is refused. Reading goes through a
//! connection of its own, and reading counts through none.
//!
//! Prompts wait with their secrets (keys of clients), or they could not run after a restart. The file is its owner's alone,
//! and what leaves the queue is overwritten: see `secrets`.
//!
//! # Layout
//! - `schema`: tables, opening, the lock against a second server
//! - `waiting`: from enqueue to lease, and back; `fresh`: the newest of what waits, in memory
//! - `counts`: how many wait, run and have ended
//! - `ended`: from lease to history
//! - `listing`: the job list
//! - `secrets`: what is overwritten, and when
//! - `spent`: seconds that tenants used
//! - `once`: what was queued under the keys of clients

mod counts;
mod ended;
mod fresh;
mod listing;
mod once;
mod schema;
mod secrets;
mod spent;
mod waiting;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use indexmap::IndexMap;
use parking_lot::{Condvar, Mutex, RwLock};
use rusqlite::Connection;
use vivarium_protocol::history::{HistoryEntry, QueueItem};
use vivarium_protocol::tenant::TenantId;

use self::{
    counts::{AllCounts, Counts},
    ended::Ending,
    fresh::Fresh,
};
use crate::fair::FairScheduler;
use crate::quota::{QuotasOf, Spent, TenantQuota};
use crate::{
    Enqueued, JobDetail, JobFilter, JobPage, Lease, NewPrompt, Once, PromptState, Queue, QueueError, QueueLimits,
    Queued, Remembered,
};

/// See the [module](self).
pub struct SqliteQueue {
    path: PathBuf,
    limits: QueueLimits,
    quotas: RwLock<Option<QuotasOf>>,
    state: Mutex<State>,
    /// The same as in the state, for who only asks.
    counts: AllCounts,
    reader: Mutex<Connection>,
    /// Told when a prompt begins to wait.
    work: Condvar,
    // Held open for as long as the queue is.
    _lock: File,
}

/// What changes happen under.
struct State {
    connection: Connection,
    scheduler: FairScheduler<TenantId>,
    counts: AllCounts,
    fresh: Fresh,
    spent: Spent,
    spent_gpu: Spent,
    /// When the last prompt has left the queue, the file and its log may hold secrets nevertheless.
    stale_secrets: bool,
    /// Never reused while the process lives, so that an old lease can't mean a new row.
    next_row: i64,
    next_lease: i64,
    /// Leases with lower numbers were given by a process that is dead now.
    first_own_lease: i64,
}

impl State {
    /// To be called when prompts of a tenant stopped waiting.
    fn stopped_waiting(&mut self, tenant: &TenantId, removed: usize) {
        let now = self.counts.change(tenant, |counts| counts.waiting = counts.waiting.saturating_sub(removed));
        if now.waiting == 0 {
            self.scheduler.has_no_work(tenant);
        }
    }

    fn began_to_wait(&mut self, tenant: &TenantId) {
        self.counts.change(tenant, |counts| counts.waiting += 1);
        self.scheduler.has_work(tenant);
    }

    fn one_less_leased(&mut self, tenant: &TenantId) {
        self.counts.change(tenant, |counts| counts.leased = counts.leased.saturating_sub(1));
    }
}

impl fmt::Debug for SqliteQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SqliteQueue")
            .field("path", &self.path)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl SqliteQueue {
    /// Opens the queue in a file, creating it and its directory where needed, with the default limits.
    ///
    /// # Errors
    /// [`QueueError::InUse`] when another process (or this one) has it open, [`QueueError::Damaged`],
    /// [`QueueError::NewerFormat`], [`QueueError::Open`], or what the database says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, QueueError> {
        Self::open_with(path, QueueLimits::default())
    }

    /// As [`SqliteQueue::open`], with limits.
    ///
    /// # Errors
    /// As [`SqliteQueue::open`].
    pub fn open_with(path: impl AsRef<Path>, limits: QueueLimits) -> Result<Self, QueueError> {
        let path = path.as_ref().to_path_buf();
        let lock = schema::lock(&path)?;
        let connection = schema::open_writer(&path)?;
        let reader = schema::open_reader(&path)?;
        let state = load(connection).map_err(|source| QueueError::database(&path, source))?;
        Ok(Self {
            path,
            limits,
            quotas: RwLock::default(),
            counts: state.counts.clone(),
            state: Mutex::new(state),
            reader: Mutex::new(reader),
            work: Condvar::new(),
            _lock: lock,
        })
    }

    /// The limits it was opened with.
    #[must_use]
    pub fn limits(&self) -> QueueLimits {
        self.limits
    }

    /// Gives a tenant a share of the machine other than 1. Lasts until the process ends.
    pub fn set_weight(&self, tenant: &TenantId, weight: f64) {
        self.state.lock().scheduler.set_weight(tenant, weight);
    }

    fn quota(&self, tenant: &TenantId) -> TenantQuota {
        self.quotas.read().as_ref().map_or_else(TenantQuota::default, |quotas| quotas(tenant))
    }

    fn failed(&self, source: rusqlite::Error) -> QueueError {
        QueueError::database(&self.path, source)
    }
}

/// Rebuilds from the file what is kept in memory. Leases of an earlier process count as leased until they are recovered.
fn load(connection: Connection) -> rusqlite::Result<State> {
    let next_row = connection.query_row("SELECT coalesce(max(row), 0) + 1 FROM prompt", [], |row| row.get(0))?;
    let next_lease = connection.query_row("SELECT coalesce(max(lease), 0) + 1 FROM prompt", [], |row| row.get(0))?;
    let mut state = State {
        connection,
        scheduler: FairScheduler::default(),
        counts: AllCounts::default(),
        fresh: Fresh::default(),
        spent: Spent::default(),
        spent_gpu: Spent::default(),
        stale_secrets: false,
        next_row,
        next_lease,
        first_own_lease: next_lease,
    };
    state.spent = spent::load(&state.connection, spent::WORKERS, now_minute())?;
    state.spent_gpu = spent::load(&state.connection, spent::GPUS, now_minute())?;
    let mut counted: Vec<(String, Counts)> = Vec::new();
    {
        let mut statement = state.connection.prepare(
            "SELECT tenant, count(*) FILTER (WHERE worker IS NULL), count(worker), 0 FROM prompt GROUP BY tenant
             UNION ALL SELECT tenant, 0, 0, count(*) FROM history GROUP BY tenant",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let count = |column| row.get::<usize, u32>(column).map(|count| count as usize);
            counted.push((row.get(0)?, Counts { waiting: count(1)?, leased: count(2)?, ended: count(3)? }));
        }
    }
    for (name, counted) in counted {
        let Ok(tenant) = TenantId::from_str(&name) else {
            tracing::error!(name, "the queue holds prompts of a tenant whose name is not legal; they stay untouched");
            continue;
        };
        if counted.waiting > 0 {
            state.scheduler.has_work(&tenant);
        }
        state.stale_secrets |= counted.waiting + counted.leased > 0;
        state.counts.change(&tenant, |counts| {
            counts.waiting += counted.waiting;
            counts.leased += counted.leased;
            counts.ended += counted.ended;
        });
    }
    Ok(state)
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn now_minute() -> i64 {
    now_ms() / 60_000
}

impl Queue for SqliteQueue {
    fn limit_tenants(&self, quotas: QuotasOf) {
        *self.quotas.write() = Some(quotas);
        self.work.notify_all();
    }

    fn spent_seconds(&self, tenant: &TenantId) -> f64 {
        self.state.lock().spent.used(tenant, now_minute())
    }

    fn spend_gpu(&self, tenant: &TenantId, seconds: f64) -> Result<(), QueueError> {
        let mut state = self.state.lock();
        let minute = now_minute();
        spent::add(&state.connection, spent::GPUS, tenant, minute, seconds).map_err(|source| self.failed(source))?;
        state.spent_gpu.add(tenant, minute, spent::sane(seconds));
        Ok(())
    }

    fn spent_gpu_seconds(&self, tenant: &TenantId) -> f64 {
        self.state.lock().spent_gpu.used(tenant, now_minute())
    }

    fn enqueue(&self, prompt: NewPrompt) -> Result<Queued, QueueError> {
        let queued = self.add(&mut self.state.lock(), prompt, None)?;
        self.work.notify_one();
        Ok(queued)
    }

    fn enqueue_once(&self, prompt: NewPrompt, once: Once) -> Result<Enqueued, QueueError> {
        let mut state = self.state.lock();
        let before = once::find(&state.connection, &prompt.tenant, &once.key, now_ms());
        if let Some(before) = before.map_err(|source| self.failed(source))? {
            return Ok(Enqueued::Before(before));
        }
        let queued = self.add(&mut state, prompt, Some(&once))?;
        drop(state);
        self.work.notify_one();
        Ok(Enqueued::Now(queued))
    }

    fn remembered(&self, tenant: &TenantId, key: &str) -> Result<Option<Remembered>, QueueError> {
        once::find(&self.reader.lock(), tenant, key, now_ms()).map_err(|source| self.failed(source))
    }

    fn next_number(&self, tenant: &TenantId) -> Result<i64, QueueError> {
        self.use_number(&self.state.lock(), tenant)
    }

    fn lease(&self, worker: &str) -> Result<Option<Lease>, QueueError> {
        self.take(&mut self.state.lock(), worker)
    }

    fn lease_wait(&self, worker: &str, timeout: Duration) -> Result<Option<Lease>, QueueError> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        loop {
            if let Some(lease) = self.take(&mut state, worker)? {
                return Ok(Some(lease));
            }
            if self.work.wait_until(&mut state, deadline).timed_out() {
                return self.take(&mut state, worker);
            }
        }
    }

    fn finish(&self, lease: &Lease, entry: HistoryEntry, seconds: f64) -> Result<(), QueueError> {
        let ending = Ending::new(entry)?;
        self.end_row(&mut self.state.lock(), &lease.tenant, lease.ticket, &ending, seconds)
    }

    fn requeue(&self, lease: &Lease) -> Result<(), QueueError> {
        self.give_back(&mut self.state.lock(), lease, 0)?;
        self.work.notify_one();
        Ok(())
    }

    fn requeue_lost(&self, lease: &Lease) -> Result<(), QueueError> {
        self.give_back(&mut self.state.lock(), lease, 1)?;
        // Whoever held it may wait for its GPU: anybody may take it.
        self.work.notify_all();
        Ok(())
    }

    fn recover(&self) -> Result<usize, QueueError> {
        let recovered = self.take_back(&mut self.state.lock())?;
        self.work.notify_all();
        Ok(recovered)
    }

    fn running(&self, tenant: &TenantId) -> Result<Vec<QueueItem>, QueueError> {
        match self.counts.of(tenant).leased {
            0 => Ok(Vec::new()),
            _ => self.items(tenant, "worker IS NOT NULL ORDER BY lease"),
        }
    }

    fn pending(&self, tenant: &TenantId) -> Result<Vec<QueueItem>, QueueError> {
        match self.counts.of(tenant).waiting {
            0 => Ok(Vec::new()),
            _ => self.items(tenant, "worker IS NULL ORDER BY number, prompt_id, row"),
        }
    }

    fn remaining(&self, tenant: &TenantId) -> usize {
        self.counts.of(tenant).remaining()
    }

    fn delete_pending(&self, tenant: &TenantId, prompt_ids: &[String]) -> Result<usize, QueueError> {
        self.remove_waiting(&mut self.state.lock(), tenant, Some(prompt_ids))
    }

    fn clear_pending(&self, tenant: &TenantId) -> Result<usize, QueueError> {
        self.remove_waiting(&mut self.state.lock(), tenant, None)
    }

    fn history(
        &self,
        tenant: &TenantId,
        max_items: Option<i64>,
        offset: Option<i64>,
    ) -> Result<IndexMap<String, HistoryEntry>, QueueError> {
        self.read_history(tenant, max_items, offset)
    }

    fn history_entry(&self, tenant: &TenantId, prompt_id: &str) -> Result<Option<HistoryEntry>, QueueError> {
        self.read_entry(tenant, prompt_id)
    }

    fn delete_history(&self, tenant: &TenantId, prompt_ids: &[String]) -> Result<usize, QueueError> {
        self.forget(&mut self.state.lock(), tenant, Some(prompt_ids))
    }

    fn clear_history(&self, tenant: &TenantId) -> Result<usize, QueueError> {
        self.forget(&mut self.state.lock(), tenant, None)
    }

    fn status_of(&self, tenant: &TenantId, prompt_id: &str) -> Result<Option<PromptState>, QueueError> {
        self.read_state(tenant, prompt_id)
    }

    fn jobs(&self, tenant: &TenantId, filter: &JobFilter) -> Result<JobPage, QueueError> {
        self.list_jobs(tenant, filter)
    }

    fn job(&self, tenant: &TenantId, prompt_id: &str) -> Result<Option<JobDetail>, QueueError> {
        self.read_job(tenant, prompt_id)
    }
}
