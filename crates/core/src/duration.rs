//! Durations as people write them.

/// Why a duration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a number and s, m, h or d, such as 90s, 10m or 30d")]
pub struct InvalidDuration;

/// `90s`, `15m`, `12h` or `30d` in seconds; at least one second.
pub fn parse_seconds(text: &str) -> Result<u64, InvalidDuration> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(InvalidDuration),
    };
    let number = &text[..text.len() - 1];
    // `parse` would take a sign.
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidDuration);
    }
    let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or(InvalidDuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7200), ("30d", 2_592_000)] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for bad in ["", "5", "0d", "d", "-1h", "+1h", "99999999999999999999d", "1w", "1ä"] {
            assert_eq!(parse_seconds(bad), Err(InvalidDuration), "{bad}");
        }
    }
}
