//! The parts that other tests stand on, tested by themselves where they are more than a few lines.

mod docker;
