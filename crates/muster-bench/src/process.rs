//! CPU time and memory of processes, from `/proc`; nothing where there is none.

use std::fs;

/// Clock ticks per second in `/proc/<pid>/stat`: 100 on every Linux (`USER_HZ`).
const TICKS: f64 = 100.0;

/// CPU time used by the processes so far, in seconds. `None` when one cannot be read.
pub fn cpu_seconds(pids: &[u32]) -> Option<f64> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().map(|pid| cpu_of(&pid.to_string())).sum()
}

/// CPU time used by this process so far, in seconds.
pub fn own_cpu_seconds() -> Option<f64> {
    cpu_of("self")
}

fn cpu_of(pid: &str) -> Option<f64> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|ticks| ticks / TICKS)
}

/// utime + stime. The name, in parentheses, may hold blanks and parentheses, so counting starts behind its end.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64)
}

/// How many threads were running or waiting to run over the last minute; 0 where it cannot be read.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(0.0)
}

/// Resident memory of the processes together, in MiB.
pub fn memory_mib(pids: &[u32]) -> Option<f64> {
    if pids.is_empty() {
        return None;
    }
    pids.iter()
        .map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib / 1024.0)
        })
        .sum()
}

/// Bytes that the processes have caused to be written to disks so far.
pub fn written_bytes(pids: &[u32]) -> Option<u64> {
    if pids.is_empty() {
        return None;
    }
    pids.iter()
        .map(|pid| {
            let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
            let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
            line.trim().parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 1000 0 0";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn a_process_that_is_gone_gives_nothing() {
        assert_eq!(cpu_seconds(&[]), None);
        assert_eq!(cpu_seconds(&[u32::MAX]), None);
        assert!(own_cpu_seconds().is_some());
        assert!(memory_mib(&[std::process::id()]).is_some_and(|mib| mib > 0.0));
        assert!(written_bytes(&[std::process::id()]).is_some());
        assert_eq!(written_bytes(&[u32::MAX]), None);
    }
}
