//! Seconds that tenants used in the last hour, kept so that a restart gives nobody a new hour.

use rusqlite::{Connection, params};
use vivarium_protocol::tenant::TenantId;

use crate::quota::{Spent, oldest};

/// Beside the other tables, as the keys of clients are.
pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS spent (
        minute INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        seconds REAL NOT NULL,
        PRIMARY KEY (minute, tenant)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS spent_gpu (
        minute INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        seconds REAL NOT NULL,
        PRIMARY KEY (minute, tenant)
    ) STRICT, WITHOUT ROWID;
";

/// The tables of the two kinds of seconds.
pub(super) const WORKERS: &str = "spent";
pub(super) const GPUS: &str = "spent_gpu";

/// No clock makes a tenant pay for more than a day at once.
pub(super) fn sane(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.clamp(0.0, 86_400.0) } else { 0.0 }
}

/// Adds to a minute, and forgets what does not count any more.
pub(super) fn add(
    connection: &Connection,
    table: &'static str,
    tenant: &TenantId,
    minute: i64,
    seconds: f64,
) -> rusqlite::Result<()> {
    let added = connection
        .prepare_cached(&format!(
            "INSERT INTO {table} (minute, tenant, seconds) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds"
        ))?
        .execute(params![minute, tenant.as_str(), sane(seconds)])?;
    debug_assert_eq!(added, 1);
    connection.prepare_cached(&format!("DELETE FROM {table} WHERE minute < ?1"))?.execute([oldest(minute)])?;
    Ok(())
}

/// What the last hour holds.
pub(super) fn load(connection: &Connection, table: &'static str, minute: i64) -> rusqlite::Result<Spent> {
    let mut spent = Spent::default();
    let mut statement = connection
        .prepare(&format!("SELECT tenant, minute, seconds FROM {table} WHERE minute >= ?1 ORDER BY minute"))?;
    let mut rows = statement.query([oldest(minute)])?;
    while let Some(row) = rows.next()? {
        // Rows of names that are not legal have no prompts either.
        if let Ok(tenant) = TenantId::new(row.get::<_, String>(0)?) {
            spent.add(&tenant, row.get(1)?, row.get(2)?);
        }
    }
    Ok(spent)
}
