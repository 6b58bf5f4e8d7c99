//! What is typed, and what stands in the environment.

use super::bed::Bed;
use std::process::Command;

/// `pgdb migrate watch` with these variables, which has to refuse them; its words.
fn refused(env: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgdb"));
    command.args(["migrate", "watch"]).env_clear().envs(env.iter().copied());
    let output = command.output().expect("pgdb runs");
    let words = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{words}");
    words
}

#[test]
fn what_cannot_be_meant_is_refused_without_telling_secrets() {
    let words = refused(&[("DATABASE_URL", "postgres://app:hunter2@")]);
    assert!(words.contains("DATABASE_URL") && !words.contains("hunter2"), "{words}");
    assert!(refused(&[("HEALTH_PORT", "many")]).contains("HEALTH_PORT"));
    assert!(refused(&[("NAMESPACE", "../kube-system")]).contains("NAMESPACE"));
}

#[tokio::test]
async fn the_url_may_be_in_a_file_and_services_of_the_namespace_do_no_harm() {
    let mut bed = Bed::start().await;
    let file = bed.daemon.folder().join("url");
    std::fs::write(&file, format!("{}\n", bed.url())).expect("written");
    bed.set("DATABASE_URL", "");
    bed.set("DATABASE_URL_FILE", &file.display().to_string());
    // As Kubernetes sets it in a namespace with a service called `postgres`.
    bed.set("POSTGRES_PORT", "tcp://10.96.0.7:5432");
    bed.write_tree("public/001_a.sql", "CREATE TABLE a ();");
    bed.watch();
    bed.ready().await;
}
