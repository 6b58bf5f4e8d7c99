//! What the machine has: memory and processors, as far as we may use them.

use pgdb_core::sizing::Machine;
use std::fs;
use std::path::Path;

/// Reads the machine's memory, or the control group's limit if that is lower, and its processors.
pub fn machine() -> Machine {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| parse_meminfo(&text));
    let limit = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| control_group_limit(&text));
    let bytes = [total, limit].into_iter().flatten().min();
    Machine {
        // Without /proc nothing is known; a small machine is a safe guess.
        memory_mb: bytes.map_or(1024, |bytes| bytes / (1024 * 1024)),
        // The number of processors takes a control group's quota and the affinity into account.
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
    }
}

/// `MemTotal` in bytes.
fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The lowest limit on the way from our control group to its root.
fn control_group_limit(own: &str) -> Option<u64> {
    let mut lowest: Option<u64> = None;
    for (root, path, file) in group_paths(own) {
        for group in Path::new(path).ancestors() {
            let group = group.strip_prefix("/").unwrap_or(group);
            let limit =
                fs::read_to_string(Path::new(root).join(group).join(file)).ok().and_then(|text| parse_limit(&text));
            lowest = [lowest, limit].into_iter().flatten().min();
        }
    }
    lowest
}

/// Where the memory limits of the groups in `/proc/self/cgroup` are: the tree, our group in it, the file.
fn group_paths(own: &str) -> Vec<(&'static str, &str, &'static str)> {
    let groups = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => Some(("/sys/fs/cgroup", path, "memory.max")),
            _ if controllers.split(',').any(|one| one == "memory") => {
                Some(("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    groups.collect()
}

/// A limit in bytes; `max`, and the huge number that the first version means by it, is none.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit > 0 && *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(parse_meminfo("MemTotal:       24684060 kB\nMemFree: 1 kB\n"), Some(24_684_060 * 1024));
        assert_eq!(parse_meminfo("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn both_versions_of_control_groups_are_known() {
        assert_eq!(
            group_paths("0::/system.slice/pgdb.service\n"),
            [("/sys/fs/cgroup", "/system.slice/pgdb.service", "memory.max")]
        );
        assert_eq!(
            group_paths("5:cpu,cpuacct:/x\n4:memory:/docker/abc:d\n"),
            [("/sys/fs/cgroup/memory", "/docker/abc:d", "memory.limit_in_bytes")]
        );
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
        assert_eq!(parse_limit("536870912\n"), Some(536_870_912));
    }

    #[test]
    fn this_machine_has_something() {
        let machine = machine();
        assert!(machine.memory_mb >= 64 && machine.cpus >= 1);
    }
}
