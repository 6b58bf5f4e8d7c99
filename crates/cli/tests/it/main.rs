//! The binary and the workspace, from outside.

mod workspace;
