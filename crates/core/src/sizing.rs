//! PostgreSQL's memory and connection settings, computed from the machine.

use crate::instance::RequestedSettings;
use serde::{Deserialize, Serialize};

/// What the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Physical memory (or the control group's limit, if lower) in MiB.
    pub memory_mb: u64,
    /// Processors that may be used.
    pub cpus: u32,
}

/// Settings written into a server's configuration. Sizes are in MiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSettings {
    /// `max_connections`
    pub max_connections: u32,
    /// `shared_buffers`
    pub shared_buffers_mb: u64,
    /// `effective_cache_size`
    pub effective_cache_size_mb: u64,
    /// `work_mem`
    pub work_mem_mb: u64,
    /// `maintenance_work_mem`
    pub maintenance_work_mem_mb: u64,
    /// `max_wal_size`
    pub max_wal_size_mb: u64,
    /// `max_worker_processes` and `max_parallel_workers`
    pub workers: u32,
}

/// The share of the machine one server counts on when nothing is asked: many servers share a machine.
const DEFAULT_SHARE: u64 = 16;

/// Plans a server's settings from the machine and what was asked.
pub fn plan_settings(machine: Machine, requested: &RequestedSettings) -> ServerSettings {
    let memory = requested.memory_mb.unwrap_or(machine.memory_mb / DEFAULT_SHARE).clamp(64, machine.memory_mb.max(64));
    let max_connections = requested.max_connections.unwrap_or(100);
    let shared_buffers_mb = (memory / 4).clamp(16, 16 * 1024);
    ServerSettings {
        max_connections,
        shared_buffers_mb,
        effective_cache_size_mb: (memory * 3 / 4).max(shared_buffers_mb),
        // A quarter of the memory, if a quarter of the connections sort at once.
        work_mem_mb: (memory / u64::from(max_connections.max(1))).clamp(1, 64),
        maintenance_work_mem_mb: (memory / 16).clamp(16, 1024),
        max_wal_size_mb: (memory / 2).clamp(256, 4096),
        workers: machine.cpus.clamp(2, 64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_grow_with_the_machine_and_follow_what_was_asked() {
        let small = plan_settings(Machine { memory_mb: 512, cpus: 1 }, &RequestedSettings::default());
        let large = plan_settings(Machine { memory_mb: 64 * 1024, cpus: 16 }, &RequestedSettings::default());
        assert!(small.shared_buffers_mb < large.shared_buffers_mb);
        assert_eq!((small.shared_buffers_mb, small.workers, large.shared_buffers_mb, large.workers), (16, 2, 1024, 16));
        let asked = RequestedSettings { max_connections: Some(500), memory_mb: Some(4096) };
        let asked = plan_settings(Machine { memory_mb: 64 * 1024, cpus: 16 }, &asked);
        assert_eq!((asked.max_connections, asked.shared_buffers_mb, asked.work_mem_mb), (500, 1024, 8));
    }

    #[test]
    fn more_memory_than_the_machine_has_is_cut_down() {
        let asked = RequestedSettings { memory_mb: Some(1 << 40), ..Default::default() };
        let settings = plan_settings(Machine { memory_mb: 1024, cpus: 1 }, &asked);
        assert_eq!(settings.shared_buffers_mb, 256);
    }
}
