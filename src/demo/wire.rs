//! A serial line without a cable: a pseudo terminal. One end is the sensor's UART; the other is a port
//! with a path, which the daemon opens like any other.
//!
//! Promise: the line is raw from the start and its port is never hung up, so what is sent before the
//! daemon has opened it waits in the kernel (4 kB of it), unchanged.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Both ends; the line is gone when this is dropped.
#[derive(Debug)]
pub struct Wire {
    uart: File,
    /// Somebody has the port open, so that it is not hung up before and after the daemon.
    _port: File,
    path: String,
}

impl Wire {
    /// A new line.
    pub fn open() -> io::Result<Self> {
        let uart = terminal("/dev/ptmx")?;
        let path = port_of(&uart)?;
        let port = terminal(&path)?;
        let mut termios = tcgetattr(&port)?;
        // Before the first byte: a terminal for people edits and echoes what it is given.
        termios.make_raw();
        tcsetattr(&port, OptionalActions::Now, &termios)?;
        Ok(Self { uart, _port: port, path })
    }

    /// Path of the port.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// The sensor's end.
impl Write for &Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.uart).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.uart).flush()
    }
}

fn terminal(path: &str) -> io::Result<File> {
    // It must not become the terminal that this program is controlled from.
    let flags = OFlags::NOCTTY.bits() as i32;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

#[cfg(target_os = "linux")]
fn port_of(uart: &File) -> io::Result<String> {
    #![expect(unsafe_code, reason = "TIOCSPTLCK and TIOCGPTN are reached by ioctl alone")]
    use rustix::ioctl::{Getter, Setter, ioctl};

    // asm-generic/ioctls.h; the boards' architectures (x86, ARM, RISC-V) share it.
    const TIOCSPTLCK: u32 = 0x4004_5431;
    const TIOCGPTN: u32 = 0x8004_5430;
    // SAFETY: the kernel reads an int, which this is.
    unsafe { ioctl(uart, Setter::<{ TIOCSPTLCK as _ }, i32>::new(0)) }?;
    // SAFETY: the kernel writes an unsigned int, which has room here.
    let number: u32 = unsafe { ioctl(uart, Getter::<{ TIOCGPTN as _ }, u32>::new()) }?;
    Ok(format!("/dev/pts/{number}"))
}

#[cfg(not(target_os = "linux"))]
fn port_of(_: &File) -> io::Result<String> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "the demo's serial line is a pty of Linux"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_sent_before_the_port_is_opened_comes_unchanged() {
        let wire = Wire::open().unwrap();
        // Bytes that a terminal for people would act on: line ends, interrupt, end of file, erase.
        let sent: Vec<u8> = [0, 3, 4, 10, 13, 17, 19, 26, 28, 127, 255].repeat(9);
        (&wire).write_all(&sent).unwrap();
        let mut port = terminal(wire.path()).unwrap();
        let mut heard = vec![0; sent.len()];
        port.read_exact(&mut heard).unwrap();
        assert_eq!(heard, sent);
    }

    #[test]
    fn two_lines_do_not_meet() {
        let (one, other) = (Wire::open().unwrap(), Wire::open().unwrap());
        assert_ne!(one.path(), other.path());
    }
}
