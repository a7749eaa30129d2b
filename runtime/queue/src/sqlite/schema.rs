//! The tables, and how the file is opened.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{once, secrets, spent};
use crate::QueueError;

/// Counted up with every change of the tables.
const FORMAT: i64 = 1;

/// `number` decides, then `prompt_id`, as in ComfyUI; the row decides between twins. A row without a worker waits.
const TABLES: &str = "
    CREATE TABLE tenant (
        tenant TEXT PRIMARY KEY,
        next_number INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;

    CREATE TABLE prompt (
        row INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        number REAL NOT NULL,
        prompt_id TEXT NOT NULL,
        client_id TEXT,
        prompt TEXT NOT NULL,
        extra_data TEXT NOT NULL,
        outputs TEXT NOT NULL,
        create_time INTEGER NOT NULL,
        workflow_id TEXT,
        attempt INTEGER NOT NULL DEFAULT 0,
        worker TEXT,
        lease INTEGER,
        lease_time INTEGER
    ) STRICT;
    CREATE INDEX prompt_waiting ON prompt (tenant, number, prompt_id) WHERE worker IS NULL;
    CREATE INDEX prompt_by_id ON prompt (tenant, prompt_id);

    CREATE TABLE history (
        row INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        prompt_id TEXT NOT NULL,
        state TEXT NOT NULL,
        create_time INTEGER NOT NULL,
        workflow_id TEXT,
        summary TEXT NOT NULL,
        entry TEXT NOT NULL,
        UNIQUE (tenant, prompt_id)
    ) STRICT;
    CREATE INDEX history_by_end ON history (tenant);
    CREATE INDEX history_by_creation ON history (tenant, create_time);
";

/// Takes the lock that keeps a second server away. It is gone as soon as this process is, however that happens.
pub(super) fn lock(path: &Path) -> Result<File, QueueError> {
    let lock_path = PathBuf::from(format!("{}.lock", path.display()));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|source| QueueError::Open { path: directory.to_path_buf(), source })?;
    }
    let failed = |source| QueueError::Open { path: lock_path.clone(), source };
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = file.read_to_string(&mut text);
            let holder = read.ok().map(|_| text.trim().to_owned()).filter(|process| !process.is_empty());
            return Err(QueueError::InUse { path: path.to_path_buf(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// Opens the file for changes, creating tables where needed.
pub(super) fn open_writer(path: &Path) -> Result<Connection, QueueError> {
    let failed = |source| QueueError::database(path, source);
    make_private(path)?;
    let mut connection = Connection::open(path).map_err(failed)?;
    // A killed process loses nothing with NORMAL; a power cut may lose the last moments, never the file.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = NORMAL;
             PRAGMA wal_autocheckpoint = 4000;
             PRAGMA journal_size_limit = 67108864;
             PRAGMA busy_timeout = 5000;",
        )
        .map_err(failed)?;
    connection.execute_batch(secrets::OVERWRITE).map_err(failed)?;
    // What a process that was killed left in its log.
    secrets::cut_log(&connection).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    keep_plans(&connection).map_err(failed)?;
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    if format > FORMAT {
        return Err(QueueError::NewerFormat { path: path.to_path_buf(), found: format, supported: FORMAT });
    }
    if format == 0 {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(TABLES).map_err(failed)?;
        transaction.pragma_update(None, "user_version", FORMAT).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    add_gpu_failures(&connection).map_err(failed)?;
    connection.execute_batch(once::TABLE).map_err(failed)?;
    connection.execute_batch(spent::TABLES).map_err(failed)?;
    Ok(connection)
}

/// A column since the format that knew none of it: made where it is missing, ignored by older versions.
fn add_gpu_failures(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT count(*) FROM pragma_table_info('prompt') WHERE name = 'gpu_failures'";
    match connection.query_row(sql, [], |row| row.get(0))? {
        0i64 => connection.execute_batch("ALTER TABLE prompt ADD COLUMN gpu_failures INTEGER NOT NULL DEFAULT 0"),
        _ => Ok(()),
    }
}

/// The file, and those that SQLite makes beside it in its likeness, are its owner's alone.
fn make_private(path: &Path) -> Result<(), QueueError> {
    let failed = |source| QueueError::Open { path: path.to_path_buf(), source };
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        options.mode(0o600);
        let file = options.open(path).map_err(failed)?;
        // One of an earlier version, or made by hand.
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        }
    }
    #[cfg(not(unix))]
    options.open(path).map_err(failed)?;
    Ok(())
}

/// Statements are planned once. Else SQLite plans some of them anew whenever a value is bound, for statistics it hasn't got.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Opens the file a second time, so that reading a long history holds up nobody.
pub(super) fn open_reader(path: &Path) -> Result<Connection, QueueError> {
    let failed = |source| QueueError::database(path, source);
    let connection = Connection::open(path).map_err(failed)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA busy_timeout = 5000;").map_err(failed)?;
    keep_plans(&connection).map_err(failed)?;
    Ok(connection)
}
