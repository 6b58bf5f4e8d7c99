//! What a transaction has locked that others have to wait for, as SQL.

/// The modes that others have to wait for, from the weakest to the strongest.
const MODES: &str = "ARRAY['ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', \
     'AccessExclusiveLock']";

/// The others.
pub(super) const WEAK: &str = "ARRAY['AccessShareLock', 'RowShareLock', 'RowExclusiveLock']";

/// Whether a lock `l` is on a relation and of a mode that others have to wait for. Outside of its own database a session
/// locks only what all share.
pub(super) fn strong() -> String {
    format!("l.granted AND l.locktype = 'relation' AND l.database <> 0 AND l.mode = ANY ({MODES})")
}

/// Whether a relation `c` is one that people know: a table or the like, and neither temporary nor ours. As all that stands
/// around plain files, it says of each type and operator that it is PostgreSQL's.
pub(super) const KNOWN: &str = "c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'm', 'v', 'f']::pg_catalog.\"char\"[]) \
     AND c.relpersistence OPERATOR(pg_catalog.<>) 't'::pg_catalog.\"char\" AND c.relnamespace OPERATOR(pg_catalog.<>) \
     coalesce(pg_catalog.to_regnamespace('pgdb'::pg_catalog.text)::pg_catalog.oid, 0::pg_catalog.oid)";

/// Whether the relation `oid` is known, there for longer than this session, and not PostgreSQL's. `old` picks the relations
/// `c` with the row types `t` that were there before.
pub(super) fn known(oid: &str, old: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_class c, pg_catalog.pg_type t WHERE c.oid = {oid} AND t.oid = c.reltype \
         AND c.oid >= {FIRST_OF_OTHERS} AND {KNOWN} AND {old} OFFSET 0)"
    )
}

/// The first number that can be something else's than PostgreSQL's own (`FirstNormalObjectId` in its `access/transam.h`).
pub(crate) const FIRST_OF_OTHERS: u32 = 16384;

/// A query for the relations that a session has locked in modes that others have to wait for: what was there before, by
/// name, and the strongest mode of each, as its number. `of` picks the locks `l` of one session, `old` the relations `c`
/// with the row types `t` that were there before.
///
/// Relations are looked up for each lock and not joined, for a join reads all relations of a large database.
pub(crate) fn held(of: &str, old: &str) -> String {
    format!(
        "SELECT h.relation::pg_catalog.regclass::text AS relation, h.mode FROM \
         (SELECT l.relation, pg_catalog.max(pg_catalog.array_position({MODES}, l.mode)) AS mode \
          FROM pg_catalog.pg_locks l WHERE {of} AND {strong} GROUP BY 1 OFFSET 0) h WHERE {known}",
        strong = strong(),
        known = known("h.relation", old),
    )
}

/// A query for each relation that was there before and that a backend has locked in a mode that others have to wait for, and
/// the mode, as another session sees it. It has a row without a relation if the backend is at work.
pub(crate) fn each_held(backend: &str) -> String {
    format!(
        "SELECT CASE l.locktype WHEN 'relation' THEN l.relation::pg_catalog.regclass::text END, l.mode \
         FROM pg_catalog.pg_locks l WHERE l.pid = {backend} \
         AND CASE WHEN {strong} THEN {known} ELSE l.locktype = 'virtualxid' END",
        strong = strong(),
        known = known("l.relation", "true"),
    )
}

/// What the query [`held`] gives, as the ledger keeps it. `ms` is for how long they were held.
pub(crate) fn held_as_json(held: &str, ms: &str) -> String {
    format!(
        "coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('relation', relation, 'held_ms', {ms}, \
         'mode', ({MODES})[mode]) ORDER BY relation) FROM ({held}) AS held), '[]')"
    )
}

/// What the session itself has locked in its transaction, but for relations that the transaction made: nobody can wait for
/// one.
pub(crate) fn held_here() -> String {
    held("l.pid = pg_catalog.pg_backend_pid()", OLD)
}

/// Whether a relation `c` with the row type `t` was there before this transaction. It is known by its column `tableoid`, which
/// is made with it and not changed later, or where there is none (views) by its row type, which changes with its name.
pub(super) const OLD: &str = "pg_catalog.age(coalesce((SELECT a.xmin FROM pg_catalog.pg_attribute a \
       WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.=) '-6'::pg_catalog.int2), t.xmin)) \
     OPERATOR(pg_catalog.>) pg_catalog.age(pg_catalog.pg_current_xact_id()::pg_catalog.xid)";

/// For how many milliseconds the transaction is open.
pub(crate) const OPEN_MS: &str = "(pg_catalog.date_part('epoch'::pg_catalog.text, pg_catalog.clock_timestamp() \
     OPERATOR(pg_catalog.-) pg_catalog.transaction_timestamp()) OPERATOR(pg_catalog.*) 1000::pg_catalog.float8)::pg_catalog.int8";
