//! The calls of the provider's API that we make, each typed.

use crate::client::Client;
use crate::error::Error;
use pgdb_core::infra::cloud::{Action, Firewall, Pricing, Rule, Server, ServerType, SshKey, Volume};
use pgdb_core::infra::labels::Labels;
use pgdb_core::infra::name::InfraName;
use pgdb_core::infra::plan::Seen;
use pgdb_core::infra::removal::{Belongings, Kind};
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What is asked for in a page of a list; the most that there may be.
const PAGE: &str = "50";
/// Longest list that is read; a project with more than 50 × this many of anything has another problem.
const PAGES: u32 = 200;

/// What a new server is made of.
#[derive(Debug)]
pub(crate) struct NewServer<'a> {
    pub(crate) name: &'a str,
    pub(crate) server_type: &'a str,
    pub(crate) image: &'a str,
    pub(crate) location: &'a str,
    pub(crate) ssh_keys: &'a [String],
    pub(crate) volume: u64,
    pub(crate) firewall: u64,
    pub(crate) labels: &'a Labels,
    pub(crate) user_data: &'a str,
}

#[derive(Deserialize)]
struct Page {
    next_page: Option<u64>,
}

#[derive(Deserialize)]
struct Meta {
    pagination: Page,
}

impl Client {
    /// What has the names that belong to a server, whoever made it.
    pub async fn look(&self, name: &InfraName) -> Result<Seen, Error> {
        let firewall = self.named::<Firewall>("firewalls", &name.firewall()).await?;
        let volume = self.named::<Volume>("volumes", &name.volume()).await?;
        let server = self.named::<Server>("servers", name.as_str()).await?;
        Ok(Seen { firewall, volume, server })
    }

    /// Everything of ours that a selector of labels picks.
    pub async fn belongings(&self, selector: &str) -> Result<Belongings, Error> {
        let query = [("label_selector", selector)];
        Ok(Belongings {
            servers: self.list("servers", &query).await?,
            volumes: self.list("volumes", &query).await?,
            firewalls: self.list("firewalls", &query).await?,
        })
    }

    /// The kind of server with this name.
    pub async fn server_type(&self, name: &str) -> Result<Option<ServerType>, Error> {
        self.named("server_types", name).await
    }

    /// The price list.
    pub async fn pricing(&self) -> Result<Pricing, Error> {
        let answer = self.send(Method::GET, "/pricing", &[], None, "read the price list").await?;
        field(answer, "pricing", "read the price list")
    }

    /// The SSH keys of the project.
    pub async fn ssh_keys(&self) -> Result<Vec<SshKey>, Error> {
        self.list("ssh_keys", &[]).await
    }

    /// The server with this id, if there is one.
    pub(crate) async fn server(&self, id: u64) -> Result<Option<Server>, Error> {
        self.one("server", id).await
    }

    /// The volume with this id, if there is one.
    pub(crate) async fn volume(&self, id: u64) -> Result<Option<Volume>, Error> {
        self.one("volume", id).await
    }

    async fn one<T: DeserializeOwned>(&self, kind: &str, id: u64) -> Result<Option<T>, Error> {
        let doing = format!("look at {kind} {id}");
        match self.send(Method::GET, &format!("/{kind}s/{id}"), &[], None, &doing).await {
            Ok(answer) => field(answer, kind, &doing).map(Some),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn make_firewall(&self, name: &str, labels: &Labels, rules: &[Rule]) -> Result<(), Error> {
        let body = json!({ "name": name, "labels": labels, "rules": rules });
        self.change(Method::POST, "/firewalls", Some(&body), &format!("make the firewall '{name}'")).await
    }

    pub(crate) async fn set_rules(&self, firewall: u64, rules: &[Rule]) -> Result<(), Error> {
        let path = format!("/firewalls/{firewall}/actions/set_rules");
        self.change(Method::POST, &path, Some(&json!({ "rules": rules })), "set the firewall's rules").await
    }

    pub(crate) async fn apply_firewall(&self, firewall: u64, server: u64) -> Result<(), Error> {
        let path = format!("/firewalls/{firewall}/actions/apply_to_resources");
        let body = json!({ "apply_to": [{ "type": "server", "server": { "id": server } }] });
        self.change(Method::POST, &path, Some(&body), "put the firewall before the server").await
    }

    pub(crate) async fn make_volume(&self, name: &str, gb: u32, location: &str, labels: &Labels) -> Result<(), Error> {
        let body = json!({
            "name": name, "size": gb, "location": location, "format": "ext4", "automount": false, "labels": labels,
        });
        self.change(Method::POST, "/volumes", Some(&body), &format!("make the volume '{name}'")).await
    }

    pub(crate) async fn attach_volume(&self, volume: u64, server: u64) -> Result<(), Error> {
        let path = format!("/volumes/{volume}/actions/attach");
        let body = json!({ "server": server, "automount": false });
        self.change(Method::POST, &path, Some(&body), "attach the volume to the server").await
    }

    pub(crate) async fn make_server(&self, new: &NewServer<'_>) -> Result<(), Error> {
        // An id is a number, and a name may consist of digits as well: the provider takes ids first.
        let keys: Vec<Value> =
            new.ssh_keys.iter().map(|key| key.parse::<u64>().map_or(json!(key), |id| json!(id))).collect();
        let body = json!({
            "name": new.name, "server_type": new.server_type, "image": new.image, "location": new.location,
            "ssh_keys": keys, "volumes": [new.volume], "automount": false,
            "firewalls": [{ "firewall": new.firewall }], "labels": new.labels, "user_data": new.user_data,
            "public_net": { "enable_ipv4": true, "enable_ipv6": true }, "start_after_create": true,
        });
        self.change(Method::POST, "/servers", Some(&body), &format!("make the server '{}'", new.name)).await
    }

    pub(crate) async fn power_on(&self, server: u64) -> Result<(), Error> {
        let path = format!("/servers/{server}/actions/poweron");
        self.change(Method::POST, &path, None, "switch on the server").await
    }

    /// Deletes something. That it is gone already is as good.
    pub(crate) async fn delete(&self, kind: Kind, id: u64, doing: &str) -> Result<(), Error> {
        match self.change(Method::DELETE, &format!("/{}/{id}", kind.path()), None, doing).await {
            Err(Error::Refused { status: 404, .. }) => Ok(()),
            other => other,
        }
    }

    /// Sends a change and waits for all that the provider begins because of it.
    async fn change(&self, method: Method, path: &str, body: Option<&Value>, doing: &str) -> Result<(), Error> {
        let mut answer = self.send(method, path, &[], body, doing).await?;
        let mut actions = Vec::new();
        for list in ["actions", "next_actions"] {
            if let Some(Value::Array(more)) = answer.get_mut(list).map(Value::take) {
                actions.extend(more);
            }
        }
        actions.extend(answer.get_mut("action").map(Value::take).filter(|action| !action.is_null()));
        for action in actions {
            self.await_action(parse(action, doing)?, doing).await?;
        }
        Ok(())
    }

    async fn await_action(&self, mut action: Action, doing: &str) -> Result<(), Error> {
        let until = tokio::time::Instant::now() + self.settings.patience;
        loop {
            match action.status.as_str() {
                "success" => return Ok(()),
                "error" => {
                    let why = action.error.unwrap_or(pgdb_core::infra::cloud::ApiError {
                        code: "action_failed".to_owned(),
                        message: format!("{} failed", action.command),
                    });
                    return Err(Error::ActionFailed { doing: doing.to_owned(), code: why.code, message: why.message });
                }
                _ if tokio::time::Instant::now() >= until => {
                    let what = format!("{doing} ({} is {})", action.command, action.status);
                    return Err(Error::Slow { what, seconds: self.settings.patience.as_secs() });
                }
                _ => tokio::time::sleep(self.settings.poll).await,
            }
            let path = format!("/actions/{}", action.id);
            let answer =
                self.send(Method::GET, &path, &[], None, &format!("see whether it went well to {doing}")).await?;
            action = field(answer, "action", doing)?;
        }
    }

    async fn named<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Result<Option<T>, Error> {
        Ok(self.list(kind, &[("name", name)]).await?.pop())
    }

    /// A whole list, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(&self, kind: &str, query: &[(&str, &str)]) -> Result<Vec<T>, Error> {
        let doing = format!("list {}", kind.replace('_', " "));
        let mut all = Vec::new();
        let mut page = 1;
        for _ in 0..PAGES {
            let number = page.to_string();
            let query = [query, &[("page", number.as_str()), ("per_page", PAGE)]].concat();
            let answer = self.send(Method::GET, &format!("/{kind}"), &query, None, &doing).await?;
            let meta: Option<Meta> = answer.get("meta").cloned().map(|meta| parse(meta, &doing)).transpose()?;
            all.extend(field::<Vec<T>>(answer, kind, &doing)?);
            match meta.and_then(|meta| meta.pagination.next_page) {
                Some(next) if next > page => page = next,
                _ => return Ok(all),
            }
        }
        Err(Error::Nonsense { doing, why: format!("more than {PAGES} pages") })
    }
}

fn parse<T: DeserializeOwned>(value: Value, doing: &str) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::Nonsense { doing: doing.to_owned(), why: error.to_string() })
}

fn field<T: DeserializeOwned>(mut answer: Value, name: &str, doing: &str) -> Result<T, Error> {
    let value = answer.get_mut(name).map(Value::take).unwrap_or_default();
    parse(value, doing)
}
