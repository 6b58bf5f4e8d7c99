//! The scripts of the GitHub workflow, run as GitHub runs them, against a real daemon.

use super::bed::Bed;
use pgdb_testkit::sql;
use std::path::Path;
use std::process::{Command, Output};

const WORKFLOW: &str = include_str!("../../../../../.github/workflows/preview.yml");

/// The script of the step of a name.
fn script(step: &str) -> String {
    let (_, rest) = WORKFLOW.split_once(&format!("- name: {step}\n")).expect("the step");
    let (_, rest) = rest.split_once("run: |\n").expect("its script");
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("          "));
    lines.map(|line| format!("{}\n", line.trim_start_matches("          "))).collect()
}

/// Runs a step with what GitHub gives it and nothing else.
fn run(folder: &Path, step: &str, env: &[(&str, &str)]) -> Output {
    let file = folder.join("step.sh");
    std::fs::write(&file, script(step)).expect("write the script");
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc", "-eo", "pipefail"]).arg(&file).env_clear();
    command.env("PATH", std::env::var("PATH").expect("a path")).env("GITHUB_OUTPUT", folder.join("output"));
    command.env("TMPDIR", folder);
    command.envs(env.iter().copied()).current_dir(folder).output().expect("run the script")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_steps_make_and_delete_a_preview_and_mask_its_password() {
    let bed = Bed::start().await;
    let folder = bed.daemon.folder().join("runner");
    std::fs::create_dir(&folder).expect("make a folder");
    // With a slash too many, as people paste it.
    let base = format!("http://127.0.0.1:{}/", bed.daemon.http_port());
    let token = bed.daemon.token().to_owned();
    let env = [("BASE_URL", base.as_str()), ("API_TOKEN", token.as_str()), ("PR_NUMBER", "41")];

    for said in ["is new", "is there"] {
        let output = run(&folder, "Make the database", &env);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let ensured = bed.ensure(41).await;
        let password = ensured["app_password"].as_str().expect("a password");
        let expected = format!("::add-mask::{password}\nThe preview database medusa_pr_41 {said}\n");
        assert_eq!(text(&output.stdout), expected);
        assert_eq!(sql::run(&bed.app_url(&ensured), "SELECT count(*) FROM shop.orders").await, "100");
        assert!(!text(&output.stderr).contains(password));
        let handed_on = std::fs::read_to_string(folder.join("output")).expect("outputs");
        assert!(handed_on.ends_with("db_name=medusa_pr_41\napp_user=medusa_pr_app_41\n"), "{handed_on}");
        assert!(!handed_on.contains(password));
    }
    for _ in 0..2 {
        let output = run(&folder, "Delete the database", &env);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "The preview database medusa_pr_41 is gone\n");
        assert_eq!(bed.leftovers().await, "");
    }

    // What goes wrong fails the step, and says why.
    for step in ["Make the database", "Delete the database"] {
        let with = |name: &'static str, value: &'static str| {
            let changed = env.map(|(known, given)| (known, if known == name { value } else { given }));
            let output = run(&folder, step, &changed);
            assert!(!output.status.success(), "{name}={value}");
            assert!(!text(&output.stderr).contains(&token) && !text(&output.stdout).contains(&token));
            text(&output.stderr)
        };
        assert!(with("API_TOKEN", "wrong").contains("unauthorized"));
        assert!(with("API_TOKEN", "").contains("ZANEOPS_ZANE_OPERATOR_API_TOKEN"));
        assert!(with("BASE_URL", "").contains("ZANEOPS_ZANE_OPERATOR_BASE_URL"));
        with("PR_NUMBER", "1\",\"ttl\":\"never");
        with("PR_NUMBER", "");
    }
    assert_eq!(bed.leftovers().await, "");
    let left: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn nothing_from_outside_is_pasted_into_a_script() {
    for step in ["Make the database", "Delete the database"] {
        let script = script(step);
        assert!(script.contains("curl") && !script.contains("${{"), "{script}");
    }
    // A pull request of a fork must start neither job.
    let guard = "github.event.pull_request.head.repo.full_name == github.repository";
    assert_eq!(WORKFLOW.matches(guard).count(), WORKFLOW.matches("runs-on:").count());
    assert!(WORKFLOW.contains("permissions:\n  contents: read\n") && !WORKFLOW.contains("pull_request_target"));
}
