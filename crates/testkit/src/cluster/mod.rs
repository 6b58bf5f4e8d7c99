//! A real Kubernetes API server with its etcd, RBAC switched on. No node and no controller runs: objects are checked and
//! kept, and nobody acts upon them. [`crate::kube`] is the stand-in for what the real one cannot be made to do.

pub mod door;

use crate::block::Block;
use crate::wait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the API server may take to be ready.
const LIMIT: Duration = Duration::from_secs(60);
/// May do everything. It is of this cluster alone, which listens on this machine alone.
const ADMIN: &str = "admin-of-a-test";
/// Of the API server and of its services.
const HOST: &str = "127.0.0.1";

/// A running API server, this test's alone; dropping it ends it.
#[derive(Debug)]
pub struct Cluster {
    options: Vec<String>,
    client: Client,
    server: Option<Child>,
    etcd: Child,
    /// After the processes, which work in its folder.
    block: Block,
}

impl Cluster {
    /// Starts etcd and an API server and waits until that is ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with further options of the API server.
    pub async fn start_with(options: &[&str]) -> Self {
        // Whoever asks first installs it; all of a process use the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Its certificate is made when it starts. Those whom a test is about get that to check; we need not.
        let client = Client::builder().tls_danger_accept_invalid_certs(true).timeout(LIMIT).build();
        let block = Block::take();
        write_key(&block.folder.join("accounts.key"));
        fs::write(block.folder.join("tokens.csv"), format!("{ADMIN},admin,admin,system:masters\n")).expect("written");
        let etcd = spawn(&block.folder, "etcd", &etcd_options(&block));
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut cluster = Self { options, client: client.expect("an HTTP client"), server: None, etcd, block };
        cluster.resume().await;
        cluster
    }

    /// Starts the API server, again after [`Self::kill`], and waits until it is ready.
    pub async fn resume(&mut self) {
        assert!(self.server.is_none(), "the API server runs");
        let mut options = server_options(&self.block);
        options.extend(self.options.iter().cloned());
        self.server = Some(spawn(&self.block.folder, "kube-apiserver", &options));
        let this = std::cell::RefCell::new(self);
        let look = || async {
            this.borrow_mut().check();
            let url = format!("{}/readyz", this.borrow().url());
            let request = this.borrow().client.get(url).bearer_auth(ADMIN);
            request.send().await.is_ok_and(|answer| answer.status() == StatusCode::OK).then_some(())
        };
        wait::until(LIMIT, "the API server to be ready", look).await;
    }

    /// Panics when a program has ended, which it does at once when an option is wrong or it is not there.
    fn check(&mut self) {
        let server = self.server.as_mut().map(|server| ("kube-apiserver", server));
        for (name, process) in server.into_iter().chain([("etcd", &mut self.etcd)]) {
            if let Some(status) = process.try_wait().expect("a child of ours") {
                let log = fs::read_to_string(self.block.folder.join(format!("{name}.log"))).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(20)..].join("\n");
                panic!(
                    "{name} has ended ({status}); 'scripts/install-test-deps.sh kube' makes one, .parts/kube belongs into PATH:\n{end}"
                );
            }
        }
    }

    /// Kills the API server. What it was told is in etcd.
    pub fn kill(&mut self) {
        end(&mut self.server.take().expect("the API server runs"));
    }

    /// A folder for the test, which goes with the cluster.
    pub fn folder(&self) -> &Path {
        &self.block.folder
    }

    /// Host and port of the API server.
    pub fn address(&self) -> (String, u16) {
        (HOST.to_owned(), self.block.ports.0)
    }

    fn url(&self) -> String {
        format!("https://{HOST}:{}", self.block.ports.0)
    }

    /// The authority that the API server's certificate is to be checked with.
    pub fn authority(&self) -> PathBuf {
        self.block.folder.join("certificates/apiserver.crt")
    }

    /// Writes a kubeconfig for somebody with this token.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        self.kubeconfig_for(&json!({"server": self.url(), "certificate-authority": self.authority()}), token)
    }

    fn kubeconfig_for(&self, server: &Value, token: &str) -> PathBuf {
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        let mut file = tempfile::Builder::new().prefix("kubeconfig.").tempfile_in(self.folder()).expect("a file");
        // JSON is YAML.
        file.write_all(text.to_string().as_bytes()).expect("written");
        file.keep().expect("kept").1
    }

    /// `kubectl`, with the rights of an administrator. What it prints, or what it complains about.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        self.kubectl_as(ADMIN, arguments, input)
    }

    /// The same with the rights of somebody else.
    pub fn kubectl_as(&self, token: &str, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new("kubectl");
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", self.folder()).env("KUBECONFIG", self.kubeconfig(token)).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that reads nothing has closed it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("kubectl ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(format!("{}{}", text(output.stderr), text(output.stdout)))
        }
    }

    /// Sends an object, or a part of one, to a path of the API, as an administrator. Panics unless that is accepted.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Value {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = self.client.request(method, format!("{}{path}", self.url())).bearer_auth(ADMIN);
        answer(request.header("content-type", kind).body(body.to_string())).await
    }

    /// A token of a service account, as a pod is given one.
    pub async fn token(&self, namespace: &str, account: &str) -> String {
        let wish = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600},
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let made = self.send(Method::POST, &path, &wish).await;
        made["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// Lets etcd forget everything but what is now. Whoever wants what came after an earlier version is told 410, unless
    /// the API server still remembers it (`--watch-cache=false`).
    pub async fn compact(&self) {
        let url = format!("http://{HOST}:{}/v3/kv", self.block.ports.0 + 1);
        let range = json!({"key": BASE64_STANDARD.encode("/")}).to_string();
        let now = answer(self.client.post(format!("{url}/range")).body(range)).await;
        let now = now["header"]["revision"].as_str().expect("a revision");
        let body = json!({"revision": now, "physical": true}).to_string();
        answer(self.client.post(format!("{url}/compaction")).body(body)).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            end(server);
        }
        end(&mut self.etcd);
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.expect("an answer");
    let (status, text) = (answer.status(), answer.text().await.expect("a body"));
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Both keep everything in the test's folder, and end with the test.
fn spawn(folder: &Path, name: &str, options: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join(format!("{name}.log"))).expect("a log");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", name]).args(options).current_dir(folder).stdin(Stdio::null());
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("HOME", folder);
    command.stdout(log.try_clone().expect("a log")).stderr(log);
    command.spawn().expect("setpriv runs")
}

/// There is nothing that they would have to put in order.
fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}

fn etcd_options(block: &Block) -> Vec<String> {
    let (clients, peers) =
        (format!("http://{HOST}:{}", block.ports.0 + 1), format!("http://{HOST}:{}", block.ports.0 + 2));
    vec![
        "--data-dir=etcd".to_owned(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
    ]
}

/// It makes its own certificate.
fn server_options(block: &Block) -> Vec<String> {
    let mut options = vec![
        format!("--etcd-servers=http://{HOST}:{}", block.ports.0 + 1),
        format!("--bind-address={HOST}"),
        format!("--advertise-address={HOST}"),
        format!("--secure-port={}", block.ports.0),
    ];
    let fixed = [
        "--cert-dir=certificates",
        "--token-auth-file=tokens.csv",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=accounts.key",
        "--service-account-signing-key-file=accounts.key",
        "--service-cluster-ip-range=10.0.0.0/24",
        // It would publish itself as a service, and refuses to do that with an address of this machine alone.
        "--endpoint-reconciler-type=none",
    ];
    options.extend(fixed.map(str::to_owned));
    options
}

/// What service accounts' tokens are signed with.
fn write_key(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen runs").success());
}
