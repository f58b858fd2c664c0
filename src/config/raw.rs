//! The config as written: each key with its type, range, default and meaning, once.
//!
//! The reader, the complaints, `lineside config schema` and the test that keeps
//! `docs/configuration.md` and the example complete are all made of these tables. Numbers carry their
//! unit in their names. Rules that join keys are in `check`.

mod modbus;
mod write_back;

use toml::Spanned;
use toml::de::DeValue;

use super::document::{Flag, List, Number, Reader, Text, Whole, Written, keys, words};
use super::serial::{CrcFrom, FlowControl, LengthCounts, Parity};
use super::{Format, LogFormat, OutboxWhenFull, Protocol, Qos, UnknownFields, WhenFull};
use crate::base::wire::ByteOrder;
pub(crate) use modbus::{RawModbus, RawModbusRegister};
pub(crate) use write_back::{RawWriteBack, RawWriteValues, WriteAs};

keys! {
    /// A whole file.
    RawConfig {
        /// Who we are.
        device: RawDevice = RawDevice::default(),
        /// Whom we talk to.
        broker: RawBroker [required],
        /// Predictions on their way out, kept until the broker has acknowledged them.
        outbox: RawOutbox = RawOutbox::default(),
        /// Where models are found.
        models: RawModels = RawModels::default(),
        /// Metrics, health and readiness over HTTP. Absent: no HTTP at all.
        http: RawHttp,
        /// Threads, periods and the form of the log.
        runtime: RawRuntime = RawRuntime::default(),
        /// One source, one model, one publication; at least one of them.
        pipeline: List<RawPipeline> [required],
    }
}

keys! {
    /// `[device]`
    RawDevice {
        /// Name of this device: a level of its topics, and part of its MQTT client id. Default: the
        /// host's name.
        id: Text,
        /// What it runs on: a file of `boards/`, without `.toml`.
        board: Text = "generic".into(),
        /// Arm the board's hardware watchdog: the board restarts when a worker or a connection hangs, or
        /// when the daemon ends without being asked to.
        hardware_watchdog: Flag = false,
    }
}

keys! {
    /// `[broker]`
    RawBroker {
        /// `mqtt://HOST[:1883]`, or `mqtts://HOST[:8883]` for TLS.
        url: Text [required],
        /// User name at the broker.
        username: Text,
        /// Password at the broker; better as `${NAME}` or in `password_file`.
        password: Text,
        /// File that holds nothing but the password; a line end after it does not count.
        password_file: Text,
        /// PEM file of certificate authorities for `mqtts://`. Default: the system's.
        ca_file: Text,
        /// PEM file of our certificate, for brokers that want to know us. Needs `key_file`.
        cert_file: Text,
        /// PEM file of our private key. Needs `cert_file`.
        key_file: Text,
        /// Name that the broker's certificate must carry, where it is another than the host in `url`.
        server_name: Text,
        /// Protocols offered in the TLS handshake (ALPN), such as `["mqtt"]`: for brokers behind a
        /// port that serves several.
        alpn: List<Text>,
        /// MQTT client id of the intake connection; the publishing one adds `-out`. Two devices
        /// with one id throw each other out. Default: `lineside-` and the device's id.
        client_id: Text,
        /// Longest silence on the line, in seconds, before the broker is asked whether it is there.
        keep_alive_secs: Whole<5, 65_535> = 15,
        /// Give up on one attempt to connect after so many seconds.
        connect_timeout_secs: Whole<1, 600> = 10,
        /// Publications that may wait for their acknowledgement at once.
        max_inflight: Whole<1, 65_535> = 100,
        /// Version of MQTT. Version 5 adds expiry, replies, user properties, and reasons in words.
        protocol: ProtocolWord = Protocol::V3_1_1,
    }
}

words! {
    ProtocolWord: Protocol {
        "3.1.1" => Protocol::V3_1_1,
        "5" => Protocol::V5,
    }
}

keys! {
    /// `[outbox]`
    RawOutbox {
        /// Folder of the durable queue; a relative path starts at the config file. Default:
        /// `outbox` beside the config file.
        path: Text,
        /// Bytes of predictions that may wait for the broker.
        max_bytes: Whole<1_024, 1_099_511_627_776> = 67_108_864,
        /// What happens when `max_bytes` are reached: the oldest prediction goes (and is counted),
        /// or the workers wait.
        when_full: OutboxWhenFullWord = OutboxWhenFull::DropOldest,
        /// Of these, bytes that may wait in memory. Default: a quarter of `max_bytes`, at most 8388608.
        memory_bytes: Whole<256, 1_099_511_627_776>,
        /// A prediction that has waited for so many milliseconds, because the link is down or stalled, is
        /// written to disk; over a link that is up and slow, workers wait instead.
        spill_after_ms: Whole<10, 3_600_000> = 1_000,
        /// Predictions a second that come back from disk beside the live ones.
        backlog_per_sec: Whole<1, 1_000_000> = 1_000,
    }
}

words! {
    OutboxWhenFullWord: OutboxWhenFull {
        "drop_oldest" => OutboxWhenFull::DropOldest,
        "block" => OutboxWhenFull::Block,
    }
}

keys! {
    /// `[models]`
    RawModels {
        /// Folder of model folders; a relative path starts at the config file. Default: `models`
        /// beside the config file.
        path: Text,
    }
}

keys! {
    /// `[http]`
    RawHttp {
        /// Address and port, `127.0.0.1:8000`; `0.0.0.0:8000` for every network.
        listen: Text [required],
    }
}

keys! {
    /// `[runtime]`
    RawRuntime {
        /// Inference threads. Default: the board's, else one a core.
        workers: Whole<1, 256>,
        /// Seconds that a stop waits for frames under way.
        shutdown_secs: Whole<1, 3_600> = 10,
        /// Seconds between two `stats` messages.
        stats_secs: Whole<1, 86_400> = 5,
        /// Log lines for people, or one JSON object a line.
        log_format: LogFormatWord = LogFormat::Text,
    }
}

words! {
    LogFormatWord: LogFormat {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
    }
}

keys! {
    /// `[[pipeline]]`
    RawPipeline {
        /// Name of the pipeline: a level of its topics, unique in the file.
        name: Text [required],
        /// Folder under the model path.
        model: Text [required],
        /// Replaces the threshold of the model's card.
        threshold: Number,
        /// `[low, high]`: replaces the card's band of scores for which the verdict is `uncertain`.
        uncertain: List<Number>,
        /// Where frames come from.
        source: RawSource [required],
        /// What their bytes mean.
        decode: RawDecode [required],
        /// Where predictions go.
        publish: RawPublish = RawPublish::default(),
        /// Which port hears the verdict as well, so that a PLC or a lamp acts on it without MQTT.
        write_back: RawWriteBack,
    }
}

keys! {
    /// `[pipeline.source]`
    RawSource {
        /// Kind of source.
        kind: SourceKindWord [required],
        /// Topic filter; a named level such as `{camera}` subscribes as `+`, and its value travels
        /// along to the prediction.
        topic: Text,
        /// MQTT quality of service: 1 keeps a frame at the broker until its prediction is settled.
        qos: QosNumber = Qos::AtLeastOnce,
        /// User property of MQTT 5 whose value is the frame's own id, for payloads that cannot carry
        /// one; it travels along as `frame_id`. Needs `protocol = "5"`.
        id_property: Text,
        /// Frames that may wait for a worker.
        queue_frames: Whole<1, 1_000_000> = 8,
        /// Bytes of frames that may wait for a worker.
        queue_bytes: Whole<1, 1_099_511_627_776> = 67_108_864,
        /// What happens when the queue is full. Default with durable = true: block.
        when_full: WhenFullWord = WhenFull::DropOldest,
        /// A frame that has waited for so many milliseconds is dropped before inference. Default:
        /// never.
        stale_after_ms: Whole<1, 86_400_000>,
        /// A larger payload is skipped without being held. Default: 16777216, or `queue_bytes`
        /// where that is less.
        max_payload_bytes: Whole<1, 268_435_455>,
        /// Origins (concrete topics, sensors on a port) whose windows or recurrent states are kept;
        /// beyond it the one that was silent longest is forgotten.
        max_sources: Whole<1, 1_000_000> = 256,
        /// Name of a level of `topic` whose value is the frame's own id, unique for each frame: it travels
        /// along as `frame_id` and makes the prediction's id.
        id_level: Text,
        /// Path of the serial port, or a pattern with `*` that one port matches:
        /// `/dev/serial/by-id/usb-FTDI_*`.
        port: Text,
        /// Bits a second, also odd ones.
        baud: Whole<50, 4_000_000> = 115_200,
        /// Bits of a character.
        data_bits: Whole<5, 8> = 8,
        /// Parity bit.
        parity: ParityWord = Parity::None,
        /// Stop bits.
        stop_bits: Whole<1, 2> = 1,
        /// Who may hold the sender back: nobody, the RTS and CTS lines, or XON and XOFF bytes.
        flow: FlowWord = FlowControl::None,
        /// Whether the driver switches an RS-485 transceiver.
        rs485: Flag = false,
        /// How frames stand in the stream.
        framing: FramingWord,
        /// Checksum of each frame: a name of the CRC catalogue, or `none`.
        crc: Text = "none".into(),
        /// Which byte of the checksum comes first. Default: the algorithm's own order.
        crc_order: ByteOrderWord,
        /// With framing = "length" or "fixed": where the bytes begin that the checksum covers.
        crc_from: CrcFromWord = CrcFrom::Body,
        /// With framing = "length" or "fixed": the bytes in front of each frame, in hexadecimal.
        sync: Text,
        /// With framing = "length": bytes of the length field.
        length_bytes: Whole<1, 4> = 2,
        /// With framing = "length": which byte of the length comes first.
        length_order: ByteOrderWord = ByteOrder::Little,
        /// With framing = "length": what the length counts.
        length_counts: LengthCountsWord = LengthCounts::Body,
        /// With framing = "fixed": bytes of every body, sequence number included.
        frame_bytes: Whole<1, 65_536>,
        /// Bytes of the sequence number in front of each body, 0 for none; in lines any number but 0
        /// stands for decimal digits and a colon.
        sequence_bytes: Whole<0, 2> = 0,
        /// Longest body; a longer frame is passed over.
        max_frame_bytes: Whole<1, 1_048_576> = 4_096,
        /// With framing = "length" or "fixed": silence, in milliseconds, after which the rest of an
        /// unfinished frame is no longer waited for.
        idle_reset_ms: Whole<1, 60_000> = 200,
        /// With format = "packet": take the packets of these sensors only. Default: of all.
        sensors: List<Whole<0, 255>>,
        /// Whether every prediction of what was read is settled before the port is read again.
        durable: Flag = false,
        /// With framing = "modbus_rtu": what is read, and who asks.
        modbus: RawModbus,
    }
}

/// Kinds of sources that are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mqtt,
    Serial,
}

words! {
    SourceKindWord: Kind {
        "mqtt" => Kind::Mqtt,
        "serial" => Kind::Serial,
        refused {
            "directory" => "directory sources are not built yet in this version; use kind = \"mqtt\"",
        }
    }
}

words! {
    ParityWord: Parity {
        "none" => Parity::None,
        "even" => Parity::Even,
        "odd" => Parity::Odd,
    }
}

words! {
    FlowWord: FlowControl {
        "none" => FlowControl::None,
        "hardware" => FlowControl::Hardware,
        "software" => FlowControl::Software,
    }
}

/// Framings as written; their other keys stand beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramingKind {
    Cobs,
    Slip,
    Line,
    Length,
    Fixed,
    ModbusRtu,
}

words! {
    FramingWord: FramingKind {
        "cobs" => FramingKind::Cobs,
        "slip" => FramingKind::Slip,
        "line" => FramingKind::Line,
        "length" => FramingKind::Length,
        "fixed" => FramingKind::Fixed,
        "modbus_rtu" => FramingKind::ModbusRtu,
    }
}

words! {
    ByteOrderWord: ByteOrder {
        "big" => ByteOrder::Big,
        "little" => ByteOrder::Little,
    }
}

words! {
    CrcFromWord: CrcFrom {
        "body" => CrcFrom::Body,
        "length" => CrcFrom::Length,
        "sync" => CrcFrom::Sync,
    }
}

words! {
    LengthCountsWord: LengthCounts {
        "body" => LengthCounts::Body,
        "body_and_crc" => LengthCounts::BodyAndCrc,
        "whole" => LengthCounts::Whole,
    }
}

words! {
    WhenFullWord: WhenFull {
        "drop_oldest" => WhenFull::DropOldest,
        "drop_newest" => WhenFull::DropNewest,
        "block" => WhenFull::Block,
    }
}

keys! {
    /// `[pipeline.decode]`
    RawDecode {
        /// What a payload is.
        format: FormatWord [required],
        /// JSON field, or CSV column by its header, whose value travels along as `frame_id`; it also
        /// makes the prediction's id.
        id_field: Text,
        /// JSON field, or CSV column by its header, with the frame's own time: RFC 3339, or seconds
        /// since 1970.
        time_field: Text,
        /// What to do with JSON or CSV fields that the model's card does not name.
        unknown_fields: UnknownFieldsWord = UnknownFields::Refuse,
        /// CSV separator, one character. Default: found out from the line (`,` `;` tab or blanks).
        separator: Text,
        /// Larger pictures are refused before they are unpacked.
        max_pixels: Whole<1, 1_000_000_000> = 64_000_000,
    }
}

words! {
    FormatWord: Format {
        "image" => Format::Image,
        "json" => Format::Json,
        "csv" => Format::Csv,
        "f32le" => Format::F32le,
        "i16le" => Format::I16le,
        "packet" => Format::Packet,
    }
}

words! {
    UnknownFieldsWord: UnknownFields {
        "refuse" => UnknownFields::Refuse,
        "ignore" => UnknownFields::Ignore,
    }
}

keys! {
    /// `[pipeline.publish]`
    RawPublish {
        /// Topic of predictions, with `{device}`, `{pipeline}` and the source's named levels.
        topic: Text = "lineside/{device}/{pipeline}/result".into(),
        /// Topic on which a frame without an answer is reported. Default: `topic` with `error` as
        /// its last level.
        error_topic: Text,
        /// MQTT quality of service: 1 keeps a prediction until the broker has acknowledged it.
        qos: QosNumber = Qos::AtLeastOnce,
        /// Whether the broker keeps the last prediction for later subscribers.
        retain: Flag = false,
    }
}

/// 0 or 1.
pub(crate) struct QosNumber;

impl Written for QosNumber {
    type Value = Qos;

    fn expected() -> String {
        "0 or 1".into()
    }

    fn read(value: &Spanned<DeValue<'_>>, name: &str, reader: &mut Reader<'_>) -> Option<Qos> {
        let DeValue::Integer(number) = value.get_ref() else {
            return reader.mistyped(value, name, &Self::expected());
        };
        let message = match u8::from_str_radix(number.as_str(), number.radix()) {
            Ok(0) => return Some(Qos::AtMostOnce),
            Ok(1) => return Some(Qos::AtLeastOnce),
            Ok(2) => format!(
                "{name} is 2; lineside takes no part in the handshake of exactly-once delivery: use 1, under \
                 which a repeated prediction carries the same id"
            ),
            _ => format!("{name} is {number}; it must be 0 or 1"),
        };
        reader.complain(value.span().start, message);
        None
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "integer", "enum": [0, 1]})
    }

    fn shown(value: &Qos) -> serde_json::Value {
        u8::from(*value == Qos::AtLeastOnce).into()
    }
}
