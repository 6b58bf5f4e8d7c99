//! The binary `pgdb`: arguments, a client of the daemon's API, printing; `serve` starts the daemon itself.

mod args;
mod client;
mod commands;
mod error;
mod printer;
mod progress;
mod settings;
mod tips;

use args::Cli;
use clap::Parser;
use printer::Printer;
use std::process::ExitCode;

fn main() -> ExitCode {
    forget_empty_variables();
    let cli = Cli::try_parse().unwrap_or_else(|mut error| {
        tips::add(&mut error, &std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>());
        error.exit()
    });
    let mut printer = Printer::new(&cli.global);
    match commands::run(cli, &printer).and_then(|()| printer.written()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<error::Found>() && !error::is_unread(&error) {
                printer.error(&error);
            }
            ExitCode::from(error::exit_code(&error))
        }
    }
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
