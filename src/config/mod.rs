//! Configuration: what a person wrote, checked, turned into values that can be used as they stand.
//!
//! The way: text → `document` (TOML with the place of each value) → `raw` (the keys: types, ranges,
//! defaults, meaning) → `check` (rules that join keys; every complaint at once with
//! `file:line:column`) → [`Config`]. Cards of models ([`card`]) and boards ([`board`]) go the same way;
//! [`agree`] holds a pipeline against the card that it names.
//! Not here: opening anything that the config names, but for a password file.

pub(crate) mod address;
pub mod agree;
pub mod board;
pub mod card;
mod check;
pub mod complaint;
mod document;
pub mod modbus;
mod nearest;
mod raw;
pub mod schema;
pub mod serial;
pub mod topic;
pub mod world;
pub mod write_back;

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

pub use board::Board;
pub use card::Card;
pub use complaint::{Complaint, Complaints};
pub use modbus::{Modbus, ModbusRole};
pub use serial::Serial;
pub use world::{ThisMachine, World};
pub use write_back::WriteBack;

/// A configuration with every key explained; it passes its own check.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Why there is no config. Found at boot, never later; starting again does not help.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It was read, and this is wrong with it.
    #[error("{0}")]
    Wrong(Complaints),
}

/// A whole daemon, as meant.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from; relative paths in it start at its folder.
    pub file: PathBuf,
    /// Who we are.
    pub device: Device,
    /// Whom we talk to.
    pub broker: Broker,
    /// Predictions on their way out.
    pub outbox: Outbox,
    /// Folder of model folders.
    pub models: PathBuf,
    /// Where HTTP (metrics, health) listens; `None`: not at all.
    pub http: Option<SocketAddr>,
    /// Threads and periods.
    pub runtime: Runtime,
    /// In the order of the file; at least one.
    pub pipelines: Vec<Pipeline>,
}

/// `[device]`
#[derive(Clone, Debug)]
pub struct Device {
    /// A topic level of its own: no `/`, `+`, `#`, nor control characters.
    pub id: String,
    /// What it runs on.
    pub board: Board,
    /// The board's watchdog, when it is to be armed.
    pub hardware_watchdog: Option<PathBuf>,
}

/// `[broker]`
#[derive(Clone)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Version of MQTT.
    pub protocol: Protocol,
    /// `Some` for `mqtts://`.
    pub tls: Option<Tls>,
    /// User name and password, when the broker wants them.
    pub login: Option<(String, String)>,
    /// Client id of the intake connection; the publishing one adds `-out`. Default: `lineside-DEVICE`.
    pub client_id: String,
    /// Longest silence on the line.
    pub keep_alive: Duration,
    /// Give up on one attempt to connect after this long.
    pub connect_timeout: Duration,
    /// Publications that may wait for their acknowledgement at once.
    pub max_inflight: u16,
}

impl std::fmt::Debug for Broker {
    /// Without the password: a config is logged at boot.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("protocol", &self.protocol)
            .field("tls", &self.tls)
            .field("username", &self.login.as_ref().map(|(user, _)| user))
            .field("client_id", &self.client_id)
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}

/// Version of MQTT that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Every broker speaks it.
    V3_1_1,
    /// With expiry, properties, and reasons in words.
    V5,
}

/// Certificates for `mqtts://`; read anew at each connect.
#[derive(Clone, Debug)]
pub struct Tls {
    /// PEM file of certificate authorities; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and key (PEM), when the broker wants to know us.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the broker's certificate must carry; `None`: the host of the URL.
    pub server_name: Option<String>,
    /// Protocols offered in the handshake (ALPN), best first; usually none.
    pub alpn: Vec<String>,
}

/// `[outbox]`
#[derive(Clone, Debug)]
pub struct Outbox {
    /// Folder of the durable queue.
    pub path: PathBuf,
    /// Bytes of predictions that may wait.
    pub max_bytes: NonZeroU64,
    /// What happens when they are reached.
    pub when_full: OutboxWhenFull,
    /// Of `max_bytes`, those that may wait in memory.
    pub memory_bytes: NonZeroU64,
    /// A prediction that has waited for so long is written to disk.
    pub spill_after: Duration,
    /// Predictions a second that come back from disk beside the live ones.
    pub backlog_per_sec: NonZeroU64,
}

impl Outbox {
    /// What `memory_bytes` is where nobody says: enough for some thousand predictions, and most of the
    /// bound left to the disk.
    pub fn default_memory_bytes(max_bytes: NonZeroU64) -> NonZeroU64 {
        const MOST: u64 = 8 << 20;
        NonZeroU64::new((max_bytes.get() / 4).min(MOST)).unwrap_or(NonZeroU64::MIN)
    }
}

/// What the outbox does when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxWhenFull {
    /// The oldest prediction goes, and is counted.
    DropOldest,
    /// Workers wait; frames queue up behind them.
    Block,
}

/// `[runtime]`
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Inference threads. Default: the board's, else one a core.
    pub workers: NonZeroUsize,
    /// How long SIGTERM waits for frames under way.
    pub shutdown_deadline: Duration,
    /// Period of the `stats` message.
    pub stats_period: Duration,
    /// Log lines as text or JSON.
    pub log_format: LogFormat,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[[pipeline]]`: one source, one model, one publication.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// A topic level of its own, unique in the file.
    pub name: String,
    /// Folder name under [`Config::models`].
    pub model: String,
    /// Where frames come from.
    pub source: Source,
    /// What their bytes mean.
    pub decode: Decode,
    /// Replaces the card's threshold.
    pub threshold: Option<f32>,
    /// Replaces the card's uncertain band.
    pub uncertain: Option<(f32, f32)>,
    /// Where predictions go.
    pub publish: Publish,
    /// Which port hears the verdict as well.
    pub write_back: Option<WriteBack>,
}

/// `[pipeline.source]`
#[derive(Clone, Debug)]
pub struct Source {
    /// What kind, with its own keys.
    pub kind: SourceKind,
    /// Frames that may wait for a worker.
    pub queue_frames: NonZeroUsize,
    /// Bytes of frames that may wait for a worker.
    pub queue_bytes: NonZeroUsize,
    /// What happens when either is reached.
    pub when_full: WhenFull,
    /// Older frames are dropped before inference; `None`: never.
    pub stale_after: Option<Duration>,
    /// A larger payload is skipped without being held.
    pub max_payload_bytes: NonZeroUsize,
    /// Origins whose windows or recurrent states are kept; beyond it the longest silent one goes.
    pub max_sources: NonZeroUsize,
    /// The named level whose value is the frame's own id.
    pub id_level: Option<String>,
}

/// The kinds of sources. Folders come as a further variant.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Frames on a serial port.
    Serial(Box<Serial>),
    /// Frames on an MQTT topic.
    Mqtt {
        /// Topic filter; `{name}` levels subscribe as `+`.
        topic: String,
        /// 0 or 1.
        qos: Qos,
        /// User property (MQTT 5) whose value is the frame's own id.
        id_property: Option<String>,
    },
}

impl SourceKind {
    /// Where frames come from, for people: the topic filter or the port.
    pub fn place(&self) -> &str {
        match self {
            Self::Mqtt { topic, .. } => topic,
            Self::Serial(serial) => &serial.port,
        }
    }
}

/// MQTT quality of service that we take part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// At most once.
    AtMostOnce,
    /// At least once.
    AtLeastOnce,
}

/// What a frame queue does when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest waiting frame goes: the freshest wins.
    DropOldest,
    /// The new frame goes.
    DropNewest,
    /// The source waits; MQTT then leaves frames with the broker.
    Block,
}

/// `[pipeline.decode]`
#[derive(Clone, Debug)]
pub struct Decode {
    /// What the payload is.
    pub format: Format,
    /// JSON field, or CSV column by its header, whose value travels along as `frame_id`.
    pub id_field: Option<String>,
    /// JSON field, or CSV column by its header, with the frame's own time (RFC 3339, or seconds since
    /// 1970).
    pub time_field: Option<String>,
    /// What to do with JSON or CSV fields that the card does not name.
    pub unknown_fields: UnknownFields,
    /// CSV separator; `None`: found out from the line (`,` `;` tab or blanks).
    pub separator: Option<char>,
    /// Larger pictures are refused before they are unpacked.
    pub max_pixels: u64,
}

/// What to do with a field that the card does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// The frame is refused, naming the field: a renamed sensor is never silently a missing one.
    Refuse,
    /// They are passed over.
    Ignore,
}

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG or PNG.
    Image,
    /// An array, an object by feature name, or an object with `values`.
    Json,
    /// One or more lines of numbers, optionally with a header.
    Csv,
    /// Little-endian 32-bit floats, one row after the other.
    F32le,
    /// Little-endian 16-bit integers, one row after the other.
    I16le,
    /// Samples behind a header that names sensor and schema; see `FORMAT.md` of the codec.
    Packet,
}

/// `[pipeline.publish]`
#[derive(Clone, Debug)]
pub struct Publish {
    /// Topic with `{device}`, `{pipeline}` and the source's named levels.
    pub topic: String,
    /// Where a frame without an answer is reported. Default: the topic's last level becomes `error`.
    pub error_topic: String,
    /// 0 or 1.
    pub qos: Qos,
    /// Whether the broker keeps the last prediction for later subscribers.
    pub retain: bool,
}
