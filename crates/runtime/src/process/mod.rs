//! PostgreSQL as supervised processes of this machine.
