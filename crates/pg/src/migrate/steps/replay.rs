//! What the statements that are done left in their session, which ended with it.
//!
//! Settings are made again before a file goes on behind them. What cannot be made again (a temporary table, a prepared
//! statement) is told, and the file does not go on. What a function sets by itself cannot be seen.

use crate::migrate::split::{Kind, Statement, words};

/// What the part that is done left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// Statements, by their indexes, that are to be run again, in order.
    pub(super) again: Vec<usize>,
    /// The first that cannot be: its index, and what it left.
    pub(super) lost: Option<(usize, &'static str)>,
    /// Statements that begin the transaction in which the next one stands, after a `COMMIT AND CHAIN`.
    pub(super) chain: Vec<usize>,
}

/// What a statement leaves in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Nothing,
    /// Something that running it again brings back.
    Setting,
    /// Of the transaction it stands in: `SET TRANSACTION`.
    Mode,
    Lost(&'static str),
    /// It takes away what others left.
    Clears(&'static str),
    /// Back to a savepoint: what was set since is as it was before.
    Back,
}

const PREPARED: &str = "a prepared statement";
const TEMPORARY: &str = "something temporary";
const LISTENING: &str = "a LISTEN";
const CURSOR: &str = "a cursor";
const SETTING: &str = "a setting that cannot be made again from outside";
const LOCK: &str = "an advisory lock";

/// Reads the statements that are done.
pub(super) fn past(sql: &str, done: &[Statement]) -> Past {
    let mut kept: Vec<(usize, Leaves)> = Vec::new();
    // Of the transaction that is open: what it has left so far, and how it began.
    let mut open: Option<Vec<(usize, Leaves)>> = None;
    let mut chain = Vec::new();
    for (index, statement) in done.iter().enumerate() {
        match statement.kind {
            Kind::Begin => (open, chain) = (Some(Vec::new()), vec![index]),
            Kind::Commit | Kind::OtherEnd => kept.extend(open.take().into_iter().flatten()),
            Kind::CommitAndChain => kept.extend(open.replace(Vec::new()).into_iter().flatten()),
            Kind::Rollback => open = None,
            Kind::RollbackAndChain => open = Some(Vec::new()),
            kind => match (leaves(&sql[statement.span.clone()], kind), &mut open) {
                (Leaves::Mode, Some(_)) => chain.push(index),
                (Leaves::Back, Some(open)) => {
                    for (_, left) in open.iter_mut().filter(|(_, left)| *left == Leaves::Setting) {
                        *left = Leaves::Lost(SETTING);
                    }
                }
                (Leaves::Nothing | Leaves::Mode | Leaves::Back, _) => {}
                (left, Some(open)) => open.push((index, left)),
                (left, None) => kept.push((index, left)),
            },
        }
    }
    let mut past = Past { chain: open.map(|_| chain).unwrap_or_default(), ..Past::default() };
    let mut lost: Vec<(usize, &'static str)> = Vec::new();
    for (index, left) in kept {
        match left {
            Leaves::Setting => past.again.push(index),
            Leaves::Lost(what) => lost.push((index, what)),
            Leaves::Clears(what) => lost.retain(|(_, lost)| *lost != what),
            Leaves::Nothing | Leaves::Mode | Leaves::Back => {}
        }
    }
    past.lost = lost.first().copied();
    past
}

fn leaves(sql: &str, kind: Kind) -> Leaves {
    let words: Vec<String> = words(sql).map(str::to_ascii_lowercase).collect();
    let at = |index: usize| words.get(index).map_or("", String::as_str);
    let has = |word: &str| words.iter().any(|have| have == word);
    if kind == Kind::Procedural {
        return body(sql);
    }
    match at(0) {
        "set" if at(1) == "transaction" => return Leaves::Mode,
        "set" if matches!(at(1), "local" | "constraints") => return Leaves::Nothing,
        "set" | "reset" | "load" => return Leaves::Setting,
        "rollback" | "abort" => return Leaves::Back,
        "prepare" => return Leaves::Lost(PREPARED),
        // One of several by its name: whether the others are still needed is not asked for.
        "deallocate" => return Leaves::Clears(PREPARED),
        "listen" => return Leaves::Lost(LISTENING),
        "unlisten" => return Leaves::Clears(LISTENING),
        "declare" if words.windows(2).any(|pair| pair == ["with", "hold"]) => return Leaves::Lost(CURSOR),
        "close" => return Leaves::Clears(CURSOR),
        "discard" if matches!(at(1), "temp" | "temporary") => return Leaves::Clears(TEMPORARY),
        "create" => {
            let skipped = ["or", "replace", "local", "global"];
            let what = words.iter().skip(1).find(|word| !skipped.contains(&word.as_str()));
            if what.is_some_and(|what| is_temporary(what)) {
                return Leaves::Lost(TEMPORARY);
            }
        }
        _ => {}
    }
    let into = words.windows(3).any(|three| {
        three[0] == "into" && (is_temporary(&three[1]) || (three[1] == "local" && is_temporary(&three[2])))
    });
    if into || has("pg_temp") {
        Leaves::Lost(TEMPORARY)
    } else if has("set_config") {
        if is_set_config(&words) { Leaves::Setting } else { Leaves::Lost(SETTING) }
    } else if words.iter().any(|word| is_advisory(word)) {
        Leaves::Lost(LOCK)
    } else {
        Leaves::Nothing
    }
}

fn is_temporary(word: &str) -> bool {
    matches!(word, "temp" | "temporary")
}

/// One that the session holds, and not its transaction.
fn is_advisory(word: &str) -> bool {
    (word.starts_with("pg_advisory_lock") || word.starts_with("pg_try_advisory_lock")) && !word.contains("xact")
}

/// `SELECT [pg_catalog.]set_config('name', 'value', false)`, as dumps begin: the same again does the same.
fn is_set_config(words: &[String]) -> bool {
    let words: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| !["pg_catalog", "."].contains(word)).collect();
    let is_string = |word: &str| word.starts_with('\'');
    matches!(words.as_slice(), ["select", "set_config", "(", name, ",", value, ",", "false", ")", ..]
        if is_string(name) && is_string(value) && words.len() <= 10)
}

/// What the text of a DO shows. What it puts together and executes cannot be seen.
fn body(sql: &str) -> Leaves {
    let Some(text) = words(sql).find_map(|word| {
        let tag = word.strip_prefix('$').and_then(|word| word.find('$'))? + 2;
        word.get(tag..word.len().checked_sub(tag)?)
    }) else {
        return Leaves::Nothing;
    };
    let inner: Vec<String> = words(text).map(str::to_ascii_lowercase).collect();
    let mut begins = true;
    for (index, word) in inner.iter().enumerate() {
        let next = inner.get(index + 1).map_or("", String::as_str);
        let found = match word.as_str() {
            "set" if begins && !matches!(next, "local" | "constraints" | "transaction") => Some(SETTING),
            "reset" if begins => Some(SETTING),
            "listen" if begins => Some(LISTENING),
            "set_config" => Some(SETTING),
            "temp" | "temporary" | "pg_temp" => Some(TEMPORARY),
            word if is_advisory(word) => Some(LOCK),
            _ => None,
        };
        if let Some(what) = found {
            return Leaves::Lost(what);
        }
        begins = matches!(word.as_str(), ";" | "begin" | "then" | "else" | "loop");
    }
    Leaves::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::split::split;

    fn past_of(sql: &str) -> Past {
        past(sql, &split(sql).expect(sql))
    }

    #[test]
    fn settings_are_made_again() {
        for (sql, again) in [
            ("SET search_path TO a; SET LOCAL x TO 1; SET ROLE r; RESET ROLE; SELECT 1;", vec![0, 2, 3]),
            (
                "SET SESSION AUTHORIZATION x; SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED",
                vec![0, 1],
            ),
            ("SELECT pg_catalog.set_config('search_path', '', false);LOAD 'x';", vec![0, 1]),
            ("BEGIN; SET a.b TO 1; COMMIT; BEGIN; SET a.b TO 2; ROLLBACK;", vec![1]),
            (
                "BEGIN; SET a.b TO 1; COMMIT AND CHAIN; SET a.b TO 2; ROLLBACK AND CHAIN; SET a.b TO 3; COMMIT",
                vec![1, 5],
            ),
        ] {
            assert_eq!(past_of(sql), Past { again, ..Past::default() }, "{sql}");
        }
    }

    #[test]
    fn what_cannot_be_made_again_is_told() {
        for (sql, lost) in [
            ("SELECT 1; CREATE TEMP TABLE t ();", Some((1, TEMPORARY))),
            ("CREATE OR REPLACE LOCAL TEMPORARY VIEW v AS SELECT 1", Some((0, TEMPORARY))),
            ("SELECT 1 INTO TEMP t", Some((0, TEMPORARY))),
            ("CREATE TABLE pg_temp.t ()", Some((0, TEMPORARY))),
            ("CREATE TEMP TABLE t (); DISCARD TEMP", None),
            ("CREATE TABLE temp (temporary int)", None),
            ("PREPARE q AS SELECT 1", Some((0, PREPARED))),
            ("PREPARE q AS SELECT 1; EXECUTE q; DEALLOCATE q", None),
            ("LISTEN x; UNLISTEN *; DECLARE c CURSOR WITH HOLD FOR SELECT 1", Some((2, CURSOR))),
            ("SELECT set_config('a.b', x, false) FROM t", Some((0, SETTING))),
            ("SELECT pg_try_advisory_lock(1)", Some((0, LOCK))),
            ("SELECT pg_advisory_xact_lock(1)", None),
            ("DO $$ BEGIN UPDATE t SET a = 1; END $$", None),
            ("DO $x$ BEGIN IF true THEN SET search_path TO a; END IF; END $x$", Some((0, SETTING))),
            ("DO $$ BEGIN PERFORM set_config('a.b', '1', false); END $$", Some((0, SETTING))),
            ("DO $$ BEGIN CREATE TEMP TABLE t (); END $$", Some((0, TEMPORARY))),
            ("BEGIN; CREATE TEMP TABLE t (); ROLLBACK; SELECT 1", None),
            ("BEGIN; SAVEPOINT s; SET a.b TO 1; ROLLBACK TO s; COMMIT", Some((2, SETTING))),
        ] {
            assert_eq!(past_of(sql).lost, lost, "{sql}");
        }
    }

    #[test]
    fn a_chain_of_transactions_is_begun_again() {
        assert_eq!(past_of("x; BEGIN READ WRITE; SET TRANSACTION DEFERRABLE; x; COMMIT AND CHAIN").chain, [1, 2]);
        assert_eq!(past_of("BEGIN; COMMIT AND CHAIN; COMMIT").chain, Vec::<usize>::new());
    }
}
