use super::*;
use proptest::prelude::*;

fn texts(text: &str) -> Vec<&str> {
    split(text).expect(text).into_iter().map(|statement| &text[statement.span]).collect()
}

fn kinds(text: &str) -> Vec<Kind> {
    split(text).expect(text).into_iter().map(|statement| statement.kind).collect()
}

#[test]
fn semicolons_end_statements_where_postgresql_says_so() {
    for (text, expected) in [
        ("", vec![]),
        (" -- nothing;\n/* ; */ ;; \r\n", vec![]),
        ("SELECT 1", vec!["SELECT 1"]),
        ("SELECT 1;SELECT 2 ;", vec!["SELECT 1;", "SELECT 2 ;"]),
        ("SELECT ';', \"a;b\" -- ;\n;x", vec!["SELECT ';', \"a;b\" -- ;\n;", "x"]),
        ("SELECT 'it''s;'; x", vec!["SELECT 'it''s;';", "x"]),
        (r"SELECT 'a\'; x", vec![r"SELECT 'a\';", "x"]),
        (r"SELECT E'a\';'; x", vec![r"SELECT E'a\';';", "x"]),
        ("SELECT E'a'\n -- c\n '\\';'; x", vec!["SELECT E'a'\n -- c\n '\\';';", "x"]),
        ("SELECT $$;$$, $a$ $$;$b$ $a$; x", vec!["SELECT $$;$$, $a$ $$;$b$ $a$;", "x"]),
        ("SELECT a$b$; x$b$", vec!["SELECT a$b$;", "x$b$"]),
        ("SELECT $1; x", vec!["SELECT $1;", "x"]),
        ("SELECT $ä$;$ä$; x", vec!["SELECT $ä$;$ä$;", "x"]),
        ("/* a /* ; */ ; */ SELECT 1; x", vec!["SELECT 1;", "x"]),
        ("CREATE RULE r AS ON INSERT TO t DO (a; b); x", vec!["CREATE RULE r AS ON INSERT TO t DO (a; b);", "x"]),
        ("SELECT U&'\\0041;'; x", vec!["SELECT U&'\\0041;';", "x"]),
        ("SELECT 1--\r; x", vec!["SELECT 1--\r;", "x"]),
    ] {
        assert_eq!(texts(text), expected, "{text:?}");
    }
}

#[test]
fn bodies_in_plain_sql_stay_whole() {
    let body = "CREATE OR REPLACE FUNCTION f(a int) RETURNS int BEGIN ATOMIC SELECT CASE WHEN a > 1 THEN 2 END; SELECT 1; END;";
    assert_eq!(texts(&format!("{body} SELECT 2;")), [body, "SELECT 2;"]);
    for inner in [
        "SELECT 1 AS case;",
        "SELECT 1 AS end; SELECT 2 AS \"end\";",
        "SELECT t.case, t.end FROM t;",
        "SELECT 1 case; SELECT (SELECT 1 end) end;",
        "SELECT t . end; ;",
        "SELECT begin atomic FROM t;",
        "SELECT CASE WHEN (SELECT 1 end) = 1 THEN 2 END case;",
        "SELECT CASE CASE 1 WHEN 1 THEN 2 END WHEN 2 THEN 3 END AS case;",
        "UPDATE t SET \"case\" = CASE WHEN a THEN b END; /* end; */ -- end;\n",
        "SELECT ';' \"end\", $$ ; end $$ end;",
        "",
    ] {
        let body = format!("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC {inner} END;");
        assert_eq!(kinds(&format!("{body} COMMIT; x")), [Kind::Other, Kind::Commit, Kind::Other], "{inner}");
        assert_eq!(texts(&format!("{body} COMMIT; x")), [&body, "COMMIT;", "x"], "{inner}");
    }
    let procedure = "create procedure p() begin atomic insert into t values (1); end;";
    assert_eq!(texts(&format!("{procedure}x")), [procedure, "x"]);
    // Elsewhere these words mean nothing.
    assert_eq!(texts("BEGIN; SELECT 1; END; x").len(), 4);
    assert_eq!(texts("CREATE TABLE atomic (begin int); x").len(), 2);
    assert_eq!(texts("CREATE FUNCTION f(begin atomic) RETURNS int AS 'x' LANGUAGE sql; x").len(), 2);
}

#[test]
fn data_of_copy_is_no_sql() {
    let text = "COPY t (a, b) FROM STDIN; -- here\r\n1\tit's;\n\\N\t\\\\.\n\\.\r\nSELECT 1;";
    let statements = split(text).expect("good");
    assert_eq!(statements.len(), 2);
    assert_eq!(&text[statements[0].data.clone().expect("data")], "1\tit's;\n\\N\t\\\\.\n");
    assert_eq!(&text[statements[1].span.clone()], "SELECT 1;");
    let empty = "copy \"from\".t from stdin with (format csv);\n\\.";
    assert_eq!(split(empty).expect("good")[0].data, Some(44..44));
    assert_eq!(kinds("COPY t FROM '/tmp/x'; COPY (SELECT 1) TO '/tmp/x';"), [Kind::Other; 2]);

    assert_eq!(kinds("COPY t FROM STDOUT;\n1\n\\.\n"), [Kind::CopyFromStdin]);
    assert!(matches!(split("COPY t FROM STDIN;\n1\n"), Err(SplitError::CopyWithoutEnd { at: 0 })));
    assert!(matches!(split("COPY t FROM STDIN"), Err(SplitError::CopyWithoutEnd { at: 0 })));
    assert!(matches!(split("COPY t FROM STDIN; SELECT 1;\n\\.\n"), Err(SplitError::TextAfterCopy { at: 19 })));
    assert!(matches!(split("x; COPY t TO STDOUT;"), Err(SplitError::CopyToStdout { at: 3 })));
}

#[test]
fn commands_of_psql_are_told() {
    let error = split("SELECT 1;\n\\i other.sql\n").expect_err("not SQL");
    assert_eq!(error, SplitError::MetaCommand { at: 10, command: "\\i".to_owned() });
    assert!(split("SELECT 1 \\gset").is_err());
    assert_eq!(texts(r"SELECT '\d', $$\d$$; -- \d").len(), 1);
}

#[test]
fn transactions_are_recognised() {
    use Kind::{
        Alone, Begin, Commit, CommitAndChain, CreateIndexConcurrently, Discard, Other, OtherEnd, Prepared,
        ReindexConcurrently, Rollback, RollbackAndChain,
    };
    for (text, kind) in [
        ("begin", Begin),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", Begin),
        ("/* x */ Start Transaction", Begin),
        ("commit work", Commit),
        ("COMMIT AND NO CHAIN", Commit),
        ("END", Commit),
        ("COMMIT AND CHAIN", CommitAndChain),
        ("END WORK AND CHAIN", CommitAndChain),
        ("ROLLBACK AND CHAIN", RollbackAndChain),
        ("ABORT TRANSACTION AND NO CHAIN", Rollback),
        ("ROLLBACK PREPARED 'x'", OtherEnd),
        ("COMMIT PREPARED 'x'", OtherEnd),
        ("PREPARE TRANSACTION 'x'", OtherEnd),
        ("PREPARE q AS SELECT 1", Prepared),
        ("ROLLBACK", Rollback),
        ("ABORT TRANSACTION", Rollback),
        ("ROLLBACK TO SAVEPOINT s", Other),
        ("ROLLBACK WORK TO s", Other),
        ("SAVEPOINT s", Other),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", CreateIndexConcurrently),
        ("CREATE INDEX i ON t (a)", Other),
        ("REINDEX (VERBOSE) TABLE CONCURRENTLY t", ReindexConcurrently),
        ("REINDEX (VERBOSE, CONCURRENTLY) TABLE t", ReindexConcurrently),
        ("REINDEX (VERBOSE) TABLE t", Other),
        ("VACUUM t", Alone),
        ("DROP INDEX CONCURRENTLY i", Alone),
        ("ALTER SYSTEM SET x = 1", Alone),
        ("ALTER TABLE IF EXISTS ONLY s.\"P\" DETACH PARTITION s.c CONCURRENTLY", Alone),
        ("ALTER TABLE p DETACH PARTITION c", Other),
        ("ALTER TABLE p DETACH PARTITION \"CONCURRENTLY\"", Other),
        ("ALTER TABLE p DETACH PARTITION c FINALIZE", Other),
        ("CLUSTER", Alone),
        ("CLUSTER VERBOSE;", Alone),
        ("CLUSTER (VERBOSE)", Alone),
        ("CLUSTER t", Other),
        ("CLUSTER \"T\"", Other),
        ("CLUSTER VERBOSE \"T\"", Other),
        ("CLUSTER (VERBOSE) t USING i", Other),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION p", Alone),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (copy_data = false)", Alone),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (connect = false)", Other),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (CREATE_SLOT = false, slot_name = x)", Other),
        ("DROP SUBSCRIPTION IF EXISTS s", Other),
        ("DISCARD ALL", Discard),
        ("DISCARD TEMP", Other),
    ] {
        assert_eq!(kinds(text), [kind], "{text}");
    }
}

#[test]
fn what_stands_around_a_file_is_found() {
    let outer = |text: &str| outer(text, &split(text).expect(text)).map(|outer| outer.modes);
    assert_eq!(outer("BEGIN; SELECT 1; COMMIT;").as_deref(), Some(""));
    assert_eq!(outer("-- Hello\nSTART TRANSACTION READ WRITE ;\nEND").as_deref(), Some("READ WRITE"));
    assert_eq!(
        outer("BEGIN WORK ISOLATION LEVEL SERIALIZABLE; x; COMMIT").as_deref(),
        Some("ISOLATION LEVEL SERIALIZABLE")
    );
    for none in ["", "BEGIN", "BEGIN; x", "BEGIN; x; COMMIT; BEGIN; y; COMMIT", "x; BEGIN; COMMIT", "BEGIN; ROLLBACK"] {
        assert_eq!(outer(none), None, "{none}");
    }
}

/// One part of a statement that holds what could be taken for its end.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Zäß_][a-zA-Z0-9_$ß]{0,6}".prop_filter("prefixes of strings", |word| word.len() > 2),
        "[^'\\\\\0]{0,8}".prop_map(|inner| format!("'{inner}'")),
        "([^'\\\\\0]|\\\\[^\0]|''){0,8}".prop_map(|inner| format!("E'{inner}'")),
        "[^\"\0\\\\]{1,8}".prop_map(|inner| format!("\"{inner}\"")),
        ("[a-z_]{0,3}", "[^$\0]{0,10}").prop_map(|(tag, inner)| format!("${tag}${inner}${tag}$")),
        "[^;'\"$()\\\\\0\n\r/*-]{0,6}".prop_map(|inner| format!("/* {inner}; /* ' */ $$ */")),
        "[^\0\n\r]{0,8}".prop_map(|inner| format!("--{inner}\n")),
        "[^;'\"$()\\\\\0\n\r/*-]{0,5}".prop_map(|inner| format!("({inner};)")),
        "[0-9]{1,4}(\\.[0-9]{1,2})?",
        Just(",".to_owned()),
    ]
}

fn statement() -> impl Strategy<Value = String> {
    // A first word that is none of the special ones, and no blank at the end.
    prop::collection::vec(part(), 0..6).prop_map(|parts| format!("SELECT {} x;", parts.join(" ")))
}

fn gap() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ \t\r\n]{1,3}", Just("-- it's; $$\n".to_owned()), Just("/* ; ' */".to_owned())]
}

proptest! {
    #[test]
    fn what_was_put_together_comes_apart_again(pieces in prop::collection::vec((gap(), statement()), 0..6), last in gap()) {
        let text: String = pieces.iter().flat_map(|(gap, statement)| [gap.as_str(), statement]).collect::<String>() + &last;
        let expected: Vec<&str> = pieces.iter().map(|(_, statement)| statement.as_str()).collect();
        prop_assert_eq!(texts(&text), expected);
    }

    #[test]
    fn no_text_is_lost_whatever_it_is(text in "[a-z'\"$;()/*\\-\n\r E\\\\äß.]{0,60}") {
        let Ok(statements) = split(&text) else { return Ok(()) };
        let mut end = 0;
        for statement in statements {
            prop_assert!(statement.span.start >= end && statement.span.end > statement.span.start);
            // Nothing but white space, comments and lone semicolons is left out.
            let between = &text[end..statement.span.start];
            prop_assert!(split(between).is_ok_and(|none| none.is_empty()), "{:?}", between);
            end = statement.data.map_or(statement.span.end, |data| data.end);
        }
    }
}
