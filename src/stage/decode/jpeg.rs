//! A JPEG to pixels, whole or not at all.
//!
//! Promise: a picture that was cut anywhere is refused, also when something put an end marker behind
//! the cut; its size and colours are known before a pixel is unpacked. Decoders for viewers fill what
//! is missing with grey, and a model would judge that grey.
//! Not here: turning the picture upright (`image`).

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::DecodeError;
use crate::base::Image;

// Ones only: no Huffman code of a JPEG consists of ones alone (ITU-T T.81 C), so a decoder that runs
// past the end of a scan's data fails at once instead of inventing blocks. 16 bytes: more than any
// code and its value bits together.
const TRIPWIRE: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < bytes.len() {
        bytes[i] = 0xff;
        i += 2;
    }
    bytes
};

/// Unpacks a JPEG of at most `max_pixels`; its EXIF block comes along, not acted upon.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<(Image, Option<Vec<u8>>), DecodeError> {
    let outline = Outline::read(bytes)?;
    let (width, height) = (outline.width, outline.height);
    if width as u64 * height as u64 > max_pixels {
        return Err(DecodeError::ImageTooLarge { width: width as u64, height: height as u64, max_pixels });
    }
    let space = match outline.components.len() {
        1 => ColorSpace::Luma,
        3 => ColorSpace::RGB,
        4 => return Err(DecodeError::WrongChannels { seen: "four inks (CMYK)" }),
        _ => return Err(DecodeError::WrongChannels { seen: "neither one nor three channels" }),
    };
    let wired = outline.wired(bytes);
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(wired.as_slice()), options);
    decoder.decode_headers().map_err(|error| malformed(error.to_string()))?;
    if decoder.dimensions() != Some((width, height)) {
        return Err(malformed("its headers contradict each other"));
    }
    match decoder.input_colorspace() {
        Some(ColorSpace::Luma | ColorSpace::YCbCr | ColorSpace::RGB) => {}
        _ => return Err(DecodeError::WrongChannels { seen: "an unusual colour space" }),
    }
    let channels = outline.components.len();
    let mut pixels = vec![0; width * height * channels];
    if decoder.output_buffer_size() != Some(pixels.len()) {
        return Err(malformed("its headers contradict each other"));
    }
    decoder.decode_into(&mut pixels).map_err(|error| malformed(error.to_string()))?;
    Ok((Image { width, height, channels, pixels }, decoder.exif().cloned()))
}

fn malformed(what: impl Into<String>) -> DecodeError {
    DecodeError::Malformed { format: "a JPEG", what: what.into() }
}

fn cut() -> DecodeError {
    malformed("it ends before its end marker (ff d9): the frame was cut")
}

/// What the markers say, without unpacking anything.
struct Outline {
    width: usize,
    height: usize,
    /// Horizontal and vertical sampling of each component.
    components: Vec<(usize, usize)>,
    /// Where entropy-coded data runs into a restart marker or the end.
    data_ends: Vec<usize>,
    /// Behind the end marker.
    end: usize,
}

impl Outline {
    fn read(bytes: &[u8]) -> Result<Outline, DecodeError> {
        let mut outline =
            Outline { width: 0, height: 0, components: Vec::new(), data_ends: Vec::new(), end: 0 };
        let (mut sequential, mut restart_interval, mut scans, mut restarts) = (true, 0, 0, 0);
        let mut at = 2; // behind SOI, which told us that this is a JPEG
        loop {
            // Markers may be preceded by any number of fill bytes (T.81 B.1.1.2).
            at += bytes.get(at..).ok_or_else(cut)?.iter().position(|&b| b == 0xff).ok_or_else(cut)?;
            while bytes.get(at + 1) == Some(&0xff) {
                at += 1;
            }
            let marker = *bytes.get(at + 1).ok_or_else(cut)?;
            at += 2;
            match marker {
                0xd9 => break,
                // Stuffing and markers without a body; between segments they mean nothing.
                0x00 | 0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let length = match bytes.get(at..at + 2) {
                Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
                _ => return Err(cut()),
            };
            if length < 2 {
                return Err(malformed(format!("segment ff {marker:02x} has the impossible length {length}")));
            }
            let body = bytes.get(at + 2..at + length).ok_or_else(cut)?;
            at += length;
            match marker {
                // SOF0 to SOF15 without DHT, JPG and DAC
                0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                    if marker > 0xc2 {
                        return Err(malformed(
                            "lossless, hierarchical and arithmetic coding are not supported",
                        ));
                    }
                    sequential = marker < 0xc2;
                    outline.frame_header(body)?;
                }
                0xdd => {
                    restart_interval = match *body {
                        [high, low] => usize::from(u16::from_be_bytes([high, low])),
                        _ => return Err(malformed("its restart interval is not two bytes long")),
                    }
                }
                0xda => {
                    if outline.components.is_empty() {
                        return Err(malformed("picture data come before the frame header"));
                    }
                    scans += 1;
                    at = outline.scan(bytes, at, &mut restarts)?;
                }
                _ => {}
            }
        }
        outline.end = at;
        if scans == 0 {
            return Err(malformed("it holds no picture data"));
        }
        // Only where one scan holds everything does the count follow from the header alone.
        if sequential && scans == 1 && restart_interval > 0 {
            let expected = outline.units().div_ceil(restart_interval) - 1;
            if restarts < expected {
                return Err(malformed(format!("{restarts} restart markers, its size needs {expected}")));
            }
        }
        Ok(outline)
    }

    fn frame_header(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let [_precision, h1, h0, w1, w0, count, components @ ..] = body else {
            return Err(malformed("its frame header is too short"));
        };
        if !self.components.is_empty() {
            return Err(malformed("it has two frame headers"));
        }
        self.height = usize::from(u16::from_be_bytes([*h1, *h0]));
        self.width = usize::from(u16::from_be_bytes([*w1, *w0]));
        if self.width == 0 || self.height == 0 {
            return Err(malformed(format!("its size is {}x{}", self.width, self.height)));
        }
        self.components = components
            .chunks_exact(3)
            .take(usize::from(*count))
            .map(|c| (usize::from(c[1] >> 4), usize::from(c[1] & 15)))
            .collect();
        if self.components.len() != usize::from(*count) || *count == 0 {
            return Err(malformed("its frame header names components that it does not describe"));
        }
        if self.components.iter().any(|&(h, v)| h == 0 || v == 0) {
            return Err(malformed("a component has no samples"));
        }
        Ok(())
    }

    /// Passes over entropy-coded data from `at` on; gives the place of the marker that ends it.
    fn scan(&mut self, bytes: &[u8], mut at: usize, restarts: &mut usize) -> Result<usize, DecodeError> {
        let mut next_restart = 0;
        loop {
            at += bytes.get(at..).ok_or_else(cut)?.iter().position(|&b| b == 0xff).ok_or_else(cut)?;
            let first_fill = at;
            while bytes.get(at + 1) == Some(&0xff) {
                at += 1;
            }
            match *bytes.get(at + 1).ok_or_else(cut)? {
                0x00 => at += 2,
                marker @ 0xd0..=0xd7 => {
                    if marker != 0xd0 + next_restart {
                        return Err(malformed("its restart markers are out of order: a part is missing"));
                    }
                    next_restart = (next_restart + 1) % 8;
                    *restarts += 1;
                    self.data_ends.push(first_fill);
                    at += 2;
                }
                marker => {
                    if marker == 0xd9 {
                        self.data_ends.push(first_fill);
                    }
                    return Ok(at);
                }
            }
        }
    }

    /// Coding units of a scan that holds every component.
    fn units(&self) -> usize {
        let (h, v) = match self.components.as_slice() {
            [_] => (1, 1), // a single component is coded block by block, whatever its sampling
            all => (all.iter().map(|c| c.0).max().unwrap_or(1), all.iter().map(|c| c.1).max().unwrap_or(1)),
        };
        self.width.div_ceil(8 * h) * self.height.div_ceil(8 * v)
    }

    /// The same JPEG with a tripwire behind each run of entropy-coded data, and nothing behind its end.
    fn wired(&self, bytes: &[u8]) -> Vec<u8> {
        let mut wired = Vec::with_capacity(self.end + self.data_ends.len() * TRIPWIRE.len());
        let mut from = 0;
        for &data_end in &self.data_ends {
            wired.extend_from_slice(&bytes[from..data_end]);
            wired.extend_from_slice(&TRIPWIRE);
            from = data_end;
        }
        wired.extend_from_slice(&bytes[from..self.end]);
        wired
    }
}
