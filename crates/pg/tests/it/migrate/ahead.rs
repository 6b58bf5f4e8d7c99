//! Plain files, which are sent before the answers to those before them are there.

use super::{Bed, DB, file, on_both, options};
use crate::server::one;
use pgdb_core::migration::file::File;
use pgdb_pg::migrate::report::{Event, RunReport};
use pgdb_pg::migrate::run::{Options, run};
use std::time::Duration;

on_both!(plain_files_have_a_session_set_up_once);
on_both!(where_there_is_code_every_file_is_set_up_for);
on_both!(where_strings_have_escapes_nothing_is_run);
on_both!(nothing_behind_a_failure_is_run);
on_both!(a_file_that_failed_before_is_no_sign_for_the_next_one);
on_both!(what_is_behind_a_failure_is_run_when_going_on);
on_both!(a_lock_that_one_of_them_cannot_have_is_tried_again);
on_both!(what_the_server_says_is_told_of_the_right_file);
on_both!(what_is_behind_a_session_that_is_lost_is_all_or_nothing);
on_both!(a_failure_anywhere_in_a_message_ends_it);
on_both!(what_can_tell_the_time_is_a_message_of_its_own);
on_both!(large_files_and_long_names_are_messages_of_their_own);
on_both!(each_file_is_told_of_with_its_own_time);
on_both!(what_is_not_closed_cannot_be_closed_by_the_next_file);
on_both!(a_cancel_around_a_commit_leaves_what_is_told);
on_both!(what_takes_long_is_no_error_to_those_behind_it);
on_both!(code_that_is_made_meanwhile_ends_it);

/// Tells how the session is set up that runs it: for this file, or for many.
const TELLS: &str =
    "INSERT INTO told (plan, disk) SELECT current_setting('plan_cache_mode'), current_setting('synchronous_commit');";
const TOLD: &str = "CREATE TABLE told (n serial, plan text, disk text);";
const ANSWER: &str = "SELECT coalesce(string_agg(plan || ' ' || disk, ', ' ORDER BY n), '') FROM told";

/// What was applied, in its order.
const LEDGER: &str =
    "SELECT coalesce(string_agg(key, ' ' ORDER BY id), '') FROM pgdb.migrations WHERE outcome = 'applied'";

async fn plain_files_have_a_session_set_up_once(bed: &Bed) {
    let mut files = vec![
        file("a/01.sql", TOLD),
        file("a/02.sql", TELLS),
        file("a/03.sql", &format!("BEGIN;\n{TELLS}\nCOMMIT;")),
        file("a/04.sql", "ALTER TABLE told ADD COLUMN other text; -- the end"),
        file("a/05.sql", "SELECT 1;"),
        // Sets something, and is itself set up for.
        file("a/06.sql", &format!("SET plan_cache_mode = force_custom_plan; {TELLS}")),
        // Too few in a row.
        file("a/07.sql", TELLS),
        file("a/08.sql", &format!("SET LOCAL plan_cache_mode = force_custom_plan; {TELLS}")),
        file("a/09.sql", TELLS),
        file("a/10.sql", "CREATE TABLE of_many (a int PRIMARY KEY); CREATE INDEX ON of_many (a);"),
        file("a/11.sql", "CREATE INDEX ON of_many (a)"),
        file("a/12.sql", "SELECT 1; -- nothing follows"),
        file("a/13.sql", TELLS),
    ];
    let mut session = bed.session().await;
    let report = run(&mut session, &files, &options(), &mut |_| {}).await.expect("a run");
    assert!(report.is_complete(), "{report:#?}");
    let (many, last) = ("force_generic_plan off", "force_generic_plan on");
    let expected = format!("{many}, {many}, force_custom_plan off, auto off, force_custom_plan off, {many}, {last}");
    assert_eq!(bed.ask(ANSWER).await, expected);
    let keys: Vec<String> = files.iter().map(|file| file.key.to_string()).collect();
    assert_eq!(bed.ask(LEDGER).await, keys.join(" "));
    let locks = report.files.iter().flat_map(|file| &file.locks);
    let locks: Vec<String> = locks.map(|lock| format!("{} {}", lock.relation, lock.mode)).collect();
    assert_eq!(locks, ["public.told AccessExclusiveLock", "public.of_many ShareLock"]);

    // The session is as it is between files, and can do the same once more.
    let back = "SELECT current_setting('search_path') || ' ' || current_setting('plan_cache_mode') || ' ' \
         || current_setting('synchronous_commit') || ' ' || current_setting('lock_timeout') || ' ' \
         || current_setting('application_name')";
    let first = session.client().first_value("ask", back).await.expect("an answer").flatten();
    assert_eq!(first.as_deref(), Some("pg_catalog, pg_temp auto on 0 pgdb"));
    files.extend(
        (14..19).map(|number| file(&format!("a/{number}.sql"), if number % 2 == 0 { TELLS } else { "SELECT 1" })),
    );
    let report = run(&mut session, &files, &options(), &mut |_| {}).await.expect("a run");
    assert_eq!((report.applied, report.is_complete()), (5, true), "{report:#?}");
    assert_eq!(bed.ask(ANSWER).await, format!("{expected}, {many}, {many}, {last}"));
    session.close().await;
}

/// What files of plain words can reach: by code, and by what is kept with one of PostgreSQL's own functions in it.
const REACHING: [&str; 8] = [
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    "CREATE TABLE kept (); CREATE RULE r AS ON INSERT TO kept DO ALSO NOTIFY kept",
    "CREATE VIEW seen AS SELECT set_config('search_path', 'other', false)",
    "CREATE TABLE kept (a int, b text DEFAULT pg_advisory_unlock_all()::text)",
    "CREATE TABLE kept (a int CHECK (pg_advisory_unlock(1) IS NULL))",
    "CREATE DOMAIN d AS int CHECK (set_config('a.b', VALUE::text, false) <> '')",
    "CREATE VIEW seen AS SELECT * FROM pg_settings",
];

async fn where_there_is_code_every_file_is_set_up_for(bed: &Bed) {
    for (number, code) in REACHING.into_iter().enumerate() {
        let named = |name: &str, text: &str| file(&format!("a{number}/{name}.sql"), text);
        // What is kept without such a function is no code.
        let harmless =
            "CREATE TABLE h (id uuid DEFAULT gen_random_uuid(), n serial CHECK (n > 0), at timestamptz DEFAULT now())";
        let plain = [
            named("1", &format!("DROP TABLE IF EXISTS told; {TOLD}")),
            named("2", "CREATE VIEW v AS SELECT now(), random();"),
            named("3", harmless),
            named("4", "CREATE INDEX ON h ((n + 1)) WHERE n > 5;"),
            named("5", "-- SET and no more\nSET work_mem = '1MB'"),
            named("6", TELLS),
            named("7", "SELECT 1"),
            named("8", "SELECT 1"),
            named("9", "SELECT 1"),
            named("A", "DROP VIEW v; DROP TABLE h"),
        ];
        bed.run(&plain).await;
        assert_eq!(bed.ask(ANSWER).await, "force_generic_plan off", "before {code}");
        let rest = ["D", "E", "F", "G"].map(|name| named(name, TELLS));
        let with_code = [&plain[..], &[named("B", code), named("C", "SELECT 1")], &rest].concat();
        bed.run(&with_code).await;
        assert_eq!(bed.ask(ANSWER).await, "force_generic_plan off, auto off, auto off, auto off, auto on", "{code}");
        let client = bed.client().await;
        let away = "DROP FUNCTION IF EXISTS f(); DROP OPERATOR IF EXISTS === (int, int); DROP TABLE IF EXISTS kept; \
             DROP VIEW IF EXISTS seen; DROP DOMAIN IF EXISTS d";
        client.batch("tidy up", away).await.expect("gone");
        client.close().await;
    }
}

/// A backslash in a string means what it says only where that is the standard's: else a string ends elsewhere.
async fn where_strings_have_escapes_nothing_is_run(bed: &Bed) {
    let admin = bed.client().await;
    admin.batch("as of old", &format!("ALTER DATABASE {DB} SET standard_conforming_strings = off")).await.expect("set");
    // Its COMMIT would be one, and be taken for a part of a string.
    let hidden = "CREATE TABLE half (a text); INSERT INTO half VALUES ('a\\''), ('b'); COMMIT; --'\nSELECT 1/0;";
    let refused = bed.try_run(&[file("a/1.sql", hidden)], &options()).await.expect_err("refused");
    assert!(refused.to_string().contains("standard_conforming_strings"), "{refused}");
    let made = "SELECT count(*)::text FROM pg_class WHERE relname IN ('half', 'migrations')";
    assert_eq!(bed.ask(made).await, "0");
}

/// Two tables, one of which refers to the other and is looked at when a transaction ends.
const TABLES: &str = "CREATE TABLE one (a int PRIMARY KEY); CREATE SEQUENCE ran; \
     CREATE TABLE two (a int REFERENCES one DEFERRABLE INITIALLY DEFERRED);";
/// Says that it was run, also if it is rolled back.
const RUNS: &str = "SELECT nextval('ran');";
const RUN: &str = "SELECT (CASE WHEN is_called THEN last_value ELSE 0 END)::text FROM ran";

/// A file that fails, and how.
const FAILING: [(&str, &str, Option<usize>); 6] = [
    ("SELECT 1;\n  SELECT 2 FROM;", "42601", Some(2)),
    ("INSERT INTO one VALUES (7);\nINSERT INTO one VALUES (7);", "23505", Some(2)),
    ("\nINSERT INTO nowhere VALUES (1);", "42P01", Some(2)),
    ("INSERT INTO two VALUES (99);", "23503", None),
    // What is found when the message is read.
    ("ALTER TABLE one ADD UNIQUE (a) NOT VALID;", "0A000", Some(1)),
    ("SELECT E'\\u12';", "22025", Some(1)),
];

async fn nothing_behind_a_failure_is_run(bed: &Bed) {
    bed.run(&[file("a/0.sql", TABLES)]).await;
    for (number, (bad, sqlstate, line)) in FAILING.into_iter().enumerate() {
        let named = |name: &str, text: &str| file(&format!("a{number}/{name}.sql"), text);
        let files = |second: &str| -> [File; 6] {
            let table = format!("CREATE TABLE good_{number} ();");
            [
                named("1", &table),
                named("2", second),
                named("3", RUNS),
                named("4", RUNS),
                named("5", RUNS),
                named("6", RUNS),
            ]
        };
        let before = bed.ask(RUN).await.parse::<u32>().expect("a number");
        let report = bed.try_run(&files(bad), &options()).await.expect("a run");
        assert_eq!((report.applied, report.failed, report.not_reached.len()), (1, 1, 4), "{report:#?}");
        let failure = report.files[1].failure.as_ref().expect("a failure");
        assert_eq!((failure.sqlstate.as_deref(), failure.line), (Some(sqlstate), line), "{failure}");
        assert!(failure.aftermath.starts_with("nothing of this file was kept"), "{failure}");
        assert_eq!(bed.ask(RUN).await, before.to_string(), "{bad}");
        let rows = format!(
            "SELECT string_agg(key || ' ' || outcome, ', ' ORDER BY id) FROM pgdb.migrations WHERE key ~ '^a{number}/'"
        );
        assert_eq!(bed.ask(&rows).await, format!("a{number}/1.sql applied, a{number}/2.sql failed"));
        assert_eq!(bed.ask("SELECT count(*)::text FROM one").await, "0");

        let report = bed.run(&files("SELECT 1;")).await;
        assert_eq!((report.applied, report.up_to_date_before), (5, 1));
        assert_eq!(bed.ask(RUN).await, (before + 4).to_string());
    }
}

/// The newest row is the failed one of the file itself then, or that of what it was before.
async fn a_file_that_failed_before_is_no_sign_for_the_next_one(bed: &Bed) {
    bed.run(&[file("a/0.sql", TABLES)]).await;
    for (bad, ..) in FAILING {
        let files = [bad, RUNS, RUNS, RUNS, RUNS];
        let files = [1, 2, 3, 4, 5].map(|number| file(&format!("a/{number}.sql"), files[number - 1]));
        for _ in 0..2 {
            let report = bed.try_run(&files, &options()).await.expect("a run");
            assert_eq!((report.applied, report.not_reached.len()), (0, 4), "{report:#?}");
            assert_eq!(bed.ask(RUN).await, "0");
        }
    }
    let mut session = bed.session().await;
    let again = file("b/R__again.sql", "CREATE VIEW again AS SELECT 1;");
    let report =
        run(&mut session, &[file("a/1.sql", "SELECT 1;"), again], &options(), &mut |_| {}).await.expect("a run");
    assert_eq!(report.applied, 2, "{report:#?}");
    for (bad, ..) in FAILING {
        let mut files = vec![file("b/R__again.sql", bad)];
        files.extend((2..6).map(|number| file(&format!("c/R__{number}.sql"), RUNS)));
        let report = run(&mut session, &files, &options(), &mut |_| {}).await.expect("a run");
        assert_eq!((report.applied, report.not_reached.len()), (0, 4), "{report:#?}");
        assert_eq!(bed.ask(RUN).await, "0");
    }
    session.close().await;
}

async fn what_is_behind_a_failure_is_run_when_going_on(bed: &Bed) {
    bed.run(&[file("a/0.sql", TABLES)]).await;
    let mut files = Vec::new();
    for (number, (bad, ..)) in FAILING.into_iter().enumerate() {
        files.push(file(&format!("b/{number}1.sql"), bad));
        files.push(file(&format!("b/{number}2.sql"), RUNS));
        files.push(file(&format!("b/{number}3.sql"), RUNS));
    }
    // So many have to follow that the last ones are sent ahead too.
    files.extend((0..4).map(|number| file(&format!("c/{number}.sql"), "")));
    let go_on = Options { keep_going: true, ..options() };
    let report = bed.try_run(&files, &go_on).await.expect("a run");
    assert_eq!((report.applied, report.failed), (2 * FAILING.len() + 4, FAILING.len()), "{report:#?}");
    // Each once, although they were sent again.
    assert_eq!(bed.ask(RUN).await, (2 * FAILING.len()).to_string());
}

async fn a_lock_that_one_of_them_cannot_have_is_tried_again(bed: &Bed) {
    bed.run(&[file("a/1.sql", "CREATE TABLE busy (a int); CREATE TABLE free (); CREATE SEQUENCE ran;")]).await;
    let files = [
        file("b/1.sql", RUNS),
        file("b/2.sql", "ALTER TABLE busy ADD COLUMN b int;"),
        // What it wants to be prepared was to be with the message that was refused.
        file("b/3.sql", &format!("{RUNS} CREATE TABLE made (); ALTER TABLE free ADD COLUMN a int;")),
        file("b/4.sql", "ALTER TABLE busy ADD COLUMN c int;"),
        file("b/5.sql", RUNS),
    ];
    let holder = bed.client().await;
    holder.batch("hold", "BEGIN; LOCK TABLE busy").await.expect("held");
    let (retry, mut retried) = tokio::sync::mpsc::unbounded_channel();
    let mut session = bed.session().await;
    let impatient = Options { lock_timeout: Duration::from_millis(20), ..options() };
    let running = async {
        let tell = &mut |event: Event<'_>| {
            if let Event::Retrying { key, .. } = event {
                retry.send(key.to_owned()).expect("the test listens");
            }
        };
        run(&mut session, &files, &impatient, tell).await.expect("a run")
    };
    let letting_go = async {
        let first = retried.recv().await;
        holder.batch("let go", "COMMIT").await.expect("let go");
        first
    };
    let (report, first): (RunReport, _) = tokio::join!(running, letting_go);
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!(first.as_deref(), Some("b/2.sql"));
    assert_eq!(bed.ask(LEDGER).await, "a/1.sql b/1.sql b/2.sql b/3.sql b/4.sql b/5.sql");
    assert_eq!(bed.ask(RUN).await, "3");
    session.close().await;
}

async fn what_the_server_says_is_told_of_the_right_file(bed: &Bed) {
    let long = "n".repeat(70);
    let texts = [
        ("CREATE TABLE t (a int);", None),
        ("CREATE TABLE IF NOT EXISTS t (a int);", Some("42P07")),
        ("INSERT INTO t VALUES (1);", None),
        ("DROP TABLE IF EXISTS nothing;", Some("00000")),
        ("DROP TABLE IF EXISTS nobody;", Some("00000")),
        ("CREATE UNIQUE INDEX one ON t (a);", None),
        ("ALTER TABLE t ADD CONSTRAINT other PRIMARY KEY USING INDEX one;", Some("00000")),
        ("ALTER TABLE t ALTER COLUMN a SET STATISTICS 20000;", Some("22023")),
        (&format!("ALTER TABLE t ADD COLUMN {long} int;"), Some("42622")),
        ("SET work_mem = '2MB'; DROP TABLE IF EXISTS nothing;", Some("00000")),
        ("CREATE VIEW v AS SELECT a FROM t;", None),
        ("DROP TABLE t CASCADE;", Some("00000")),
        ("SELECT 1", None),
        ("SELECT plainto_tsquery('english', 'the');", Some("00000")),
        ("DROP TABLE IF EXISTS nothing;", Some("00000")),
        ("SELECT 2", None),
    ];
    let key = |number: usize| format!("a/{number:02}.sql");
    let files: Vec<File> = texts.iter().enumerate().map(|(number, (text, _))| file(&key(number), text)).collect();
    let mut session = bed.session().await;
    let mut heard = Vec::new();
    let tell = &mut |event: Event<'_>| match event {
        Event::Notice { key, notice } => heard.push(format!("{key} {}", notice.sqlstate)),
        Event::Ended(report) => heard.push(format!("{} ended with {}", report.key, report.notices.len())),
        _ => {}
    };
    let report = run(&mut session, &files, &options(), tell).await.expect("a run");
    assert!(report.is_complete(), "{report:#?}");
    let told = texts.iter().enumerate().flat_map(|(number, (_, said))| {
        let told = said.map(|code| format!("{} {code}", key(number)));
        told.into_iter().chain([format!("{} ended with {}", key(number), u8::from(said.is_some()))])
    });
    let expected: Vec<String> = told.collect();
    assert_eq!(heard, expected);
    session.close().await;
}

async fn what_is_behind_a_session_that_is_lost_is_all_or_nothing(bed: &Bed) {
    bed.run(&[file("a/1.sql", "CREATE TABLE busy (a int); CREATE TABLE ran (n int);")]).await;
    let row =
        |n: u32| file(&format!("b/{n}.sql"), &format!("INSERT INTO ran VALUES ({n}); INSERT INTO ran VALUES ({n});"));
    let files = [
        row(1),
        file("b/2.sql", "INSERT INTO ran VALUES (2); ALTER TABLE busy ADD COLUMN b int;"),
        row(3),
        row(4),
        row(5),
        row(6),
    ];
    let holder = bed.client().await;
    holder.batch("hold", "BEGIN; LOCK TABLE busy").await.expect("held");
    let patient = Options { lock_timeout: Duration::from_secs(60), ..options() };
    let running = bed.try_run(&files, &patient);
    let ending = async {
        let waiting =
            "SELECT coalesce(max(pid), 0)::text FROM pg_locks WHERE NOT granted AND relation = 'busy'::regclass";
        let mut pid = bed.ask(waiting).await;
        while pid == "0" {
            pid = bed.ask(waiting).await;
        }
        holder.batch("end it", &format!("SELECT pg_terminate_backend({pid})")).await.expect("ended");
    };
    let (report, ()) = tokio::join!(running, ending);
    let report = report.expect("told");
    let failure = report.files[1].failure.as_ref().expect("a failure");
    assert_eq!((failure.sqlstate.as_deref(), report.not_reached.len()), (Some("57P01"), 4), "{failure}");
    assert_eq!(bed.ask(LEDGER).await, "a/1.sql b/1.sql");
    assert_eq!(bed.ask("SELECT string_agg(n::text, ' ') FROM ran").await, "1 1");
    holder.batch("let go", "COMMIT").await.expect("let go");
    assert_eq!(bed.run(&files).await.applied, 5);
    assert_eq!(bed.ask("SELECT string_agg(n::text, ' ' ORDER BY n) FROM ran").await, "1 1 2 3 3 4 4 5 5 6 6");
}

/// Messages have one, two, four and eight files: the failure is at each place in them.
async fn a_failure_anywhere_in_a_message_ends_it(bed: &Bed) {
    const FILES: usize = 24;
    bed.run(&[file("a/0.sql", TABLES)]).await;
    let mut ran = 0;
    for (number, (bad, sqlstate, line)) in FAILING.into_iter().enumerate() {
        for place in 0..FILES {
            let key = |index: usize| format!("b{number}_{place:02}/{index:02}.sql");
            let text = |index: usize| if index == place { bad } else { RUNS };
            let files: Vec<File> = (0..FILES).map(|index| file(&key(index), text(index))).collect();
            let report = bed.try_run(&files, &options()).await.expect("a run");
            let told = (report.applied, report.failed, report.not_reached.len());
            assert_eq!(told, (place, 1, FILES - place - 1), "{bad} as file {place}: {report:#?}");
            ran += place;
            assert_eq!(bed.ask(RUN).await, ran.to_string(), "{bad} as file {place}");
            let failure = report.files[place].failure.as_ref().expect("a failure");
            assert_eq!((failure.sqlstate.as_deref(), failure.line), (Some(sqlstate), line), "{failure}");
            let rows = format!(
                "SELECT string_agg(key, ' ' ORDER BY id) FROM pgdb.migrations \
                 WHERE key ~ '^b{number}_{place:02}/' AND outcome = 'applied'"
            );
            let expected: Vec<String> = (0..place).map(key).collect();
            assert_eq!(bed.ask(&format!("SELECT coalesce(({rows}), '')")).await, expected.join(" "));
        }
    }
}

/// All answers to a message can come at its end.
async fn each_file_is_told_of_with_its_own_time(bed: &Bed) {
    let slow = "INSERT INTO t SELECT n FROM generate_series(1, 200000) n;";
    let mut files = vec![file("a/00.sql", "CREATE TABLE t (a int);")];
    files.extend((1..30).map(|number| {
        file(&format!("a/{number:02}.sql"), if number == 20 { slow } else { "INSERT INTO t VALUES (1);" })
    }));
    let report = bed.run(&files).await;
    // Of several the last one: those behind it have waited as long, and are not told of with that.
    let slowest = report.files.iter().max_by_key(|file| file.took_ms).expect("files");
    assert_eq!(slowest.key, "a/20.sql", "{report:#?}");
    let kept = "SELECT key FROM pgdb.migrations ORDER BY took_ms DESC, id DESC LIMIT 1";
    assert_eq!(bed.ask(kept).await, "a/20.sql");
}

/// A message has one time, and files have different ones.
async fn what_can_tell_the_time_is_a_message_of_its_own(bed: &Bed) {
    const FILES: usize = 40;
    let fills = |folder: &str, text: &str| -> Vec<File> {
        (0..FILES).map(|number| file(&format!("{folder}/{number:02}.sql"), text)).collect()
    };
    let different = async |what: &str| {
        let sql = format!("SELECT count(*) || ' ' || count(DISTINCT {what}) FROM at");
        let answer = bed.ask(&sql).await;
        let numbers: Vec<usize> = answer.split(' ').map(|number| number.parse().expect("a number")).collect();
        (numbers[0], numbers[1])
    };
    let named = "INSERT INTO at (named) VALUES (current_setting('application_name'));";
    let made = "CREATE TABLE at (named text, at timestamptz);";

    // Nothing asks for the time: files share messages, whose name is the same for all of them.
    bed.run(&[&[file("a/00.sql", made)], &fills("b", named)[..]].concat()).await;
    let (all, messages) = different("named").await;
    assert!(all == FILES && messages < FILES / 2, "{messages} messages for {all} files");

    // The files ask for it; so does what one of them makes, in the same run and in one before; a view; a domain.
    let asks = "INSERT INTO at (at) VALUES (CURRENT_TIMESTAMP);";
    let default = "ALTER TABLE at ALTER COLUMN at SET DEFAULT now();";
    let view = "CREATE VIEW clock AS SELECT statement_timestamp() AS at;";
    let domain = "CREATE DOMAIN moment AS timestamptz DEFAULT 'now'::text::timestamptz; \
         ALTER TABLE at ADD COLUMN moment moment;";
    for (number, (first, text, column)) in [
        ("", asks, "at"),
        (default, "INSERT INTO at DEFAULT VALUES;", "at"),
        (view, "INSERT INTO at (at) SELECT at FROM clock;", "at"),
        (domain, "INSERT INTO at (named) VALUES ('x');", "moment"),
    ]
    .into_iter()
    .enumerate()
    {
        let empty =
            file(&format!("c{number}/0.sql"), &format!("DROP VIEW IF EXISTS clock; DROP TABLE at; {made} {first}"));
        let same_run: Vec<File> = [&[empty], &fills(&format!("d{number}"), text)[..]].concat();
        bed.run(&same_run).await;
        assert_eq!(different(column).await, (FILES, FILES), "{first} {text}");
        bed.run(&fills(&format!("e{number}"), text)).await;
        assert_eq!(different(column).await, (2 * FILES, 2 * FILES), "later: {first} {text}");
    }
}

async fn large_files_and_long_names_are_messages_of_their_own(bed: &Bed) {
    let large = format!("-- {}\nINSERT INTO t VALUES (1);", "large ".repeat(40_000));
    let long = format!("ALTER TABLE t ADD COLUMN {} int;", "n".repeat(64));
    let text = |number: usize| match number {
        0 => "CREATE TABLE t (a int);",
        8..12 => &large,
        20 => &long,
        _ => "INSERT INTO t VALUES (1);",
    };
    let files: Vec<File> = (0..24).map(|number| file(&format!("a/{number:02}.sql"), text(number))).collect();
    let report = bed.run(&files).await;
    let heard = report.files.iter().filter(|file| !file.notices.is_empty()).map(|file| file.key.as_str());
    assert_eq!(heard.collect::<Vec<_>>(), ["a/20.sql"]);
    assert_eq!(bed.ask("SELECT count(*)::text FROM t").await, "22");
}

/// A file of its own fails for that, and must do so with others behind it.
async fn what_is_not_closed_cannot_be_closed_by_the_next_file(bed: &Bed) {
    for (number, begin, end) in [(0, "/* to do", "*/"), (1, "SELECT 1 AS \"", "\"")] {
        let key = |file: usize| format!("a{number}/{file:02}.sql");
        let text = |file: usize| match file {
            12 => format!("CREATE TABLE a{number} (); {begin}"),
            13 => format!("-- {end}\n;CREATE TABLE b{number} ();"),
            _ => "SELECT 1;".to_owned(),
        };
        let files: Vec<File> = (0..16).map(|number| file(&key(number), &text(number))).collect();
        let report = bed.try_run(&files, &options()).await.expect("a run");
        let failure = report.files[12].failure.as_ref().expect("a failure");
        assert_eq!((report.applied, failure.sqlstate.as_deref()), (12, Some("42601")), "{failure}");
        assert_eq!(bed.ask("SELECT count(*)::text FROM pg_class WHERE relname ~ '^[ab][01]$'").await, "0");
    }
}

/// Whenever it hits: what is told as applied is there, with its row, and nothing else.
async fn a_cancel_around_a_commit_leaves_what_is_told(bed: &Bed) {
    const FILES: usize = 6;
    let admin = bed.client().await;
    // The last commit waits for the disk, and that for a tenth of a second more.
    admin.batch("make it sync", "ALTER SYSTEM SET fsync = on").await.expect("set");
    admin.batch("read that", "SELECT pg_reload_conf()").await.expect("read");
    for setting in ["commit_delay = 100000", "commit_siblings = 0"] {
        admin.batch("make it slow", &format!("ALTER DATABASE {DB} SET {setting}")).await.expect("set");
    }
    bed.run(&[file("a/0.sql", "CREATE TABLE ran (key text);")]).await;
    let mut applied = 0;
    for round in 0..6_u64 {
        let key = |number: usize| format!("b{round}/{number}.sql");
        let files: Vec<File> = (0..FILES)
            .map(|number| file(&key(number), &format!("INSERT INTO ran VALUES ('{}');", key(number))))
            .collect();
        let default = options();
        let running = bed.try_run(&files, &default);
        let cancelling = async {
            let done = format!(
                "SELECT coalesce(max(pid), 0)::text FROM pg_stat_activity \
                 WHERE application_name = 'pgdb (files done: {FILES})' AND state = 'active'"
            );
            let mut pid = bed.ask(&done).await;
            for _ in 0..2000 {
                if pid != "0" {
                    break;
                }
                pid = bed.ask(&done).await;
            }
            tokio::time::sleep(Duration::from_millis(15 * round)).await;
            admin
                .batch("cancel", &format!("SELECT pg_cancel_backend({pid}) WHERE {pid} <> 0"))
                .await
                .expect("cancelled");
        };
        let (report, ()) = tokio::join!(running, cancelling);
        let report = report.expect("a run");
        applied += usize::from(report.is_complete());
        let told: Vec<&str> = report.files.iter().filter(|file| file.applied).map(|file| file.key.as_str()).collect();
        let told = told.join(" ");
        let kept = format!("SELECT coalesce(string_agg(key, ' ' ORDER BY key), '') FROM ran WHERE key ~ '^b{round}/'");
        assert_eq!(bed.ask(&kept).await, told, "{report:#?}");
        let rows = format!(
            "SELECT coalesce(string_agg(key, ' ' ORDER BY key), '') FROM pgdb.migrations \
             WHERE key ~ '^b{round}/' AND outcome = 'applied'"
        );
        assert_eq!(bed.ask(&rows).await, told, "{report:#?}");
    }
    assert!(applied > 0, "no cancel came behind the commit");
    admin.close().await;
}

async fn what_takes_long_is_no_error_to_those_behind_it(bed: &Bed) {
    let slow = "INSERT INTO t SELECT n FROM generate_series(1, 100000) n;";
    let mut files = vec![file("a/00.sql", "CREATE TABLE t (a int);")];
    files.extend((1..40).map(|number| {
        file(&format!("a/{number:02}.sql"), if number == 20 { slow } else { "INSERT INTO t VALUES (1);" })
    }));
    bed.run(&files).await;
    // With an error the server would write all of the message into its log.
    let log = bed.server.log();
    assert!(!log.contains("ERROR"), "{log}");
}

async fn code_that_is_made_meanwhile_ends_it(bed: &Bed) {
    let others = bed.client().await;
    let mut files = vec![file("a/00.sql", &format!("{TOLD} CREATE TABLE gate ();"))];
    bed.run(&files).await;
    files.extend((1..80).map(|number| {
        file(&format!("a/{number:02}.sql"), if number == 20 { "INSERT INTO gate DEFAULT VALUES;" } else { TELLS })
    }));
    others.batch("close the gate", "BEGIN; LOCK TABLE gate").await.expect("closed");
    let patient = Options { lock_timeout: Duration::from_secs(60), ..options() };
    let running = bed.try_run(&files, &patient);
    let meanwhile = async {
        let waits = "SELECT count(*)::text FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted";
        while one(&others, waits).await == "0" {
            tokio::task::yield_now().await;
        }
        let code = "CREATE FUNCTION own() RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMIT";
        others.batch("make code and open the gate", code).await.expect("made");
    };
    let (report, ()) = tokio::join!(running, meanwhile);
    assert!(report.expect("a run").is_complete());
    // Up to two messages were read before that.
    let ahead = bed.ask("SELECT count(*)::text FROM told WHERE plan <> 'auto'").await.parse::<u32>().expect("a number");
    assert!((18..=18 + 32).contains(&ahead), "{ahead} files were set up for together");
    assert_eq!(bed.ask("SELECT count(*)::text FROM told").await, "78");
}
