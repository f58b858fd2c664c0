//! A board's file as written: its keys, once; `boards/README.md` is held against them by a test.

use super::{Kernels, Storage};
use crate::config::document::{self, List, Reader, Text, Whole, keys, words};

keys! {
    /// One file of `boards/`.
    RawBoard {
        /// Board whose values hold where this one says nothing.
        inherits: Text,
        /// Target triple of the Rust compiler.
        target: Text,
        /// Processor core, as compilers and emulators call it.
        cpu: Text,
        /// What of it an inference and its digests use, as `/proc/cpuinfo` calls it.
        cpu_features: List<Text>,
        /// Kernels that the engine finds there by itself, in words.
        kernels_found: Text,
        /// Kernels that the engine takes; absent: those that it finds by the processor's part number.
        kernels: KernelsWord,
        /// Processor cores.
        cores: Whole<1, 1_024>,
        /// Groups of like cores, where there is more than one, in the kernel's order.
        cluster: List<RawCluster>,
        /// Inference threads; absent: one a core that the system grants. Each frame is one thread's work.
        workers: Whole<1, 256>,
        /// Memory of the smallest variant that is sold, in MiB.
        memory_mib: Whole<1, 1_048_576>,
        /// Memory that the daemon may take, in MiB.
        memory_budget_mib: Whole<1, 1_048_576>,
        /// What the system is stored on.
        storage: StorageWord,
        /// Device of the hardware watchdog.
        watchdog: Text,
        /// The longest time that the hardware watchdog can wait.
        watchdog_max_secs: Whole<1, 86_400>,
        /// Names by which the device tree calls it (`/proc/device-tree/compatible`), of which one is enough.
        device_tree: List<Text>,
        /// Serial ports, added to the inherited ones.
        serial: List<RawSerial>,
        /// What to know about its kernel and firmware, added to the inherited ones.
        quirks: List<Text>,
        /// For people: what it is, what to know.
        note: Text,
        /// Where the figures come from.
        source: Text,
    }
}

keys! {
    /// `[[cluster]]`
    RawCluster {
        /// Processor core, as compilers and emulators call it.
        cpu: Text [required],
        /// Cores of it.
        cores: Whole<1, 1_024> [required],
    }
}

keys! {
    /// `[[serial]]`
    RawSerial {
        /// What is printed on the board.
        name: Text [required],
        /// The device, `*` for what follows.
        device: Text [required],
    }
}

words! {
    StorageWord: Storage {
        "sd" => Storage::Sd,
        "emmc" => Storage::Emmc,
        "disk" => Storage::Disk,
    }
}

words! {
    KernelsWord: Kernels {
        "a53" => Kernels::A53,
        "a55" => Kernels::A55,
        "a72" => Kernels::A72,
        "a73" => Kernels::A73,
        "a75" => Kernels::A75,
        "neoverse" => Kernels::Neoverse,
    }
}

/// A file's own rules: figures say where they come from, a target is a triple, a port is a device.
pub(super) fn rules(raw: RawBoard, reader: &mut Reader<'_>) -> Option<RawBoard> {
    let figures = raw.cores.at().or(raw.memory_mib.at()).or(raw.memory_budget_mib.at());
    if let (Some(at), None) = (figures, raw.source.value()) {
        reader.complain(at, "figures stand without source; say where they come from");
    }
    if let Some(target) = raw.target.given()
        && !(3..=4).contains(&target.get_ref().split('-').count())
    {
        let message = format!(
            "target is {:?}; expected a triple such as aarch64-unknown-linux-musl",
            document::shorten(target.get_ref())
        );
        reader.complain(target.span().start, message);
    }
    if let Some(note) = raw.note.given()
        && note.get_ref().trim().is_empty()
    {
        reader.complain(note.span().start, "note is empty; say something, or remove it");
    }
    for port in raw.serial.value().into_iter().flatten() {
        if let Some(device) = port.get_ref().device.given()
            && !device.get_ref().starts_with("/dev/")
        {
            let message = format!(
                "device is {:?}; expected a path such as /dev/ttyS0",
                document::shorten(device.get_ref())
            );
            reader.complain(device.span().start, message);
        }
    }
    Some(raw)
}
