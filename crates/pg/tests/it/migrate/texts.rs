//! Every way of writing a file that PostgreSQL understands.

use super::{Bed, file, on_both, options, word};
use pgdb_pg::migrate::run::run;

on_both!(what_postgresql_understands_runs);
on_both!(a_large_file_runs_in_pieces_and_as_one);
on_both!(what_the_server_says_is_heard);

async fn what_postgresql_understands_runs(bed: &Bed) {
    let body = "CREATE FUNCTION f(x text) RETURNS text LANGUAGE plpgsql AS $body$\nBEGIN\n  -- ; $$ '\n  RETURN $$;$$ || x;\nEND;\n$body$;\n";
    let files = [
        file("a/01.sql", "\u{feff}CREATE TABLE t (a int, b text);\r\nINSERT INTO t VALUES (1, 'x;y');\r\n"),
        file("a/02.sql", body),
        file("a/03.sql", "/* a /* nested; */ ; ' */ INSERT INTO t VALUES (2, E'it\\'s;'); -- the end; '"),
        file(
            "a/04.sql",
            "CREATE FUNCTION g(x int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN x > 1 THEN 1 ELSE 2 END; \
             SELECT x; END;\nINSERT INTO t VALUES (g(3), f('z'));",
        ),
        file(
            "a/05.sql",
            "COPY t (a, b) FROM stdin;\n4\tit's; \\\\.\n5\t\\N\n\\.\nUPDATE t SET b = 'five' WHERE a = 5;\n",
        ),
        file("a/06.sql", "COPY t FROM STDIN WITH (FORMAT csv);\r\n6,\"a\nb\"\r\n\\.\r\n"),
        file("a/07.sql", ""),
        file("a/08.sql", " -- nothing\n/* at all */ ;;\n"),
        file(
            "a/09.sql",
            "BEGIN ISOLATION LEVEL SERIALIZABLE;\nCREATE TABLE level AS SELECT current_setting('transaction_isolation') l;\nCOMMIT;\n",
        ),
        file(
            "a/10.sql",
            "begin /* größe */;\nSAVEPOINT s; INSERT INTO t VALUES (10, 'gone'); ROLLBACK TO s; INSERT INTO t VALUES (10, 'ten');\nend",
        ),
        file("a/11.sql", "SELECT * FROM t; SELECT generate_series(1, 3);"),
        file(
            "a/12.sql",
            "CREATE RULE r AS ON UPDATE TO t WHERE old.a < 0 DO INSTEAD (SELECT 1; SELECT 2);\nDROP RULE r ON t",
        ),
        file("größe/1 x.sql", "CREATE TABLE \"wei\"\"rd;\" (\"a;b\" int);"),
    ];
    let report = bed.run(&files).await;
    assert_eq!((report.applied, report.up_to_date_before), (files.len(), 0));
    let all = "SELECT string_agg(a || '=' || b, '|' ORDER BY a) FROM t";
    assert_eq!(bed.ask(all).await, "1=x;y|2=it's;|3=;z|4=it's; \\.|5=five|6=a\nb|10=ten");
    assert_eq!(bed.ask("SELECT l FROM level").await, "serializable");
    let ledger =
        "SELECT string_agg(key || ' ' || outcome || ' ' || length(sha256), ',' ORDER BY id) FROM pgdb.migrations";
    let expected: Vec<String> = files.iter().map(|file| format!("{} applied 64", file.key)).collect();
    assert_eq!(bed.ask(ledger).await, expected.join(","));

    let again = bed.run(&files).await;
    assert_eq!((again.applied, again.up_to_date_before), (0, files.len()));
}

async fn a_large_file_runs_in_pieces_and_as_one(bed: &Bed) {
    let mut text = String::from("CREATE TABLE big (n int PRIMARY KEY, pad text);\n");
    let pad = "ä".repeat(100);
    let mut n = 0;
    while text.len() < 20_000_000 {
        text.push_str(&format!("INSERT INTO big VALUES ({n}, '{pad}');\n"));
        n += 1;
    }
    let bad = format!("{text}INSERT INTO big VALUES (0, 'twice');\n");
    let failure = bed.fail(&[file("a/1.sql", &bad)]).await;
    assert_eq!((failure.line, failure.statement), (Some(n + 2), Some(n + 2)), "{failure}");
    assert_eq!(failure.sqlstate.as_deref(), Some("23505"));
    assert_eq!(bed.ask("SELECT coalesce(to_regclass('big')::text, 'none')").await, "none");
    let wrong = format!("{text}INSERT INTO big VALUES (-1, größe);\n");
    let failure = bed.fail(&[file("a/1.sql", &wrong)]).await;
    assert_eq!((failure.line, failure.column), (Some(n + 2), Some(29)), "{failure}");

    bed.run(&[file("a/1.sql", &text)]).await;
    assert_eq!(bed.ask("SELECT count(*)::text FROM big").await, n.to_string());
}

async fn what_the_server_says_is_heard(bed: &Bed) {
    let noisy = "DO $$ BEGIN RAISE NOTICE 'one' USING HINT = 'a hint'; RAISE WARNING 'two'; END $$;\nDROP TABLE IF EXISTS nothing;";
    let steps = "-- pgdb: no-transaction\nDO $$ BEGIN RAISE NOTICE 'three'; END $$; VACUUM;";
    let files = [file("a/1.sql", noisy), file("a/2.sql", steps)];
    let mut heard = Vec::new();
    let mut session = bed.session().await;
    let report = run(&mut session, &files, &options(), &mut |event| heard.extend(word(&event))).await.expect("a run");
    session.close().await;
    let expected =
        ["NOTICE: one", "WARNING: two", "NOTICE: table \"nothing\" does not exist, skipping", "NOTICE: three"];
    assert_eq!(heard, expected);
    assert_eq!(report.files[0].notices[0].hint.as_deref(), Some("a hint"));
    assert_eq!(report.files[1].notices.len(), 1);
}
