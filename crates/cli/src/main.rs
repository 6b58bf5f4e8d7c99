//! The binary `pgdb`: arguments, a client of the daemon's API, printing; `serve` starts the daemon itself.

mod args;
mod client;
mod commands;
mod error;
mod printer;
mod progress;
mod settings;

use args::Cli;
use clap::Parser;
use printer::Printer;
use std::process::ExitCode;

fn main() -> ExitCode {
    quiet_broken_pipes();
    forget_empty_variables();
    let cli = Cli::parse();
    let printer = Printer::new(&cli.global);
    match commands::run(cli, &printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<error::Found>() {
                printer.error(&error);
            }
            ExitCode::from(error::exit_code(&error))
        }
    }
}

/// `pgdb list | head -1` ends quietly, as every other program does.
fn quiet_broken_pipes() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    #[expect(unsafe_code, reason = "putting back the default action of a signal has no safe form")]
    // SAFETY: no handler of ours is involved, and no other thread runs yet.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// An empty variable, as compose files leave them, counts as absent.
fn forget_empty_variables() {
    let prefixes: [&[u8]; 3] = [b"PGDB_", b"DB_P", b"DB_T"];
    let ours = |name: &std::ffi::OsStr| {
        let bytes = name.as_encoded_bytes();
        ["PORT", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT"]
            .iter()
            .any(|ours| name == *ours)
            || prefixes.iter().any(|prefix| bytes.starts_with(prefix))
    };
    for (name, _) in std::env::vars_os().filter(|(name, value)| value.is_empty() && ours(name)) {
        #[expect(unsafe_code, reason = "the environment can be changed as long as no other thread runs")]
        // SAFETY: this is the first thing the program does; no other thread runs yet.
        unsafe {
            std::env::remove_var(name);
        }
    }
}
