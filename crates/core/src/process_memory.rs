//! The memory that a process has taken, from the operating system.

use std::fs;

/// The most bytes that a process has held so far; this process if `process` is `None`. The result is `None` where the operating system
/// does not tell, or no longer tells.
pub fn peak_bytes(process: Option<u32>) -> Option<u64> {
    // Linux alone says so in a file; elsewhere it would take a system call.
    let status = match process {
        Some(id) => format!("/proc/{id}/status"),
        None => "/proc/self/status".to_string(),
    };
    peak_of_status(&fs::read_to_string(status).ok()?)
}

fn peak_of_status(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_bytes() {
        let status = "Name:\tpupilla\nVmPeak:\t  900 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 12 kB\n";
        assert_eq!(peak_of_status(status), Some(1234 << 10));
        assert_eq!(peak_of_status("Name:\tpupilla\n"), None);
        assert_eq!(peak_of_status("VmHWM:\t many kB\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_holds_what_it_has_written_to() {
        // Or an optimiser would do without it.
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let peak = peak_bytes(None).expect("a peak");
        assert!(peak >= held.len() as u64, "{peak}");
        assert_eq!(
            peak_bytes(Some(std::process::id())).map(|peak| peak >= 64 << 20),
            Some(true)
        );
    }
}
