use super::*;

const IN_ONE: Setting = Setting { major: 16, transaction: true };
const ALONE: Setting = Setting { major: 16, transaction: false };

/// `rule@line:column`, those that count.
fn told(text: &str, setting: Setting) -> Vec<String> {
    let told = |one: &Finding| format!("{} {}@{}:{}", one.severity.word(), one.rule, one.line, one.column);
    lint(text, setting).iter().filter(|one| one.counts()).map(told).collect()
}

#[test]
fn what_locks_a_table_is_told_with_its_place() {
    let text = "CREATE TABLE shop.new (id bigint);\nCREATE INDEX ON shop.new (id);\n\n  /* ü */ CREATE INDEX by_day ON shop.orders (day);\n";
    assert_eq!(told(text, IN_ONE), ["error require-concurrent-index-creation@4:11"]);
    let found = lint(text, IN_ONE);
    assert_eq!(found[0].relation.as_deref(), Some("shop.orders"));
    assert!(found[0].help.as_deref().is_some_and(|help| help.contains("no-transaction")), "{found:?}");
    let text = "ALTER TABLE shop.orders ALTER COLUMN id TYPE bigint;\nALTER TABLE shop.orders DROP COLUMN note;\n";
    assert_eq!(told(text, IN_ONE), ["error changing-column-type@1:41", "warning ban-drop-column@2:25"]);
}

#[test]
fn matters_of_taste_are_not_told() {
    let text = "CREATE TABLE t (id serial PRIMARY KEY, name varchar(20), at timestamp, n int);\n";
    assert_eq!(told(text, IN_ONE), Vec::<String>::new());
}

#[test]
fn a_file_of_its_own_transaction_is_one_without() {
    let text = "BEGIN;\nCREATE TABLE t (id bigint);\nCREATE INDEX ON t (id);\nCOMMIT;\n";
    assert_eq!(told(text, IN_ONE), Vec::<String>::new());
    let text = "BEGIN;\nSELECT 1;\nCOMMIT;\nSELECT 2;\n";
    assert_eq!(told(text, IN_ONE), ["error transaction-nesting@1:1", "error transaction-nesting@3:1"]);
}

#[test]
fn without_a_transaction_what_may_run_twice_is_told() {
    let text = "CREATE INDEX CONCURRENTLY by_day ON shop.orders (day);\n";
    assert_eq!(told(text, IN_ONE), ["error needs-no-transaction@1:1"]);
    // What these did is known to the next run.
    for text in [
        text,
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS by_day ON shop.orders (day);\n",
        "CREATE TABLE t (a int);\nALTER TABLE t ADD COLUMN b int;\n",
        "DROP INDEX CONCURRENTLY IF EXISTS by_day;\n",
    ] {
        assert_eq!(told(text, ALONE), Vec::<String>::new(), "{text}");
    }
    let text = "SELECT 1;\nDROP INDEX CONCURRENTLY by_day;\n";
    assert_eq!(told(text, ALONE), ["warning prefer-robust-stmts@2:1"]);
    let found = &lint(text, ALONE)[0];
    assert!(
        found.message.contains("does it again") && found.help.as_deref().is_some_and(|help| help.contains("IF EXISTS"))
    );
}

#[test]
fn what_refuses_a_transaction_is_told() {
    for text in [
        "VACUUM t;",
        "ALTER SYSTEM SET work_mem = '1MB';",
        "DROP INDEX CONCURRENTLY IF EXISTS i;",
        "REINDEX TABLE CONCURRENTLY t;",
        "ALTER TABLE p DETACH PARTITION c CONCURRENTLY;",
        "CLUSTER;",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h' PUBLICATION p;",
    ] {
        assert!(told(text, IN_ONE).iter().any(|one| one.starts_with("error needs-no-transaction@1:1")), "{text}");
        assert!(!told(text, ALONE).iter().any(|one| one.contains("needs-no-transaction")), "{text}");
    }
    assert_eq!(told("BEGIN;\nVACUUM t;\nCOMMIT;\n", IN_ONE), ["error needs-no-transaction@2:1"]);
    // Without a slot at the publisher it runs in one.
    let text = "ALTER SUBSCRIPTION s SET (slot_name = NONE);\nDROP SUBSCRIPTION IF EXISTS s;\n";
    assert_eq!(told(text, IN_ONE), Vec::<String>::new());
}

#[test]
fn a_rule_is_allowed_for_the_file_or_for_a_statement() {
    let drops = "ALTER TABLE t DROP COLUMN a;\nALTER TABLE t DROP COLUMN b;\n";
    let file = format!("-- first\n-- pgdb: allow(ban-drop-column) nobody reads them since 4.2\n{drops}");
    assert_eq!(told(&file, IN_ONE), Vec::<String>::new());
    assert_eq!(lint(&file, IN_ONE)[0].allowed.as_deref(), Some("nobody reads them since 4.2"));
    for one in [
        "SELECT 1;\n-- pgdb: allow(ban-drop-column) unused\nALTER TABLE t DROP COLUMN a;\nALTER TABLE t DROP COLUMN b;\n",
        "SELECT 1;\nALTER TABLE t DROP COLUMN a; -- pgdb: allow(ban-drop-column) unused\n\nALTER TABLE t DROP COLUMN b;\n",
        "SELECT 1;\nALTER TABLE t\n  -- pgdb: allow(ban-drop-column) unused\n  DROP COLUMN a;\nALTER TABLE t DROP COLUMN b;\n",
    ] {
        let found = told(one, IN_ONE);
        assert!(matches!(found.as_slice(), [only] if only.contains("ban-drop-column")), "{one}\n{found:?}");
        assert!(lint(one, IN_ONE).iter().any(|finding| finding.allowed.is_some()), "{one}");
    }
}

#[test]
fn an_allow_that_allows_nothing_is_told() {
    let wrong = |allow: &str| {
        let found = lint(&format!("-- pgdb: {allow}\nALTER TABLE t DROP COLUMN a;\n"), IN_ONE);
        assert!(found.iter().any(|one| one.rule == "ban-drop-column" && one.counts()), "{allow}: {found:?}");
        found[0].message.clone()
    };
    assert_eq!(
        wrong("allow(ban-drop-colum) gone"),
        "there is no rule 'ban-drop-colum'; did you mean 'ban-drop-column'?"
    );
    assert_eq!(wrong("allow(everything) please"), "there is no rule 'everything'");
    assert_eq!(wrong("allow(ban-drop-column)"), "allow(ban-drop-column) needs a reason behind it");
    assert_eq!(wrong("allow ban-drop-column because"), "write it as `-- pgdb: allow(RULE) REASON`");
    assert_eq!(wrong("allow(prefer-text-field) taste"), "'prefer-text-field' is not looked at here and needs no allow");
    assert_eq!(
        wrong("allow(transaction-nesting) no"),
        "'transaction-nesting' cannot be allowed: what it finds does not run"
    );
    assert_eq!(wrong("allow(ban-drop-table) not needed"), "nothing here needs allow(ban-drop-table)");
    let text = "SELECT '\n-- pgdb: allow(nonsense) in a string\n', $$\n-- pgdb: allow(nonsense) in a body\n$$;\n";
    assert_eq!(told(text, IN_ONE), Vec::<String>::new());
}

#[test]
fn what_the_parser_does_not_know_is_a_note_and_no_more() {
    let found = lint("FROBNICATE TABLE t;\nALTER TABLE t DROP COLUMN a;\n", IN_ONE);
    assert!(found.iter().any(|one| one.rule == "not-understood" && one.severity == Severity::Note), "{found:?}");
    assert!(found.iter().any(|one| one.rule == "ban-drop-column"), "{found:?}");
    let data = format!("INSERT INTO t VALUES ('{}');", "x".repeat(TOO_LARGE));
    assert_eq!(told(&data, IN_ONE), ["note too-large@1:1"]);
}

#[test]
fn data_is_no_sql_and_commands_of_psql_are_told() {
    let text = "COPY t (name) FROM stdin;\nDROP TABLE größe;\n-- pgdb: allow(nonsense)\n\\.\nDROP TABLE t;\n";
    assert_eq!(told(text, IN_ONE), ["warning ban-drop-table@5:1"]);
    assert_eq!(told("SELECT 1;\n\\set x 1\n", IN_ONE), ["error not-runnable@2:1"]);
}

#[test]
fn every_rule_has_a_name_that_can_be_typed() {
    let rules = rules();
    let names: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
    assert!(names.len() > 30 && names.contains(&"require-concurrent-index-creation".to_owned()), "{names:?}");
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase())), "{names:?}");
    for rule in &rules {
        let found = lint(&format!("-- pgdb: allow({}) reason\n", rule.name), ALONE);
        assert_eq!(found[0].rule == "unused-allow", rule.can_be_allowed, "{rule:?}: {found:?}");
    }
}

#[test]
fn what_is_nested_without_end_is_a_note_and_no_crash() {
    for text in [
        format!("SELECT {}1{};", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT 1{};", " + 1".repeat(200_000)),
        format!("SELECT {}true;", "NOT ".repeat(200_000)),
    ] {
        assert_eq!(told(&text, IN_ONE), ["note too-large@1:1"]);
    }
    // The deepest that is looked at, in each way to be deep.
    for text in [
        format!("SELECT {}1{};", "(".repeat(4900), ")".repeat(4900)),
        format!("SELECT 1{};", " + 1".repeat(2400)),
        format!("SELECT {}true;", "NOT ".repeat(4900)),
        format!("SELECT {}1{};", "CASE WHEN true THEN ".repeat(900), " END".repeat(900)),
        format!("SELECT 1{};", " UNION ALL SELECT 1".repeat(900)),
        format!("SELECT {}1{};", "(SELECT ".repeat(2400), ")".repeat(2400)),
    ] {
        let text = format!("{text}\nALTER TABLE t DROP COLUMN a;\n");
        assert!(told(&text, IN_ONE).iter().any(|one| one.starts_with("warning ban-drop-column")), "{}", &text[..40]);
    }
}

/// Of one column that is added with this default.
fn of_default(default: &str) -> Vec<Finding> {
    lint(&format!("ALTER TABLE t ADD COLUMN x text DEFAULT {default} NOT NULL;"), IN_ONE)
}

#[test]
fn a_default_that_is_the_same_for_all_rows_is_not_told() {
    for default in [
        "-1",
        "(0)",
        "- (+ 1)",
        "CURRENT_DATE",
        "localtimestamp(3)",
        "current_user",
        "(now() AT TIME ZONE 'utc')",
        "timezone('utc', now())",
        "pg_catalog.lower('X')",
        "'a' || upper('b') COLLATE \"C\"",
        "coalesce(NULL, '{}'::shop.kind[]::text)",
        "extract(epoch FROM now())::text",
        "make_interval(days => 3)",
        "CASE WHEN true THEN ARRAY[]::text[] END",
    ] {
        assert_eq!(of_default(default), [], "{default}");
    }
}

#[test]
fn a_volatile_default_is_told_as_one() {
    for default in [
        "random()",
        "(clock_timestamp())",
        "gen_random_uuid()",
        "-random()",
        "lower(md5(random()::text))",
        "nextval('s'::regclass)",
        "shop.now()",
        "\"NOW\"()",
        "made_by_us()",
        "coalesce(NULL, (random()))",
    ] {
        let found = of_default(default);
        assert!(matches!(found.as_slice(), [one] if one.rule == "adding-field-with-default"), "{default}: {found:?}");
        assert!(found[0].message.contains("default that may be another for each row"), "{default}: {found:?}");
        assert!(
            found[0].help.as_deref().is_some_and(|help| help.contains("set its default for new rows")),
            "{default}"
        );
    }
    let generated = &lint("ALTER TABLE t ADD COLUMN x int GENERATED ALWAYS AS (a + 1) STORED;", IN_ONE)[0];
    assert!(generated.message.contains("generated column"), "{generated:?}");
}

#[test]
fn nobody_is_told_to_use_not_valid_where_it_is_refused() {
    let told = |constraint: &str| lint(&format!("ALTER TABLE t ADD CONSTRAINT c {constraint};"), IN_ONE);
    for constraint in ["PRIMARY KEY (a)", "UNIQUE (a)", "EXCLUDE USING gist (a WITH =)"] {
        let found = told(constraint);
        let not_valid = |one: &Finding| one.help.as_deref().is_none_or(|help| help.contains("Use `NOT VALID`"));
        assert!(found.len() == 1 && !found.iter().any(not_valid), "{constraint}: {found:?}");
    }
    let exclusion = &told("EXCLUDE USING gist (a WITH =)")[0];
    assert!(exclusion.help.as_deref().is_some_and(|help| help.contains("new table")), "{exclusion:?}");
    let check = &told("CHECK (a > 1)")[0];
    assert!(check.help.as_deref().is_some_and(|help| help.contains("Use `NOT VALID`")), "{check:?}");
}

#[test]
fn what_fails_with_a_row_is_told_of_tables_that_are_made_with_rows() {
    let add = "ALTER TABLE t ADD COLUMN x int NOT NULL;";
    for (make, expected) in [
        ("", 1),
        ("CREATE TABLE t (a int);", 0),
        ("CREATE TABLE t AS SELECT 1 AS a WITH NO DATA;", 0),
        ("CREATE TABLE t AS SELECT 1 AS a;", 1),
        ("SELECT 1 AS a INTO t;", 1),
    ] {
        let found = lint(&format!("{make}{add}"), IN_ONE);
        assert_eq!(found.iter().filter(|one| one.rule == "adding-required-field").count(), expected, "{make}");
    }
}

#[test]
fn an_index_is_judged_by_its_table() {
    let relations = |text: &str| -> Vec<Option<String>> {
        lint(text, IN_ONE).into_iter().filter(|one| one.rule.contains("deletion")).map(|one| one.relation).collect()
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(relations("DROP INDEX i;"), [some("i")]);
    assert_eq!(relations("DROP INDEX IF EXISTS s.i, j;"), [some("s.i"), some("j")]);
    let both = ["error require-concurrent-index-deletion@1:12", "error require-concurrent-index-deletion@2:2"];
    assert_eq!(told("DROP INDEX i,\n j;", IN_ONE), both);
    assert_eq!(relations("CREATE TABLE t (a int); CREATE INDEX i ON t (a); DROP INDEX public.i, j;"), [some("j")]);
    // What locks the table is told of it, whatever the database knows of the index.
    assert_eq!(relations("CREATE INDEX i ON s.t (a); DROP INDEX s.i;"), [some("s.t")]);
    assert_eq!(told("CREATE TABLE t (a int); CREATE INDEX i ON t (a); REINDEX INDEX i;", IN_ONE), Vec::<String>::new());
    assert_eq!(lint("REINDEX INDEX i;", IN_ONE)[0].relation, some("i"));
    let allowed = "-- pgdb: allow(require-concurrent-index-deletion) at night\nDROP INDEX i, j;\n";
    assert_eq!(told(allowed, IN_ONE), Vec::<String>::new());
}
