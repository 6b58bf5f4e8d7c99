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
    let cli = Cli::parse();
    let printer = Printer::new(&cli.global);
    match commands::run(cli, &printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer.error(&error);
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
