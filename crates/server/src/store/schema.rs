//! The schema of the state file, as a list of migrations counted by `user_version`. Released entries never change.
//!
//! Times are microseconds since 1970 in UTC; booleans are 0 and 1.

use rusqlite::Connection;

const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE operations (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        input TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        finished_at INTEGER,
        error_code TEXT,
        error_message TEXT,
        cancel_requested INTEGER NOT NULL DEFAULT 0
    );
    -- One active operation per subject, held by the database itself.
    CREATE UNIQUE INDEX operations_active ON operations (subject) WHERE state IN ('pending', 'running', 'undoing');
    CREATE INDEX operations_by_subject ON operations (subject, seq);
    CREATE INDEX operations_by_kind ON operations (kind, seq);
    CREATE INDEX operations_by_state ON operations (state, seq);
    CREATE INDEX operations_by_end ON operations (finished_at);

    CREATE TABLE steps (
        operation_seq INTEGER NOT NULL REFERENCES operations (seq) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        policy TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        started_at INTEGER,
        finished_at INTEGER,
        output TEXT,
        error_code TEXT,
        error_message TEXT,
        PRIMARY KEY (operation_seq, position)
    ) WITHOUT ROWID;

    CREATE TABLE instances (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        runtime TEXT NOT NULL,
        major INTEGER NOT NULL,
        listen TEXT NOT NULL,
        port INTEGER NOT NULL UNIQUE,
        db TEXT NOT NULL,
        user TEXT NOT NULL,
        password BLOB NOT NULL,
        next_password BLOB,
        volume TEXT NOT NULL,
        system_identifier INTEGER NOT NULL,
        size_gb INTEGER,
        max_connections INTEGER,
        memory_mb INTEGER,
        tls INTEGER NOT NULL,
        superuser INTEGER NOT NULL,
        protected INTEGER NOT NULL,
        desired TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        disk_bytes INTEGER,
        created_at INTEGER NOT NULL
    );

    -- Data that a destroy kept, and what is needed to take it into use again.
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        runtime TEXT NOT NULL,
        major INTEGER NOT NULL,
        db TEXT NOT NULL,
        user TEXT NOT NULL,
        system_identifier INTEGER NOT NULL,
        kept_at INTEGER NOT NULL
    );

    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        hash BLOB NOT NULL,
        scopes TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        revoked_at INTEGER
    );

    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        actor TEXT NOT NULL,
        remote TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        status INTEGER NOT NULL,
        error TEXT,
        request_id TEXT NOT NULL
    );
    CREATE INDEX audit_by_subject ON audit (subject, id);

    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    ",
    "
    -- Servers that previews are made on: 'external', or the id of an instance.
    CREATE TABLE preview_targets (
        key TEXT PRIMARY KEY,
        -- What passwords are derived from where the environment gives no secret; sealed.
        secret BLOB
    );

    CREATE TABLE preview_templates (
        target TEXT NOT NULL,
        name TEXT NOT NULL,
        -- PostgreSQL's number of the database: another one under the name is another template.
        oid INTEGER NOT NULL,
        holder TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        strategy TEXT NOT NULL,
        -- JSON: what copies took, each way.
        timings TEXT NOT NULL,
        generation INTEGER NOT NULL,
        -- The highest number that it was asked for.
        highest INTEGER NOT NULL,
        prepared_at INTEGER NOT NULL,
        PRIMARY KEY (target, name)
    ) WITHOUT ROWID;

    CREATE TABLE previews (
        id TEXT PRIMARY KEY,
        target TEXT NOT NULL,
        template TEXT NOT NULL,
        number INTEGER NOT NULL,
        db TEXT NOT NULL,
        role TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        -- Whether somebody still has to be told that it was created.
        news INTEGER NOT NULL,
        protected INTEGER NOT NULL,
        labels TEXT NOT NULL,
        generation INTEGER NOT NULL,
        -- What the role's password was derived from, and the salt of its verifier.
        fingerprint TEXT,
        salt TEXT,
        created_at INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        -- NULL: as long as nobody deletes it; with forever because somebody has said so.
        expires_at INTEGER,
        forever INTEGER NOT NULL,
        UNIQUE (target, db)
    );
    CREATE UNIQUE INDEX previews_by_number ON previews (target, template, number);
    CREATE INDEX previews_by_expiry ON previews (expires_at) WHERE expires_at IS NOT NULL;

    -- How a template is made: what a refresh reads, masks and checks.
    CREATE TABLE template_definitions (
        id TEXT PRIMARY KEY,
        target TEXT NOT NULL,
        name TEXT NOT NULL,
        -- Both sealed.
        source_url BLOB,
        admin_url BLOB,
        -- The source without its password.
        source TEXT,
        exclude_table_data TEXT NOT NULL,
        mask TEXT,
        checks TEXT NOT NULL,
        jobs INTEGER NOT NULL,
        locked INTEGER NOT NULL,
        built_from TEXT,
        refreshed_at INTEGER,
        UNIQUE (target, name)
    );

    -- Clones that were made ahead. A row is there before its database is, and until it is gone.
    CREATE TABLE preview_pool (
        target TEXT NOT NULL,
        db TEXT NOT NULL,
        role TEXT NOT NULL,
        template TEXT NOT NULL,
        generation INTEGER NOT NULL,
        state TEXT NOT NULL,
        -- The database of the preview that it is being handed out to.
        taken_by TEXT,
        -- The number whose password the role has.
        number INTEGER,
        fingerprint TEXT,
        salt TEXT,
        made_at INTEGER NOT NULL,
        PRIMARY KEY (target, db)
    ) WITHOUT ROWID;
    ",
    "
    -- Files with migrations, once for all operations that run them. JSON.
    CREATE TABLE migration_sets (digest TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;

    -- Databases that an operation has brought up to date, or could not; JSON as it is sent.
    CREATE TABLE rollout_items (
        operation_seq INTEGER NOT NULL REFERENCES operations (seq) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        item TEXT NOT NULL,
        PRIMARY KEY (operation_seq, kind, name)
    ) WITHOUT ROWID;

    -- Digest of the migrations that a template holds.
    ALTER TABLE template_definitions ADD COLUMN migrated_to TEXT;
    ",
    "
    ALTER TABLE instances ADD COLUMN admin_password BLOB;
    ALTER TABLE instances ADD COLUMN container TEXT;
    ",
    "
    -- The newest row of the database's ledger when a rollout first came to it.
    ALTER TABLE rollout_items ADD COLUMN newest_before INTEGER;
    ",
];

pub(super) fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Applies what is missing after `found`, each migration in a transaction with its number.
pub(super) fn migrate(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(found).unwrap_or(0);
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.execute_batch(&format!("PRAGMA user_version = {}", index + 1))?;
        transaction.commit()?;
    }
    Ok(())
}
