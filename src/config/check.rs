//! From the config as written to the config as meant: the rules, every complaint at once.
//!
//! Pure: files and the environment come in as a [`World`]. Each rule complains at the key that should
//! change, names what it saw and what would do, and holds its tongue about keys that are broken
//! already.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::document::{self, Field, Reader, shorten};
use super::raw::{
    Kind, RawBroker, RawConfig, RawDecode, RawDevice, RawHttp, RawModels, RawOutbox, RawPipeline, RawPublish,
    RawRuntime, RawSource,
};
use super::world::{ThisMachine, World};
use super::{
    Board, Broker, Complaint, Complaints, Config, ConfigError, Decode, Device, Format, Outbox, Pipeline,
    Publish, Runtime, Source, SourceKind, Tls, address, topic,
};

/// Largest payload that is taken where the config says nothing: 16 MiB, an uncompressed 5-megapixel frame.
const MAX_PAYLOAD_BYTES: u64 = 16_777_216;

impl Config {
    /// Reads and checks a file, with this machine's environment, host name and password files.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes =
            std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let text = utf8(&bytes, path).map_err(ConfigError::Wrong)?;
        Self::parse(text, path, &ThisMachine).map_err(ConfigError::Wrong)
    }

    /// Checks the text of a config that lies at `file`; relative paths in it start at its folder.
    pub fn parse(text: &str, file: &Path, world: &dyn World) -> Result<Self, Complaints> {
        document::read::<RawConfig, _>(text, file, Some(world), |raw, reader| {
            Rules { folder: file.parent().unwrap_or(Path::new("")), file, world, reader }.config(raw)
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

impl Rules<'_, '_> {
    fn complain(&mut self, at: usize, message: impl Into<String>) {
        self.reader.complain(at, message);
    }

    fn config(&mut self, raw: RawConfig) -> Option<Config> {
        let device = match unwrap_table(raw.device) {
            Some((at, device)) => self.device(device, at),
            None => None,
        };
        let broker = unwrap_table(raw.broker).and_then(|(_, broker)| self.broker(broker, device.as_ref()));
        let outbox = unwrap_table(raw.outbox).and_then(|(_, outbox)| self.outbox(outbox));
        let models = unwrap_table(raw.models).and_then(|(_, models)| self.models(models));
        let http = match raw.http {
            Field::Absent => Some(None),
            http => unwrap_table(http).and_then(|(_, http)| self.http(http)).map(Some),
        };
        let runtime =
            unwrap_table(raw.runtime).and_then(|(_, runtime)| self.runtime(runtime, device.as_ref()));
        let pipelines = match raw.pipeline {
            Field::Given(list) => self.pipelines(list, device.as_ref()),
            _ => None,
        };
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

    fn device(&mut self, raw: RawDevice, at: usize) -> Option<Device> {
        let id = match raw.id {
            Field::Given(id) => match topic::level_fault(id.get_ref()) {
                None => Some(id.into_inner()),
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
        let board = raw.board.value().and_then(|name| match Board::named(name) {
            Ok(board) => Some(board),
            Err(why) => {
                self.complain(raw.board.at().unwrap_or(at), why);
                None
            }
        });
        Some(Device { id: id?, board: board? })
    }

    fn broker(&mut self, raw: RawBroker, device: Option<&Device>) -> Option<Broker> {
        let address = raw.url.given().and_then(|url| match address::parse(url.get_ref()) {
            Ok(address) => Some(address),
            Err(why) => {
                self.complain(url.span().start, format!("url: {why}"));
                None
            }
        });
        let login = self.login(&raw);
        let ca_file = self.path(&raw.ca_file, "ca_file");
        let cert_file = self.path(&raw.cert_file, "cert_file");
        let key_file = self.path(&raw.key_file, "key_file");
        for (one, other, has, wants) in [
            (&raw.cert_file, &raw.key_file, "cert_file", "key_file"),
            (&raw.key_file, &raw.cert_file, "key_file", "cert_file"),
        ] {
            if let (Some(at), false) = (one.at(), other.is_written()) {
                self.complain(at, format!("{has} stands without {wants}; a certificate is used together with its key: add {wants} or remove {has}"));
            }
        }
        let tls = match &address {
            Some(address) if !address.tls => {
                for (file, name) in
                    [(&raw.ca_file, "ca_file"), (&raw.cert_file, "cert_file"), (&raw.key_file, "key_file")]
                {
                    if let Some(at) = file.at() {
                        self.complain(at, format!("{name} is used with mqtts:// only, and url says mqtt://, which encrypts nothing; change url or remove {name}"));
                    }
                }
                None
            }
            _ => Some(Tls { ca_file, identity: cert_file.zip(key_file) }),
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
                    self.complain(id.span().start, format!("client_id is {:?}; it must have 1 to {LONGEST_BYTES} bytes and no control characters", shorten(id_text)));
                    None
                } else {
                    Some(id_text.clone())
                }
            }
        };
        // Only one version can be read so far; a later one is refused by its word.
        raw.protocol.value()?;
        let address = address?;
        Some(Broker {
            host: address.host,
            port: address.port,
            tls,
            login: login?,
            client_id: client_id?,
            keep_alive: secs(&raw.keep_alive_secs)?,
            connect_timeout: secs(&raw.connect_timeout_secs)?,
            max_inflight: u16::try_from(*raw.max_inflight.value()?).ok()?,
        })
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

    fn outbox(&mut self, raw: RawOutbox) -> Option<Outbox> {
        let path = match &raw.path {
            Field::Absent => Some(self.folder.join("outbox")),
            path => self.path(path, "path"),
        };
        Some(Outbox {
            path: path?,
            max_bytes: NonZeroU64::new(*raw.max_bytes.value()?)?,
            when_full: *raw.when_full.value()?,
        })
    }

    fn models(&mut self, raw: RawModels) -> Option<PathBuf> {
        match &raw.path {
            Field::Absent => Some(self.folder.join("models")),
            path => self.path(path, "path"),
        }
    }

    fn http(&mut self, raw: RawHttp) -> Option<SocketAddr> {
        let listen = raw.listen.given()?;
        let text = listen.get_ref();
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(8000);
        self.complain(
            listen.span().start,
            format!(
                "listen is {:?}; expected an address and a port: \"127.0.0.1:{port}\" for this machine only, \"0.0.0.0:{port}\" for every network",
                shorten(text)
            ),
        );
        None
    }

    fn runtime(&mut self, raw: RawRuntime, device: Option<&Device>) -> Option<Runtime> {
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

    fn pipelines(
        &mut self,
        list: Spanned<Vec<Spanned<RawPipeline>>>,
        device: Option<&Device>,
    ) -> Option<Vec<Pipeline>> {
        let at = list.span().start;
        let list = list.into_inner();
        if list.is_empty() {
            self.complain(
                at,
                "there is no pipeline; at least one [[pipeline]] gives the daemon something to do",
            );
            return None;
        }
        let mut names: Vec<String> = Vec::new();
        let mut pipelines = Vec::new();
        for raw in list {
            if let Some(name) = raw.get_ref().name.given() {
                if names.contains(name.get_ref()) {
                    let message = format!(
                        "name {:?} belongs to an earlier pipeline already; names are unique in the file",
                        shorten(name.get_ref())
                    );
                    self.complain(name.span().start, message);
                }
                names.push(name.get_ref().clone());
            }
            pipelines.push(self.pipeline(raw.into_inner(), device));
        }
        pipelines.into_iter().collect()
    }

    fn pipeline(&mut self, raw: RawPipeline, device: Option<&Device>) -> Option<Pipeline> {
        let name = raw.name.given().and_then(|name| match topic::level_fault(name.get_ref()) {
            None => Some(name.get_ref().clone()),
            Some(fault) => {
                let seen = shorten(name.get_ref());
                self.complain(name.span().start, format!("name is {seen:?}: {fault}"));
                None
            }
        });
        let model = raw.model.given().and_then(|model| {
            let text = model.get_ref();
            if text.is_empty() || text.contains(['/', '\\']) || text == "." || text == ".." || text.chars().any(char::is_control) {
                self.complain(model.span().start, format!("model is {:?}; it must be the name of one folder under the model path ([models] path)", shorten(text)));
                return None;
            }
            Some(text.clone())
        });
        let band = band(&raw.uncertain, &raw.threshold, self.reader);
        let source_topic = match &raw.source {
            Field::Given(source) => source.get_ref().topic.given().map(|topic| topic.get_ref().clone()),
            _ => None,
        };
        let source_at = match &raw.source {
            Field::Given(source) => source.get_ref().topic.at(),
            _ => None,
        };
        let source = unwrap_table(raw.source).and_then(|(at, source)| self.source(source, at));
        let decode = unwrap_table(raw.decode).and_then(|(_, decode)| self.decode(decode));
        let publish = unwrap_table(raw.publish).and_then(|(_, publish)| {
            self.publish(
                publish,
                source_topic.as_deref().zip(source_at),
                device.map(|device| device.id.as_str()),
                name.as_deref(),
            )
        });
        Some(Pipeline {
            name: name?,
            model: model?,
            threshold: match &raw.threshold {
                Field::Broken => return None,
                threshold => threshold.value().map(|threshold| *threshold as f32),
            },
            uncertain: band?,
            source: source?,
            decode: decode?,
            publish: publish?,
        })
    }

    fn source(&mut self, raw: RawSource, at: usize) -> Option<Source> {
        let topic = match &raw.topic {
            Field::Given(topic) => {
                let faults = topic::filter_faults(topic.get_ref());
                for fault in &faults {
                    let seen = shorten(topic.get_ref());
                    self.complain(topic.span().start, format!("topic {seen:?}: {fault}"));
                }
                faults.is_empty().then(|| topic.get_ref().clone())
            }
            Field::Absent if raw.kind.value() == Some(&Kind::Mqtt) => {
                self.complain(at, "`topic` is missing in source; name the topic on which frames come, such as \"camera/{camera}/frame\"");
                None
            }
            _ => None,
        };
        let queue_bytes = raw.queue_bytes.value().copied();
        let max_payload = match (&raw.max_payload_bytes, queue_bytes) {
            (Field::Given(max), Some(queue)) if *max.get_ref() > queue => {
                self.complain(
                    max.span().start,
                    format!(
                        "max_payload_bytes is {}, more than queue_bytes ({queue}): such a frame would fit nowhere; raise queue_bytes or lower this",
                        max.get_ref()
                    ),
                );
                None
            }
            (Field::Absent, queue) => queue.map(|queue| queue.min(MAX_PAYLOAD_BYTES)),
            (max, _) => max.value().copied(),
        };
        Some(Source {
            kind: match raw.kind.value()? {
                Kind::Mqtt => SourceKind::Mqtt { topic: topic?, qos: *raw.qos.value()? },
            },
            queue_frames: positive(&raw.queue_frames)?,
            queue_bytes: positive(&raw.queue_bytes)?,
            when_full: *raw.when_full.value()?,
            stale_after: match &raw.stale_after_ms {
                Field::Broken => return None,
                ms => ms.value().map(|ms| Duration::from_millis(*ms)),
            },
            max_payload_bytes: NonZeroUsize::new(usize::try_from(max_payload?).unwrap_or(usize::MAX))?,
            max_sources: positive(&raw.max_sources)?,
        })
    }

    fn decode(&mut self, raw: RawDecode) -> Option<Decode> {
        let format = raw.format.value().copied();
        let mut only_for = |at: Option<usize>, key: &str, formats: &[(Format, &str)]| {
            if let (Some(at), Some(format)) = (at, format)
                && !formats.iter().any(|(known, _)| *known == format)
            {
                let words: Vec<&str> = formats.iter().map(|(_, word)| *word).collect();
                let message = format!(
                    "{key} means something with format = {} only; remove it, or change format",
                    document::one_of(&words)
                );
                self.reader.complain(at, message);
            }
        };
        const JSON: (Format, &str) = (Format::Json, "json");
        const CSV: (Format, &str) = (Format::Csv, "csv");
        only_for(raw.id_field.at(), "id_field", &[JSON]);
        only_for(raw.time_field.at(), "time_field", &[JSON]);
        only_for(raw.unknown_fields.at(), "unknown_fields", &[JSON, CSV]);
        only_for(raw.separator.at(), "separator", &[CSV]);
        only_for(raw.max_pixels.at(), "max_pixels", &[(Format::Image, "image")]);
        for (field, key) in [(&raw.id_field, "id_field"), (&raw.time_field, "time_field")] {
            if let Field::Given(text) = field
                && text.get_ref().is_empty()
            {
                self.complain(text.span().start, format!("{key} is empty; name a JSON field, or remove it"));
            }
        }
        let separator = match &raw.separator {
            Field::Given(text) => {
                let mut chars = text.get_ref().chars();
                match (chars.next(), chars.next()) {
                    // What may be part of a number or of quoting cannot stand between numbers.
                    (Some(one), None) if !one.is_alphanumeric() && !"+-.\"\r\n".contains(one) => {
                        Some(Some(one))
                    }
                    _ => {
                        self.complain(text.span().start, format!("separator is {:?}; expected one character that no number holds, such as \",\", \";\" or \"\\t\"", shorten(text.get_ref())));
                        None
                    }
                }
            }
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(None),
        };
        Some(Decode {
            format: format?,
            id_field: raw.id_field.value().cloned(),
            time_field: raw.time_field.value().cloned(),
            unknown_fields: *raw.unknown_fields.value()?,
            separator: separator?,
            max_pixels: *raw.max_pixels.value()?,
        })
    }

    fn publish(
        &mut self,
        raw: RawPublish,
        source: Option<(&str, usize)>,
        device: Option<&str>,
        pipeline: Option<&str>,
    ) -> Option<Publish> {
        let topic = raw.topic.value().cloned();
        let error_topic = match &raw.error_topic {
            Field::Absent => topic.as_ref().map(|topic| match topic.rsplit_once('/') {
                Some((head, _)) => format!("{head}/error"),
                None => "error".to_owned(),
            }),
            written => written.value().cloned(),
        };
        let names: Vec<&str> = source.map(|(topic, _)| topic::names(topic).collect()).unwrap_or_default();
        let mut good = true;
        for (field, key, text) in [
            (&raw.topic, "topic", topic.as_deref()),
            (&raw.error_topic, "error_topic", error_topic.as_deref()),
        ] {
            let Some(text) = text else { continue };
            let mut faults = Vec::new();
            if field.at().is_some() {
                faults = topic::publish_faults(text, &names);
                if source.is_none() {
                    // Without the source's topic its names are not known, and it has its own complaint.
                    faults.retain(|fault| !fault.contains("no level of the source"));
                }
            }
            if let (Some((source, source_at)), Some(device), Some(pipeline), true) =
                (source, device, pipeline, faults.is_empty())
            {
                let ours = text.replace("{device}", device).replace("{pipeline}", pipeline);
                if topic::meet(&ours, source) {
                    // One complaint is enough where `error_topic` only follows `topic`.
                    let at = field.at().unwrap_or(source_at);
                    let message = format!(
                        "{key} {:?} matches the pipeline's own source topic {:?}: what it publishes would come back as frames; keep them apart",
                        shorten(text),
                        shorten(source)
                    );
                    self.complain(at, message);
                    good = false;
                }
            }
            for fault in faults {
                self.complain(field.at().unwrap_or(0), format!("{key} {:?}: {fault}", shorten(text)));
                good = false;
            }
        }
        if !good {
            return None;
        }
        Some(Publish {
            topic: topic?,
            error_topic: error_topic?,
            qos: *raw.qos.value()?,
            retain: *raw.retain.value()?,
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

/// A table that was written or stands by default, with its place.
fn unwrap_table<T>(field: Field<T>) -> Option<(usize, T)> {
    match field {
        Field::Given(table) => Some((table.span().start, table.into_inner())),
        Field::Default(table) => Some((0, table)),
        Field::Absent | Field::Broken => None,
    }
}

fn secs(field: &Field<u64>) -> Option<Duration> {
    field.value().map(|secs| Duration::from_secs(*secs))
}

fn positive(field: &Field<u64>) -> Option<NonZeroUsize> {
    // A 32-bit board cannot hold more anyway.
    NonZeroUsize::new(usize::try_from(*field.value()?).unwrap_or(usize::MAX))
}

/// `uncertain = [low, high]` beside a threshold. `Some(None)`: not given; `None`: a complaint was made.
pub(crate) fn band(
    uncertain: &Field<Vec<Spanned<f64>>>,
    threshold: &Field<f64>,
    reader: &mut Reader<'_>,
) -> Option<Option<(f32, f32)>> {
    let list = match uncertain {
        Field::Given(list) => list,
        Field::Broken => return None,
        Field::Absent | Field::Default(_) => return Some(None),
    };
    let [low, high] = list.get_ref().as_slice() else {
        let count = list.get_ref().len();
        reader
            .complain(list.span().start, format!("uncertain has {count} numbers; expected two: [low, high]"));
        return None;
    };
    let (low, high) = (*low.get_ref(), *high.get_ref());
    if low > high {
        reader
            .complain(list.span().start, format!("uncertain is [{low}, {high}]; the lower end comes first"));
        return None;
    }
    if let Some(threshold) = threshold.given()
        && !(low..=high).contains(threshold.get_ref())
    {
        reader.complain(
            threshold.span().start,
            format!(
                "threshold is {}, outside uncertain [{low}, {high}]; the band lies around the threshold",
                threshold.get_ref()
            ),
        );
        return None;
    }
    Some(Some((low as f32, high as f32)))
}
