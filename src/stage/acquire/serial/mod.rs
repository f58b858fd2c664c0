//! Frames from serial ports.
//!
//! Promise: a port that is absent, busy or unplugged is tried again until it is there, and each reason
//! is said once; every byte read reaches the [`Talk`] in order; what cannot be queued yet is held, and
//! the port is not read meanwhile (where we ask: not asked). With `durable`, what was read is settled before the next read.
//! Not here: how frames stand in the stream (`decode::framing`; the daemon joins the two), what their
//! bytes mean (`decode`).

mod desk;
mod handle;
mod health;
mod marks;
pub mod modbus;
mod pace;
mod pattern;
mod rights;
mod source;
pub mod tty;
mod turns;

use std::time::Duration;

use crate::base::Micros;
use crate::config;
pub use handle::{Bell, PortHandle, pair};
pub use marks::Marks;
pub use source::SerialSource;
pub use turns::serve;

/// What is spoken on a port. Pure: bytes and time come in; frames, and bytes to send, go out.
pub trait Talk: Send {
    /// The port is open (again). Whatever was half received or half asked is void.
    fn opened(&mut self, now: Micros);

    /// For how long bytes may wait unread. Zero for who measures the silence between them.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether nothing comes but what was asked for. Who asks is heard even while there is no room: it begins
    /// nothing then, and what it has begun ends with what is heard.
    fn asks(&self) -> bool {
        false
    }

    /// Whether there is room for more frames; told before each [`pump`](Self::pump).
    fn has_room(&mut self, _: bool) {}

    /// Bytes came.
    fn received(&mut self, now: Micros, bytes: &[u8], hear: &mut dyn FnMut(Heard<'_>));

    /// Appends to `out` what is to be sent now. Gives the time to be asked again, if no byte comes
    /// before it.
    fn pump(&mut self, now: Micros, out: &mut Vec<u8>, hear: &mut dyn FnMut(Heard<'_>)) -> Option<Micros>;
}

impl Talk for Box<dyn Talk> {
    fn opened(&mut self, now: Micros) {
        (**self).opened(now);
    }

    fn patience(&self) -> Duration {
        (**self).patience()
    }

    fn asks(&self) -> bool {
        (**self).asks()
    }

    fn has_room(&mut self, has_room: bool) {
        (**self).has_room(has_room);
    }

    fn received(&mut self, now: Micros, bytes: &[u8], hear: &mut dyn FnMut(Heard<'_>)) {
        (**self).received(now, bytes, hear);
    }

    fn pump(&mut self, now: Micros, out: &mut Vec<u8>, hear: &mut dyn FnMut(Heard<'_>)) -> Option<Micros> {
        (**self).pump(now, out, hear)
    }
}

/// A frame that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// What it carries.
    pub payload: &'a [u8],
    /// Where its first byte stood among all bytes ever received on this port; wraps.
    pub began: u32,
    /// Who on this line sent it, where the frame says so.
    pub sensor: Option<u8>,
    /// Its sequence number, where it has one.
    pub sequence: Option<u16>,
}

/// What one pipeline wants of a port.
#[derive(Clone, Debug)]
pub struct Route {
    /// Index of the pipeline and its lane.
    pub pipeline: usize,
    /// Frames of these sensors only; `None`: of all.
    pub sensors: Option<Vec<u8>>,
}

/// What comes over a port by itself, so that its absence means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// A sensor's frames.
    Frames,
    /// Rounds of registers, which another Modbus master asks for.
    Rounds,
    /// Units are asked, or nothing is read: whoever asks knows better what is wrong.
    Nothing,
}

/// A port and who listens to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Path or pattern, as configured.
    pub port: String,
    /// How bits stand on the wire.
    pub line: config::serial::Line,
    /// Longest frame, for messages.
    pub max_frame_bytes: usize,
    /// The shortest `stale_after_ms` of its pipelines.
    pub stale_after: Option<Duration>,
    /// What was read is settled before the next read.
    pub durable: bool,
    /// What its silence and its bytes mean.
    pub expects: Expects,
    /// Who listens.
    pub routes: Vec<Route>,
    /// Sensors that pipelines name, and the `stale_after_ms` of each.
    pub sensors: Vec<(u8, Duration)>,
}
