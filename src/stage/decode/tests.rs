//! The decoder as a whole: the examples of `FORMAT.md`, and what must hold for any bytes.

use std::io::Cursor;

use ::image::{DynamicImage, ExtendedColorType, ImageFormat, Rgb, RgbImage};
use proptest::prelude::*;

use super::*;
use crate::base::{Image, Reason};
use crate::config::card::{Channels, Filter, Fit, Gap, ImageFeatures, ImageLayout, TableFeatures};

impl Columns {
    /// Columns by name; a `?` behind one that may be missing.
    pub(super) fn named(names: &[&str]) -> Columns {
        Columns::of(&names.iter().map(|name| channel(name)).collect::<Vec<_>>())
    }
}

impl Extras {
    pub(super) fn strict() -> Extras {
        Extras { id_field: None, time_field: None, refuse_unknown: true }
    }
}

fn channel(name: &str) -> Channel {
    let plain = name.trim_end_matches('?');
    let impute = (plain != name).then_some(0.0);
    Channel {
        name: plain.into(),
        unit: String::new(),
        impute,
        mean: 0.0,
        std: 1.0,
        allow_nan: false,
        words: Vec::new(),
        input: None,
        whole: false,
    }
}

fn table(names: &[&str]) -> Features {
    let columns = names.iter().map(|name| channel(name)).collect();
    Features::Table(TableFeatures { input: Some("x".into()), columns, derived: Vec::new(), gap: Gap::Ignore })
}

fn picture() -> Features {
    Features::Image(ImageFeatures {
        input: "x".into(),
        width: 8,
        height: 8,
        channels: Channels::Rgb,
        fit: Fit::Stretch,
        filter: Filter::Bilinear,
        layout: ImageLayout::Nchw,
        scale: 1.0,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
    })
}

fn meant(format: Format) -> Decode {
    Decode {
        format,
        id_field: None,
        time_field: None,
        unknown_fields: UnknownFields::Refuse,
        separator: None,
        max_pixels: 1 << 22,
    }
}

fn decoder(format: Format, names: &[&str]) -> Decoder {
    let features = if format == Format::Image { picture() } else { table(names) };
    Decoder::new(&meant(format), &features)
}

fn json(names: &[&str], text: &str) -> Result<Vec<f64>, String> {
    match decoder(Format::Json, names).decode(text.as_bytes()) {
        Ok(Decoded { content: Content::Rows(rows), .. }) => Ok(rows.values),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

/// One fenced block of `FORMAT.md`: keys in order, continued lines joined.
fn example(block: &str) -> HashMap<&str, String> {
    let mut pairs: HashMap<&str, String> = HashMap::new();
    let mut last = "";
    for line in block.lines() {
        if let Some(more) = line.trim_start().strip_prefix('|') {
            let text = pairs.get_mut(last).unwrap();
            text.push('\n');
            text.push_str(more);
        } else {
            let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no key in {line:?}"));
            let value = value.trim();
            pairs.insert(key, value.strip_prefix('|').unwrap_or(value).to_owned());
            last = key;
        }
    }
    pairs
}

#[test]
fn every_example_of_the_format_page_holds() {
    let page = include_str!("FORMAT.md");
    let blocks: Vec<&str> =
        page.split("```example\n").skip(1).map(|b| b.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 30, "only {} examples were found", blocks.len());
    for block in blocks {
        let pairs = example(block);
        let mut decode = meant(match pairs["format"].as_str() {
            "json" => Format::Json,
            "csv" => Format::Csv,
            "f32le" => Format::F32le,
            "i16le" => Format::I16le,
            "image" => Format::Image,
            other => panic!("{other}"),
        });
        for field in pairs.get("fields").map(String::as_str).unwrap_or_default().split_whitespace() {
            match field.split_once('=').unwrap() {
                ("id", name) => decode.id_field = Some(name.into()),
                ("time", name) => decode.time_field = Some(name.into()),
                other => panic!("{other:?}"),
            }
        }
        if pairs.contains_key("unknown") {
            decode.unknown_fields = UnknownFields::Ignore;
        }
        let names: Vec<&str> = pairs["columns"].split_whitespace().collect();
        let features = if names.is_empty() { picture() } else { table(&names) };
        compatible(&decode, &features).unwrap();
        let payload = match pairs["payload"].strip_prefix("hex ") {
            Some(hex) => hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect(),
            None => pairs["payload"].clone().into_bytes(),
        };
        let decoded = Decoder::new(&decode, &features).decode(&payload);
        if let Some(reason) = pairs.get("refused") {
            assert_eq!(decoded.unwrap_err().reason().as_str(), reason, "{block}");
            continue;
        }
        let decoded = decoded.unwrap_or_else(|error| panic!("{block}{error}"));
        let Content::Rows(rows) = decoded.content else { panic!("{block}") };
        let shown: Vec<String> = rows
            .iter()
            .map(|row| row.iter().map(|x| x.to_string().to_lowercase()).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(shown.join(" / "), pairs["rows"], "{block}");
        assert_eq!(decoded.frame_id.as_ref(), pairs.get("id"), "{block}");
        assert_eq!(decoded.time.map(|time| time.0.to_string()).as_ref(), pairs.get("time"), "{block}");
    }
}

#[test]
fn a_refused_document_says_what_where_and_what_would_do() {
    for (names, text, said) in [
        (
            &["x", "y"][..],
            r#"{"x": 1, "y": "2"}"#,
            "`y` is the string \"2\"; a number was expected (line 1, column 17)",
        ),
        (&["x", "y"], r#"{"x": 1, "y": true}"#, "`y` is true; a number was expected"),
        (&["x", "y"], r#"{"x": 1, "y": {"z": 1}}"#, "`y` is an object; a number was expected"),
        (&["x", "y"], "[[1, 2], [1, [2]]]", "`y` in row 2 is an array; a number was expected"),
        (&["x", "y"], "[[1, 2], [1]]", "row 2 holds 1 values; the card has 2 columns: x, y"),
        (&["x", "y"], "[1, 2, [3, 4]]", "either numbers or rows, not both"),
        (&["x", "y"], "[]", "0 values are no whole number of rows"),
        (&["x", "y"], r#"{"x": [1], "y": 2}"#, "`x` is an array and `y` a single number"),
        (&["x"], r#"{"x": []}"#, "the arrays are empty"),
        (&["x", "y"], r#"{"x": 1, "y": null}"#, "feature `y` is null; send it"),
        (&["x", "y"], "[[1, 2], [3, null]]", "feature `y` is null in row 2"),
        (
            &["pressure_in", "flow"],
            r#"{"flow": 1, "PressureIn": 2}"#,
            "field `PressureIn` is not known to the card, and its `pressure_in` is missing: renamed?",
        ),
        (&["x"], r#"{"x": 1, "values": [1]}"#, "both `values` and features by name"),
        (&["x"], r#"{"values": [1], "foo": 1}"#, "field `foo` is not known to the card; rename it"),
        (&["x"], r#"{"values": 1}"#, "expected an array of numbers or of rows under `values`"),
        (&["x", "y"], "1", "a single number is one value; the card has 2 columns"),
        (&["x"], "true", "expected an array of numbers or an object"),
        (&["x"], "[1] 2", "trailing characters at line 1 column 5"),
        (&["x"], "[1", "EOF while parsing a list at line 1 column 2"),
        (&["x"], "  ", "EOF while parsing a value"),
    ] {
        let refused = json(names, text).unwrap_err();
        assert!(refused.contains(said), "{text}: {refused}");
    }
}

#[test]
fn deep_nesting_costs_its_frame_and_not_the_stack() {
    let deep = "[".repeat(1 << 20);
    assert!(json(&["x"], &deep).is_err());
    let mut decode = meant(Format::Json);
    decode.unknown_fields = UnknownFields::Ignore;
    let mut decoder = Decoder::new(&decode, &table(&["x"]));
    let ignored = format!(r#"{{"x": 1, "y": {deep}}}"#);
    assert_eq!(decoder.decode(ignored.as_bytes()).unwrap_err().reason(), Reason::Malformed);
    assert!(decoder.decode(br#"{"x": 1}"#).is_ok());
}

#[test]
fn ids_stay_what_the_sender_wrote() {
    let mut decode = meant(Format::Json);
    decode.id_field = Some("id".into());
    let mut decoder = Decoder::new(&decode, &table(&["x"]));
    let mut id =
        |id: &str| decoder.decode(format!(r#"{{"id": {id}, "x": 1}}"#).as_bytes()).map(|d| d.frame_id);
    assert_eq!(id("\"\\u0041-7\""), Ok(Some("A-7".into())));
    assert_eq!(id("18446744073709551615"), Ok(Some("18446744073709551615".into())));
    assert_eq!(id("-3"), Ok(Some("-3".into())));
    assert_eq!(id("1763950000.125"), Ok(Some("1763950000.125".into())));
    assert_eq!(id("null"), Ok(None));
    // Where all frames carry an empty one, it is nobody's.
    assert_eq!(id("\"\""), Ok(None));
    // Beyond 2^64 a float would merge neighbours.
    assert!(id("18446744073709551617").is_err());
    assert!(id("[1]").is_err());
    assert!(id("1, \"id\": 1").is_err());
}

#[test]
fn invalid_utf8_is_refused_even_where_nobody_looks() {
    let mut decode = meant(Format::Json);
    decode.unknown_fields = UnknownFields::Ignore;
    let refused = Decoder::new(&decode, &table(&["x"])).decode(b"{\"x\": 1, \"y\": \"\xff\"}").unwrap_err();
    assert_eq!(refused.reason(), Reason::Malformed);
}

#[test]
fn a_frame_leaves_nothing_behind_for_the_next() {
    let mut decoder = decoder(Format::Json, &["x", "y?"]);
    let mut rows = |text: &str| match decoder.decode(text.as_bytes()).map(|decoded| decoded.content) {
        Ok(Content::Rows(rows)) => Some(rows.values),
        _ => None,
    };
    assert_eq!(rows(r#"{"y": [1, 2], "x": [3, 4]}"#), Some(vec![3.0, 1.0, 4.0, 2.0]));
    assert_eq!(rows(r#"{"y": [1, 2, 3], "x": [3, "#), None);
    assert_eq!(rows(r#"{"x": [5], "y": [6]}"#), Some(vec![5.0, 6.0]));
    assert!(rows(r#"{"x": 5}"#).unwrap()[1].is_nan());
}

#[test]
fn a_format_that_cannot_feed_the_model_is_named_at_boot() {
    let said = |decode: &Decode, features: &Features| compatible(decode, features).unwrap_err();
    assert!(said(&meant(Format::Image), &table(&["x"])).contains("the model decides on rows of numbers"));
    assert!(said(&meant(Format::Csv), &picture()).contains("set format = \"image\""));
    let mut decode = meant(Format::F32le);
    decode.id_field = Some("id".into());
    assert!(said(&decode, &table(&["x"])).contains("has no named fields"));
    decode.format = Format::Json;
    assert_eq!(compatible(&decode, &table(&["x"])), Ok(()));
    assert!(said(&decode, &table(&["id"])).contains("is a feature of the model"));
    decode.separator = Some('1');
    assert!(said(&decode, &table(&["x"])).contains("cannot stand between numbers"));
}

/// A picture in which every pixel differs from its neighbours.
fn scene(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7 + y) as u8, (y * 5) as u8, (x * 3 + y * 11) as u8]))
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn unpack(bytes: &[u8]) -> Result<Image, DecodeError> {
    decoder(Format::Image, &[]).decode(bytes).map(|decoded| match decoded.content {
        Content::Image(image) => image,
        Content::Rows(rows) => panic!("{rows:?}"),
    })
}

#[test]
fn a_png_gives_its_very_pixels_whatever_its_kind() {
    let rgb = scene(9, 5);
    let grey = DynamicImage::from(rgb.clone()).to_luma8();
    let image = unpack(&encoded(rgb.clone(), ImageFormat::Png)).unwrap();
    assert_eq!((image.width, image.height, image.channels, &image.pixels), (9, 5, 3, rgb.as_raw()));
    let image = unpack(&encoded(grey.clone(), ImageFormat::Png)).unwrap();
    assert_eq!((image.channels, &image.pixels), (1, grey.as_raw()));
    let wide = DynamicImage::from(rgb.clone()).to_rgb16();
    assert_eq!(unpack(&encoded(wide, ImageFormat::Png)).unwrap().pixels, *rgb.as_raw());
    let opaque = DynamicImage::from(rgb.clone()).to_rgba8();
    assert_eq!(unpack(&encoded(opaque.clone(), ImageFormat::Png)).unwrap().pixels, *rgb.as_raw());
    let mut glassy = opaque;
    glassy.get_pixel_mut(3, 3).0[3] = 254;
    let refused = unpack(&encoded(glassy, ImageFormat::Png)).unwrap_err();
    assert_eq!(refused.reason(), Reason::WrongChannels);
}

#[test]
fn a_jpeg_cut_anywhere_is_refused_even_with_an_end_marker_put_behind() {
    for bytes in [
        encoded(scene(75, 50), ImageFormat::Jpeg),
        include_bytes!("testdata/progressive.jpg").to_vec(),
        include_bytes!("testdata/restarts.jpg").to_vec(),
    ] {
        assert!(unpack(&bytes).is_ok());
        for length in 0..bytes.len() {
            assert!(unpack(&bytes[..length]).is_err(), "cut to {length} of {}", bytes.len());
        }
        let mut padded = bytes.clone();
        padded.extend([0; 7]);
        assert_eq!(unpack(&padded).unwrap(), unpack(&bytes).unwrap());
    }
    for bytes in [encoded(scene(75, 50), ImageFormat::Jpeg), include_bytes!("testdata/restarts.jpg").to_vec()]
    {
        let data = 14 + bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        for length in data..bytes.len() - 4 {
            let mut ended = bytes[..length].to_vec();
            ended.extend([0xff, 0xd9]);
            assert!(unpack(&ended).is_err(), "cut to {length} of {}", bytes.len());
        }
        // A hole in the middle: a lost packet.
        let mut torn = bytes.clone();
        torn.drain(data + 40..bytes.len() - 40);
        assert!(unpack(&torn).is_err());
    }
}

#[test]
fn a_png_cut_or_changed_anywhere_is_refused_or_the_same() {
    let bytes = encoded(scene(20, 16), ImageFormat::Png);
    let whole = unpack(&bytes).unwrap();
    for length in 0..bytes.len() {
        assert!(unpack(&bytes[..length]).is_err(), "cut to {length}");
    }
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 0x10;
        if let Ok(image) = unpack(&changed) {
            assert_eq!(image, whole, "byte {place}");
        }
    }
}

#[test]
fn a_huge_picture_is_refused_by_its_header_alone() {
    // 20 000 × 20 000 grey pixels, all in a few bytes of header.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x4e\x20\0\0\x4e\x20\x08\0\0\0\0".to_vec();
    png.extend([0xab; 4]);
    png.extend(b"\0\0\0\0IDAT\0\0\0\0\0\0\0\0IEND\xae\x42\x60\x82");
    let refused = unpack(&png).unwrap_err();
    assert_eq!(refused, DecodeError::ImageTooLarge { width: 20_000, height: 20_000, max_pixels: 1 << 22 });
    assert!(refused.to_string().contains("20000x20000, more than max_pixels = 4194304"));
    let mut jpeg = encoded(scene(16, 16), ImageFormat::Jpeg);
    let sof = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[sof + 5..sof + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(unpack(&jpeg).unwrap_err().reason(), Reason::ImageTooLarge);
}

#[test]
fn inks_are_refused_and_grey_jpegs_stay_grey() {
    let refused = unpack(include_bytes!("testdata/cmyk.jpg")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the picture has four inks (CMYK); send grey or RGB without transparency"
    );
    let mut grey = Vec::new();
    let pixels: Vec<u8> = (0..64).collect();
    ::image::codecs::jpeg::JpegEncoder::new_with_quality(&mut grey, 100)
        .encode(&pixels, 8, 8, ExtendedColorType::L8)
        .unwrap();
    let image = unpack(&grey).unwrap();
    assert_eq!((image.channels, image.pixels.len()), (1, 64));
    assert!(image.pixels.iter().zip(&pixels).all(|(a, b)| a.abs_diff(*b) <= 2), "{:?}", image.pixels);
}

#[test]
fn a_camera_held_sideways_gives_an_upright_picture() {
    // EXIF orientation 6: the top of the scene is at the right of the stored picture.
    let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let stored = RgbImage::from_fn(24, 16, |x, _| if x < 12 { Rgb([0; 3]) } else { Rgb([255; 3]) });
    let mut bytes = encoded(stored, ImageFormat::Jpeg);
    let mut segment = vec![0xff, 0xe1, 0, exif.len() as u8 + 2];
    segment.extend(exif);
    bytes.splice(2..2, segment);
    let image = unpack(&bytes).unwrap();
    assert_eq!((image.width, image.height), (16, 24));
    assert!(image.pixels[0] < 9 && image.pixels[image.pixels.len() - 1] > 246);
}

#[test]
fn a_png_is_turned_upright_wherever_its_orientation_stands() {
    let body = b"eXIfMM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut chunk = (body.len() as u32 - 4).to_be_bytes().to_vec();
    chunk.extend(body);
    chunk.extend(::crc::Crc::<u32>::new(&::crc::CRC_32_ISO_HDLC).checksum(body).to_be_bytes());
    let plain = encoded(scene(24, 16), ImageFormat::Png);
    let behind_ihdr = 8 + 25;
    let before_iend = plain.len() - 12;
    for place in [behind_ihdr, before_iend] {
        let mut bytes = plain.clone();
        bytes.splice(place..place, chunk.clone());
        let image = unpack(&bytes).unwrap();
        assert_eq!((image.width, image.height), (16, 24), "at byte {place}");
    }
}

#[test]
fn what_is_no_picture_is_named_by_its_first_bytes() {
    for (bytes, said) in [
        (&b"GIF89a"[..], "not a JPEG or PNG: starts with 47 49 46 38 39 61;"),
        (b"\xff", "cut within its first bytes: starts with ff;"),
        (b"{", "starts with 7b;"),
    ] {
        assert!(unpack(bytes).unwrap_err().to_string().contains(said));
    }
    assert_eq!(unpack(b"").unwrap_err(), DecodeError::Empty);
}

#[test]
fn pictures_of_real_cameras_are_not_refused() {
    let shared = std::env::var_os("LINESIDE_SHARED")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into(), std::path::PathBuf::from);
    let Ok(files) = std::fs::read_dir(shared.join("data/bsdata/images")) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is absent", shared.display());
        println!("left out: {} is absent, so no camera picture was read", shared.display());
        return;
    };
    let mut seen = 0;
    for file in files {
        let path = file.unwrap().path();
        let image =
            unpack(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(image.width > 100 && image.channels == 3);
        seen += 1;
    }
    assert!(seen > 20, "{seen} pictures");
}

fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let pictures = [encoded(scene(12, 9), ImageFormat::Png), encoded(scene(12, 9), ImageFormat::Jpeg)];
    let broken = (0..2usize, proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)).prop_map(
        move |(which, changes)| {
            let mut bytes = pictures[which].clone();
            for (place, byte) in changes {
                let place = place % bytes.len();
                bytes[place] = byte;
            }
            bytes
        },
    );
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "[\\[\\]{}:,\"xyNa0-9.eE \\-+;\t\n]{0,60}".prop_map(String::into_bytes),
        broken,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic_and_rows_are_whole(payload in any_payload()) {
        for format in [Format::Image, Format::Json, Format::Csv, Format::F32le, Format::I16le] {
            match decoder(format, &["x", "y?"]).decode(&payload).map(|decoded| decoded.content) {
                Ok(Content::Rows(rows)) => {
                    prop_assert_eq!(rows.columns, 2);
                    prop_assert!(!rows.values.is_empty() && rows.values.len() % 2 == 0);
                    prop_assert!(rows.iter().all(|row| !row[0].is_nan()));
                }
                Ok(Content::Image(image)) => {
                    prop_assert_eq!(image.pixels.len(), image.width * image.height * image.channels);
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
            let mut with_id = meant(format);
            with_id.id_field = Some("y".into());
            let id = Decoder::new(&with_id, &table(&["x"])).own_id(&payload);
            prop_assert!(id.is_none_or(|id| !id.is_empty()));
        }
    }

    #[test]
    fn numbers_arrive_as_they_were_sent(numbers in proptest::collection::vec(proptest::num::f64::NORMAL | proptest::num::f64::ZERO | proptest::num::f64::SUBNORMAL, 2..20)) {
        let names = ["x", "y"];
        let numbers = &numbers[..numbers.len() / 2 * 2];
        let texts: Vec<String> = numbers.iter().map(|x| format!("{x:e}")).collect();
        let flat = format!("[{}]", texts.join(","));
        prop_assert_eq!(json(&names, &flat).unwrap(), numbers);
        let pick = |start: usize| texts.iter().skip(start).step_by(2).cloned().collect::<Vec<_>>().join(" , ");
        let by_name = format!(r#"{{"y":[{}],"x":[{}]}}"#, pick(1), pick(0));
        prop_assert_eq!(json(&names, &by_name).unwrap(), numbers);
        let lines: Vec<String> = texts.chunks(2).map(|row| row.join(";")).collect();
        let rows = decoder(Format::Csv, &names).decode(lines.join("\r\n").as_bytes()).unwrap();
        prop_assert_eq!(rows.content, Content::Rows(crate::base::Rows { columns: 2, values: numbers.to_vec() }));
    }
}

fn press() -> Features {
    let mut kind = channel("type");
    kind.words = ["L", "M", "7"].map(str::to_owned).to_vec();
    let columns = vec![channel("torque"), kind];
    Features::Table(TableFeatures { input: None, columns, derived: Vec::new(), gap: Gap::Ignore })
}

#[test]
fn a_word_becomes_its_place_and_another_one_is_refused_with_those_that_would_do() {
    let decode = |format, payload: &str| {
        let mut decoder = Decoder::new(&meant(format), &press());
        decoder.decode(payload.as_bytes()).map_err(|error| error.to_string())
    };
    for (format, payload) in [
        (Format::Json, r#"{"torque": 40.5, "type": "M"}"#),
        (Format::Json, r#"[40.5, "M"]"#),
        (Format::Json, r#"[[40.5, "M"]]"#),
        (Format::Csv, "torque,type\n40.5,M"),
    ] {
        let Content::Rows(rows) = decode(format, payload).unwrap().content else { panic!("rows") };
        assert_eq!(rows.values, [40.5, 1.0], "{payload}");
    }
    let Content::Rows(rows) = decode(Format::Csv, "40.5,7").unwrap().content else { panic!("rows") };
    assert_eq!(rows.values, [40.5, 2.0], "a word may look like a number");
    for payload in [r#"{"torque": 40.5, "type": "H"}"#, r#"[40.5, 7]"#] {
        let said = decode(Format::Json, payload).unwrap_err();
        assert!(said.contains(r#"one of "L", "M", "7" was expected"#), "{said}");
    }
    let said = decode(Format::Csv, "torque,type\n40.5,H").unwrap_err();
    assert!(said.contains(r#"`type` is "H"; one of "L", "M", "7" was expected"#), "{said}");
    assert!(
        decode(Format::Json, r#"{"torque": 40.5, "type": null}"#).unwrap_err().contains("`type` is null")
    );
}

#[test]
fn words_have_no_place_in_bare_numbers() {
    assert!(
        compatible(&meant(Format::F32le), &press()).unwrap_err().contains("`type` is one of several words")
    );
}
