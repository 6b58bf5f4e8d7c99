//! A run as it is shown to a person: a line a file, and progress where there is a terminal.

use crate::printer::Printer;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use pgdb_core::migration::ledger::SeenLock;
use pgdb_pg::migrate::report::{Event, FileReport, Notice};

/// Shows events.
pub(super) struct Lines<'a> {
    printer: &'a Printer,
    bar: Option<ProgressBar>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self { printer, bar: None }
    }

    pub(super) fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Waiting { holder } => {
                self.note(&format!("waiting for another migrator to end ({holder})"));
            }
            Event::Planned { to_run, .. } if *to_run > 0 && self.printer.shows_progress() => {
                let bar = ProgressBar::new(u64::try_from(*to_run).unwrap_or_default());
                if let Ok(style) = ProgressStyle::with_template("  {bar:24} {pos}/{len} {msg}") {
                    bar.set_style(style);
                }
                self.bar = Some(bar);
            }
            Event::Started { key, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_message((*key).to_owned());
                }
            }
            Event::Notice { key, notice } => self.note(&heard(key, notice)),
            Event::Retrying { key, attempt, pause, failure } => self.note(&format!(
                "{key}: {}; attempt {} in {:.1} s",
                failure.message,
                attempt + 1,
                pause.as_secs_f64()
            )),
            Event::Warning { key, message } => {
                let about = key.map(|key| format!("{key}: ")).unwrap_or_default();
                self.aside(|printer| printer.warn(format!("{about}{message}")));
            }
            Event::Ended(file) => {
                self.ended(file);
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                }
            }
            _ => {}
        }
    }

    /// Takes the progress off the screen.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn ended(&self, file: &FileReport) {
        if self.printer.json {
            return;
        }
        match &file.failure {
            None => {
                let locked = if file.locks.is_empty() { String::new() } else { format!("  {}", locked(&file.locks)) };
                self.aside(|printer| printer.line(format!("✓ {}  {} ms{locked}", file.key, file.took_ms)));
            }
            Some(failure) => self.aside(|printer| printer.trouble(format!("✗ {failure}"))),
        }
    }

    fn note(&self, text: &str) {
        self.aside(|printer| printer.note(text));
    }

    /// Prints between the states of the progress.
    fn aside(&self, print: impl FnOnce(&Printer)) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print(self.printer)),
            None => print(self.printer),
        }
    }
}

fn heard(key: &str, notice: &Notice) -> String {
    let mut text = format!("{key}: {}: {}", notice.severity, notice.message);
    for (label, more) in [("detail", &notice.detail), ("hint", &notice.hint)] {
        if let Some(more) = more {
            text.push_str(&format!("\n  {label}: {more}"));
        }
    }
    text
}

/// `locked a.t (AccessExclusive) for at most 12 ms`; of locks that were looked for from outside
/// `seen to lock a.t (ShareUpdateExclusive) for about 340 ms`.
pub(super) fn locked(locks: &[SeenLock]) -> String {
    let told = |sampled: bool, verb: &str, how: &str| {
        let locks: Vec<&SeenLock> = locks.iter().filter(|lock| lock.sampled == sampled).collect();
        let longest = locks.iter().map(|lock| lock.held_ms).max()?;
        let each = locks.iter().map(|lock| format!("{} ({})", lock.relation, lock.mode.trim_end_matches("Lock")));
        Some(format!("{verb} {} for {how} {longest} ms", each.collect::<Vec<_>>().join(", ")))
    };
    let both = [told(false, "locked", "at most"), told(true, "seen to lock", "about")];
    both.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// A moment, to the second.
pub(super) fn moment(at: Timestamp) -> String {
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
    at.to_string().replace('T', " ")
}
