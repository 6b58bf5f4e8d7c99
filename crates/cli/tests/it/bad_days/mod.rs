//! Bad days: what happens to people and machines, each with a clear error and with nothing lost.

mod crowds;
mod daemon;
mod disk;
mod engines;
mod folders;
mod ports;
mod restores;
mod servers;
mod state_file;

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_pgdb");
