//! How a request sees this machine: by which name, and whether it may see passwords.

use crate::http::caller::Caller;
use crate::instances::service::View;
use axum::http::{HeaderMap, header};
use pgdb_core::scope::Scope;

/// Shown where a request does not say what it calls this machine.
const LOOPBACK: &str = "127.0.0.1";

/// The view of a caller.
pub(super) fn view(headers: &HeaderMap, caller: &Caller) -> View {
    View { host: host(headers), reveal: caller.may(Scope::InstancesReveal) }
}

/// The Host header without its port. Whatever else stands in it is not believed: it ends up in URLs.
pub(super) fn host(headers: &HeaderMap) -> String {
    let given = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = match given.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => given.rsplit_once(':').map_or(given, |(host, _)| host),
    };
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(sane) { LOOPBACK.to_owned() } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_taken_without_its_port_and_only_if_it_is_one() {
        let seen = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, given.parse().expect("a header"));
            host(&headers)
        };
        assert_eq!(seen("db.example.org:8080"), "db.example.org");
        assert_eq!(seen("203.0.113.10"), "203.0.113.10");
        assert_eq!(seen("[::1]:8080"), "::1");
        for bad in ["a b", "x/y", "@evil", ":80", "[::1"] {
            assert_eq!(seen(bad), LOOPBACK, "{bad}");
        }
        assert_eq!(host(&HeaderMap::new()), LOOPBACK);
    }
}
