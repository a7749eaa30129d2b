//! The job list: what waits, runs and has ended, in one order.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::{Map, json};
use vivarium_protocol::history::{QueueItem, WireNumber};
use vivarium_protocol::tenant::TenantId;

use super::SqliteQueue;
use crate::{Job, JobDetail, JobFilter, JobPage, Pagination, PromptState, QueueError};

/// Rows of both tables in one shape; read by [`job_of_row`].
const QUEUED: &str =
    "SELECT 0 AS ended, row, create_time, prompt_id, number, workflow_id, lease_time, NULL AS summary FROM prompt";
const ENDED: &str = "SELECT 1 AS ended, row, create_time, prompt_id, 0.0, workflow_id, NULL, summary FROM history";

impl SqliteQueue {
    pub(super) fn list_jobs(&self, tenant: &TenantId, filter: &JobFilter) -> Result<JobPage, QueueError> {
        let reader = self.reader.lock();
        let (total, rows) = read_page(&reader, tenant, filter).map_err(|source| self.failed(source))?;
        drop(reader);
        let jobs = rows.into_iter().map(|row| self.parse_job(row)).collect::<Result<Vec<_>, _>>()?;
        let has_more = filter.offset.saturating_add(jobs.len() as u64) < total;
        Ok(JobPage { jobs, pagination: Pagination { offset: filter.offset, limit: filter.limit, total, has_more } })
    }

    pub(super) fn read_job(&self, tenant: &TenantId, prompt_id: &str) -> Result<Option<JobDetail>, QueueError> {
        let reader = self.reader.lock();
        let queued = read_queued(&reader, tenant, prompt_id).map_err(|source| self.failed(source))?;
        let ended = match queued {
            Some(_) => None,
            None => read_ended(&reader, tenant, prompt_id).map_err(|source| self.failed(source))?,
        };
        drop(reader);
        if let Some((row, prompt, extra_data)) = queued {
            let mut item = QueueItem {
                number: 0.0,
                prompt_id: prompt_id.to_owned(),
                prompt: serde_json::from_str(&prompt).unwrap_or_default(),
                extra_data: serde_json::from_str(&extra_data).unwrap_or_default(),
                outputs: Vec::new(),
            };
            item = item.without_secrets();
            let workflow = json!({"prompt": item.prompt, "extra_data": item.extra_data});
            let detail = JobDetail { job: self.parse_job(row)?, outputs: Map::new(), workflow, execution_status: None };
            return Ok(Some(detail));
        }
        let Some((row, entry)) = ended else { return Ok(None) };
        let entry = self.parse_entry(&entry)?;
        let workflow = json!({"prompt": entry.prompt.prompt, "extra_data": entry.prompt.extra_data});
        let job = self.parse_job(row)?;
        Ok(Some(JobDetail { job, outputs: entry.outputs, workflow, execution_status: entry.status }))
    }

    fn parse_job(&self, row: JobRow) -> Result<Job, QueueError> {
        match row {
            JobRow::Queued(job) => Ok(*job),
            JobRow::Ended(summary) => serde_json::from_str(&summary)
                .map_err(|error| QueueError::Damaged { path: self.path.clone(), reason: error.to_string() }),
        }
    }
}

/// A row, its JSON not yet read: that happens when the connection is free for others again.
enum JobRow {
    Queued(Box<Job>),
    Ended(String),
}

fn job_of_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    if row.get("ended")? {
        return Ok(JobRow::Ended(row.get("summary")?));
    }
    let lease_time: Option<i64> = row.get("lease_time")?;
    Ok(JobRow::Queued(Box::new(Job {
        id: row.get("prompt_id")?,
        status: if lease_time.is_some() { PromptState::InProgress } else { PromptState::Pending },
        create_time: row.get("create_time")?,
        execution_start_time: lease_time,
        execution_end_time: None,
        execution_error: None,
        outputs_count: 0,
        previewable_outputs_count: 0,
        preview_output: None,
        workflow_id: row.get("workflow_id")?,
        priority: WireNumber(row.get("number")?),
    })))
}

/// The tables that can hold wanted jobs, with conditions made of constants only; values are bound.
fn wanted_rows(filter: &JobFilter) -> Vec<String> {
    let workflow = if filter.workflow_id.is_some() { " AND workflow_id = ?2" } else { "" };
    let mut parts = Vec::new();
    let leased = match (filter.wants(PromptState::Pending), filter.wants(PromptState::InProgress)) {
        (true, true) => Some(""),
        (true, false) => Some(" AND worker IS NULL"),
        (false, true) => Some(" AND worker IS NOT NULL"),
        (false, false) => None,
    };
    if let Some(leased) = leased {
        parts.push(format!("{QUEUED} WHERE tenant = ?1{leased}{workflow}"));
    }
    let ended = [PromptState::Completed, PromptState::Failed, PromptState::Cancelled];
    let states: Vec<String> =
        ended.into_iter().filter(|state| filter.wants(*state)).map(|state| format!("'{}'", state.as_str())).collect();
    if !states.is_empty() {
        // Naming all three would keep SQLite from counting by index alone.
        let state = if states.len() == 3 { String::new() } else { format!(" AND state IN ({})", states.join(", ")) };
        parts.push(format!("{ENDED} WHERE tenant = ?1{state}{workflow}"));
    }
    parts
}

fn read_page(reader: &Connection, tenant: &TenantId, filter: &JobFilter) -> rusqlite::Result<(u64, Vec<JobRow>)> {
    let parts = wanted_rows(filter);
    let mut values = vec![SqlValue::from(tenant.as_str().to_owned())];
    values.extend(filter.workflow_id.clone().map(SqlValue::from));
    let mut total = 0_u64;
    for part in &parts {
        let count = format!("SELECT count(*) {}", &part[part.find("FROM").unwrap_or(0)..]);
        let rows: i64 = reader.prepare_cached(&count)?.query_row(params_from_iter(&values), |row| row.get(0))?;
        total += u64::try_from(rows).unwrap_or(0);
    }
    let direction = if filter.oldest_first { "ASC" } else { "DESC" };
    let page = format!(
        "{} ORDER BY create_time {direction}, row {direction} LIMIT ?{} OFFSET ?{}",
        parts.join(" UNION ALL "),
        values.len() + 1,
        values.len() + 2
    );
    // SQLite counts in signed numbers; beyond them everything is "all".
    let bound = |value: u64| SqlValue::from(i64::try_from(value).unwrap_or(i64::MAX));
    values.push(filter.limit.map_or(SqlValue::from(-1), bound));
    values.push(bound(filter.offset));
    let mut statement = reader.prepare_cached(&page)?;
    let rows = statement.query_map(params_from_iter(&values), job_of_row)?.collect::<rusqlite::Result<_>>()?;
    Ok((total, rows))
}

fn read_queued(
    reader: &Connection,
    tenant: &TenantId,
    prompt_id: &str,
) -> rusqlite::Result<Option<(JobRow, String, String)>> {
    // Of several with one id, the one that runs.
    reader
        .prepare_cached(
            "SELECT 0 AS ended, create_time, prompt_id, number, workflow_id, lease_time, prompt, extra_data
             FROM prompt WHERE tenant = ?1 AND prompt_id = ?2 ORDER BY worker IS NULL, row LIMIT 1",
        )?
        .query_row(params![tenant.as_str(), prompt_id], |row| {
            Ok((job_of_row(row)?, row.get("prompt")?, row.get("extra_data")?))
        })
        .optional()
}

fn read_ended(reader: &Connection, tenant: &TenantId, prompt_id: &str) -> rusqlite::Result<Option<(JobRow, String)>> {
    reader
        .prepare_cached("SELECT 1 AS ended, summary, entry FROM history WHERE tenant = ?1 AND prompt_id = ?2")?
        .query_row(params![tenant.as_str(), prompt_id], |row| Ok((job_of_row(row)?, row.get("entry")?)))
        .optional()
}
