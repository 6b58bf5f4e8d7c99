//! `pgdb infra`, against a stand-in for the provider's API and, for `bootstrap`, a machine with sshd and systemd.

mod again;
mod bed;
mod bootstrap;
mod destroy;
mod faults;
mod init;
