//! How much memory the process holds, as the kernel sees it.
//!
//! From `/proc/self/status`, in bytes as the kernel counts them: `statm` counts pages, whose size
//! differs between boards (4 KiB, and 16 KiB on a Raspberry Pi 5).

/// Resident memory of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Held now.
    pub resident_bytes: u64,
    /// The most that was ever held.
    pub peak_bytes: u64,
}

impl Memory {
    /// Asks the kernel; `None` where there is no `/proc`.
    pub fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        };
        Some(Self { resident_bytes: bytes("VmRSS:")?, peak_bytes: bytes("VmHWM:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let status = "Name:\tlineside\nVmHWM:\t   41016 kB\nVmRSS:\t   30720 kB\nThreads:\t5\n";
        let wanted = Memory { resident_bytes: 30_720 * 1024, peak_bytes: 41_016 * 1024 };
        assert_eq!(Memory::parse(status), Some(wanted));
        assert_eq!(Memory::parse("VmRSS:\t 1 kB\n"), None);
        assert_eq!(Memory::parse("VmRSS:\t much\nVmHWM:\t 1 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_holds_something() {
        let memory = Memory::now().expect("Linux has /proc");
        assert!(memory.resident_bytes > 100_000 && memory.peak_bytes >= memory.resident_bytes, "{memory:?}");
    }
}
