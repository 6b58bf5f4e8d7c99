//! What a server will cost, from the provider's price list.

use super::cloud::{Pricing, ServerType};
use super::plan::{Step, Wanted};
use std::fmt;

/// An amount in millionths, read from decimal text without going through a float.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(u64);

impl Money {
    /// Reads `7.5500000000000000`. What is finer than a millionth is cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        let fraction: u64 = format!("{fraction:0<6}")[..6].parse().ok()?;
        Some(Self(whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)?))
    }
}

impl fmt::Display for Money {
    /// With two digits, rounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = (self.0 + 5_000) / 10_000;
        write!(f, "{}.{:02}", cents / 100, cents % 100)
    }
}

/// What a month costs at most, without value added tax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// Such as `EUR`.
    pub currency: String,
    /// Each part with what it costs.
    pub parts: Vec<(String, Money)>,
}

impl Estimate {
    /// Of the things that the steps would make. Nothing if the list lacks a price.
    pub fn of(wanted: &Wanted, steps: &[Step], kind: &ServerType, list: &Pricing) -> Option<Self> {
        let here = |place: &str| place == wanted.location;
        let mut parts = Vec::new();
        if steps.contains(&Step::MakeServer) {
            let price = kind.prices.iter().find(|price| here(&price.location))?;
            parts.push((format!("server {}", kind.name), Money::parse(&price.price_monthly.net)?));
            let v4 = list.primary_ips.iter().find(|address| address.kind == "ipv4");
            if let Some(price) = v4.and_then(|v4| v4.prices.iter().find(|price| here(&price.location))) {
                parts.push(("IPv4 address".to_owned(), Money::parse(&price.price_monthly.net)?));
            }
        }
        if steps.contains(&Step::MakeVolume) {
            let each = Money::parse(&list.volume.price_per_gb_month.net)?;
            let all = Money(each.0.checked_mul(u64::from(wanted.volume_gb))?);
            parts.push((format!("volume {} GB", wanted.volume_gb), all));
        }
        Some(Self { currency: list.currency.clone(), parts })
    }

    /// All parts together.
    pub fn total(&self) -> Money {
        Money(self.parts.iter().map(|(_, money)| money.0).sum())
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(|(what, money)| format!("{what} {money}")).collect();
        write!(f, "about {} {} a month without tax", self.total(), self.currency)?;
        if parts.len() > 1 { write!(f, " ({})", parts.join(", ")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_to_the_millionth_and_shown_to_the_cent() {
        for (text, shown) in [("7.5500000000000000", "7.55"), ("0.0440", "0.04"), ("0.005", "0.01"), ("12", "12.00")] {
            assert_eq!(Money::parse(text).expect(text).to_string(), shown, "{text}");
        }
        for bad in ["", ".5", "-1", "1,5", "1.5e3", "99999999999999999999"] {
            assert_eq!(Money::parse(bad), None, "{bad}");
        }
    }
}
