//! The splitter against PostgreSQL itself: what the server takes for one statement is one here.

use super::Bed;
use crate::server::{ADMIN, newest, oldest};
use pgdb_pg::Target;
use pgdb_pg::migrate::split::split;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// The words that begin and end a body and a CASE, where they are no more than names.
fn label() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("case"),
        Just("CASE"),
        Just("end"),
        Just("End"),
        Just("begin"),
        Just("atomic"),
        Just("commit"),
        Just("function"),
        Just("when"),
        Just("\"end\""),
        Just("\"case;\"")
    ];
    // AS takes every word for a name, and so does a dot; without them a label is one of those that PostgreSQL's list of
    // keywords calls bare labels, which all of these are.
    (word, 0..4usize).prop_map(|(word, way)| match way {
        0 => format!("1 AS {word}"),
        1 => format!("1 /* ; */ {word}"),
        2 => format!("(SELECT t.{word} FROM (SELECT 1 AS {word}) AS t) AS {word}"),
        _ => format!("CASE WHEN (SELECT 1 {word}) = 1 THEN 2 END {word}"),
    })
}

/// A function whose body is SQL, as PostgreSQL reads it; what follows its END is another statement.
fn routine() -> impl Strategy<Value = String> {
    let inner = prop::collection::vec(prop::collection::vec(prop_oneof![label(), value()], 1..3), 0..3);
    let wrap = "CREATE OR REPLACE FUNCTION pg_temp.g() RETURNS SETOF record";
    inner.prop_map(move |statements| {
        let statements = statements.iter().map(|values| format!("SELECT {};", values.join(", "))).collect::<String>();
        format!("{wrap} BEGIN ATOMIC {statements} SELECT 1, 2; END")
    })
}

/// Something that has a value, written so that it could be taken for the end of a statement.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[^'\\\\\0]{0,8}".prop_map(|inner| format!("'{inner}'")),
        "([^'\\\\\0]|\\\\[';$\"a-df-mo-tw-z-]|''){0,8}".prop_map(|inner| format!("E'{inner}'")),
        "([^'\\\\\0]|\\\\[';$]){0,4}".prop_map(|inner| format!("E'{inner}'\n '\\';{inner}'")),
        "[a-z;$ ]{0,6}".prop_map(|inner| format!("U&'{inner}'")),
        ("[a-zß_]{0,3}", "[^$\0]{0,10}").prop_map(|(tag, inner)| format!("${tag}${inner}${tag}$")),
        "[^\"\0]{1,8}".prop_map(|inner| format!("1 AS \"{inner}\"")),
        "[a-z]{3}\\$;?".prop_map(|name| format!("'x' AS {}", name.trim_end_matches(';'))),
        "[a-z ;'\"$]{0,6}".prop_map(|inner| format!("/* {inner} /* ; */ */ 1")),
        "[^\0\n\r]{0,8}".prop_map(|inner| format!("--{inner}\n1")),
        Just("(SELECT 'a;b')".to_owned()),
        Just("1e5".to_owned()),
        Just("array[1,2]".to_owned()),
        Just("B'01'".to_owned()),
        Just("CASE WHEN true THEN 1 END".to_owned()),
    ]
}

fn statement() -> impl Strategy<Value = String> {
    let select = prop::collection::vec(value(), 1..4).prop_map(|values| format!("SELECT {}", values.join(", ")));
    prop_oneof![
        8 => select,
        3 => prop::collection::vec(label(), 1..4).prop_map(|labels| format!("SELECT {}", labels.join(", "))),
        4 => routine(),
        1 => Just("CREATE OR REPLACE FUNCTION pg_temp.f(a int) RETURNS int BEGIN ATOMIC SELECT CASE a WHEN 1 THEN 2 END; SELECT 3; END".to_owned()),
        1 => Just("COMMIT".to_owned()),
        1 => Just("SET application_name TO 'a;b'".to_owned()),
        1 => Just("DO $do$ BEGIN PERFORM ';'; END $do$".to_owned()),
    ]
}

fn gap() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), Just("\r\n"), Just(" -- it's; $$\n"), Just("/* ; ' */"), Just(";; ")]
}

/// What the server makes of a text: the rows and the ends of its statements; empty ones leave nothing.
async fn told(client: &Client, text: &str) -> Result<Vec<String>, String> {
    let messages = client.simple_query(text).await.map_err(|error| format!("{text}: {error:?}"))?;
    Ok(messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
            }
            SimpleQueryMessage::CommandComplete(rows) => Some(format!("end {rows}")),
            _ => None,
        })
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_server_sees_the_same_statements() {
    agreed(&Bed::start(&newest()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_sees_the_same_statements() {
    agreed(&Bed::start(&oldest()).await).await;
}

async fn agreed(bed: &Bed) {
    let Target::Socket { dir, port } = bed.server.socket() else { unreachable!() };
    let mut config = tokio_postgres::Config::new();
    config.host_path(dir).port(port).user(ADMIN).dbname(super::DB);
    let (client, connection) = config.connect(NoTls).await.expect("a session");
    let carried = tokio::spawn(connection);
    let handle = tokio::runtime::Handle::current();
    let texts = (prop::collection::vec((gap(), statement()), 1..5), gap());
    let outcome = tokio::task::block_in_place(|| {
        TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() }).run(
            &texts,
            |(pieces, last)| {
                let pieces = pieces.iter().map(|(gap, statement)| format!("{gap}{statement};")).collect::<String>();
                let text = format!("{pieces}{last}");
                let statements = split(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
                handle.block_on(async {
                    let whole = told(&client, &text).await.map_err(TestCaseError::reject)?;
                    let mut apart = Vec::new();
                    for statement in &statements {
                        apart.extend(told(&client, &text[statement.span.clone()]).await.map_err(TestCaseError::fail)?);
                    }
                    prop_assert_eq!(statements.len(), whole.iter().filter(|line| line.starts_with("end ")).count());
                    prop_assert_eq!(whole, apart);
                    Ok(())
                })
            },
        )
    });
    drop(client);
    carried.await.expect("carried").expect("a good end");
    outcome.expect("the splitter and PostgreSQL agree");
}
