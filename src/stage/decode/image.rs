//! A picture's bytes to upright 8-bit pixels, grey or RGB.
//!
//! What it is, is told from its first bytes, never from a name. Bits: 16 lose their low byte (as in
//! OpenCV and libpng's strip), 1, 2 and 4 are spread over 0–255, palettes are looked up. Colour
//! profiles and gamma are left alone, as training code leaves them. EXIF orientation is applied.
//! Transparency has no faithful form in a model's input: a picture whose alpha is fully opaque loses
//! it, any other is refused.
//! Promise: the size is read first and a picture over the limit costs nothing; a cut or damaged one is
//! refused, never filled up.
//! Not here: resizing and colour conversion to what a model wants (`featurize`).

use std::io::Cursor;

use png::{Decoder, DecodingError, Limits, Transformations};

use super::orientation::Orientation;
use super::{DecodeError, jpeg};
use crate::base::Image;

const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
// Every JPEG begins with SOI and the first byte of a second marker.
const JPEG_SIGNATURE: &[u8] = b"\xff\xd8\xff";
// A PNG's largest pixel is 4 × 16 bits; beside it the decoder keeps rows, profiles and texts.
const PNG_BYTES_A_PIXEL: usize = 8;
const PNG_BYTES_BESIDE: usize = 4 << 20;

/// Unpacks a JPEG or PNG of at most `max_pixels`.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Image, DecodeError> {
    let (image, exif) = if bytes.starts_with(JPEG_SIGNATURE) {
        jpeg::decode(bytes, max_pixels)?
    } else if bytes.starts_with(PNG_SIGNATURE) {
        png(bytes, max_pixels)?
    } else {
        return Err(unknown(bytes));
    };
    Ok(match exif.and_then(|exif| Orientation::read(&exif)) {
        Some(orientation) => orientation.upright(image),
        None => image,
    })
}

fn unknown(bytes: &[u8]) -> DecodeError {
    let signature = [JPEG_SIGNATURE, PNG_SIGNATURE].into_iter().find(|s| s.starts_with(bytes));
    let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let what = format!(
        "{}: starts with {}; a JPEG starts with ff d8 ff, a PNG with 89 50 4e 47",
        if signature.is_some() { "cut within its first bytes" } else { "not a JPEG or PNG" },
        start.join(" "),
    );
    DecodeError::Malformed { format: "a picture", what }
}

fn malformed_png(what: impl Into<String>) -> DecodeError {
    DecodeError::Malformed { format: "a PNG", what: what.into() }
}

fn png(bytes: &[u8], max_pixels: u64) -> Result<(Image, Option<Vec<u8>>), DecodeError> {
    let (width, height) = png_outline(bytes)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > max_pixels {
        return Err(DecodeError::ImageTooLarge { width: width.into(), height: height.into(), max_pixels });
    }
    let unpacked = |error: DecodingError| malformed_png(error.to_string());
    let pixels = usize::try_from(pixels).unwrap_or(usize::MAX);
    let bytes_at_most = pixels.saturating_mul(PNG_BYTES_A_PIXEL).saturating_add(PNG_BYTES_BESIDE);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: bytes_at_most });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(unpacked)?;
    let size = reader.output_buffer_size().ok_or_else(|| malformed_png("its rows are too long"))?;
    let mut raw = vec![0; size];
    reader.next_frame(&mut raw).map_err(unpacked)?;
    // eXIf may stand behind the picture as well. Whatever is damaged there, the picture is whole.
    let _ = reader.finish();
    let exif = reader.info().exif_metadata.as_ref().map(|exif| exif.to_vec());
    let (channels, pixels) = match reader.output_color_type().0.samples() {
        2 => (1, opaque::<2>(&raw)?),
        4 => (3, opaque::<4>(&raw)?),
        channels => (channels, raw),
    };
    Ok((Image { width: width as usize, height: height as usize, channels, pixels }, exif))
}

/// Takes the last of `N` channels away, if it hides nothing.
fn opaque<const N: usize>(raw: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (pixels, _) = raw.as_chunks::<N>();
    if pixels.iter().any(|pixel| pixel[N - 1] != u8::MAX) {
        return Err(DecodeError::WrongChannels { seen: "transparent pixels" });
    }
    Ok(pixels.iter().flat_map(|pixel| &pixel[..N - 1]).copied().collect())
}

/// Walks over the chunks up to IEND, so that a cut is found wherever it is; gives the size.
/// Checksums of chunks are the decoder's work.
fn png_outline(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let cut = || malformed_png("it ends before its IEND chunk: the frame was cut");
    let word = |at: usize| -> Result<u32, DecodeError> {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(cut)?;
        Ok(u32::from_be_bytes(*word))
    };
    let mut size = None;
    let mut at = PNG_SIGNATURE.len();
    loop {
        // length, name, body, checksum
        let length = usize::try_from(word(at)?).map_err(|error| malformed_png(error.to_string()))?;
        let name = bytes.get(at + 4..at + 8).ok_or_else(cut)?;
        let next = length.checked_add(at + 12).filter(|&next| next <= bytes.len()).ok_or_else(cut)?;
        match (name, size) {
            (b"IHDR", None) if length == 13 => size = Some((word(at + 8)?, word(at + 12)?)),
            (_, None) => return Err(malformed_png("its first chunk is no IHDR of 13 bytes")),
            (b"IEND", Some(size)) => return Ok(size),
            _ => {}
        }
        at = next;
    }
}
