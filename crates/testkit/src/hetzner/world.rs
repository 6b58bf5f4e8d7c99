//! The project: what is in it, and what each request does to it.

use super::error;
use super::http::Request;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Requests until something that was begun has ended.
const TICKS: u32 = 3;
/// Entries in a page, whatever a client asks for: so that lists have several.
const PAGE: usize = 2;
const LOCATIONS: [&str; 2] = ["nbg1", "fsn1"];

/// An answer's status and body.
type Answer = (u16, Value);

#[derive(Debug)]
struct Action {
    body: Value,
    left: u32,
}

#[derive(Debug)]
pub(crate) struct World {
    next: u64,
    things: BTreeMap<String, BTreeMap<u64, Value>>,
    actions: BTreeMap<u64, Action>,
    pub(crate) refused: HashMap<String, (u16, String)>,
    pub(crate) failing: HashMap<String, String>,
    pub(crate) user_data: String,
}

impl Default for World {
    fn default() -> Self {
        let things = ["servers", "volumes", "firewalls", "ssh_keys", "server_types"];
        let mut world = Self {
            next: 100,
            things: things.iter().map(|kind| ((*kind).to_owned(), BTreeMap::new())).collect(),
            actions: BTreeMap::new(),
            refused: HashMap::new(),
            failing: HashMap::new(),
            user_data: String::new(),
        };
        world.insert("ssh_keys", 7, json!({ "name": "desktop", "labels": {} }));
        world.insert("ssh_keys", 8, json!({ "name": "another", "labels": {} }));
        world.insert("ssh_keys", 1_234_567, json!({ "name": "laptop", "labels": {} }));
        let price = |location: &str| {
            let amount = |net: &str| json!({ "net": net, "gross": net });
            json!({ "location": location, "price_hourly": amount("0.0120000000000000"), "price_monthly": amount("7.5500000000000000") })
        };
        for (id, name, places) in [(21, "cpx21", &LOCATIONS[..]), (22, "cx22", &LOCATIONS[..1])] {
            let prices: Vec<Value> = places.iter().map(|place| price(place)).collect();
            world.insert(
                "server_types",
                id,
                json!({ "name": name, "cores": 3, "memory": 4.0, "disk": 80, "architecture": "x86", "prices": prices }),
            );
        }
        world
    }
}

impl World {
    fn insert(&mut self, kind: &str, id: u64, mut fields: Value) {
        fields["id"] = id.into();
        self.things.entry(kind.to_owned()).or_default().insert(id, fields);
    }

    pub(crate) fn add(&mut self, kind: &str, fields: Value) -> u64 {
        self.next += 1;
        self.insert(kind, self.next, fields);
        self.next
    }

    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        self.things[kind].values().cloned().collect()
    }

    pub(crate) fn change(&mut self, kind: &str, id: u64, fields: &Value) {
        let thing = self.things.get_mut(kind).and_then(|things| things.get_mut(&id)).expect("it is there");
        for (name, value) in fields.as_object().expect("fields") {
            thing[name] = value.clone();
        }
    }

    pub(crate) fn settle(&mut self) {
        while self.actions.values().any(|action| action.left > 0) {
            self.tick();
        }
    }

    /// Time goes by with every request.
    fn tick(&mut self) {
        let mut ended = Vec::new();
        for action in self.actions.values_mut().filter(|action| action.left > 0) {
            action.left -= 1;
            if action.left == 0 {
                ended.push(action.body["id"].as_u64().expect("an id"));
            }
        }
        for id in ended {
            self.end(id);
        }
    }

    fn end(&mut self, id: u64) {
        let action = self.actions.get_mut(&id).expect("there");
        let command = action.body["command"].as_str().expect("text").to_owned();
        let on: Vec<u64> =
            action.body["resources"].as_array().expect("a list").iter().filter_map(|one| one["id"].as_u64()).collect();
        if let Some(code) = self.failing.get(&command) {
            action.body["status"] = "error".into();
            action.body["error"] = json!({ "code": code, "message": format!("{command} failed") });
            return;
        }
        action.body["status"] = "success".into();
        match command.as_str() {
            "start_server" => self.change("servers", on[0], &json!({ "status": "running" })),
            "create_volume" => self.change("volumes", on[0], &json!({ "status": "available" })),
            "attach_volume" => self.change("volumes", on[0], &json!({ "server": on[1] })),
            "delete_server" => {
                self.things.get_mut("servers").expect("servers").remove(&on[0]);
                for volume in self.things.get_mut("volumes").expect("volumes").values_mut() {
                    if volume["server"] == on[0] {
                        volume["server"] = Value::Null;
                    }
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, command: &str, on: &[(&str, u64)]) -> Value {
        self.next += 1;
        let resources: Vec<Value> = on.iter().map(|(kind, id)| json!({ "type": kind, "id": id })).collect();
        let body = json!({
            "id": self.next, "command": command, "status": "running", "progress": 0, "error": null, "resources": resources,
        });
        self.actions.insert(self.next, Action { body: body.clone(), left: TICKS });
        body
    }

    /// Something is being done with it.
    fn locked(&self, id: u64) -> bool {
        let mut running = self.actions.values().filter(|action| action.left > 0);
        running.any(|action| action.body["resources"].as_array().is_some_and(|on| on.iter().any(|one| one["id"] == id)))
    }

    pub(crate) fn answer(&mut self, request: &Request) -> Answer {
        self.tick();
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let query: HashMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.replace("%3D", "=").replace("%2C", ",")))
            .collect();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let path: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
        let id = path.get(1).and_then(|id| id.parse::<u64>().ok());
        match (request.method.as_str(), &path[..], id) {
            ("GET", ["pricing"], _) => (200, pricing()),
            ("GET", ["actions", _], Some(id)) => match self.actions.get(&id) {
                Some(action) => (200, json!({ "action": action.body })),
                None => not_found(),
            },
            ("GET", [kind], _) if self.things.contains_key(*kind) => self.list(kind, &query),
            ("POST", ["firewalls" | "volumes" | "servers"], _) => self.make(path[0], &body),
            (_, ["firewalls" | "volumes" | "servers" | "ssh_keys", ..], Some(id)) => {
                self.on_one(&request.method, &path, id, &body)
            }
            _ => not_found(),
        }
    }

    fn list(&self, kind: &str, query: &HashMap<String, String>) -> Answer {
        let label = |thing: &Value, clause: &str| {
            let (key, value) = clause.split_once("==").expect("we only ask for equality");
            thing["labels"][key] == value
        };
        let fits = |thing: &&Value| {
            query.get("name").is_none_or(|name| thing["name"] == name.as_str())
                && query.get("label_selector").is_none_or(|all| all.split(',').all(|clause| label(thing, clause)))
        };
        let all: Vec<Value> = self.things[kind].values().filter(fits).map(|thing| self.shown(kind, thing)).collect();
        let page: usize = query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1);
        let last = all.len().div_ceil(PAGE).max(1);
        let some: Vec<Value> = all.iter().skip((page - 1) * PAGE).take(PAGE).cloned().collect();
        let next = (page < last).then_some(page + 1);
        let pagination = json!({
            "page": page, "per_page": PAGE, "previous_page": (page > 1).then(|| page - 1), "next_page": next,
            "last_page": last, "total_entries": all.len(),
        });
        (200, json!({ kind: some, "meta": { "pagination": pagination } }))
    }

    /// As the API shows it: a server with its firewalls.
    fn shown(&self, kind: &str, thing: &Value) -> Value {
        let mut shown = thing.clone();
        if kind == "servers" {
            let before = self.things["firewalls"].values().filter(|firewall| applied(firewall, &thing["id"]));
            let firewalls: Vec<Value> =
                before.map(|firewall| json!({ "id": firewall["id"], "status": "applied" })).collect();
            shown["public_net"]["firewalls"] = firewalls.into();
        }
        shown
    }

    fn make(&mut self, kind: &str, body: &Value) -> Answer {
        if let Some((status, code)) = self.refused.get(kind) {
            return (*status, error(code, "not now"));
        }
        if self.things[kind].values().any(|thing| thing["name"] == body["name"]) {
            return (409, error("uniqueness_error", "name is already used"));
        }
        let labels = body["labels"].clone();
        match kind {
            "firewalls" => {
                let id = self.add(
                    kind,
                    json!({ "name": body["name"], "labels": labels, "rules": body["rules"], "applied_to": [] }),
                );
                (201, json!({ "firewall": self.things[kind][&id], "actions": [] }))
            }
            "volumes" => {
                if body["size"].as_u64().is_none_or(|size| size < 10) || !is_location(&body["location"]) {
                    return (422, error("invalid_input", "invalid input in field 'size' or 'location'"));
                }
                let id = self.add(
                    kind,
                    json!({
                        "name": body["name"], "labels": labels, "size": body["size"], "status": "creating", "server": null,
                        "location": { "name": body["location"] }, "format": body["format"], "protection": { "delete": false },
                    }),
                );
                let action = self.begin("create_volume", &[("volume", id)]);
                (201, json!({ "volume": self.things[kind][&id], "action": action, "next_actions": [] }))
            }
            _ => self.make_server(body, labels),
        }
    }

    fn make_server(&mut self, body: &Value, labels: Value) -> Answer {
        let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
        let known_key =
            |key: &Value| self.things["ssh_keys"].values().any(|known| known["id"] == *key || known["name"] == *key);
        let (volumes, firewalls) = (list("volumes"), list("firewalls"));
        let there = |kind: &str, id: &Value| id.as_u64().is_some_and(|id| self.things[kind].contains_key(&id));
        let fine = is_location(&body["location"])
            && self.things["server_types"].values().any(|known| known["name"] == body["server_type"])
            && body["image"].as_str().is_some_and(|image| image.starts_with("ubuntu-") || image.starts_with("debian-"))
            && list("ssh_keys").iter().all(known_key)
            && volumes.iter().all(|id| there("volumes", id))
            && firewalls.iter().all(|firewall| there("firewalls", &firewall["firewall"]));
        if !fine {
            return (422, error("invalid_input", "invalid input in some field"));
        }
        let volumes: Vec<u64> = volumes.iter().filter_map(Value::as_u64).collect();
        if volumes.iter().any(|id| self.locked(*id)) {
            return (423, error("locked", "volume is locked"));
        }
        if volumes.iter().any(|id| !self.things["volumes"][id]["server"].is_null()) {
            return (409, error("volume_already_attached", "volume is already attached"));
        }
        self.user_data = body["user_data"].as_str().unwrap_or_default().to_owned();
        let ip = format!("203.0.113.{}", self.next % 250);
        let id = self.add(
            "servers",
            json!({
                "name": body["name"], "labels": labels, "status": "initializing",
                "public_net": { "ipv4": { "ip": ip }, "ipv6": { "ip": "2001:db8::/64" } },
                "server_type": { "name": body["server_type"] }, "location": { "name": body["location"] },
                "datacenter": { "location": { "name": body["location"] } }, "protection": { "delete": false },
            }),
        );
        for firewall in firewalls.iter().filter_map(|firewall| firewall["firewall"].as_u64()) {
            self.apply(firewall, id);
        }
        let action = self.begin("create_server", &[("server", id)]);
        let mut next = vec![self.begin("start_server", &[("server", id)])];
        next.extend(volumes.iter().map(|volume| self.begin("attach_volume", &[("volume", *volume), ("server", id)])));
        (
            201,
            json!({ "server": self.shown("servers", &self.things["servers"][&id]), "action": action, "next_actions": next, "root_password": null }),
        )
    }

    fn apply(&mut self, firewall: u64, server: u64) {
        let firewall = self.things.get_mut("firewalls").and_then(|all| all.get_mut(&firewall)).expect("there");
        firewall["applied_to"]
            .as_array_mut()
            .expect("a list")
            .push(json!({ "type": "server", "server": { "id": server } }));
    }

    fn on_one(&mut self, method: &str, path: &[&str], id: u64, body: &Value) -> Answer {
        let kind = path[0];
        let Some(thing) = self.things[kind].get(&id).cloned() else { return not_found() };
        if method == "GET" {
            return (200, json!({ kind.trim_end_matches('s'): self.shown(kind, &thing) }));
        }
        if self.locked(id) {
            return (423, error("locked", "item is locked"));
        }
        match (method, kind, path.get(3).copied()) {
            ("DELETE", _, _) if thing["protection"]["delete"] == true => (403, error("protected", "item is protected")),
            ("DELETE", "servers", _) => (200, json!({ "action": self.begin("delete_server", &[("server", id)]) })),
            ("DELETE", "volumes", _) if !thing["server"].is_null() => {
                (422, error("invalid_input", "volume is attached"))
            }
            ("DELETE", "firewalls", _) if self.used(&thing) => (409, error("resource_in_use", "firewall is in use")),
            ("DELETE", _, _) => {
                self.things.get_mut(kind).expect("a kind").remove(&id);
                (204, Value::Null)
            }
            ("POST", "servers", Some("poweron")) => {
                self.change(kind, id, &json!({ "status": "starting" }));
                (201, json!({ "action": self.begin("start_server", &[("server", id)]) }))
            }
            ("POST", "volumes", Some("attach")) => {
                let server = body["server"].as_u64().unwrap_or_default();
                if !thing["server"].is_null() {
                    return (409, error("volume_already_attached", "volume is already attached"));
                }
                if self.locked(server) {
                    return (423, error("locked", "server is locked"));
                }
                (201, json!({ "action": self.begin("attach_volume", &[("volume", id), ("server", server)]) }))
            }
            ("POST", "firewalls", Some("set_rules")) => {
                self.change(kind, id, &json!({ "rules": body["rules"] }));
                (201, json!({ "actions": [self.begin("set_firewall_rules", &[("firewall", id)])] }))
            }
            ("POST", "firewalls", Some("apply_to_resources")) => {
                let server = body["apply_to"][0]["server"]["id"].clone();
                if applied(&thing, &server) {
                    return (409, error("firewall_already_applied", "firewall was already applied"));
                }
                self.apply(id, server.as_u64().unwrap_or_default());
                (201, json!({ "actions": [self.begin("apply_firewall", &[("firewall", id)])] }))
            }
            _ => not_found(),
        }
    }

    fn used(&self, firewall: &Value) -> bool {
        self.things["servers"].values().any(|server| applied(firewall, &server["id"]))
    }
}

fn applied(firewall: &Value, server: &Value) -> bool {
    firewall["applied_to"].as_array().is_some_and(|all| all.iter().any(|one| one["server"]["id"] == *server))
}

fn is_location(name: &Value) -> bool {
    name.as_str().is_some_and(|name| LOCATIONS.contains(&name))
}

fn not_found() -> Answer {
    (404, error("not_found", "not found"))
}

fn pricing() -> Value {
    let amount = |net: &str| json!({ "net": net, "gross": net });
    let price =
        json!({ "location": "nbg1", "price_hourly": amount("0.0008"), "price_monthly": amount("0.5000000000") });
    json!({ "pricing": {
        "currency": "EUR", "vat_rate": "19.00", "volume": { "price_per_gb_month": amount("0.0440000000") },
        "primary_ips": [{ "type": "ipv4", "prices": [price] }],
    }})
}
