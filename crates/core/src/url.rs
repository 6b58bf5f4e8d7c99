//! Connection URLs.

use secrecy::{ExposeSecret, SecretString};

/// Where and as whom to connect.
#[derive(Debug, Clone)]
pub struct ConnectionUrl<'a> {
    /// Role.
    pub user: &'a str,
    /// Its password; left out of the URL when `None`.
    pub password: Option<&'a SecretString>,
    /// Host name or address; an IPv6 address is put in brackets.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub db: &'a str,
    /// What libpq calls `sslmode`, such as `require`.
    pub sslmode: &'a str,
}

impl ConnectionUrl<'_> {
    /// `postgres://USER:PASSWORD@HOST:PORT/DB?sslmode=…`, every part percent-encoded.
    pub fn to_text(&self) -> String {
        let mut url = format!("postgres://{}", encode(self.user));
        if let Some(password) = self.password {
            url.push(':');
            url.push_str(&encode(password.expose_secret()));
        }
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { encode(self.host) };
        url.push_str(&format!("@{host}:{}/{}?sslmode={}", self.port, encode(self.db), self.sslmode));
        url
    }
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_form_is_kept_and_odd_characters_are_encoded() {
        let password = SecretString::from("p@ss/w:rd");
        let url = ConnectionUrl {
            user: "u_1",
            password: Some(&password),
            host: "203.0.113.10",
            port: 32785,
            db: "pg_1",
            sslmode: "disable",
        };
        assert_eq!(url.to_text(), "postgres://u_1:p%40ss%2Fw%3Ard@203.0.113.10:32785/pg_1?sslmode=disable");
        let v6 = ConnectionUrl { password: None, host: "::1", sslmode: "require", ..url };
        assert_eq!(v6.to_text(), "postgres://u_1@[::1]:32785/pg_1?sslmode=require");
    }
}
