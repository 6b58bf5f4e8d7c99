//! Names of the databases that take part when a template is made anew.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgdb_core::random::Entropy;
use serde::{Deserialize, Serialize};

/// What is put behind a template's name at most, so that it still fits into PostgreSQL's 63 bytes.
pub(crate) const LONGEST_SUFFIX: usize = "_staging_20261231235959_old".len();

/// The databases of one operation on a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    /// The server.
    pub target: String,
    /// The template.
    pub template: String,
    /// Where the new one is made.
    pub staging: String,
    /// The one before.
    pub previous: String,
    /// The one before that, until it is dropped.
    pub outdated: String,
    /// The folder for dumps.
    pub scratch: String,
}

/// Whether a database is what an operation on this template makes on its way.
pub(super) fn is_staging(template: &str, db: &str) -> bool {
    let rest = db.strip_prefix(template).and_then(|rest| rest.strip_prefix("_staging_"));
    let time = rest.map(|rest| rest.strip_suffix("_old").unwrap_or(rest));
    time.is_some_and(|time| time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Names {
    /// Names for an operation that begins now.
    pub(crate) fn new(target: &str, template: &str, now: Timestamp, entropy: &dyn Entropy) -> Self {
        let staging = format!("{template}_staging_{}", now.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S"));
        Self {
            target: target.to_owned(),
            template: template.to_owned(),
            previous: format!("{template}_previous"),
            outdated: format!("{staging}_old"),
            staging,
            scratch: format!("template-{}", pgdb_core::random::lower_alnum(entropy, 16)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_on_the_way_is_taken_for_it() {
        for ours in ["shop_staging_20261121123000", "shop_staging_20261121123000_old"] {
            assert!(is_staging("shop", ours), "{ours}");
        }
        for other in [
            "shop",
            "shop_staging_",
            "shop_staging_2026",
            "shop2_staging_20261121123000",
            "shop_staging_2026112112300x",
        ] {
            assert!(!is_staging("shop", other), "{other}");
        }
    }
}
