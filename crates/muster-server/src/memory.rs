//! What the memory of a process is divided into, so that all of it together stays below `memory_limit`.
//!
//! Live jobs get what is left after everything that has a bound of its own. What they take is counted and not measured
//! (`muster_raft`), and an allocator rounds up and keeps pages for a while, so a part of it stays free for that.

use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// The program, its threads and connections, sessions, rules, tenants, the memory of lately ended jobs, pages that the allocator
/// keeps for some seconds after a burst.
const BASE: u64 = 128 * MIB;
/// Memory of the log's database that waits for its file: so many buffers.
const LOG_BUFFERS: u64 = 4;
/// Rows of the state that wait for their file, and as much again while it is written.
const STATE_BUFFERS: u64 = 64 * MIB;
/// Live jobs count so many parts of a hundred of what is left.
const COUNTED: u64 = 80;
/// Least memory for live jobs.
const JOBS_MIN: u64 = 16 * MIB;

/// Parts of the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// All together; 0: not bounded.
    pub(crate) limit: u64,
    /// All but live jobs.
    pub(crate) fixed: u64,
    /// What live jobs may take by count; 0: not bounded.
    pub(crate) jobs: u64,
    /// Buffer of the log's database.
    pub(crate) log_buffer: u64,
    /// Commands that wait for their reply.
    pub(crate) waiting: u64,
    /// New jobs on their way to the proposer; as much again for calls that arrive.
    pub(crate) arriving: u64,
}

impl MemoryPlan {
    /// For a bound of the file, or half of the machine if it has none. `kept`: what the file gives to the log's tail and the cache.
    pub(crate) fn new(limit: Option<u64>, kept: u64) -> Self {
        let limit = limit.unwrap_or_else(|| machine_memory() / 2);
        // A small node has small buffers; without a bound they are as in a large one.
        let part = |of: u64, least: u64, most: u64| {
            let part = if limit == 0 { u64::MAX } else { limit / of };
            part.clamp(least * MIB, most * MIB)
        };
        let (log_buffer, waiting, arriving) = (part(64, 8, 64), part(16, 32, 128), part(16, 32, 128));
        let fixed = BASE + STATE_BUFFERS + LOG_BUFFERS * log_buffer + waiting + 2 * arriving + kept;
        let jobs = limit.saturating_sub(fixed) / 100 * COUNTED;
        Self {
            limit,
            fixed,
            jobs: if limit == 0 { 0 } else { jobs.max(JOBS_MIN) },
            log_buffer,
            waiting,
            arriving,
        }
    }

    /// Checks a bound of the file. Half of a machine is taken as it is.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let least = self.fixed + JOBS_MIN * 100 / COUNTED;
        if self.limit == 0 || self.limit >= least {
            return Ok(());
        }
        Err(format!(
            "memory_limit is {} bytes, must be 0 or at least {least}: log_tail, cache and buffers take {} of it, and live jobs need \
             something, too",
            self.limit, self.fixed
        ))
    }
}

/// Memory of this machine, or of a control group around the process if that has less. 0 = not known.
fn machine_memory() -> u64 {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let machine = total(&read(Path::new("/proc/meminfo")));
    let own = read(Path::new("/proc/self/cgroup"));
    let groups = groups(&own).map(|group| read(&group.join("memory.max")).trim().parse().ok());
    groups.chain([machine]).flatten().min().unwrap_or(0)
}

/// All memory of a machine, by its `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let number = line.trim().strip_suffix("kB")?;
    number.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Directories of the control groups (version 2) around a process, by its `/proc/self/cgroup`.
fn groups(own: &str) -> impl Iterator<Item = PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
    Path::new(path)
        .ancestors()
        .map(|group| Path::new("/sys/fs/cgroup").join(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: u64 = 112 * MIB;

    #[test]
    fn the_parts_are_no_more_than_the_whole() {
        for mib in [460, 512, 1_024, 4_096, 100_000] {
            let plan = MemoryPlan::new(Some(mib * MIB), KEPT);
            assert_eq!(plan.validate(), Ok(()), "{mib}");
            assert!(
                plan.fixed + plan.jobs <= plan.limit && plan.jobs >= JOBS_MIN,
                "{plan:?}"
            );
        }
        // As the configuration reference has it.
        let plan = MemoryPlan::new(Some(4_096 * MIB), KEPT);
        assert_eq!((plan.fixed / MIB, plan.jobs / MIB), (944, 2_521));
    }

    #[test]
    fn what_is_too_small_is_refused_with_the_least_that_is_not() {
        let plan = MemoryPlan::new(Some(64 * MIB), KEPT);
        let error = plan.validate().expect_err("too small");
        let least = plan.fixed + 20 * MIB;
        assert!(error.contains(&format!("at least {least}")), "{error}");
        assert_eq!(MemoryPlan::new(Some(least), KEPT).validate(), Ok(()));
    }

    #[test]
    fn without_a_bound_nothing_is_bounded_and_without_a_word_half_of_the_machine() {
        let plan = MemoryPlan::new(Some(0), KEPT);
        assert_eq!((plan.jobs, plan.log_buffer), (0, 64 * MIB));
        assert_eq!(plan.validate(), Ok(()));
        assert_eq!(MemoryPlan::new(None, KEPT).limit, machine_memory() / 2);
    }

    #[test]
    fn all_groups_around_a_process_count() {
        let paths = |own| groups(own).map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths("0::/system.slice/muster.service\n"),
            [
                "/sys/fs/cgroup/system.slice/muster.service",
                "/sys/fs/cgroup/system.slice",
                "/sys/fs/cgroup/"
            ]
        );
        assert_eq!(
            paths("1:memory:/x\n"),
            ["/sys/fs/cgroup/"],
            "of version 1 nothing is read"
        );
    }

    #[test]
    fn the_machine_is_read() {
        assert_eq!(total("MemFree: 12 kB\nMemTotal:       16384 kB\n"), Some(16 * MIB));
        assert_eq!(total("MemFree: 12 kB\n"), None);
        assert!(machine_memory() > 0);
    }
}
