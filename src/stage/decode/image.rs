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

use ::image::codecs::png::PngDecoder;
use ::image::metadata::Orientation;
use ::image::{ColorType, DynamicImage, GrayImage, ImageDecoder, Limits, RgbImage};

use super::{DecodeError, jpeg};
use crate::base::Image;

const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
// Every JPEG begins with SOI and the first byte of a second marker.
const JPEG_SIGNATURE: &[u8] = b"\xff\xd8\xff";
// A PNG's largest pixel is 4 × 16 bits; beside it the decoder keeps rows, profiles and texts.
const PNG_BYTES_A_PIXEL: u64 = 8;
const PNG_BYTES_BESIDE: u64 = 4 << 20;

/// Unpacks a JPEG or PNG of at most `max_pixels`.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Image, DecodeError> {
    let (image, exif) = if bytes.starts_with(JPEG_SIGNATURE) {
        jpeg::decode(bytes, max_pixels)?
    } else if bytes.starts_with(PNG_SIGNATURE) {
        png(bytes, max_pixels)?
    } else {
        return Err(unknown(bytes));
    };
    let orientation = exif.and_then(|exif| Orientation::from_exif_chunk(&exif));
    Ok(upright(image, orientation.unwrap_or(Orientation::NoTransforms)))
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
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(width);
    limits.max_image_height = Some(height);
    limits.max_alloc = Some(pixels * PNG_BYTES_A_PIXEL + PNG_BYTES_BESIDE);
    let mut decoder = PngDecoder::with_limits(Cursor::new(bytes), limits)
        .map_err(|error| malformed_png(error.to_string()))?;
    // An unreadable EXIF block says nothing about the pixels.
    let exif = decoder.exif_metadata().ok().flatten();
    let colour = decoder.color_type();
    let size = usize::try_from(decoder.total_bytes()).map_err(|error| malformed_png(error.to_string()))?;
    let mut raw = vec![0; size];
    decoder.read_image(&mut raw).map_err(|error| malformed_png(error.to_string()))?;
    if matches!(colour, ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16) {
        raw = raw.chunks_exact(2).map(|pair| (u16::from_ne_bytes([pair[0], pair[1]]) >> 8) as u8).collect();
    }
    let (channels, pixels) = match colour.channel_count() {
        2 => (1, opaque::<2>(&raw)?),
        4 => (3, opaque::<4>(&raw)?),
        channels => (usize::from(channels), raw),
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

/// Turns and mirrors as EXIF asks for.
fn upright(image: Image, orientation: Orientation) -> Image {
    if orientation == Orientation::NoTransforms {
        return image;
    }
    const FITS: &str = "a decoded picture has width × height × channels bytes, and sides below 2^32";
    let Image { width, height, channels, pixels } = image;
    let (width, height) = (width as u32, height as u32);
    let mut turned = match channels {
        1 => DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, pixels).expect(FITS)),
        _ => DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, pixels).expect(FITS)),
    };
    turned.apply_orientation(orientation);
    let (width, height) = (turned.width() as usize, turned.height() as usize);
    Image { width, height, channels, pixels: turned.into_bytes() }
}
