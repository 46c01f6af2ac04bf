//! What the operating system knows of this process.

use std::fs;

/// Bytes of memory that are resident; 0 where nobody tells.
pub fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

/// Bytes of memory that the machine has; 0 where nobody tells.
pub fn machine_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|it| it.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Seconds of work in the system and in user code.
pub fn worked_seconds() -> (f64, f64) {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, which comes second, may hold blanks; it ends with the last `)`.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| {
        fields.get(index).and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0) / TICKS_A_SECOND
    };
    (ticks(13), ticks(12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_so_has_the_machine() {
        assert!(resident_bytes() > 1 << 20);
        assert!(machine_bytes() > resident_bytes());
        let (system, user) = worked_seconds();
        assert!(system >= 0.0 && user >= 0.0);
    }
}
