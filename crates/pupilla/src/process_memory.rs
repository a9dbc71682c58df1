//! What this process has held.

/// The most bytes that this process has held so far; `None` where the system does not tell.
pub(crate) fn peak_memory() -> Option<u64> {
    // Linux alone says so in a file; elsewhere it would take a system call.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
