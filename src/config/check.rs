//! From the config as written to the config as meant: the rules, every complaint at once.
//!
//! Pure: files and the environment come in as a [`World`]. Each rule complains at the key that should
//! change, names what it saw and what would do, and holds its tongue about keys that are broken
//! already.

mod modbus;
mod pipeline;
mod source;
mod write_back;

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;
use toml::Spanned;

use super::document::{self, Field, Reader, shorten};
use super::raw::{RawBroker, RawConfig, RawDevice, RawHttp, RawModels, RawOutbox, RawPipeline, RawRuntime};
use super::world::{ThisMachine, World};
use super::{
    Board, Broker, Complaint, Complaints, Config, ConfigError, Device, Outbox, Pipeline, Protocol, Runtime,
    Tls, address, topic,
};

pub(crate) use pipeline::{band, is_folder_name};

impl Config {
    /// Reads and checks a file, with this machine's environment, host name and password files.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_in(path, &ThisMachine)
    }

    /// Reads and checks a file as it would be on another machine.
    pub fn read_in(path: &Path, world: &dyn World) -> Result<Self, ConfigError> {
        let bytes =
            std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let text = utf8(&bytes, path).map_err(ConfigError::Wrong)?;
        Self::parse(text, path, world).map_err(ConfigError::Wrong)
    }

    /// Each pipeline of a text that can be made out, whatever else is wrong with it: so that one check
    /// tells also how it fits its model. Without complaints: [`Config::parse`] has told them.
    pub fn pipelines_in(text: &str, file: &Path, world: &dyn World) -> Vec<Option<Pipeline>> {
        let mut pipelines = Vec::new();
        let _ = document::read::<RawConfig, ()>(text, file, Some(world), |raw, reader| {
            let mut rules = Rules::new(file, world, reader);
            let device = raw.device.table().and_then(|(at, device)| rules.device(device, at));
            if let Field::Given(list) = &raw.pipeline {
                let one = |raw: &Spanned<RawPipeline>| rules.pipeline(raw.get_ref(), device.as_ref());
                pipelines = list.get_ref().iter().map(one).collect();
            }
            Some(())
        });
        pipelines
    }

    /// Checks the text of a config that lies at `file`; relative paths in it start at its folder.
    pub fn parse(text: &str, file: &Path, world: &dyn World) -> Result<Self, Complaints> {
        document::read::<RawConfig, _>(text, file, Some(world), |raw, reader| {
            Rules::new(file, world, reader).config(&raw)
        })
    }
}

/// A file's text; the complaint points at the first byte that is none.
pub(crate) fn utf8<'b>(bytes: &'b [u8], file: &Path) -> Result<&'b str, Complaints> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = error.valid_up_to();
        let before = std::str::from_utf8(&bytes[..good]).expect("valid up to here");
        let (line, column) = document::place(before, good);
        let message = format!("byte {:#04x} is not UTF-8; save the file as UTF-8", bytes[good]);
        Complaints(vec![Complaint { file: file.to_owned(), line, column, message }])
    })
}

struct Rules<'r, 'w> {
    file: &'r Path,
    folder: &'r Path,
    world: &'r dyn World,
    reader: &'r mut Reader<'w>,
}

impl<'r, 'w> Rules<'r, 'w> {
    fn new(file: &'r Path, world: &'r dyn World, reader: &'r mut Reader<'w>) -> Self {
        Self { file, folder: file.parent().unwrap_or(Path::new("")), world, reader }
    }
}

impl Rules<'_, '_> {
    fn complain(&mut self, at: usize, message: impl Into<String>) {
        self.reader.complain(at, message);
    }

    fn config(&mut self, raw: &RawConfig) -> Option<Config> {
        let device = match raw.device.table() {
            Some((at, device)) => self.device(device, at),
            None => None,
        };
        let broker = raw.broker.table().and_then(|(_, broker)| self.broker(broker, device.as_ref()));
        let outbox = raw.outbox.table().and_then(|(_, outbox)| self.outbox(outbox));
        let models = raw.models.table().and_then(|(_, models)| self.models(models));
        let http = match &raw.http {
            Field::Absent => Some(None),
            http => http.table().and_then(|(_, http)| self.http(http)).map(Some),
        };
        let runtime = raw.runtime.table().and_then(|(_, runtime)| self.runtime(runtime, device.as_ref()));
        let pipelines = match &raw.pipeline {
            Field::Given(list) => self.pipelines(list, device.as_ref()),
            _ => None,
        };
        if let (Field::Given(list), Some((_, broker))) = (&raw.pipeline, raw.broker.table()) {
            self.only_v5(list.get_ref(), broker);
        }
        Some(Config {
            file: self.file.to_owned(),
            device: device?,
            broker: broker?,
            outbox: outbox?,
            models: models?,
            http: http?,
            runtime: runtime?,
            pipelines: pipelines?,
        })
    }

    fn device(&mut self, raw: &RawDevice, at: usize) -> Option<Device> {
        let id = match &raw.id {
            Field::Given(id) => match topic::level_fault(id.get_ref()) {
                None => Some(id.get_ref().clone()),
                Some(fault) => {
                    let seen = shorten(id.get_ref());
                    self.complain(id.span().start, format!("id is {seen:?}: {fault}"));
                    None
                }
            },
            Field::Broken => None,
            Field::Absent | Field::Default(_) => match self.world.host_name() {
                Some(name) if topic::level_fault(&name).is_none() => Some(name),
                Some(name) => {
                    self.complain(
                        at,
                        format!(
                            "the host's name {:?} cannot stand in a topic; set id in [device]",
                            shorten(&name)
                        ),
                    );
                    None
                }
                None => {
                    self.complain(at, "the host has no name that could be read; set id in [device]");
                    None
                }
            },
        };
        let named = self.world.board().or(raw.board.value().map(String::as_str));
        let board = named.and_then(|name| match Board::beside(self.folder, name, self.world) {
            Ok(board) => Some(board),
            Err(why) => {
                self.complain(raw.board.at().unwrap_or(at), why);
                None
            }
        });
        let board = board?;
        let wanted = raw.hardware_watchdog.value().copied().unwrap_or(false);
        let hardware_watchdog = board.watchdog.as_ref().filter(|_| wanted).map(|dog| dog.device.clone());
        if wanted && hardware_watchdog.is_none() {
            self.complain(
                raw.hardware_watchdog.at().unwrap_or(at),
                format!(
                    "hardware_watchdog is true, but the board {} names none; name the board that this is",
                    board.name
                ),
            );
            return None;
        }
        Some(Device { id: id?, board, hardware_watchdog })
    }

    fn broker(&mut self, raw: &RawBroker, device: Option<&Device>) -> Option<Broker> {
        let address = raw.url.given().and_then(|url| match address::parse(url.get_ref()) {
            Ok(address) => Some(address),
            Err(why) => {
                self.complain(url.span().start, format!("url: {why}"));
                None
            }
        });
        let login = self.login(raw);
        let ca_file = self.path(&raw.ca_file, "ca_file");
        let cert_file = self.path(&raw.cert_file, "cert_file");
        let key_file = self.path(&raw.key_file, "key_file");
        for (one, other, has, wants) in [
            (&raw.cert_file, &raw.key_file, "cert_file", "key_file"),
            (&raw.key_file, &raw.cert_file, "key_file", "cert_file"),
        ] {
            if let (Some(at), false) = (one.at(), other.is_written()) {
                self.complain(
                    at,
                    format!(
                        "{has} stands without {wants}; a certificate is used together with its \
                     key: add {wants} or remove {has}"
                    ),
                );
            }
        }
        let tls = match &address {
            Some(address) if !address.tls => {
                let files = [
                    (raw.ca_file.at(), "ca_file"),
                    (raw.cert_file.at(), "cert_file"),
                    (raw.key_file.at(), "key_file"),
                    (raw.server_name.at(), "server_name"),
                    (raw.alpn.at(), "alpn"),
                ];
                for (at, name) in files {
                    if let Some(at) = at {
                        self.complain(
                            at,
                            format!(
                                "{name} is used with mqtts:// only, and url says mqtt://, which \
                             encrypts nothing; change url or remove {name}"
                            ),
                        );
                    }
                }
                None
            }
            _ => Some(Tls {
                ca_file,
                identity: cert_file.zip(key_file),
                server_name: self.server_name(&raw.server_name),
                alpn: self.alpn(&raw.alpn),
            }),
        };
        let client_id = match &raw.client_id {
            Field::Absent | Field::Default(_) => device.map(|device| format!("lineside-{}", device.id)),
            Field::Broken => None,
            Field::Given(id) => {
                const LONGEST_BYTES: usize = 256;
                let id_text = id.get_ref();
                if id_text.is_empty()
                    || id_text.len() > LONGEST_BYTES
                    || id_text.chars().any(char::is_control)
                {
                    self.complain(
                        id.span().start,
                        format!(
                            "client_id is {:?}; it must have 1 to {LONGEST_BYTES} bytes and no \
                         control characters",
                            shorten(id_text)
                        ),
                    );
                    None
                } else {
                    Some(id_text.clone())
                }
            }
        };
        let address = address?;
        Some(Broker {
            host: address.host,
            port: address.port,
            protocol: *raw.protocol.value()?,
            tls,
            login: login?,
            client_id: client_id?,
            keep_alive: secs(&raw.keep_alive_secs)?,
            connect_timeout: secs(&raw.connect_timeout_secs)?,
            max_inflight: u16::try_from(*raw.max_inflight.value()?).ok()?,
        })
    }

    /// Keys of sources that need properties, which MQTT 3.1.1 has not.
    fn only_v5(&mut self, pipelines: &[Spanned<RawPipeline>], broker: &RawBroker) {
        if broker.protocol.value() != Some(&Protocol::V3_1_1) {
            return;
        }
        for pipeline in pipelines {
            let source = pipeline.get_ref().source.table();
            if let Some(at) = source.and_then(|(_, source)| source.id_property.at()) {
                self.complain(
                    at,
                    "id_property names a user property, which only MQTT 5 has; set protocol = \"5\" in [broker], or \
                     remove it",
                );
            }
        }
    }

    fn server_name(&mut self, field: &Field<String>) -> Option<String> {
        let name = field.given()?;
        if ServerName::try_from(name.get_ref().as_str()).is_err() {
            self.complain(
                name.span().start,
                format!(
                    "server_name is {:?}, which cannot stand in a certificate; write a host name or an address",
                    shorten(name.get_ref())
                ),
            );
        }
        Some(name.get_ref().clone())
    }

    fn alpn(&mut self, field: &Field<Vec<Spanned<String>>>) -> Vec<String> {
        let Some(protocols) = field.given() else { return Vec::new() };
        for protocol in protocols.get_ref() {
            // RFC 7301 §3.1: a byte for the length, and never empty.
            if !(1..=255).contains(&protocol.get_ref().len()) {
                self.complain(
                    protocol.span().start,
                    format!(
                        "alpn holds {:?}; a protocol's name has 1 to 255 bytes",
                        shorten(protocol.get_ref())
                    ),
                );
            }
        }
        protocols.get_ref().iter().map(|protocol| protocol.get_ref().clone()).collect()
    }

    /// `Some(None)`: no login is wanted. `None`: a complaint was made.
    fn login(&mut self, raw: &RawBroker) -> Option<Option<(String, String)>> {
        if let (Some(_), Some(at)) = (raw.password.at(), raw.password_file.at()) {
            self.complain(at, "password and password_file are both given; keep one");
            return None;
        }
        if let (Some(at), false) = (raw.password.at().or(raw.password_file.at()), raw.username.is_written()) {
            self.complain(
                at,
                "a password stands without username; MQTT sends none without a name: add username",
            );
            return None;
        }
        let password = match (&raw.password, &raw.password_file) {
            (Field::Given(password), _) => password.get_ref().clone(),
            (_, Field::Given(file)) => {
                let path = self.path(&raw.password_file, "password_file")?;
                match self.world.read(&path) {
                    Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
                    Err(error) => {
                        self.complain(
                            file.span().start,
                            format!("password_file {} cannot be read: {error}", path.display()),
                        );
                        return None;
                    }
                }
            }
            (Field::Broken, _) | (_, Field::Broken) => return None,
            _ => String::new(),
        };
        match &raw.username {
            Field::Given(name) if name.get_ref().is_empty() => {
                self.complain(name.span().start, "username is empty; name a user, or remove it");
                None
            }
            Field::Given(name) => {
                // MQTT 3.1.1 §1.5.3: strings and binary data have a length of 16 bits.
                if name.get_ref().len() > 65_535 || password.len() > 65_535 {
                    self.complain(
                        name.span().start,
                        "username and password have at most 65535 bytes in MQTT",
                    );
                    return None;
                }
                Some(Some((name.get_ref().clone(), password)))
            }
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(None),
        }
    }

    fn outbox(&mut self, raw: &RawOutbox) -> Option<Outbox> {
        let path = match &raw.path {
            Field::Absent => Some(self.folder.join("outbox")),
            path => self.path(path, "path"),
        };
        let max_bytes = NonZeroU64::new(*raw.max_bytes.value()?)?;
        let memory_bytes = match &raw.memory_bytes {
            Field::Absent => Outbox::default_memory_bytes(max_bytes),
            Field::Given(memory) if *memory.get_ref() >= max_bytes.get() => {
                self.complain(
                    memory.span().start,
                    format!(
                        "memory_bytes is {}, and max_bytes is {max_bytes}; memory is a part of the whole, \
                         and the disk gets the rest",
                        memory.get_ref()
                    ),
                );
                return None;
            }
            memory => NonZeroU64::new(*memory.value()?)?,
        };
        Some(Outbox {
            path: path?,
            max_bytes,
            when_full: *raw.when_full.value()?,
            memory_bytes,
            spill_after: raw.spill_after_ms.value().map(|ms| Duration::from_millis(*ms))?,
            backlog_per_sec: NonZeroU64::new(*raw.backlog_per_sec.value()?)?,
        })
    }

    fn models(&mut self, raw: &RawModels) -> Option<PathBuf> {
        match &raw.path {
            Field::Absent => Some(self.folder.join("models")),
            path => self.path(path, "path"),
        }
    }

    fn http(&mut self, raw: &RawHttp) -> Option<SocketAddr> {
        let listen = raw.listen.given()?;
        let text = listen.get_ref();
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(8000);
        self.complain(
            listen.span().start,
            format!(
                "listen is {:?}; expected an address and a port: \"127.0.0.1:{port}\" \
                     for this machine only, \"0.0.0.0:{port}\" for every network",
                shorten(text)
            ),
        );
        None
    }

    fn runtime(&mut self, raw: &RawRuntime, device: Option<&Device>) -> Option<Runtime> {
        let workers = match &raw.workers {
            Field::Absent => device?.board.workers.unwrap_or_else(|| self.world.cores()),
            workers => positive(workers)?,
        };
        Some(Runtime {
            workers,
            shutdown_deadline: secs(&raw.shutdown_secs)?,
            stats_period: secs(&raw.stats_secs)?,
            log_format: *raw.log_format.value()?,
        })
    }

    /// A path as it can be opened; `None` where none is given, or after a complaint.
    fn path(&mut self, field: &Field<String>, key: &str) -> Option<PathBuf> {
        let path = field.given()?;
        if path.get_ref().is_empty() || path.get_ref().contains('\0') {
            self.complain(path.span().start, format!("{key} is {:?}; expected a path", path.get_ref()));
            return None;
        }
        Some(self.folder.join(path.get_ref()))
    }
}

fn secs(field: &Field<u64>) -> Option<Duration> {
    field.value().map(|secs| Duration::from_secs(*secs))
}

fn positive(field: &Field<u64>) -> Option<NonZeroUsize> {
    // A 32-bit board cannot hold more anyway.
    NonZeroUsize::new(usize::try_from(*field.value()?).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EXAMPLE, LogFormat, OutboxWhenFull};

    const PIPELINE: &str = "[[pipeline]]\nname = \"p\"\nmodel = \"m\"\nsource = { kind = \"mqtt\", topic = \"in\" \
        }\ndecode = { format = \"json\" }\n";

    struct Lab;

    impl World for Lab {
        fn variable(&self, name: &str) -> Option<String> {
            (name == "SECRET").then(|| "a\"b'\n$${X}".into())
        }
        fn host_name(&self) -> Option<String> {
            Some("lab-1".into())
        }
        fn cores(&self) -> NonZeroUsize {
            NonZeroUsize::new(3).unwrap()
        }
        fn read(&self, path: &Path) -> std::io::Result<String> {
            match path.to_str() {
                Some("etc/pass") => Ok("from a file \r\n".into()),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("etc/l.toml"), &Lab).map_err(|complaints| complaints.to_string())
    }

    /// A config with these lines in its `[broker]`.
    fn broker(lines: &str) -> Result<Broker, String> {
        parse(&format!("[broker]\n{lines}\n{PIPELINE}")).map(|config| config.broker)
    }

    #[test]
    fn the_example_is_right_and_shows_the_defaults() {
        let config = parse(EXAMPLE).unwrap();
        assert_eq!(config.device.id, "lab-1");
        assert_eq!(config.broker.client_id, "lineside-lab-1");
        assert_eq!(config.broker.keep_alive, Duration::from_secs(15));
        assert_eq!(config.broker.max_inflight, 100);
        assert_eq!(config.models, Path::new("etc/models"));
        assert_eq!(config.outbox.path, Path::new("etc/outbox"));
        assert_eq!(config.outbox.when_full, OutboxWhenFull::DropOldest);
        assert_eq!(config.runtime.workers.get(), 3);
        assert_eq!(config.runtime.log_format, LogFormat::Text);
        assert!(config.http.is_none());
        assert!(config.broker.tls.is_none());
        assert_eq!(config.broker.login, None);
    }

    #[test]
    fn each_line_that_the_example_comments_out_can_be_put_in() {
        let lines: Vec<&str> = EXAMPLE.lines().collect();
        let is_key =
            |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
        let mut tried = 0;
        for i in (0..lines.len()).filter(|i| is_key(lines[*i])) {
            let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            lines[i].remove(0);
            // With the header of its table, where that is commented out as well.
            let header = (0..i).rev().find(|above| lines[*above].trim_start_matches('#').starts_with('['));
            if let Some(header) = header
                && lines[header].starts_with('#')
            {
                lines[header].remove(0);
            }
            // What belongs to TLS, to a login or to another format is told so, and nothing else is wrong.
            for complaint in parse(&lines.join("\n")).err().iter().flat_map(|all| all.lines()) {
                let known = [
                    "mqtts:// only",
                    "stands without",
                    "means something with",
                    "and topic has no level",
                    "is not set",
                    "is missing in",
                    "has no register",
                    "which only MQTT 5 has",
                    "password_file etc/run/credentials/mqtt",
                ];
                assert!(
                    known.iter().any(|known| complaint.contains(known))
                        || complaint.contains("/run/credentials/mqtt cannot"),
                    "{complaint}"
                );
            }
            tried += 1;
        }
        assert!(tried > 30, "{tried}");
    }

    #[test]
    fn many_different_mistakes_are_told_at_once_and_in_file_order() {
        let text = r##"
[device]
id = "a/b"
board = "raspbery-pi-4"

[broker]
url = "mqtt://localhost:0"
keep_alive_secs = 0
password = "${NOT_SET}"
cert_file = "c.pem"
protocol = "4"
max_inflight = "5"

[outbox]
when_ful = "block"

[http]
listen = "localhost:8000"

[[pipeline]]
name = "one"
model = "../secret"
threshold = 0.9
uncertain = [0.2, 0.4]
[pipeline.source]
kind = "mqtt"
topic = "a/#/b"
qos = 2
queue_frames = 0
[pipeline.decode]
format = "jpg"

[[pipeline]]
name = "one"
model = "m"
[pipeline.source]
kind = "serial"
[pipeline.decode]
format = "csv"
separator = "ab"
[pipeline.publish]
topic = "out/#"
error_topic = "out/{camera}"
retain = "yes"
"##;
        let found = parse(text).unwrap_err();
        let expected = [
            "3:6: id is \"a/b\"",
            "4:9: the board \"raspbery-pi-4\" is unknown; did you mean \"raspberry-pi-4\"?",
            "7:7: url: the port is \"0\"",
            "8:19: keep_alive_secs is 0; it must be 5 to 65535",
            "9:12: password: the environment variable NOT_SET is not set",
            "10:13: cert_file stands without key_file",
            "11:12: protocol is \"4\"",
            "12:16: max_inflight is the string \"5\"; expected a whole number from 1 to \
                65535; leave out the quotes",
            "15:1: unknown key `when_ful` in outbox; did you mean `when_full`?",
            "18:10: listen is \"localhost:8000\"",
            "22:9: model is \"../secret\"",
            "23:13: threshold is 0.9, outside uncertain [0.2, 0.4]",
            "27:9: topic \"a/#/b\": `#` may only be the last level",
            "28:7: qos is 2; lineside takes no part in the handshake of exactly-once delivery",
            "29:16: queue_frames is 0; it must be 1 to 1000000",
            "31:10: format is \"jpg\"; expected \"image\", \"json\", \"csv\", \"f32le\", \"i16le\" or \"packet\"",
            "34:8: name \"one\" belongs to an earlier pipeline",
            "36:1: `port` is missing in source",
            "36:1: `framing` is missing in source",
            "40:13: separator is \"ab\"",
            "42:9: topic \"out/#\": wildcards",
            "43:15: error_topic \"out/{camera}\": `{camera}` is no level of the source's topic",
            "44:10: retain is the string \"yes\"; expected true or false",
        ];
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{found}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(&format!("etc/l.toml:{expected}")), "{line}\nexpected {expected}");
        }
    }

    #[test]
    fn the_examples_of_the_reference_are_right() {
        struct Plant;
        impl World for Plant {
            fn variable(&self, _: &str) -> Option<String> {
                None
            }
            fn host_name(&self) -> Option<String> {
                Some("h".into())
            }
            fn read(&self, path: &Path) -> std::io::Result<String> {
                if path.extension().is_some_and(|extension| extension == "toml") {
                    return Err(std::io::ErrorKind::NotFound.into());
                }
                Ok("secret".into())
            }
        }
        let page = include_str!("../../docs/configuration.md");
        let blocks: Vec<&str> =
            page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert_eq!(blocks.len(), 2);
        for block in blocks {
            let read = Config::parse(block, Path::new("l.toml"), &Plant);
            assert!(read.is_ok(), "{}", read.unwrap_err());
        }
    }

    proptest::proptest! {
        /// Lines torn out, doubled, swapped, and characters put anywhere: what is refused is told.
        #[test]
        fn a_mangled_file_is_read_or_complained_about(
            edits in proptest::collection::vec((0usize..5000, 0usize..5000, 0u8..4, ".{0,3}"), 1..12)
        ) {
            // The settings that the example comments out take part as well.
            let whole: String =
                EXAMPLE.lines().map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line))).collect();
            let lines = whole.lines().filter(|line| line.contains(['=', '[']) && !line.starts_with(' '));
            let mut lines: Vec<String> = lines.map(str::to_owned).collect();
            for (a, b, what, text) in edits {
                let (a, b) = (a % lines.len(), b % lines.len());
                match what {
                    0 => lines.swap(a, b),
                    1 => lines[a] = lines[b].clone(),
                    2 => lines[a].clear(),
                    _ => {
                        let ends = lines[a].char_indices().map(|(at, _)| at).collect::<Vec<_>>();
                        let at = ends.get(b % ends.len().max(1)).copied().unwrap_or(0);
                        lines[a].insert_str(at, &text);
                    }
                }
            }
            let text = lines.join("\n");
            if let Err(wrong) = Config::parse(&text, Path::new("etc/l.toml"), &Lab) {
                proptest::prop_assert!(!wrong.0.is_empty(), "{text}");
                for pair in wrong.0.windows(2) {
                    proptest::prop_assert!((pair[0].line, pair[0].column) <= (pair[1].line, pair[1].column));
                }
                for complaint in wrong.0 {
                    proptest::prop_assert!(complaint.line <= lines.len().max(1), "{complaint}");
                }
            }
        }
    }

    #[test]
    fn an_empty_file_says_what_a_config_needs() {
        let found = parse("").unwrap_err();
        assert_eq!(
            found,
            "etc/l.toml:1:1: [broker] is missing; every file has one\netc/l.toml:1:1: \
                [[pipeline]] is missing; every file has one"
        );
        assert!(
            parse("pipeline = []\n[broker]\nurl = \"mqtt://a\"\n")
                .unwrap_err()
                .contains("there is no pipeline")
        );
    }

    #[test]
    fn tls_comes_with_the_systems_authorities_or_ones_own() {
        let plain = broker("url = \"mqtts://b\"").unwrap();
        assert_eq!(plain.port, 8883);
        let tls = plain.tls.unwrap();
        assert!(tls.ca_file.is_none() && tls.identity.is_none());
        let own =
            broker("url = \"mqtts://b\"\nca_file = \"/abs/ca.pem\"\ncert_file = \"c\"\nkey_file = \"k\"")
                .unwrap();
        let tls = own.tls.unwrap();
        assert_eq!(tls.ca_file.unwrap(), Path::new("/abs/ca.pem"));
        assert_eq!(tls.identity.unwrap(), (PathBuf::from("etc/c"), PathBuf::from("etc/k")));
        let named = broker("url = \"mqtts://b\"\nserver_name = \"line.example\"\nalpn = [\"mqtt\"]").unwrap();
        let named = named.tls.unwrap();
        assert_eq!(
            (named.server_name.as_deref(), named.alpn.as_slice()),
            (Some("line.example"), &["mqtt".into()][..])
        );
        for (line, why) in
            [("server_name = \"a b\"", "cannot stand in a certificate"), ("alpn = [\"\"]", "1 to 255 bytes")]
        {
            let found = broker(&format!("url = \"mqtts://b\"\n{line}")).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
        let found = broker("url = \"mqtt://b\"\nserver_name = \"x\"").unwrap_err();
        assert!(found.contains("mqtts:// only"), "{found}");
        let found = broker("url = \"mqtt://b\"\nca_file = \"ca.pem\"").unwrap_err();
        assert!(found.contains("l.toml:3:11: ca_file is used with mqtts:// only"), "{found}");
    }

    #[test]
    fn a_password_comes_from_anywhere_and_stays_as_it_is() {
        let login = |lines: &str| broker(&format!("url = \"mqtt://b\"\n{lines}")).map(|broker| broker.login);
        let with = |password: &str| Ok(Some(("u".to_owned(), password.to_owned())));
        assert_eq!(login("username = \"u\""), with(""));
        assert_eq!(login("username = \"u\"\npassword = \"x$$y$z\""), with("x$y$z"));
        assert_eq!(login("username = \"u\"\npassword = \"${SECRET}\""), with("a\"b'\n$${X}"));
        assert_eq!(login("username = \"u\"\npassword_file = \"pass\""), with("from a file "));
        for (lines, why) in [
            ("password = \"x\"", "without username"),
            ("password_file = \"pass\"", "without username"),
            ("username = \"u\"\npassword = \"hush\"\npassword_file = \"pass\"", "both given"),
            ("username = \"u\"\npassword_file = \"nowhere\"", "password_file etc/nowhere cannot be read"),
            ("username = \"\"", "username is empty"),
        ] {
            let found = login(lines).unwrap_err();
            assert!(found.contains(why) && !found.contains("hush"), "{found}");
        }
    }

    #[test]
    fn the_debug_form_of_a_broker_keeps_the_password() {
        let broker = broker("url = \"mqtt://b\"\nusername = \"u\"\npassword = \"hush\"").unwrap();
        assert!(!format!("{broker:?}").contains("hush"));
    }

    #[test]
    fn a_host_without_a_usable_name_asks_for_an_id() {
        let text = format!("[broker]\nurl = \"mqtt://b\"\n{PIPELINE}");
        let nameless = |_: &str| -> Option<String> { None };
        let found = Config::parse(&text, Path::new("l.toml"), &nameless).unwrap_err();
        assert_eq!(found.0.len(), 1, "{found}");
        assert!(found.to_string().contains("set id in [device]"));
        let named = format!("[device]\nid = \"x\"\n{text}");
        assert_eq!(Config::parse(&named, Path::new("l.toml"), &nameless).unwrap().device.id, "x");
    }

    #[test]
    fn http_listens_on_an_address_and_workers_may_be_fixed() {
        let text = format!(
            "[broker]\nurl = \"mqtt://b\"\n[http]\nlisten = \"[::1]:80\"\n[runtime]\nworkers = 7\n{PIPELINE}"
        );
        let config = parse(&text).unwrap();
        assert_eq!(config.http, Some("[::1]:80".parse().unwrap()));
        assert_eq!(config.runtime.workers.get(), 7);
        let found = parse(&text.replace("[::1]:80", ":9000")).unwrap_err();
        assert!(found.contains("\"127.0.0.1:9000\""), "{found}");
    }

    #[test]
    fn a_file_that_is_no_text_says_where_and_one_that_is_not_there_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.toml");
        std::fs::write(&path, b"[broker]\nurl = \"\xff\"\n").unwrap();
        let found = Config::read(&path).unwrap_err().to_string();
        assert!(found.ends_with("l.toml:2:8: byte 0xff is not UTF-8; save the file as UTF-8"), "{found}");
        let missing = Config::read(&folder.path().join("none.toml")).unwrap_err();
        assert!(matches!(missing, ConfigError::Read { .. }), "{missing}");
    }
}
