//! What a new server is told at its first start.

use secrecy::{ExposeSecret, SecretString};

/// Text for cloud-init: the server's own host key, and no other one. The key is the text of OpenSSH's file.
pub fn user_data(private_host_key: &SecretString, public_host_key: &str) -> SecretString {
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "#cloud-config\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n{}  ed25519_public: {}\n\
         ssh_pwauth: false\n",
        indented(private_host_key.expose_secret()),
        public_host_key.trim(),
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_keeps_its_lines() {
        let text = user_data(&"-----BEGIN-----\nabc\n-----END-----\n".to_owned().into(), "ssh-ed25519 AAAA\n");
        insta::assert_snapshot!(text.expose_secret(), @r"
        #cloud-config
        ssh_deletekeys: true
        ssh_keys:
          ed25519_private: |
            -----BEGIN-----
            abc
            -----END-----
          ed25519_public: ssh-ed25519 AAAA
        ssh_pwauth: false
        ");
    }
}
