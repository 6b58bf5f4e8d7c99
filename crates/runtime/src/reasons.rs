//! Reads from the lines of a server's log why it failed.

/// How many lines say why a server failed.
pub(crate) const LAST_LINES: usize = 20;
/// How many lines are searched for a reason.
pub(crate) const SEARCHED: usize = 200;

/// The message of the last line that says why, without its prefix.
pub(crate) fn reason(lines: &[String]) -> String {
    let message = |line: &String| {
        let (_, message) = ["PANIC:  ", "FATAL:  "].iter().find_map(|level| line.split_once(level))?;
        Some(message.to_owned())
    };
    let found = lines.iter().rev().find_map(message);
    found.or_else(|| lines.last().cloned()).unwrap_or_else(|| "it ended without a word".to_owned())
}

/// The lines around the last fatal message, else simply the last.
pub(crate) fn around_the_reason(mut lines: Vec<String>) -> Vec<String> {
    let fatal = lines.iter().rposition(|line| [" PANIC:  ", " FATAL:  "].iter().any(|level| line.contains(level)));
    // Some of what followed it, for a hint stands below its message.
    let end = fatal.map_or(lines.len(), |at| lines.len().min(at + LAST_LINES / 2));
    lines.truncate(end);
    lines.drain(..end.saturating_sub(LAST_LINES));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_fatal_message() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let log =
            lines("2026 UTC [7] LOG:  starting\n2026 UTC [7] FATAL:  could not load x\n2026 UTC [7] LOG:  shut down");
        assert_eq!(reason(&log), "could not load x");
        assert_eq!(reason(&lines("postgres: bad option")), "postgres: bad option");
        assert_eq!(reason(&[]), "it ended without a word");
    }
}
