//! How the board is: warm, throttled, short of memory or disk. From the kernel's own files, so that no
//! vendor's tool is needed.
//!
//! Promise: what a board does not tell is `None`, never a zero.

use std::path::Path;

/// The board at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoardView {
    /// The hottest of the kernel's thermal zones.
    pub temperature_celsius: Option<f64>,
    /// The processor is slowed down now, for heat or for want of voltage.
    pub throttled: Option<bool>,
    /// Memory that programs can still have.
    pub memory_available_bytes: Option<u64>,
    /// Free on the disk that holds the outbox.
    pub disk_free_bytes: Option<u64>,
}

impl BoardView {
    /// Asks the kernel; `disk` is any folder on the disk in question, there or not yet.
    pub fn now(disk: &Path) -> Self {
        Self { disk_free_bytes: disk_free_bytes(disk), ..Self::of(Path::new("/")) }
    }

    /// From the files of a system whose root is `root`.
    fn of(root: &Path) -> Self {
        Self {
            temperature_celsius: temperature_celsius(&root.join("sys/class/thermal")),
            throttled: throttled(root),
            memory_available_bytes: read(&root.join("proc/meminfo")).and_then(|text| available(&text)),
            disk_free_bytes: None,
        }
    }
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The text of `file` in each folder of `class` whose name begins with `start`.
fn each(class: &Path, start: &str, file: &str) -> Vec<(std::path::PathBuf, String)> {
    let entries = std::fs::read_dir(class).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    named.filter_map(|entry| Some((entry.path(), read(&entry.path().join(file))?))).collect()
}

fn temperature_celsius(thermal: &Path) -> Option<f64> {
    // In thousandths; a zone that is off says something far below freezing.
    let zones = each(thermal, "thermal_zone", "temp");
    let celsius =
        zones.iter().filter_map(|(_, text)| text.trim().parse::<f64>().ok()).map(|milli| milli / 1_000.0);
    celsius.filter(|celsius| (-60.0..=200.0).contains(celsius)).reduce(f64::max)
}

fn throttled(root: &Path) -> Option<bool> {
    // Raspberry Pi firmware: bit 0 under-voltage, 1 frequency capped, 2 throttled, 3 soft limit; from 16 on
    // the same since boot.
    let firmware = read(&root.join("sys/devices/platform/soc/soc:firmware/get_throttled"))
        .and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())
        .map(|bits| bits & 0xf != 0);
    let coolers = each(&root.join("sys/class/thermal"), "cooling_device", "type");
    let of_processor = coolers.iter().filter(|(_, kind)| kind.contains("cpu"));
    let slowed =
        of_processor.filter_map(|(path, _)| read(&path.join("cur_state"))?.trim().parse::<u32>().ok());
    let kernel = slowed.map(|state| state > 0).reduce(|a, b| a || b);
    firmware.into_iter().chain(kernel).reduce(|a, b| a || b)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Free for us, not for root alone.
fn disk_free_bytes(path: &Path) -> Option<u64> {
    // The folder may only come with the first prediction.
    let there = path.ancestors().find(|path| !path.as_os_str().is_empty() && path.exists());
    let disk = rustix::fs::statvfs(there.unwrap_or(Path::new("."))).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_raspberry_pi_tells() {
        let root = system(&[
            ("sys/class/thermal/thermal_zone0/temp", "51540\n"),
            ("sys/class/thermal/thermal_zone1/temp", "-274000\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n"),
            ("proc/meminfo", "MemTotal:        8000 kB\nMemAvailable:    1024 kB\n"),
        ]);
        let view = BoardView::of(root.path());
        assert_eq!(view.temperature_celsius, Some(51.54));
        assert_eq!(view.throttled, Some(false), "it was since boot, and is not now");
        assert_eq!(view.memory_available_bytes, Some(1 << 20));
    }

    #[test]
    fn a_slowed_processor_is_throttled_and_a_fan_is_not() {
        let files = |state| {
            [
                ("sys/class/thermal/cooling_device0/type", "pwm-fan\n"),
                ("sys/class/thermal/cooling_device0/cur_state", "3\n"),
                ("sys/class/thermal/cooling_device1/type", "cpufreq-cpu0\n"),
                ("sys/class/thermal/cooling_device1/cur_state", state),
            ]
        };
        assert_eq!(BoardView::of(system(&files("0\n")).path()).throttled, Some(false));
        assert_eq!(BoardView::of(system(&files("2\n")).path()).throttled, Some(true));
    }

    #[test]
    fn what_is_not_told_is_not_zero() {
        assert_eq!(BoardView::of(system(&[]).path()), BoardView::default());
    }

    #[test]
    fn a_folder_that_is_still_to_come_has_the_disk_of_its_parent() {
        let root = system(&[]);
        assert!(disk_free_bytes(&root.path().join("not/yet")).is_some_and(|bytes| bytes > 0));
    }
}
