//! What the operator lacks is named, and the SQL that is given mends it.

use crate::server::{PATIENCE, Server};
use pgdb_pg::connect;
use pgdb_pg::rights::{Roles, missing_rights};

fn named(template: &'static str, owner: &'static str) -> Roles<'static> {
    Roles { template, owner, dev: "dev", holder: "held", app_prefix: "app_" }
}

#[tokio::test]
async fn the_sql_that_is_given_mends_what_is_missing() {
    let server = Server::start("").await;
    let admin = server.admin("postgres").await;
    admin.batch("set up", "CREATE ROLE \"Op\"\"1\" LOGIN NOINHERIT").await.expect("a role");
    admin.batch("set up", "CREATE DATABASE \"Tpl\"").await.expect("a template");
    let login = async || connect(&server.socket(), "Op\"1", None, "postgres", PATIENCE).await.expect("a login");

    let operator = login().await;
    let missing = missing_rights(&operator, &named("Tpl", "previews_owner")).await.expect("a look");
    assert_eq!(missing.len(), 7, "{missing:?}");
    operator.close().await;

    for right in &missing {
        let sql = right.sql.as_deref().expect("each can be mended");
        admin.batch("mend", sql).await.expect(sql);
    }
    let operator = login().await;
    assert_eq!(missing_rights(&operator, &named("Tpl", "previews_owner")).await.expect("a look"), []);
    let sql = "CREATE DATABASE copy TEMPLATE \"Tpl\" OWNER previews_owner";
    operator.batch("copy", sql).await.expect("the rights are enough to copy");
    operator.close().await;
    admin.close().await;
}

#[tokio::test]
async fn since_16_membership_alone_is_not_enough() {
    let server = Server::start("").await;
    let admin = server.admin("postgres").await;
    admin
        .batch("set up", "CREATE ROLE op LOGIN CREATEDB CREATEROLE; CREATE ROLE own; CREATE ROLE dev")
        .await
        .expect("roles");
    admin.batch("set up", "GRANT pg_signal_backend TO op").await.expect("a membership");
    admin.batch("set up", "CREATE DATABASE tpl OWNER op").await.expect("a template");
    let with = if admin.major() >= 16 { " WITH INHERIT FALSE, SET FALSE" } else { "" };
    let expected = usize::from(admin.major() >= 16);
    admin.batch("set up", &format!("GRANT own TO op{with}")).await.expect("a membership");
    let operator = connect(&server.socket(), "op", None, "postgres", PATIENCE).await.expect("a login");
    let missing = missing_rights(&operator, &named("tpl", "own")).await.expect("a look");
    assert_eq!(missing.len(), expected, "{missing:?}");
    for right in &missing {
        admin.batch("mend", right.sql.as_deref().expect("a remedy")).await.expect("mended");
    }
    assert_eq!(missing_rights(&operator, &named("tpl", "own")).await.expect("a look"), []);
    operator.close().await;
    admin.close().await;
}

#[tokio::test]
async fn the_dev_role_and_roles_that_the_operator_did_not_make_are_looked_at() {
    let server = Server::start("").await;
    let admin = server.admin("postgres").await;
    let set_up = "CREATE ROLE op LOGIN CREATEDB CREATEROLE; CREATE ROLE held; CREATE ROLE app_1; CREATE ROLE apple; \
                  GRANT pg_signal_backend, held TO op";
    admin.batch("set up", set_up).await.expect("roles");
    admin.batch("set up", "CREATE DATABASE tpl OWNER op").await.expect("a template");
    let operator = connect(&server.socket(), "op", None, "postgres", PATIENCE).await.expect("a login");
    let missing = missing_rights(&operator, &named("tpl", "op")).await.expect("a look");
    let told: Vec<&str> = missing.iter().filter_map(|right| right.sql.as_deref()).collect();
    let mut expected = vec![r#"CREATE ROLE "dev" LOGIN"#];
    if admin.major() >= 16 {
        expected.push(r#"GRANT "app_1" TO "op" WITH ADMIN TRUE, INHERIT TRUE, SET TRUE"#);
        expected.push(r#"GRANT "held" TO "op" WITH ADMIN TRUE, INHERIT TRUE, SET TRUE"#);
    }
    assert_eq!(told, expected);
    for sql in told {
        admin.batch("mend", sql).await.expect(sql);
    }
    assert_eq!(missing_rights(&operator, &named("tpl", "op")).await.expect("a look"), []);
    operator.close().await;
    admin.close().await;
}
