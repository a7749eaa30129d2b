//! From enqueue to lease, and back.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde_json::{Value, json};
use vivarium_protocol::history::{HistoryEntry, QueueItem, Status};
use vivarium_protocol::tenant::TenantId;

use super::{SqliteQueue, State, ended, ended::Ending, now_minute, now_ms, once, secrets};
use crate::{Lease, NewPrompt, Once, QueueError, Queued, Ticket, jobs};

/// A row as it is stored.
struct StoredPrompt {
    row: i64,
    number: f64,
    prompt_id: String,
    client_id: Option<String>,
    prompt: String,
    extra_data: String,
    outputs: String,
    attempt: u32,
    create_time: i64,
    gpu_failures: u32,
}

/// In the order of [`StoredPrompt::read`].
const COLUMNS: &str =
    "row, number, prompt_id, client_id, prompt, extra_data, outputs, attempt, create_time, gpu_failures";

impl StoredPrompt {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            row: row.get(0)?,
            number: row.get(1)?,
            prompt_id: row.get(2)?,
            client_id: row.get(3)?,
            prompt: row.get(4)?,
            extra_data: row.get(5)?,
            outputs: row.get(6)?,
            attempt: row.get(7)?,
            create_time: row.get(8)?,
            gpu_failures: row.get(9)?,
        })
    }

    fn item(&self) -> serde_json::Result<QueueItem> {
        self.item_of(None)
    }

    /// With the prompt, if that is known, or else as it was written.
    fn item_of(&self, prompt: Option<Value>) -> serde_json::Result<QueueItem> {
        Ok(QueueItem {
            number: self.number,
            prompt_id: self.prompt_id.clone(),
            prompt: prompt.map_or_else(|| serde_json::from_str(&self.prompt), Ok)?,
            extra_data: serde_json::from_str(&self.extra_data)?,
            outputs: serde_json::from_str(&self.outputs)?,
        })
    }

    /// The item, with whatever of it can be read.
    fn item_or_rest(&self) -> QueueItem {
        self.item().unwrap_or_else(|_| QueueItem {
            number: self.number,
            prompt_id: self.prompt_id.clone(),
            prompt: serde_json::from_str(&self.prompt).unwrap_or(Value::Null),
            extra_data: serde_json::from_str(&self.extra_data).unwrap_or_default(),
            outputs: serde_json::from_str(&self.outputs).unwrap_or_default(),
        })
    }

    /// The end of a prompt that is never going to run.
    fn given_up(&self, exception_type: &str, message: &str) -> HistoryEntry {
        let data = json!({
            "prompt_id": self.prompt_id,
            "node_id": null,
            "node_type": null,
            "executed": [],
            "exception_message": format!("{message}\n"),
            "exception_type": exception_type,
            "traceback": [],
            "current_inputs": {},
            "current_outputs": [],
            "timestamp": now_ms(),
        });
        let status = Status {
            status_str: "error".to_owned(),
            completed: false,
            messages: vec![("execution_error".to_owned(), data)],
        };
        HistoryEntry {
            prompt: self.item_or_rest(),
            outputs: serde_json::Map::new(),
            status: Some(status),
            meta: serde_json::Map::new(),
        }
    }
}

impl SqliteQueue {
    pub(super) fn use_number(&self, state: &State, tenant: &TenantId) -> Result<i64, QueueError> {
        next_number(&state.connection, tenant).map_err(|source| self.failed(source))
    }

    /// `once`, if any, is noted in the same transaction.
    pub(super) fn add(&self, state: &mut State, mut new: NewPrompt, once: Option<&Once>) -> Result<Queued, QueueError> {
        self.check_quota(state, &new.tenant)?;
        if let Some(number) = new.number.filter(|number| !number.is_finite()) {
            return Err(QueueError::Number { number });
        }
        let create_time = jobs::create_time(&new.extra_data).unwrap_or_else(|| {
            let now = now_ms();
            new.extra_data.insert("create_time".to_owned(), json!(now));
            now
        });
        let failed = |source| self.failed(source);
        let row = state.next_row;
        let transaction = state.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let number = match new.number {
            Some(number) => number,
            None => {
                let counter = next_number(&transaction, &new.tenant).map_err(failed)? as f64;
                if new.front { 0.0 - counter } else { counter }
            }
        };
        let item = QueueItem {
            number,
            prompt_id: new.prompt_id,
            prompt: new.prompt,
            extra_data: new.extra_data,
            outputs: new.outputs,
        };
        let text = serde_json::to_string(&item.prompt)
            .map_err(|source| QueueError::Json { prompt_id: item.prompt_id.clone(), source })?;
        insert(&transaction, row, &new.tenant, &item, &text, new.client_id.as_deref(), create_time)?.map_err(failed)?;
        if let Some(once) = once {
            once::remember(&transaction, &new.tenant, once, &item, now_ms()).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        state.stale_secrets |= secrets::holds_secret(&item.extra_data);
        state.next_row += 1;
        state.fresh.keep(row, item.prompt, text.len());
        state.began_to_wait(&new.tenant);
        Ok(Queued { prompt_id: item.prompt_id, number })
    }

    /// Whether a tenant may have one more prompt wait.
    fn check_quota(&self, state: &mut State, tenant: &TenantId) -> Result<(), QueueError> {
        let quota = self.quota(tenant);
        let limit = quota.max_pending.min(self.limits.max_pending_per_tenant);
        if state.counts.of(tenant).waiting >= limit {
            return Err(QueueError::Full { tenant: tenant.clone(), limit });
        }
        let minute = now_minute();
        let kinds =
            [("workers", &state.spent, quota.seconds_per_hour), ("GPUs", &state.spent_gpu, quota.gpu_seconds_per_hour)];
        for (what, spent, limit) in kinds {
            let used = spent.used(tenant, minute);
            if used >= limit {
                let retry_after_seconds = 60 * spent.minutes_until_below(tenant, minute, limit);
                return Err(QueueError::Spent { tenant: tenant.clone(), what, limit, used, retry_after_seconds });
            }
        }
        Ok(())
    }

    /// Whose prompt to start, among those whose quota allows it.
    fn pick(&self, state: &mut State) -> Option<TenantId> {
        let State { scheduler, counts, spent, spent_gpu, .. } = state;
        let minute = now_minute();
        scheduler.pick_among(&|tenant| {
            let quota = self.quota(tenant);
            counts.of(tenant).leased < quota.max_leased
                && spent.used(tenant, minute) < quota.seconds_per_hour
                && spent_gpu.used(tenant, minute) < quota.gpu_seconds_per_hour
        })
    }

    pub(super) fn take(&self, state: &mut State, worker: &str) -> Result<Option<Lease>, QueueError> {
        while let Some(tenant) = self.pick(state) {
            let number = state.next_lease;
            let stored =
                mark_leased(&state.connection, &tenant, worker, number).map_err(|source| self.failed(source))?;
            let Some(stored) = stored else {
                // The file has less than was counted; believe the file.
                let counted = state.counts.of(&tenant).waiting;
                state.stopped_waiting(&tenant, counted);
                continue;
            };
            state.next_lease += 1;
            let estimate = state.scheduler.started(&tenant);
            state.counts.change(&tenant, |counts| counts.leased += 1);
            state.stopped_waiting(&tenant, 1);
            let ticket = Ticket { row: stored.row, number, estimate };
            match stored.item_of(state.fresh.take(stored.row)) {
                Ok(item) => {
                    return Ok(Some(Lease {
                        tenant,
                        item,
                        client_id: stored.client_id,
                        attempt: stored.attempt,
                        gpu_failures: stored.gpu_failures,
                        ticket,
                    }));
                }
                Err(error) => {
                    tracing::error!(%tenant, prompt_id = stored.prompt_id, %error, "a stored prompt cannot be read");
                    let reason = format!("The stored prompt cannot be read ({error}); queue it again.");
                    let entry = stored.given_up("StoredPromptUnreadable", &reason);
                    self.end_row(state, &tenant, ticket, &Ending::new(entry)?, 0.0)?;
                }
            }
        }
        Ok(None)
    }

    /// `gpu_failures` are added to those of the prompt.
    pub(super) fn give_back(&self, state: &mut State, lease: &Lease, gpu_failures: u32) -> Result<(), QueueError> {
        let given = state
            .connection
            .prepare_cached(
                "UPDATE prompt SET worker = NULL, lease = NULL, lease_time = NULL, attempt = attempt - 1,
                 gpu_failures = gpu_failures + ?3
                 WHERE row = ?1 AND lease = ?2",
            )
            .and_then(|mut statement| statement.execute(params![lease.ticket.row, lease.ticket.number, gpu_failures]))
            .map_err(|source| self.failed(source))?;
        if given == 0 {
            return Err(QueueError::LeaseLost { prompt_id: lease.item.prompt_id.clone() });
        }
        state.one_less_leased(&lease.tenant);
        // First waiting again, so that the tenant's account is not forgotten in between.
        state.began_to_wait(&lease.tenant);
        state.scheduler.not_run(&lease.tenant, lease.ticket.estimate);
        Ok(())
    }

    pub(super) fn take_back(&self, state: &mut State) -> Result<usize, QueueError> {
        let mut taken_back = 0;
        for (tenant, stored) in self.orphans(state)? {
            if stored.attempt >= self.limits.max_attempts {
                let reason = format!(
                    "The server stopped {} times while it ran this prompt, so it was given up. If the server ran out of \
                     memory, try smaller images or batches.",
                    stored.attempt
                );
                tracing::warn!(%tenant, prompt_id = stored.prompt_id, attempts = stored.attempt, "a prompt was given up");
                let entry = stored.given_up("WorkerDied", &reason);
                self.end_orphan(state, &tenant, stored.row, stored.create_time, entry)?;
            } else {
                state
                    .connection
                    .prepare_cached("UPDATE prompt SET worker = NULL, lease = NULL, lease_time = NULL WHERE row = ?1")
                    .and_then(|mut statement| statement.execute([stored.row]))
                    .map_err(|source| self.failed(source))?;
                state.one_less_leased(&tenant);
                state.began_to_wait(&tenant);
            }
            taken_back += 1;
        }
        Ok(taken_back)
    }

    fn orphans(&self, state: &State) -> Result<Vec<(TenantId, StoredPrompt)>, QueueError> {
        let sql =
            format!("SELECT {COLUMNS}, tenant FROM prompt WHERE worker IS NOT NULL AND lease < ?1 ORDER BY lease");
        let read = || -> rusqlite::Result<Vec<(String, StoredPrompt)>> {
            let mut statement = state.connection.prepare(&sql)?;
            statement.query_map([state.first_own_lease], |row| Ok((row.get(10)?, StoredPrompt::read(row)?)))?.collect()
        };
        let found = read().map_err(|source| self.failed(source))?;
        Ok(found.into_iter().filter_map(|(name, stored)| Some((TenantId::new(name).ok()?, stored))).collect())
    }

    pub(super) fn items(&self, tenant: &TenantId, condition: &str) -> Result<Vec<QueueItem>, QueueError> {
        let sql = format!("SELECT {COLUMNS} FROM prompt WHERE tenant = ?1 AND {condition}");
        let reader = self.reader.lock();
        let read = || -> rusqlite::Result<Vec<StoredPrompt>> {
            reader.prepare_cached(&sql)?.query_map([tenant.as_str()], StoredPrompt::read)?.collect()
        };
        let stored = read().map_err(|source| self.failed(source))?;
        drop(reader);
        Ok(stored.iter().map(|stored| stored.item_or_rest().without_secrets()).collect())
    }

    /// Without ids, all.
    pub(super) fn remove_waiting(
        &self,
        state: &mut State,
        tenant: &TenantId,
        prompt_ids: Option<&[String]>,
    ) -> Result<usize, QueueError> {
        let waiting = "DELETE FROM prompt WHERE tenant = ?1 AND worker IS NULL";
        let removed =
            ended::delete(&mut state.connection, waiting, tenant, prompt_ids).map_err(|source| self.failed(source))?;
        state.stopped_waiting(tenant, removed);
        self.forget_secrets(state);
        Ok(removed)
    }
}

fn next_number(connection: &Connection, tenant: &TenantId) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO tenant (tenant, next_number) VALUES (?1, 1)
             ON CONFLICT DO UPDATE SET next_number = next_number + 1 RETURNING next_number - 1",
        )?
        .query_row([tenant.as_str()], |row| row.get(0))
}

/// The outer failure is of the JSON, the inner one of the database.
fn insert(
    connection: &Connection,
    row: i64,
    tenant: &TenantId,
    item: &QueueItem,
    prompt: &str,
    client_id: Option<&str>,
    create_time: i64,
) -> Result<rusqlite::Result<()>, QueueError> {
    let json = |source| QueueError::Json { prompt_id: item.prompt_id.clone(), source };
    let values = params![
        row,
        tenant.as_str(),
        item.number,
        item.prompt_id,
        client_id,
        prompt,
        serde_json::to_string(&item.extra_data).map_err(json)?,
        serde_json::to_string(&item.outputs).map_err(json)?,
        create_time,
        jobs::workflow_id(&item.extra_data),
    ];
    let sql = "INSERT INTO prompt
        (row, tenant, number, prompt_id, client_id, prompt, extra_data, outputs, create_time, workflow_id)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    Ok(connection.prepare_cached(sql).and_then(|mut statement| statement.execute(values)).map(drop))
}

fn mark_leased(
    connection: &Connection,
    tenant: &TenantId,
    worker: &str,
    lease: i64,
) -> rusqlite::Result<Option<StoredPrompt>> {
    let sql = format!(
        "UPDATE prompt SET worker = ?2, lease = ?3, lease_time = ?4, attempt = attempt + 1
         WHERE row = (SELECT row FROM prompt WHERE tenant = ?1 AND worker IS NULL ORDER BY number, prompt_id, row LIMIT 1)
         RETURNING {COLUMNS}"
    );
    connection
        .prepare_cached(&sql)?
        .query_row(params![tenant.as_str(), worker, lease, now_ms()], StoredPrompt::read)
        .optional()
}
