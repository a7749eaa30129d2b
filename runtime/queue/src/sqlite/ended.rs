//! From lease to history.

use indexmap::IndexMap;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use vivarium_protocol::history::HistoryEntry;
use vivarium_protocol::tenant::TenantId;

use super::{SqliteQueue, State, now_minute, spent};
use crate::{Job, PromptState, QueueError, Ticket};

/// What goes into the history. Made, and dropped, while nobody is kept waiting: an entry may be large.
pub(super) struct Ending {
    entry: HistoryEntry,
    text: String,
}

impl Ending {
    /// Without the secrets of the entry.
    pub(super) fn new(entry: HistoryEntry) -> Result<Self, QueueError> {
        let entry = entry.without_secrets();
        let json = |source| QueueError::Json { prompt_id: entry.prompt.prompt_id.clone(), source };
        let text = serde_json::to_string(&entry).map_err(json)?;
        Ok(Self { entry, text })
    }
}

impl SqliteQueue {
    pub(super) fn end_row(
        &self,
        state: &mut State,
        tenant: &TenantId,
        ticket: Ticket,
        ending: &Ending,
        seconds: f64,
    ) -> Result<(), QueueError> {
        let take = |transaction: &Transaction<'_>| {
            transaction
                .prepare_cached("DELETE FROM prompt WHERE row = ?1 AND lease = ?2 RETURNING create_time")?
                .query_row(params![ticket.row, ticket.number], |row| row.get(0))
                .optional()
        };
        let minute = now_minute();
        self.move_to_history(state, tenant, ending, |transaction| {
            let taken = take(transaction)?;
            if taken.is_some() {
                spent::add(transaction, spent::WORKERS, tenant, minute, seconds)?;
            }
            Ok(taken)
        })?;
        state.spent.add(tenant, minute, spent::sane(seconds));
        state.scheduler.finished(tenant, ticket.estimate, seconds);
        Ok(())
    }

    pub(super) fn end_orphan(
        &self,
        state: &mut State,
        tenant: &TenantId,
        row: i64,
        create_time: i64,
        entry: HistoryEntry,
    ) -> Result<(), QueueError> {
        let take = |transaction: &Transaction<'_>| {
            let deleted = transaction.execute("DELETE FROM prompt WHERE row = ?1", [row])?;
            Ok((deleted > 0).then_some(create_time))
        };
        self.move_to_history(state, tenant, &Ending::new(entry)?, take)
    }

    /// Takes a row out of the queue and puts its end into the history, both or neither.
    fn move_to_history(
        &self,
        state: &mut State,
        tenant: &TenantId,
        Ending { entry, text }: &Ending,
        take: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Option<i64>>,
    ) -> Result<(), QueueError> {
        let failed = |source| self.failed(source);
        let json = |source| QueueError::Json { prompt_id: entry.prompt.prompt_id.clone(), source };
        let limit = self.limits.max_history_per_tenant;
        let ended = state.counts.of(tenant).ended;
        let transaction = state.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let Some(create_time) = take(&transaction).map_err(failed)? else {
            return Err(QueueError::LeaseLost { prompt_id: entry.prompt.prompt_id.clone() });
        };
        let job = Job::of_entry(entry, create_time);
        let summary = serde_json::to_string(&job).map_err(json)?;
        let replaced = insert(&transaction, tenant, &job, &summary, text).map_err(failed)?;
        let ended = ended + 1 - replaced.min(ended);
        let dropped = drop_oldest(&transaction, tenant, ended.saturating_sub(limit)).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        state.counts.change(tenant, |counts| {
            counts.leased = counts.leased.saturating_sub(1);
            counts.ended = ended - dropped.min(ended);
        });
        self.forget_secrets(state);
        Ok(())
    }

    pub(super) fn read_history(
        &self,
        tenant: &TenantId,
        max_items: Option<i64>,
        offset: Option<i64>,
    ) -> Result<IndexMap<String, HistoryEntry>, QueueError> {
        let offset = offset.unwrap_or(-1);
        let reader = self.reader.lock();
        let read = || -> rusqlite::Result<Vec<(String, String)>> {
            let (limit, skip) = match max_items {
                Some(limit) if limit <= 0 => return Ok(Vec::new()),
                Some(limit) if offset < 0 => {
                    let sql = "SELECT count(*) FROM history WHERE tenant = ?1";
                    let ended: i64 = reader.prepare_cached(sql)?.query_row([tenant.as_str()], |row| row.get(0))?;
                    (limit, (ended - limit).max(0))
                }
                // A negative limit means none to SQLite.
                limit => (limit.unwrap_or(-1), offset.max(0)),
            };
            reader
                .prepare_cached(
                    "SELECT prompt_id, entry FROM history WHERE tenant = ?1 ORDER BY row LIMIT ?2 OFFSET ?3",
                )?
                .query_map(params![tenant.as_str(), limit, skip], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        };
        let rows = read().map_err(|source| self.failed(source))?;
        drop(reader);
        rows.into_iter().map(|(prompt_id, text)| Ok((prompt_id, self.parse_entry(&text)?))).collect()
    }

    pub(super) fn read_entry(&self, tenant: &TenantId, prompt_id: &str) -> Result<Option<HistoryEntry>, QueueError> {
        let sql = "SELECT entry FROM history WHERE tenant = ?1 AND prompt_id = ?2";
        let text: Option<String> = self.read_one(sql, tenant, prompt_id)?;
        text.map(|text| self.parse_entry(&text)).transpose()
    }

    pub(super) fn read_state(&self, tenant: &TenantId, prompt_id: &str) -> Result<Option<PromptState>, QueueError> {
        let queued = "SELECT max(worker IS NOT NULL) FROM prompt WHERE tenant = ?1 AND prompt_id = ?2";
        if let Some(leased) = self.read_one::<Option<bool>>(queued, tenant, prompt_id)?.flatten() {
            return Ok(Some(if leased { PromptState::InProgress } else { PromptState::Pending }));
        }
        let ended = "SELECT state FROM history WHERE tenant = ?1 AND prompt_id = ?2";
        let state: Option<String> = self.read_one(ended, tenant, prompt_id)?;
        Ok(state.and_then(|name| PromptState::from_name(&name)))
    }

    pub(super) fn read_one<T: rusqlite::types::FromSql>(
        &self,
        sql: &str,
        tenant: &TenantId,
        prompt_id: &str,
    ) -> Result<Option<T>, QueueError> {
        let reader = self.reader.lock();
        let found = reader
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([tenant.as_str(), prompt_id], |row| row.get(0)).optional());
        found.map_err(|source| self.failed(source))
    }

    pub(super) fn parse_entry(&self, text: &str) -> Result<HistoryEntry, QueueError> {
        serde_json::from_str(text)
            .map_err(|error| QueueError::Damaged { path: self.path.clone(), reason: error.to_string() })
    }

    /// Without ids, all.
    pub(super) fn forget(
        &self,
        state: &mut State,
        tenant: &TenantId,
        prompt_ids: Option<&[String]>,
    ) -> Result<usize, QueueError> {
        let all = "DELETE FROM history WHERE tenant = ?1";
        let forgotten = delete(&mut state.connection, all, tenant, prompt_ids).map_err(|source| self.failed(source))?;
        state.counts.change(tenant, |counts| counts.ended = counts.ended.saturating_sub(forgotten));
        Ok(forgotten)
    }
}

/// Runs a `DELETE … WHERE tenant = ?1`, narrowed to ids if there are any given, all or nothing. Counts the deleted.
pub(super) fn delete(
    connection: &mut Connection,
    sql: &str,
    tenant: &TenantId,
    prompt_ids: Option<&[String]>,
) -> rusqlite::Result<usize> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut deleted = 0;
    match prompt_ids {
        None => deleted += transaction.execute(sql, [tenant.as_str()])?,
        Some(prompt_ids) => {
            let mut statement = transaction.prepare_cached(&format!("{sql} AND prompt_id = ?2"))?;
            for prompt_id in prompt_ids {
                deleted += statement.execute([tenant.as_str(), prompt_id])?;
            }
        }
    }
    transaction.commit()?;
    Ok(deleted)
}

/// Counts the entries that had the same id; they make way, so that the new end is the newest.
fn insert(
    connection: &Connection,
    tenant: &TenantId,
    job: &Job,
    summary: &str,
    entry: &str,
) -> rusqlite::Result<usize> {
    let replaced = connection
        .prepare_cached("DELETE FROM history WHERE tenant = ?1 AND prompt_id = ?2")?
        .execute([tenant.as_str(), &job.id])?;
    connection
        .prepare_cached(
            "INSERT INTO history (tenant, prompt_id, state, create_time, workflow_id, summary, entry)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            tenant.as_str(),
            job.id,
            job.status.as_str(),
            job.create_time,
            job.workflow_id,
            summary,
            entry
        ])?;
    Ok(replaced)
}

fn drop_oldest(connection: &Connection, tenant: &TenantId, surplus: usize) -> rusqlite::Result<usize> {
    if surplus == 0 {
        return Ok(0);
    }
    connection
        .prepare_cached(
            "DELETE FROM history WHERE row IN (SELECT row FROM history WHERE tenant = ?1 ORDER BY row LIMIT ?2)",
        )?
        .execute(params![tenant.as_str(), i64::try_from(surplus).unwrap_or(i64::MAX)])
}
