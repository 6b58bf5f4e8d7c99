//! The registry file of the original daemon, `registry.json`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The whole file: `{"items": [...]}`; a bare array is read as well.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Registry {
    /// One per database.
    pub items: Vec<RegistryItem>,
}

/// One database as the original daemon writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegistryItem {
    /// What it is called.
    pub name: String,
    /// The engine's id of its container; empty where there is none.
    #[serde(default)]
    pub container_id: String,
    /// Its volume, `pgdb-NAME`.
    #[serde(default)]
    pub volume_name: String,
    /// The host that clients connect to.
    #[serde(default)]
    pub host: String,
    /// The TCP port that clients connect to.
    pub host_port: u16,
    /// Database.
    pub db: String,
    /// Role.
    pub user: String,
    /// Its password, in clear, as the format has it.
    #[serde(default)]
    pub password: String,
    /// When it was deployed.
    pub created_at: Timestamp,
    /// PostgreSQL major; the original wrote a number or a string.
    #[serde(deserialize_with = "number_or_text")]
    pub postgres_version: u16,
    /// Requested size in GB.
    #[serde(default)]
    pub size_gb: Option<u32>,
}

impl<'de> Deserialize<'de> for Registry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Registry;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a registry: an object with an array `items`, or the array itself")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Registry, A::Error> {
                let mut registry = Registry::default();
                while let Some(item) = items.next_element()? {
                    registry.items.push(item);
                }
                Ok(registry)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Registry, A::Error> {
                let mut items = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key == "items" {
                        items = Some(map.next_value()?);
                    } else {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    }
                }
                items.map(|items| Registry { items }).ok_or_else(|| serde::de::Error::missing_field("items"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn number_or_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = u16;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a PostgreSQL major as a number or text")
        }
        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<u16, E> {
            u16::try_from(value).map_err(E::custom)
        }
        fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<u16, E> {
            value.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Visitor)
}
