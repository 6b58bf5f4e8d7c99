//! What the machine has, as far as this process may use it.

use pgdb_core::sizing::Machine;
use std::fs;

/// Control groups say the limit here; the newer form first.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Memory and processors. A control group's limit counts where it is lower than the machine's memory.
pub fn machine() -> Machine {
    let physical = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_mb(&text)).unwrap_or(1024);
    let limits = LIMITS.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let memory_mb = limits.map(|bytes| bytes / (1 << 20)).fold(physical, u64::min);
    let cpus = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    Machine { memory_mb, cpus }
}

fn total_mb(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kb: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kb / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(total_mb("MemTotal:       24684092 kB\nMemFree: 1 kB\n"), Some(24105));
        assert_eq!(total_mb("nothing"), None);
    }
}
