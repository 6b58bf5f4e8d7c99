//! Previews: the numbers, names and passwords of databases for pull requests.

use crate::hmac::hmac_sha256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::str::FromStr;

/// A pull request's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrNumber(u64);

/// Why a number was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is a positive integer of at most 10 digits")]
pub struct InvalidPrNumber;

impl PrNumber {
    /// Checks a number.
    pub fn new(number: u64) -> Result<Self, InvalidPrNumber> {
        if (1..10_000_000_000).contains(&number) { Ok(Self(number)) } else { Err(InvalidPrNumber) }
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for PrNumber {
    type Err = InvalidPrNumber;
    fn from_str(text: &str) -> Result<Self, InvalidPrNumber> {
        if text.is_empty() || text.len() > 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidPrNumber);
        }
        text.parse().map_err(|_| InvalidPrNumber).and_then(Self::new)
    }
}

impl fmt::Display for PrNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names that have to do with previews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewSettings {
    template: String,
    prefix: String,
    owner: String,
    app_prefix: String,
    dev_role: String,
    protected: Vec<String>,
}

/// A variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct InvalidSetting {
    variable: &'static str,
    why: String,
}

impl InvalidSetting {
    /// Which variable.
    pub fn variable(&self) -> &'static str {
        self.variable
    }
}

/// A name that no template can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a template's name has at most {longest} letters, digits and '_', begins with no digit, and is neither a preview's \
     nor protected; its previews are called NAME_pr_NUMBER, which must not clash with DB_PREVIEW_PREFIX"
)]
pub struct InvalidTemplateName {
    longest: usize,
}

/// Database and role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Database.
    pub db: String,
    /// Role.
    pub role: String,
}

/// How the previews of one template are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    prefix: String,
    app_prefix: String,
}

/// What a name of a family says that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// A preview.
    Preview(PrNumber),
    /// An entry of the warm pool, by its suffix.
    Entry(String),
}

/// Bytes of the suffix of a pool entry.
pub const ENTRY_SUFFIX: usize = 8;
/// Bytes that follow a prefix at most: `pool_` and a suffix.
const ROOM: usize = "pool_".len() + ENTRY_SUFFIX;

impl Family {
    /// What the names of databases begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the names of roles begin with.
    pub fn app_prefix(&self) -> &str {
        &self.app_prefix
    }

    /// The names of a preview.
    pub fn preview(&self, number: PrNumber) -> Names {
        self.names(&Member::Preview(number))
    }

    /// The names of a pool entry.
    pub fn entry(&self, suffix: &str) -> Names {
        self.names(&Member::Entry(suffix.to_owned()))
    }

    /// The names of a member.
    pub fn names(&self, member: &Member) -> Names {
        let rest = match member {
            Member::Preview(number) => number.to_string(),
            Member::Entry(suffix) => format!("pool_{suffix}"),
        };
        Names { db: format!("{}{rest}", self.prefix), role: format!("{}{rest}", self.app_prefix) }
    }

    /// Whose database this is, when its name is exactly one of the family's.
    pub fn of_db(&self, db: &str) -> Option<Member> {
        member(db.strip_prefix(&self.prefix)?)
    }

    /// Whose role this is, when its name is exactly one of the family's.
    pub fn of_role(&self, role: &str) -> Option<Member> {
        member(role.strip_prefix(&self.app_prefix)?)
    }
}

fn member(rest: &str) -> Option<Member> {
    if let Some(suffix) = rest.strip_prefix("pool_") {
        let ours = suffix.len() == ENTRY_SUFFIX && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        return ours.then(|| Member::Entry(suffix.to_owned()));
    }
    // `007` is nobody's.
    let number: PrNumber = rest.parse().ok()?;
    (number.to_string() == rest).then_some(Member::Preview(number))
}

impl PreviewSettings {
    /// Checks the variables.
    pub fn parse(
        template: &str,
        prefix: &str,
        owner: &str,
        app_prefix: &str,
        dev_role: &str,
        protected: &str,
    ) -> Result<Self, InvalidSetting> {
        for (variable, text, room) in [
            ("DB_TEMPLATE_NAME", template, 0),
            ("DB_PREVIEW_PREFIX", prefix, ROOM),
            ("DB_PREVIEW_OWNER", owner, 0),
            ("DB_PREVIEW_APP_USER_PREFIX", app_prefix, ROOM),
            ("DB_PREVIEW_DEV_ROLE", dev_role, 0),
        ] {
            let mut bytes = text.bytes();
            let ok = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && text.len() + room <= 63;
            if !ok {
                let shown: String = text.chars().take(80).collect();
                return Err(InvalidSetting { variable, why: format!("'{}' cannot be used", shown.escape_debug()) });
            }
        }
        Ok(Self {
            template: template.into(),
            prefix: prefix.into(),
            owner: owner.into(),
            app_prefix: app_prefix.into(),
            dev_role: dev_role.into(),
            protected: protected.split(',').map(|n| n.trim().to_lowercase()).filter(|n| !n.is_empty()).collect(),
        })
    }

    /// Checks the name of a template, behind which `room` more bytes have to fit.
    pub fn check_template(&self, name: &str, room: usize) -> Result<(), InvalidTemplateName> {
        let mut bytes = name.bytes();
        let family = self.family(name);
        let room = room.max(family.app_prefix.len().saturating_sub(name.len()) + ROOM);
        let ok = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.len() + room <= 63;
        let of_another = name.rmatch_indices("_pr_").any(|(at, between)| member(&name[at + between.len()..]).is_some());
        let clashes = self.prefix.starts_with(&family.prefix) || self.app_prefix.starts_with(&family.app_prefix);
        let taken = name.starts_with(&self.prefix)
            || name != self.template && (self.is_protected(name) || of_another || clashes);
        if ok && !taken { Ok(()) } else { Err(InvalidTemplateName { longest: 63usize.saturating_sub(room) }) }
    }

    /// How the previews of a template are called: as the variables say for the configured one, and after its name for
    /// every other.
    pub fn family(&self, template: &str) -> Family {
        if template == self.template {
            return Family { prefix: self.prefix.clone(), app_prefix: self.app_prefix.clone() };
        }
        Family { prefix: format!("{template}_pr_"), app_prefix: format!("{template}_pr_app_") }
    }

    /// The template.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The owner.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The dev role.
    pub fn dev_role(&self) -> &str {
        &self.dev_role
    }

    /// Whether a database must not be touched.
    pub fn is_protected(&self, db: &str) -> bool {
        let db = db.to_lowercase();
        ["postgres", "template0", "template1"].contains(&db.as_str())
            || db == self.template.to_lowercase()
            || self.protected.contains(&db)
    }
}

/// The password of a preview's role: `za_` and the HMAC-SHA256 of `DB:ROLE` in base64 for URLs, without padding. The
/// original derives the same, so that previews keep theirs.
pub fn derive_password(secret: &SecretString, db: &str, role: &str) -> SecretString {
    let parts = [db.as_bytes(), b":", role.as_bytes()];
    let outer = hmac_sha256(secret.expose_secret().as_bytes(), &parts);
    format!("za_{}", URL_SAFE_NO_PAD.encode(outer)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(prefix: &str) -> Result<PreviewSettings, &'static str> {
        let parsed = PreviewSettings::parse("template_medusa", prefix, "op", "app_", "dev", "Precious, other");
        parsed.map_err(|error| error.variable())
    }

    #[test]
    fn passwords_are_the_originals() {
        let derived = |secret: &str| {
            let password = derive_password(&secret.into(), "medusa_pr_1", "medusa_pr_app_1");
            password.expose_secret().to_owned()
        };
        assert_eq!(derived("s"), "za_E0EIi_kZzKfvGL249x5N5uTMKr5MyCocvYx1fbkSGVg");
        // A key longer than a block is hashed first.
        assert_ne!(derived(&"k".repeat(65)), derived(&"k".repeat(64)));
        assert_eq!(derived(&"k".repeat(100)).len(), 46);
    }

    #[test]
    fn names_are_checked_with_room_for_what_follows() {
        assert_eq!(settings(&"p".repeat(51)), Err("DB_PREVIEW_PREFIX"));
        for bad in ["", "1a", "a-b", "a b", "a\"b", "größe"] {
            assert_eq!(settings(bad), Err("DB_PREVIEW_PREFIX"), "{bad}");
        }
        let settings = settings("pr_").expect("parsed");
        let names = settings.family("template_medusa").preview(PrNumber::new(9_999_999_999).expect("a number"));
        assert_eq!((names.db.as_str(), names.role.as_str()), ("pr_9999999999", "app_9999999999"));
        for name in ["postgres", "TEMPLATE1", "Template_Medusa", "precious", "OTHER"] {
            assert!(settings.is_protected(name), "{name}");
        }
        assert!(!settings.is_protected("pr_1"));
    }

    #[test]
    fn every_template_has_names_of_its_own() {
        let settings = settings("medusa_pr_").expect("parsed");
        let seven = PrNumber::new(7).expect("a number");
        let shop = settings.family("shop");
        let names = shop.preview(seven);
        assert_eq!((names.db.as_str(), names.role.as_str()), ("shop_pr_7", "shop_pr_app_7"));
        assert_eq!(shop.of_db("shop_pr_7"), Some(Member::Preview(seven)));
        assert_eq!(shop.of_role("shop_pr_app_7"), Some(Member::Preview(seven)));
        assert_eq!(shop.of_db(&shop.entry("abcd0123").db), Some(Member::Entry("abcd0123".to_owned())));
        for other in ["shop_pr_07", "shop_pr_app_7", "shop_pr_", "shop_pr_pool_x", "medusa_pr_7", "shop_pr_7_x"] {
            assert_eq!(shop.of_db(other), None, "{other}");
        }
    }

    #[test]
    fn templates_whose_previews_could_be_taken_for_others_are_refused() {
        let settings = settings("medusa_pr_").expect("parsed");
        for good in ["template_medusa", "shop", "_shop2", "shop_pr_x", &"s".repeat(42)] {
            assert!(settings.check_template(good, 0).is_ok(), "{good}");
        }
        // Previews of `medusa` would have the names of the configured template's.
        for bad in ["medusa", "medusa_pr_1", "shop_pr_1", "shop_pr_pool_abcd0123", "precious", "", "1", &"s".repeat(43)]
        {
            assert!(settings.check_template(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_positive_digits() {
        for good in ["1", "0012", "9999999999"] {
            assert!(good.parse::<PrNumber>().is_ok(), "{good}");
        }
        for bad in ["", "0", "-1", "+1", "1.0", "1e3", "10000000000", "x", " 1"] {
            assert!(bad.parse::<PrNumber>().is_err(), "{bad}");
        }
    }
}
