//! A stand-in for the Hetzner Cloud API, with state: names are unique, actions take a while, things in use are not
//! deleted. It speaks HTTP without TLS, and any call of it can go wrong in any of the ways of [`Fault`].
//!
//! Real are paths, bodies, statuses, error codes, pages, labels and rate limit headers, as far as they are documented.

mod http;
mod world;

use http::Request;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use world::World;

/// The token that the stand-in takes.
pub const TOKEN: &str = "hcloud-test-token-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ";
/// A token that may only read.
pub const READ_ONLY: &str = "hcloud-read-token-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ";

/// How a call goes wrong. `After` means that what was asked is done all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answered with 500.
    Error,
    /// Done, and answered with 503.
    ErrorAfter,
    /// Answered with 429.
    RateLimit,
    /// Never answered.
    Hang,
    /// Done, and never answered.
    HangAfter,
    /// The connection is closed.
    Cut,
    /// Done, and the connection is closed in the middle of the answer.
    CutAfter,
    /// The client is to be killed before anything is done; it is held until the test lets go.
    Hold,
    /// Done; the client is to be killed before it has the answer.
    HoldAfter,
}

impl Fault {
    /// Those that a client survives.
    pub const SURVIVED: [Self; 7] =
        [Self::Error, Self::ErrorAfter, Self::RateLimit, Self::Hang, Self::HangAfter, Self::Cut, Self::CutAfter];

    fn is_done(self) -> bool {
        matches!(self, Self::ErrorAfter | Self::HangAfter | Self::CutAfter | Self::HoldAfter)
    }
}

/// Which calls go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Once(usize),
    From(usize),
}

#[derive(Debug, Default)]
struct Shared {
    world: Mutex<World>,
    fault: Mutex<Option<(When, Fault)>>,
    /// The calls so far, as `METHOD /path?query`.
    calls: Mutex<Vec<String>>,
    /// Set when a client is held, and again when it is let go.
    held: (Mutex<Held>, Condvar),
    ends: AtomicBool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Held {
    #[default]
    Nobody,
    Client,
    LetGo,
}

/// A running stand-in; dropping it ends it.
#[derive(Debug)]
pub struct Hetzner {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<std::thread::JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hetzner {
    /// Starts on a port of the system's choice with an empty project: one SSH key, id 1234567, named `laptop`.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.ends.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&of_thread);
                // It ends with its connection, which ends with the client.
                std::thread::spawn(move || serve(&shared, stream.expect("a connection")));
            }
        });
        Self { shared, address, accepting: Some(accepting) }
    }

    /// Its address, for `HCLOUD_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Call number `call`, counted from now and from 0, goes wrong.
    pub fn fail_once(&self, call: usize, fault: Fault) {
        lock(&self.shared.calls).clear();
        *lock(&self.shared.held.0) = Held::Nobody;
        *lock(&self.shared.fault) = Some((When::Once(call), fault));
    }

    /// That call and all after it go wrong.
    pub fn fail_from(&self, call: usize, fault: Fault) {
        self.fail_once(call, fault);
        *lock(&self.shared.fault) = Some((When::From(call), fault));
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        lock(&self.shared.calls).clear();
        *lock(&self.shared.fault) = None;
    }

    /// Calls since the last [`Self::fail_once`], [`Self::fail_from`] or [`Self::mend`].
    pub fn calls(&self) -> Vec<String> {
        lock(&self.shared.calls).clone()
    }

    /// Waits until a client is held by [`Fault::Hold`] or [`Fault::HoldAfter`], or `ended` says that it never will be.
    pub fn wait_for_held(&self, mut ended: impl FnMut() -> bool) -> bool {
        let (held, changed) = &self.shared.held;
        let mut now = lock(held);
        while *now != Held::Client {
            if ended() {
                return false;
            }
            let limit = std::time::Duration::from_millis(20);
            now = changed.wait_timeout(now, limit).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Lets the held client's connection go.
    pub fn let_go(&self) {
        let (held, changed) = &self.shared.held;
        *lock(held) = Held::LetGo;
        changed.notify_all();
    }

    /// What is there of a kind (`servers`, `volumes`, `firewalls`), as the API would say.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        lock(&self.shared.world).all(kind)
    }

    /// Ends all that is underway, as time would.
    pub fn settle(&self) {
        lock(&self.shared.world).settle();
    }

    /// Adds something that somebody else made, and gives its id.
    pub fn add(&self, kind: &str, fields: Value) -> u64 {
        lock(&self.shared.world).add(kind, fields)
    }

    /// Changes fields of something.
    pub fn change(&self, kind: &str, id: u64, fields: &Value) {
        lock(&self.shared.world).change(kind, id, fields);
    }

    /// From now on, requests to make something of this kind are refused with this status and code.
    pub fn refuse(&self, kind: &str, status: u16, code: &str) {
        lock(&self.shared.world).refused.insert(kind.to_owned(), (status, code.to_owned()));
    }

    /// From now on, actions with this command fail with this code.
    pub fn fail_action(&self, command: &str, code: &str) {
        lock(&self.shared.world).failing.insert(command.to_owned(), code.to_owned());
    }

    /// The `user_data` of the last server that was made.
    pub fn user_data(&self) -> String {
        lock(&self.shared.world).user_data.clone()
    }
}

impl Drop for Hetzner {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.let_go();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Answers requests of one connection until it ends.
fn serve(shared: &Shared, stream: TcpStream) {
    let mut connection = http::Connection::new(stream);
    while let Some(request) = connection.read() {
        let fault = {
            let mut calls = lock(&shared.calls);
            calls.push(format!("{} {}", request.method, request.target));
            let number = calls.len() - 1;
            lock(&shared.fault).filter(|(when, _)| match when {
                When::Once(call) => *call == number,
                When::From(call) => *call <= number,
            })
        };
        let fault = fault.map(|(_, fault)| fault);
        let answer = match fault {
            Some(fault) if !fault.is_done() => None,
            _ => Some(answer(shared, &request)),
        };
        let went_on = match (fault, answer) {
            (None, Some((status, body))) => connection.answer(status, &body),
            (Some(Fault::Error | Fault::ErrorAfter), _) => connection.answer(503, "<html>down</html>"),
            (Some(Fault::RateLimit), _) => {
                connection.answer(429, &error("rate_limit_exceeded", "limit of requests per hour reached").to_string())
            }
            (Some(Fault::Hang | Fault::HangAfter), _) => {
                connection.wait_for_its_end();
                false
            }
            (Some(Fault::CutAfter), Some((status, body))) => {
                connection.answer_half(status, &body);
                false
            }
            (Some(Fault::Hold | Fault::HoldAfter), _) => {
                hold(shared);
                false
            }
            _ => false,
        };
        if !went_on {
            return;
        }
    }
}

fn hold(shared: &Shared) {
    let (held, changed) = &shared.held;
    let mut now = lock(held);
    *now = Held::Client;
    changed.notify_all();
    while *now == Held::Client && !shared.ends.load(Ordering::SeqCst) {
        now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
    }
}

fn answer(shared: &Shared, request: &Request) -> (u16, String) {
    let (status, body) = match request.authorization.strip_prefix("Bearer ") {
        Some(TOKEN) => lock(&shared.world).answer(request),
        Some(READ_ONLY) if request.method == "GET" => lock(&shared.world).answer(request),
        Some(READ_ONLY) => (403, error("token_readonly", "the token is only allowed to perform GET requests")),
        _ => (401, error("unauthorized", "unable to authenticate")),
    };
    (status, if body.is_null() { String::new() } else { body.to_string() })
}

fn error(code: &str, message: &str) -> Value {
    serde_json::json!({ "error": { "code": code, "message": message, "details": {} } })
}
