//! Keys of clients that must be able to repeat a request without queueing its prompt twice.

use rusqlite::{Connection, OptionalExtension, params};
use vivarium_protocol::history::QueueItem;
use vivarium_protocol::tenant::TenantId;

use crate::{Once, Remembered};

/// How long a key is kept, in milliseconds: a day, longer than any client keeps trying.
pub(super) const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// How many keys a tenant can have; the oldest is forgotten. As many as prompts in the history.
pub(super) const KEPT_PER_TENANT: i64 = 10_000;

/// Beside the other tables since the format that knew none of it: made where it is missing, ignored by older versions.
pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS once (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL,
        key TEXT NOT NULL,
        request TEXT NOT NULL,
        prompt_id TEXT NOT NULL,
        number REAL NOT NULL,
        note TEXT NOT NULL,
        time INTEGER NOT NULL,
        UNIQUE (tenant, key)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS once_by_time ON once (time);
    CREATE INDEX IF NOT EXISTS once_by_tenant ON once (tenant, row);
";

/// What was queued under a key that is not too old.
pub(super) fn find(
    connection: &Connection,
    tenant: &TenantId,
    key: &str,
    now_ms: i64,
) -> rusqlite::Result<Option<Remembered>> {
    connection
        .prepare_cached("SELECT request, prompt_id, number, note FROM once WHERE tenant = ? AND key = ? AND time > ?")?
        .query_row(params![tenant.as_str(), key, now_ms - KEPT_MS], |row| {
            Ok(Remembered { request: row.get(0)?, prompt_id: row.get(1)?, number: row.get(2)?, note: row.get(3)? })
        })
        .optional()
}

/// Notes a key in the transaction that queues its prompt, and forgets old ones.
pub(super) fn remember(
    connection: &Connection,
    tenant: &TenantId,
    once: &Once,
    item: &QueueItem,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM once WHERE time <= ?")?.execute([now_ms - KEPT_MS])?;
    connection
        .prepare_cached(
            "DELETE FROM once WHERE row IN
             (SELECT row FROM once WHERE tenant = ? ORDER BY row DESC LIMIT -1 OFFSET ?)",
        )?
        .execute(params![tenant.as_str(), KEPT_PER_TENANT - 1])?;
    connection
        .prepare_cached(
            "INSERT INTO once (tenant, key, request, prompt_id, number, note, time) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![tenant.as_str(), once.key, once.request, item.prompt_id, item.number, once.note, now_ms])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn keys_expire_and_the_oldest_make_room() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLE).unwrap();
        let tenant = TenantId::default_tenant();
        let item = QueueItem {
            number: 3.0,
            prompt_id: "p".to_owned(),
            prompt: json!({}),
            extra_data: Map::new(),
            outputs: Vec::new(),
        };
        let put = |key: String, now| {
            let once = Once { key, request: "r".to_owned(), note: "n".to_owned() };
            remember(&connection, &tenant, &once, &item, now).unwrap();
        };
        put("a".to_owned(), 10);
        assert_eq!(find(&connection, &tenant, "a", KEPT_MS).unwrap().unwrap().prompt_id, "p");
        assert_eq!(find(&connection, &tenant, "a", 10 + KEPT_MS).unwrap(), None);
        put("a".to_owned(), 10 + KEPT_MS);
        for other in 0..KEPT_PER_TENANT {
            put(other.to_string(), 11 + KEPT_MS);
        }
        assert_eq!(find(&connection, &tenant, "a", 12 + KEPT_MS).unwrap(), None);
        assert!(find(&connection, &tenant, "0", 12 + KEPT_MS).unwrap().is_some());
    }
}
