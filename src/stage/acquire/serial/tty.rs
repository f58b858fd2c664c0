//! A serial port opened: found, locked, set up; and what its driver counts.
//!
//! Promise: whoever cannot open it is told what to do about it; two programs never read one port; what
//! the driver refused of the settings is said. Reads never wait: waiting is `poll`'s.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, ioctl_tiocexcl,
    tcdrain, tcflush, tcgetattr, tcsetattr,
};

use super::pattern::{self, NotOne};
use super::rights;
pub use super::rights::Rights;
use crate::config::serial::{FlowControl, Line, Parity};

/// Why a port cannot be had now. All of these may pass: a cable is plugged in, a program ends.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such path, or no match of the pattern.
    #[error("there is no {port}; is the adapter plugged in?{}", known(.others))]
    Absent {
        /// As configured.
        port: String,
        /// Ports that are there.
        others: Vec<PathBuf>,
    },
    /// The pattern matches several ports.
    #[error("{port} matches {}; write the pattern so that one port is left", pattern::list(.found))]
    Several {
        /// As configured.
        port: String,
        /// What it matches.
        found: Vec<PathBuf>,
    },
    /// Permission denied.
    #[error("no permission to open {}; {}", .path.display(), rights::remedy(.path, .rights.as_ref()))]
    Permission {
        /// The port.
        path: PathBuf,
        /// Who may; `None`: that cannot be seen either.
        rights: Option<Rights>,
    },
    /// Not a matter of rights: the kernel keeps devices of this kind from our control group.
    #[error(
        "{} is kept from this service whatever its rights; add its kind to DeviceAllow= (`systemctl edit lineside`), or \
         hand it to the container (`--device {}`)", .path.display(), .path.display()
    )]
    Confined {
        /// The port.
        path: PathBuf,
    },
    /// Another program has it.
    #[error("{} is in use by another program; `fuser -v {}` names it", .path.display(), .path.display())]
    Busy {
        /// The port.
        path: PathBuf,
    },
    /// This process has it, under another name.
    #[error(
        "{} is in use by Lineside itself, under another name; write the same `port` wherever it is meant",
        .path.display()
    )]
    Ours {
        /// The port.
        path: PathBuf,
    },
    /// A file, a pipe, a disk.
    #[error("{} is no serial port", .0.display())]
    NotATty(PathBuf),
    /// The driver does not take the settings.
    #[error("{} does not take {what}", path.display())]
    Settings {
        /// The port.
        path: PathBuf,
        /// Which settings.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot open {}", path.display())]
    Other {
        /// The port.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn known(others: &[PathBuf]) -> String {
    if others.is_empty() { String::new() } else { format!(" There is {}", pattern::list(others)) }
}

/// An open port.
#[derive(Debug)]
pub struct Tty {
    file: File,
    /// What it turned out to be.
    pub path: PathBuf,
    /// What the driver quietly did otherwise than asked, in words.
    pub notes: Vec<String>,
}

impl Tty {
    /// Finds, opens, locks and sets up `port`, a path or a pattern.
    pub fn open(port: &str, line: &Line) -> Result<Tty, OpenError> {
        let path = pattern::find(port).map_err(|why| match why {
            NotOne::None => OpenError::Absent { port: port.into(), others: pattern::known_ports() },
            NotOne::Several(found) => OpenError::Several { port: port.into(), found },
        })?;
        // Not our controlling terminal, and no waiting for a modem's carrier.
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(&path)
            .map_err(|source| not_opened(port, &path, source))?;
        if tcgetattr(&file).is_err() {
            return Err(OpenError::NotATty(path));
        }
        // Against other careful programs, root's included; and, with the kernel's own lock, against
        // careless ones.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Before it is asked who has it open.
                drop(file);
                return Err(busy(path));
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::Other { path, source }),
        }
        ioctl_tiocexcl(&file)
            .map_err(|errno| OpenError::Other { path: path.clone(), source: errno.into() })?;
        let mut tty = Tty { file, path, notes: Vec::new() };
        tty.set(line)?;
        Ok(tty)
    }

    /// Sets the port up, and notes what the driver makes of it. Closing and opening it again would do as
    /// well, but restarts a sensor that hangs on the port's DTR line.
    pub fn set(&mut self, line: &Line) -> Result<(), OpenError> {
        let refused = |what: String| {
            let path = self.path.clone();
            move |errno: Errno| OpenError::Settings { path, what, source: errno.into() }
        };
        let mut termios = tcgetattr(&self.file).map_err(refused(in_words(line)))?;
        prepare(&mut termios, line).map_err(refused(format!("{} baud", line.baud)))?;
        tcsetattr(&self.file, OptionalActions::Now, &termios).map_err(refused(in_words(line)))?;
        let taken = tcgetattr(&self.file).map_err(refused(in_words(line)))?;
        if line.rs485 {
            rs485(&self.file).map_err(|source| OpenError::Settings {
                path: self.path.clone(),
                what: "rs485 = true; an adapter that switches its transceiver by itself needs rs485 = false"
                    .into(),
                source,
            })?;
        }
        self.notes = differences(&termios, &taken);
        Ok(())
    }

    /// Waits until what was written is on the wire.
    pub fn drain(&self) -> io::Result<()> {
        Ok(tcdrain(&self.file)?)
    }

    /// Forgets what came and was not read.
    pub fn discard(&self) -> io::Result<()> {
        Ok(tcflush(&self.file, QueueSelector::IFlush)?)
    }

    /// Before it is closed after a failure: forgets what still waits to be written, for which some drivers
    /// hold up whoever closes them for half a minute.
    pub fn abandon(&self) {
        // A device that is gone has forgotten it.
        let _ = tcflush(&self.file, QueueSelector::OFlush);
    }

    /// The file behind it, to read, write and wait for.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What the driver has counted since it was loaded; `None`: it does not count.
    pub fn line_counts(&self) -> Option<LineCounts> {
        line_counts(&self.file)
    }
}

/// What it means that the system does not open a port.
fn not_opened(port: &str, path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match (Errno::from_io_error(&source), source.kind()) {
        // A driver whose adapter has just gone says that there is no device.
        (Some(Errno::NXIO | Errno::NODEV), _) | (_, io::ErrorKind::NotFound) => {
            OpenError::Absent { port: port.into(), others: pattern::known_ports() }
        }
        (Some(Errno::PERM), _) => OpenError::Confined { path },
        (_, io::ErrorKind::PermissionDenied) => OpenError::Permission { rights: Rights::of(&path), path },
        (_, io::ErrorKind::ResourceBusy) => busy(path),
        (_, io::ErrorKind::IsADirectory) => OpenError::NotATty(path),
        _ => OpenError::Other { path, source },
    }
}

/// `115200 8N1`
pub fn in_words(line: &Line) -> String {
    let parity = match line.parity {
        Parity::None => 'N',
        Parity::Even => 'E',
        Parity::Odd => 'O',
    };
    format!("{} {}{parity}{}", line.baud, line.data_bits, line.stop_bits)
}

fn prepare(termios: &mut Termios, line: &Line) -> Result<(), Errno> {
    termios.make_raw();
    let size = match line.data_bits {
        5 => ControlModes::CS5,
        6 => ControlModes::CS6,
        7 => ControlModes::CS7,
        _ => ControlModes::CS8,
    };
    let control = &mut termios.control_modes;
    control.remove(ControlModes::CSIZE);
    control.insert(size | ControlModes::CREAD | ControlModes::CLOCAL);
    control.set(ControlModes::CSTOPB, line.stop_bits == 2);
    control.set(ControlModes::PARENB, line.parity != Parity::None);
    control.set(ControlModes::PARODD, line.parity == Parity::Odd);
    control.set(ControlModes::CRTSCTS, line.flow == FlowControl::Hardware);
    let input = &mut termios.input_modes;
    // A character with a wrong parity bit is dropped and counted by the driver; its frame is then
    // refused like any other damaged one.
    input.set(InputModes::INPCK, line.parity != Parity::None);
    input.set(InputModes::IGNPAR, line.parity != Parity::None);
    input.set(InputModes::IXON | InputModes::IXOFF, line.flow == FlowControl::Software);
    // So that a read without data says so, and 0 bytes mean that the line was hung up.
    termios.special_codes[SpecialCodeIndex::VMIN] = 1;
    termios.special_codes[SpecialCodeIndex::VTIME] = 0;
    termios.set_speed(line.baud)
}

/// What the driver set otherwise, in words.
fn differences(asked: &Termios, taken: &Termios) -> Vec<String> {
    let mut notes = Vec::new();
    let (want, got) = (asked.input_speed(), taken.input_speed());
    // A UART samples the middle of a bit; beyond some percent it samples the next one.
    if got != 0 && want.abs_diff(got) > want / 40 {
        notes.push(format!("runs at {got} baud instead of {want}"));
    }
    let differs = |modes: ControlModes| (asked.control_modes ^ taken.control_modes).intersects(modes);
    for (modes, name) in [
        (ControlModes::CSIZE, "data_bits"),
        (ControlModes::PARENB | ControlModes::PARODD, "parity"),
        (ControlModes::CSTOPB, "stop_bits"),
        (ControlModes::CRTSCTS, "flow = \"hardware\""),
    ] {
        if differs(modes) {
            notes.push(format!("does not do the {name} that was asked for"));
        }
    }
    notes
}

/// Who has a port that cannot be had. Two pipelines may mean one by a link and by what it leads to, or by
/// two patterns.
fn busy(path: PathBuf) -> OpenError {
    let device = path.canonicalize();
    let mut open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    match device {
        Ok(device) if open.any(|file| std::fs::read_link(file.path()).is_ok_and(|file| file == device)) => {
            OpenError::Ours { path }
        }
        Ok(_) | Err(_) => OpenError::Busy { path },
    }
}

/// What a driver has counted since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Characters with a stop bit that was none.
    pub framing: u32,
    /// Bytes lost in the hardware.
    pub overrun: u32,
    /// Characters with a wrong parity bit.
    pub parity: u32,
    /// Breaks.
    pub breaks: u32,
    /// Bytes lost in the kernel.
    pub buffer_overrun: u32,
}

impl LineCounts {
    /// What was counted since `before`; counters wrap.
    pub fn since(self, before: LineCounts) -> LineCounts {
        LineCounts {
            framing: self.framing.wrapping_sub(before.framing),
            overrun: self.overrun.wrapping_sub(before.overrun),
            parity: self.parity.wrapping_sub(before.parity),
            breaks: self.breaks.wrapping_sub(before.breaks),
            buffer_overrun: self.buffer_overrun.wrapping_sub(before.buffer_overrun),
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    //! Two requests for which no library has a safe door.
    #![expect(unsafe_code, reason = "TIOCGICOUNT and TIOCSRS485 are reached by ioctl alone")]

    use super::{Errno, File, LineCounts, io};
    use rustix::ioctl::{Getter, Setter, ioctl};

    // asm-generic/ioctls.h; the boards' architectures (x86, ARM) share it.
    const TIOCGICOUNT: u32 = 0x545d;
    const TIOCSRS485: u32 = 0x542f;
    // serial.h: enabled, and RTS high while sending.
    const SER_RS485_ENABLED: u32 = 1;
    const SER_RS485_RTS_ON_SEND: u32 = 1 << 1;

    pub(super) fn line_counts(file: &File) -> Option<LineCounts> {
        // serial_icounter_struct: cts dsr rng dcd rx tx frame overrun parity brk buf_overrun, 9 spare.
        // SAFETY: the kernel writes that structure of 20 ints, which this array has room for.
        let counts: Result<[i32; 20], Errno> =
            unsafe { ioctl(file, Getter::<{ TIOCGICOUNT as _ }, [i32; 20]>::new()) };
        let [.., framing, overrun, parity, breaks, buffer_overrun] = counts.ok()?[..11] else { return None };
        Some(LineCounts {
            framing: framing as u32,
            overrun: overrun as u32,
            parity: parity as u32,
            breaks: breaks as u32,
            buffer_overrun: buffer_overrun as u32,
        })
    }

    pub(super) fn rs485(file: &File) -> io::Result<()> {
        // serial_rs485: flags, delay before and after sending in milliseconds, 5 spare.
        let settings: [u32; 8] = [SER_RS485_ENABLED | SER_RS485_RTS_ON_SEND, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: the kernel reads that structure of 8 words, which this array is.
        unsafe { ioctl(file, Setter::<{ TIOCSRS485 as _ }, [u32; 8]>::new(settings)) }.map_err(Into::into)
    }
}

#[cfg(target_os = "linux")]
use linux::{line_counts, rs485};

#[cfg(not(target_os = "linux"))]
fn line_counts(_: &File) -> Option<LineCounts> {
    None
}

#[cfg(not(target_os = "linux"))]
fn rs485(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Line = Line::USUAL;

    #[test]
    fn what_is_no_port_says_what_it_is_instead() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let error = Tty::open(folder.path().join(name).to_str().unwrap(), &LINE).unwrap_err();
            error.to_string()
        };
        assert!(open("absent").contains("is the adapter plugged in?"), "{}", open("absent"));
        std::fs::write(folder.path().join("file"), "x").unwrap();
        assert!(open("file").ends_with("file is no serial port"), "{}", open("file"));
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(open("folder").ends_with("folder is no serial port"), "{}", open("folder"));
        assert!(open("f*").contains("matches") && open("f*").contains("file"), "{}", open("f*"));
        assert!(Tty::open("/dev/null", &LINE).unwrap_err().to_string().contains("is no serial port"));
    }

    #[test]
    fn what_is_kept_from_a_service_is_no_matter_of_rights() {
        let of = |errno: Errno| not_opened("/dev/null", Path::new("/dev/null"), errno.into());
        assert!(matches!(of(Errno::ACCESS), OpenError::Permission { rights: Some(_), .. }));
        assert!(of(Errno::PERM).to_string().contains("add its kind to DeviceAllow="));
    }

    #[test]
    fn a_line_is_written_as_people_write_it() {
        assert_eq!(in_words(&LINE), "115200 8N1");
        assert_eq!(
            in_words(&Line { data_bits: 7, parity: Parity::Even, stop_bits: 2, ..LINE }),
            "115200 7E2"
        );
    }
}
