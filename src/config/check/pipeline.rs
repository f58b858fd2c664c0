//! The rules of `[[pipeline]]`: one source, one model, one publication.

use toml::Spanned;

use super::Rules;
use super::write_back::{Places, join_ports};
use crate::config::document::{self, Field, Reader, shorten};
use crate::config::raw::{Kind, RawDecode, RawPipeline, RawPublish};
use crate::config::serial::{FramingKind, Wire};
use crate::config::{Decode, Device, Format, Pipeline, Publish, Source, SourceKind, topic};

/// Pipelines whose publications come back to them through others, and those that take what the device
/// says of itself: index and complaint. One that feeds itself directly has its complaint already, and so
/// has one that could not be made out.
fn circles(pipelines: &[Option<Pipeline>], device: &str) -> Vec<(usize, String)> {
    let pipelines: Vec<(usize, &Pipeline)> = pipelines
        .iter()
        .enumerate()
        .filter_map(|(index, pipeline)| Some((index, pipeline.as_ref()?)))
        .collect();
    // A port hears nothing of what is published.
    let source = |pipeline: &Pipeline| match &pipeline.source.kind {
        SourceKind::Mqtt { topic, .. } => Some(topic.clone()),
        SourceKind::Serial(_) => None,
    };
    let feeds = |from: &Pipeline, to: &Pipeline| {
        [&from.publish.topic, &from.publish.error_topic].into_iter().any(|topic| {
            let ours = topic.replace("{device}", device).replace("{pipeline}", &from.name);
            source(to).is_some_and(|source| topic::meet(&ours, &source))
        })
    };
    let mut found = Vec::new();
    for (nth, &(index, pipeline)) in pipelines.iter().enumerate() {
        for own in about_itself(device) {
            if let Some(topic) = source(pipeline)
                && topic::meet(&own, &topic)
            {
                let message =
                    format!("topic {topic:?} takes {own}, which this device publishes about itself");
                found.push((index, message));
            }
        }
        // Whoever is reached from this one, through any number of others.
        let mut reached = vec![nth];
        let mut next = 0;
        while let Some(&from) = reached.get(next) {
            next += 1;
            for to in 0..pipelines.len() {
                if !reached.contains(&to) && feeds(pipelines[from].1, pipelines[to].1) {
                    reached.push(to);
                }
            }
        }
        let back = reached.iter().skip(1).find(|&&other| feeds(pipelines[other].1, pipeline));
        // Told once, at the first of the circle.
        if let Some(&other) = back
            && reached.iter().all(|&other| other >= nth)
        {
            let message = format!(
                "what this pipeline publishes comes back to it through {:?}: predictions or error messages \
                 would go round for ever; keep their topics apart",
                pipelines[other].1.name
            );
            found.push((index, message));
        }
    }
    found
}

/// Topics on which a device speaks of itself.
fn about_itself(device: &str) -> [String; 2] {
    ["availability", "stats"].map(|word| format!("lineside/{device}/{word}"))
}

impl Rules<'_, '_> {
    pub(super) fn pipelines(
        &mut self,
        list: &Spanned<Vec<Spanned<RawPipeline>>>,
        device: Option<&Device>,
    ) -> Option<Vec<Pipeline>> {
        let at = list.span().start;
        let list = list.get_ref();
        if list.is_empty() {
            self.complain(
                at,
                "there is no pipeline; at least one [[pipeline]] gives the daemon something to do",
            );
            return None;
        }
        let mut names: Vec<String> = Vec::new();
        let mut pipelines = Vec::new();
        let mut ways_back = Vec::new();
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
            pipelines.push(self.pipeline(raw.get_ref(), device));
            ways_back.push(match raw.get_ref().write_back.table() {
                Some((at, write_back)) => Places::of(write_back, at),
                None => Places::default(),
            });
        }
        self.a_port_is_read_one_way(list);
        for (at, message) in join_ports(&mut pipelines, &ways_back) {
            self.complain(at, message);
        }
        for (index, message) in device.map_or(Vec::new(), |device| circles(&pipelines, &device.id)) {
            self.complain(list[index].get_ref().source.at().unwrap_or(at), message);
        }
        pipelines.into_iter().collect()
    }

    pub(super) fn pipeline(&mut self, raw: &RawPipeline, device: Option<&Device>) -> Option<Pipeline> {
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
            if !is_folder_name(text) {
                self.complain(
                    model.span().start,
                    format!(
                        "model is {:?}; it must be the name of one folder under the model path \
                     ([models] path)",
                        shorten(text)
                    ),
                );
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
        let source = raw.source.table().and_then(|(at, source)| self.source(source, at));
        let decode = raw.decode.table().and_then(|(_, decode)| self.decode(decode));
        if let (Some(source), Some(decode)) = (&source, &decode) {
            self.a_wire_can_be_decoded(source, decode, raw);
        }
        let write_back = match &raw.write_back {
            Field::Absent => Some(None),
            written => written.table().and_then(|(at, write_back)| {
                self.write_back(write_back, at, raw.source.table().map(|(_, source)| source)).map(Some)
            }),
        };
        let publish = raw.publish.table().and_then(|(_, publish)| {
            self.publish(
                publish,
                source_topic.as_deref().zip(source_at),
                serial_names(raw),
                device.map(|device| device.id.as_str()),
                name.as_deref(),
            )
        });
        if let (Field::Given(source), Field::Given(decode)) = (&raw.source, &raw.decode)
            && let (Some(at), true) = (source.get_ref().id_level.at(), decode.get_ref().id_field.is_written())
        {
            self.complain(
                at,
                "id_level and id_field are both given; a frame has one id of its own: keep one",
            );
        }
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
            write_back: write_back?,
        })
    }

    /// What comes over a wire has a form that can be decoded so.
    fn a_wire_can_be_decoded(&mut self, source: &Source, decode: &Decode, raw: &RawPipeline) {
        let SourceKind::Serial(serial) = &source.kind else { return };
        let format_at = raw.decode.table().and_then(|(_, decode)| decode.format.at()).unwrap_or(0);
        let is_text = matches!(decode.format, Format::Json | Format::Csv);
        let headless = match &serial.wire {
            Wire::Modbus(_) => Some("a round has no header that names it"),
            Wire::Frames(framing) if framing.kind == FramingKind::Line => {
                Some("with framing = \"line\" each line is a frame of its own, so no header stands above it")
            }
            Wire::Frames(_) => None,
        };
        if let (Some(why), Some((_, written)), Format::Csv) = (headless, raw.decode.table(), decode.format) {
            for (key, at) in [("id_field", written.id_field.at()), ("time_field", written.time_field.at())] {
                if let Some(at) = at {
                    self.complain(at, format!("{key} is a column by its header, and {why}; use format = \"json\", or remove {key}"));
                }
            }
        }
        let framing = match &serial.wire {
            Wire::Modbus(_) if !is_text && decode.format != Format::F32le => {
                return self.complain(
                    format_at,
                    "format cannot be this with framing = \"modbus_rtu\"; \"json\" names the values as their registers \
                     are named, \"csv\" and \"f32le\" carry them in the order of the registers",
                );
            }
            // What means nothing there has its complaint already.
            Wire::Modbus(_) => return,
            Wire::Frames(framing) => framing,
        };
        if framing.kind == FramingKind::Line && !is_text {
            self.complain(
                format_at,
                "format cannot be this with framing = \"line\", where a byte of a number would end a line; use \
                 \"csv\" or \"json\", or another framing",
            );
        }
        let data_bits = raw.source.table().and_then(|(_, source)| source.data_bits.at());
        if let (Some(at), 5..8, false) = (data_bits, serial.line.data_bits, is_text) {
            let message = format!(
                "data_bits is {}, and the bytes of this format have 8; remove it, or use format = \"csv\" or \"json\"",
                serial.line.data_bits
            );
            self.complain(at, message);
        }
        let sensors = raw.source.table().and_then(|(_, source)| source.sensors.at());
        if let (Some(at), true) = (sensors, decode.format != Format::Packet) {
            self.complain(
                at,
                "sensors means something with format = \"packet\" only, which says whose packet it is; remove it, or \
                 change format",
            );
        }
    }

    fn decode(&mut self, raw: &RawDecode) -> Option<Decode> {
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
        only_for(raw.id_field.at(), "id_field", &[JSON, CSV]);
        only_for(raw.time_field.at(), "time_field", &[JSON, CSV]);
        only_for(raw.unknown_fields.at(), "unknown_fields", &[JSON, CSV]);
        only_for(raw.separator.at(), "separator", &[CSV]);
        only_for(raw.max_pixels.at(), "max_pixels", &[(Format::Image, "image")]);
        for (field, key) in [(&raw.id_field, "id_field"), (&raw.time_field, "time_field")] {
            if let Field::Given(text) = field
                && text.get_ref().is_empty()
            {
                self.complain(text.span().start, format!("{key} is empty; name a field, or remove it"));
            }
        }
        if let (Field::Given(id), Field::Given(time)) = (&raw.id_field, &raw.time_field)
            && id.get_ref() == time.get_ref()
        {
            let message = format!(
                "time_field is {:?}, and so is id_field; a field is either an id or a time",
                shorten(time.get_ref())
            );
            self.complain(time.span().start, message);
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
                        self.complain(
                            text.span().start,
                            format!(
                                "separator is {:?}; expected one character that no number holds, such \
                             as \",\", \";\" or \"\\t\"",
                                shorten(text.get_ref())
                            ),
                        );
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
        raw: &RawPublish,
        source: Option<(&str, usize)>,
        serial_names: Option<&'static [&'static str]>,
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
        let names: Vec<&str> = match serial_names {
            Some(names) => names.to_vec(),
            None => source.map(|(topic, _)| topic::names(topic).collect()).unwrap_or_default(),
        };
        let mut good = true;
        for (field, key, text) in [
            (&raw.topic, "topic", topic.as_deref()),
            (&raw.error_topic, "error_topic", error_topic.as_deref()),
        ] {
            let Some(text) = text else { continue };
            let mut faults = Vec::new();
            if field.at().is_some() {
                faults = topic::publish_faults(text, &names);
                if source.is_none() && serial_names.is_none() {
                    // Without the source's topic its names are not known, and it has its own complaint.
                    faults.retain(|fault| !fault.contains("no level of the source"));
                }
            }
            let ours = device
                .zip(pipeline)
                .filter(|_| faults.is_empty())
                .map(|(device, pipeline)| text.replace("{device}", device).replace("{pipeline}", pipeline));
            if let (Some(ours), Some(device)) = (&ours, device)
                && about_itself(device).contains(ours)
            {
                faults.push(format!("on {ours} this device speaks of itself; choose another topic"));
            }
            if let (Some((source, source_at)), Some(ours)) = (source, &ours)
                && topic::meet(ours, source)
            {
                // One complaint is enough where `error_topic` only follows `topic`.
                let at = field.at().unwrap_or(source_at);
                let message = format!(
                    "{key} {:?} matches the pipeline's own source topic {:?}: what it \
                         publishes would come back as frames; keep them apart",
                    shorten(text),
                    shorten(source)
                );
                self.complain(at, message);
                good = false;
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
}

/// Names that a serial source gives to publish topics; `None`: it is not serial.
fn serial_names(raw: &RawPipeline) -> Option<&'static [&'static str]> {
    let (_, source) = raw.source.table()?;
    let is_packet =
        raw.decode.table().is_some_and(|(_, decode)| decode.format.value() == Some(&Format::Packet));
    match source.kind.value()? {
        Kind::Serial if is_packet => Some(&["port", "sensor"]),
        Kind::Serial => Some(&["port"]),
        Kind::Mqtt => None,
    }
}

/// Whether `text` can name one folder, and none above it.
pub(crate) fn is_folder_name(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && !text.contains(|c: char| c == '/' || c == '\\' || c.is_control())
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, Qos, UnknownFields, WhenFull};

    /// A pipeline with these lines in it, in its source, its decoding and its publication.
    fn pipeline(own: &str, source: &str, decode: &str, publish: &str) -> Result<Pipeline, String> {
        let text = format!(
            "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"p\"\n\
                model = \"m\"\n{own}\n[pipeline.source]\nkind = \"mqtt\"\n{source}\n\
                [pipeline.decode]\n{decode}\n[pipeline.publish]\n{publish}\n"
        );
        Config::parse(&text, Path::new("l.toml"), &|_: &str| None)
            .map(|mut config| config.pipelines.remove(0))
            .map_err(|complaints| complaints.to_string())
    }

    /// What is wrong with pipelines of these source and publish topics.
    fn together(topics: &[(&str, &str)]) -> String {
        let mut text = "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n".to_owned();
        for (name, (source, publish)) in ["a", "b", "c"].iter().zip(topics) {
            text += &format!(
                "[[pipeline]]\nname = \"{name}\"\nmodel = \"m\"\nsource = {{ kind = \"mqtt\", topic = \"{source}\" }}\n\
                 decode = {{ format = \"json\" }}\npublish = {{ topic = \"{publish}\" }}\n"
            );
        }
        match Config::parse(&text, Path::new("l.toml"), &|_: &str| None) {
            Ok(_) => String::new(),
            Err(complaints) => complaints.to_string(),
        }
    }

    #[test]
    fn publications_that_come_back_through_other_pipelines_are_refused_and_chains_are_not() {
        assert_eq!(together(&[("p/+", "q/x"), ("q/x", "r/x"), ("r/x", "s/x")]), "");
        let two = together(&[("p/+", "q/r"), ("q/+", "p/r")]);
        assert!(two.contains("comes back to it through \"b\"") && two.lines().count() == 1, "{two}");
        let three = together(&[("p/+", "q/x"), ("q/+", "r/x"), ("r/+", "p/x")]);
        assert!(three.contains("through \"c\"") && three.lines().count() == 1, "{three}");
        // Error messages go round as well as predictions do.
        let errors = together(&[("p/+", "q/r"), ("q/r", "x/y"), ("x/error", "p/z")]);
        assert!(errors.contains("comes back"), "{errors}");
        let own = together(&[("lineside/+/stats", "q/r")]);
        assert!(own.contains("lineside/d/stats"), "{own}");
    }

    const TOPIC: &str = "topic = \"cam/{camera}/frame\"";
    const IMAGE: &str = "format = \"image\"";

    #[test]
    fn defaults_are_those_of_the_design() {
        let made = pipeline("", TOPIC, IMAGE, "").unwrap();
        assert_eq!(made.publish.topic, "lineside/{device}/{pipeline}/result");
        assert_eq!(made.publish.error_topic, "lineside/{device}/{pipeline}/error");
        assert_eq!((made.publish.qos, made.publish.retain), (Qos::AtLeastOnce, false));
        assert_eq!(made.source.queue_frames.get(), 8);
        assert_eq!(made.source.queue_bytes.get(), 64 << 20);
        assert_eq!(made.source.max_payload_bytes.get(), 16 << 20);
        assert_eq!(made.source.when_full, WhenFull::DropOldest);
        assert_eq!(made.source.stale_after, None);
        assert_eq!(made.decode.max_pixels, 64_000_000);
        assert_eq!(made.decode.unknown_fields, UnknownFields::Refuse);
        assert_eq!((made.threshold, made.uncertain), (None, None));
        assert!(matches!(made.source.kind, SourceKind::Mqtt { qos: Qos::AtLeastOnce, .. }));
    }

    #[test]
    fn written_values_arrive() {
        let made = pipeline(
            "threshold = 1\nuncertain = [0, 2.5]",
            "topic = \"a/+/#\"\nqos = 0\nstale_after_ms = 20\nqueue_bytes = 1_000\nwhen_full = \"block\"",
            "format = \"csv\"\nseparator = \"\\t\"\nunknown_fields = \"ignore\"",
            "topic = \"out\"\nretain = true",
        )
        .unwrap();
        assert_eq!((made.threshold, made.uncertain), (Some(1.0), Some((0.0, 2.5))));
        assert_eq!(made.source.stale_after, Some(Duration::from_millis(20)));
        assert_eq!(made.source.max_payload_bytes.get(), 1_000);
        assert_eq!(made.decode.separator, Some('\t'));
        assert_eq!((made.publish.topic.as_str(), made.publish.error_topic.as_str()), ("out", "error"));
    }

    #[test]
    fn rules_that_join_keys_complain_at_the_key_to_change() {
        for (own, source, decode, publish, place, why) in [
            ("uncertain = [0.6, 0.4]", TOPIC, IMAGE, "", "8:13", "lower end"),
            ("uncertain = [0.6]", TOPIC, IMAGE, "", "8:13", "expected two"),
            ("", "topic = \"a\"\nqos = 3", IMAGE, "", "12:7", "qos is 3; it must be 0 or 1"),
            ("", "topic = \"a\"\nqos = \"1\"", IMAGE, "", "12:7", "expected 0 or 1"),
            ("", "", IMAGE, "", "9:1", "`topic` is missing in source"),
            (
                "",
                "topic = \"a\"\nqueue_bytes = 5\nmax_payload_bytes = 6",
                IMAGE,
                "",
                "13:21",
                "more than queue_bytes (5)",
            ),
            (
                "",
                TOPIC,
                "format = \"image\"\nid_field = \"id\"",
                "",
                "14:12",
                "format = \"json\" or \"csv\" only",
            ),
            ("", TOPIC, "format = \"json\"\nmax_pixels = 5", "", "14:14", "format = \"image\" only"),
            ("", TOPIC, "format = \"json\"\ntime_field = \"\"", "", "14:14", "time_field is empty"),
            ("", TOPIC, "format = \"csv\"\nid_field = \"i\"\ntime_field = \"i\"", "", "15:14", "either"),
            ("", TOPIC, "format = \"csv\"\nseparator = \"1\"", "", "14:13", "no number holds"),
            (
                "",
                TOPIC,
                IMAGE,
                "topic = \"x/{robot}\"",
                "15:9",
                "`{robot}` is no level of the source's topic; known here: `{device}`, \
                    `{pipeline}`, `{camera}`",
            ),
            ("", TOPIC, IMAGE, "error_topic = \"x/+\"", "15:15", "wildcards"),
            ("", TOPIC, IMAGE, "topic = \"cam/{device}/frame\"", "15:9", "come back as frames"),
            ("", TOPIC, IMAGE, "topic = \"lineside/{device}/stats\"", "15:9", "speaks of itself"),
            ("", TOPIC, IMAGE, "error_topic = \"lineside/d/availability\"", "15:15", "speaks of itself"),
            (
                "",
                "topic = \"lineside/#\"",
                IMAGE,
                "topic = \"x/result\"\nerror_topic = \"lineside/e\"",
                "16:15",
                "come back as frames",
            ),
        ] {
            let found = pipeline(own, source, decode, publish).unwrap_err();
            assert!(
                found.starts_with(&format!("l.toml:{place}: ")) && found.contains(why),
                "{place} {why}\n{found}"
            );
            assert_eq!(found.lines().count(), 1, "{found}");
        }
    }

    #[test]
    fn a_source_that_hears_everything_would_hear_its_own_answers() {
        let found = pipeline("", "topic = \"#\"", IMAGE, "").unwrap_err();
        assert_eq!(found.lines().count(), 2, "{found}");
        assert!(pipeline("", "topic = \"lineside/d/+/frame\"", IMAGE, "").is_ok());
        assert!(pipeline("", "topic = \"lineside/d/other/result\"", IMAGE, "").is_ok());
    }

    #[test]
    fn a_broken_source_topic_is_not_blamed_on_the_publish_topic() {
        let found = pipeline("", "topic = 5", IMAGE, "topic = \"x/{camera}\"").unwrap_err();
        assert_eq!(found.lines().count(), 1, "{found}");
        assert!(found.contains("topic is the whole number 5"), "{found}");
    }
}
