//! GitHub's deliveries, signed as GitHub signs them.

use super::bed::Bed;
use pgdb_core::hmac::hmac_sha256;
use pgdb_testkit::sql;
use serde_json::{Value, json};

/// What GitHub and the daemon share.
const SECRET: &str = "a secret between GitHub and the daemon";

struct GitHub<'a> {
    bed: &'a Bed,
    secret: &'a str,
}

fn signature(secret: &str, body: &str) -> String {
    let code = hmac_sha256(secret.as_bytes(), &[body.as_bytes()]);
    let digits: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

/// The parts of a `pull_request` payload that GitHub documents and that matter, with some that do not.
fn pull_request(action: &str, number: u64, repository: &str, head: &str) -> Value {
    let repo = |name: &str| json!({ "id": 7, "full_name": name, "private": true, "fork": name != repository });
    json!({
        "action": action,
        "number": number,
        "pull_request": {
            "url": format!("https://api.github.com/repos/{repository}/pulls/{number}"),
            "number": number,
            "state": if action == "closed" { "closed" } else { "open" },
            "title": "Ünïcode and \"quotes\"",
            "merged": false,
            "head": { "ref": "feature", "sha": "6dcb09b5b57875f334f61aebed695e2e4193db5e", "repo": repo(head) },
            "base": { "ref": "main", "repo": repo(repository) }
        },
        "repository": repo(repository),
        "sender": { "login": "ann", "type": "User" }
    })
}

impl GitHub<'_> {
    /// A delivery; gives back the answer's status and body.
    async fn deliver(&self, event: &str, payload: &Value) -> (u16, Value) {
        let body = payload.to_string();
        let signed = signature(self.secret, &body);
        self.post(event, body, Some(&signed)).await
    }

    async fn post(&self, event: &str, body: String, signature: Option<&str>) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}/v1/webhooks/github", self.bed.daemon.http_port());
        let mut request = reqwest::Client::new().post(url).header("content-type", "application/json");
        request = request.header("user-agent", "GitHub-Hookshot/044aadd").header("x-github-event", event);
        request = request.header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958");
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        let response = request.body(body).send().await.expect("answered");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        assert!(!text.contains("za_"), "a password went out: {text}");
        (status, serde_json::from_str(&text).expect("JSON"))
    }

    async fn pull_request(&self, action: &str, number: u64) -> Value {
        let (status, answer) =
            self.deliver("pull_request", &pull_request(action, number, "shop/app", "shop/app")).await;
        assert_eq!(status, 202, "{answer}");
        answer
    }

    /// Waits for the operation of an answer.
    async fn done(&self, answer: &Value) {
        let id = answer["id"].as_str().unwrap_or_else(|| panic!("no operation in {answer}"));
        let operation = self.bed.daemon.wait_operation(id).await;
        assert_eq!(operation["state"], "succeeded", "{operation}");
    }
}

async fn bed() -> Bed {
    let env = [("PGDB_GITHUB_WEBHOOK_SECRET", SECRET), ("PGDB_GITHUB_REPOSITORIES", "shop/app, shop/api=api")];
    let bed = Bed::start_with(&env).await;
    bed.daemon.remember(SECRET);
    bed
}

#[tokio::test]
async fn a_preview_comes_and_goes_with_its_pull_request() {
    let bed = bed().await;
    let github = GitHub { bed: &bed, secret: SECRET };
    let (status, answer) = github.deliver("ping", &json!({ "zen": "Keep it logically awesome.", "hook_id": 1 })).await;
    assert_eq!((status, answer), (200, json!({ "pong": true })));

    let opened = github.pull_request("opened", 12).await;
    assert_eq!(opened["kind"], "preview.ensure", "{opened}");
    github.done(&opened).await;
    // Deliveries tell nobody that it is new; the first who asks is told.
    assert_eq!(github.pull_request("synchronize", 12).await["preview"]["state"], "ready");
    let ensured = bed.ensure(12).await;
    assert_eq!(ensured["created"], true);
    let url = bed.app_url(&ensured);
    sql::run(&url, "CREATE TABLE public.mine (id int)").await;

    // New commits, and the first delivery once more: what is there stays.
    for action in ["synchronize", "opened"] {
        let kept = github.pull_request(action, 12).await;
        assert_eq!(
            (&kept["preview"]["db_name"], &kept["preview"]["app_password"]),
            (&json!("medusa_pr_12"), &json!(""))
        );
    }
    assert_eq!(sql::run(&url, "SELECT count(*) FROM public.mine").await, "0");

    let closed = github.pull_request("closed", 12).await;
    // Opened again before the delete has ended: it is waited for, since GitHub asks once.
    let reopened = github.pull_request("reopened", 12).await;
    github.done(&closed).await;
    github.done(&reopened).await;
    assert_eq!(bed.leftovers().await, "medusa_pr_12 medusa_pr_app_12");
    assert_eq!(bed.ensure(12).await["app_password"], ensured["app_password"]);
    let gone = github.pull_request("closed", 12).await;
    github.done(&gone).await;
    assert_eq!(bed.leftovers().await, "");
    assert_eq!(github.pull_request("closed", 12).await["deleted"]["noop"], true);

    let audit = bed.daemon.get("/v1/audit").await.expect(200);
    let rows: Vec<&Value> = audit["items"].as_array().expect("rows").iter().collect();
    let of_github: Vec<_> = rows.iter().filter(|row| row["actor"] == "github").collect();
    assert_eq!(of_github.len(), 8, "{audit}");
    for row in of_github {
        assert_eq!(row["action"], "POST /v1/webhooks/github");
        assert!(row["subject"].as_str().is_some_and(|subject| subject.ends_with("medusa_pr_12")), "{row}");
    }
    let log = bed.daemon.log();
    for secret in bed.daemon.secrets() {
        assert!(!log.contains(&secret), "a secret is in the log");
    }
}

#[tokio::test]
async fn repositories_with_the_same_numbers_have_templates_of_their_own() {
    let bed = bed().await;
    let github = GitHub { bed: &bed, secret: SECRET };
    let of_api = |action| pull_request(action, 12, "shop/api", "shop/api");
    let (status, answer) = github.deliver("pull_request", &of_api("opened")).await;
    assert_eq!((status, &answer["error"]), (404, &json!("template_not_found")));

    let files = json!({ "files": [{ "name": "1.sql", "sql": "CREATE TABLE public.of_api (n integer)" }] });
    bed.daemon.post("/v1/templates/api/build", &files).await.expect(200);
    for payload in [of_api("opened"), pull_request("opened", 12, "shop/app", "shop/app")] {
        let (status, answer) = github.deliver("pull_request", &payload).await;
        assert_eq!(status, 202, "{answer}");
        github.done(&answer).await;
    }
    let preview = bed.daemon.get("/v1/previews/api/12").await.expect(200);
    assert_eq!((&preview["db_name"], &preview["state"]), (&json!("api_pr_12"), &json!("ready")));
    let (_, closed) = github.deliver("pull_request", &of_api("closed")).await;
    github.done(&closed).await;
    assert_eq!(bed.daemon.get("/v1/previews/api/12").await.refused(404), "preview_not_found");
    assert_eq!(bed.leftovers().await, "medusa_pr_12 medusa_pr_app_12");
}

#[tokio::test]
async fn what_is_not_signed_or_not_ours_changes_nothing() {
    let bed = bed().await;
    let github = GitHub { bed: &bed, secret: SECRET };
    let stranger = GitHub { bed: &bed, secret: "another secret" };
    bed.ensure(3).await;
    let before = bed.leftovers().await;

    let closed = pull_request("closed", 3, "shop/app", "shop/app");
    let (status, answer) = stranger.deliver("pull_request", &closed).await;
    assert_eq!((status, &answer["error"]), (401, &json!("invalid_signature")));
    // The right signature of another body, none, and garbage.
    let other = signature(SECRET, &pull_request("opened", 3, "shop/app", "shop/app").to_string());
    for signature in [Some(other.as_str()), None, Some(""), Some("sha256=00"), Some("sha1=757107ea")] {
        let (status, answer) = github.post("pull_request", closed.to_string(), signature).await;
        assert_eq!((status, &answer["error"]), (401, &json!("invalid_signature")), "{signature:?}");
    }
    let (status, answer) = stranger.deliver("ping", &json!({})).await;
    assert_eq!((status, &answer["error"]), (401, &json!("invalid_signature")));

    for (event, payload, why) in [
        ("pull_request", pull_request("closed", 3, "other/app", "other/app"), "other/app"),
        ("pull_request", pull_request("opened", 4, "shop/app", "eve/app"), "fork"),
        ("pull_request", pull_request("labeled", 3, "shop/app", "shop/app"), "labeled"),
        ("push", json!({ "ref": "refs/heads/main" }), "push"),
    ] {
        let (status, answer) = github.deliver(event, &payload).await;
        assert_eq!(status, 202, "{answer}");
        assert!(answer["ignored"].as_str().is_some_and(|text| text.contains(why)), "{answer}");
    }
    let (status, answer) = github.deliver("pull_request", &pull_request("opened", 0, "shop/api", "shop/api")).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_pr_number")));
    assert_eq!(bed.leftovers().await, before);
    let audit = bed.daemon.get("/v1/audit").await.expect(200).to_string();
    assert!(!audit.contains("\"github\""), "what did nothing is in the audit log");
}

#[tokio::test]
async fn a_large_delivery_is_taken_and_without_a_secret_there_is_no_webhook() {
    let bed = bed().await;
    let github = GitHub { bed: &bed, secret: SECRET };
    // As large as GitHub makes them.
    let body = json!({ "ref": "refs/heads/main", "padding": "x".repeat((25 << 20) - 100) });
    assert!(body.to_string().len() <= 25 << 20);
    let (status, answer) = github.deliver("push", &body).await;
    assert_eq!(status, 202, "{answer}");

    let plain = Bed::start().await;
    let github = GitHub { bed: &plain, secret: "" };
    let (status, answer) = github.deliver("pull_request", &pull_request("opened", 1, "shop/app", "shop/app")).await;
    assert_eq!((status, &answer["error"]), (404, &json!("webhook_disabled")));
    assert_eq!(plain.leftovers().await, "");
}
