//! Pictures as a camera sends them, and one that no camera sends.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage, RgbaImage};

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("memory takes bytes");
    bytes.into_inner()
}

/// A PNG of one colour.
pub(crate) fn png(width: u32, height: u32, rgb: [u8; 3]) -> Vec<u8> {
    encode(&RgbImage::from_pixel(width, height, Rgb(rgb)).into(), ImageFormat::Png)
}

/// A JPEG of one colour.
pub(crate) fn jpeg(width: u32, height: u32, rgb: [u8; 3]) -> Vec<u8> {
    encode(&RgbImage::from_pixel(width, height, Rgb(rgb)).into(), ImageFormat::Jpeg)
}

/// A grey PNG.
pub(crate) fn grey_png(width: u32, height: u32, level: u8) -> Vec<u8> {
    encode(&GrayImage::from_pixel(width, height, image::Luma([level])).into(), ImageFormat::Png)
}

/// A PNG with an alpha channel.
pub(crate) fn rgba_png(width: u32, height: u32, rgba: [u8; 4]) -> Vec<u8> {
    encode(&RgbaImage::from_pixel(width, height, image::Rgba(rgba)).into(), ImageFormat::Png)
}

/// A PNG without a fault, black, 8-bit colour: 7.5 MB that unpack to 3 bytes a pixel. For 20,000 ×
/// 20,000 that is 1.2 GB.
pub(crate) fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]); // 8 bits, RGB, deflate, adaptive filters, not interlaced
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &zeros(u64::from(height) * (1 + 3 * u64::from(width))));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(data);
    let sum = crc32(&file[start..]);
    file.extend(sum.to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
        sum
    })
}

/// A zlib stream of `count` zero bytes, without ever holding them: one literal, then copies of 258
/// bytes from one byte back, in a block with the fixed codes of RFC 1951 §3.2.6.
fn zeros(count: u64) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x78, 0x01], held: 0, filled: 0 };
    bits.push(1, 1); // the last block
    bits.push(1, 2); // fixed codes
    let copies = count.saturating_sub(1) / 258;
    for _ in 0..count - copies * 258 {
        bits.push(0b0000_1100, 8); // literal 0: 00110000, first bit first
    }
    for _ in 0..copies {
        bits.push(0b1010_0011, 8); // length 258: 11000101
        bits.push(0, 5); // distance 1
    }
    bits.push(0, 7); // end of block
    let mut stream = bits.finish();
    // Adler-32 of zeros: the low half stays 1, the high half counts.
    let adler = ((count % 65_521) as u32) << 16 | 1;
    stream.extend(adler.to_be_bytes());
    stream
}

struct Bits {
    bytes: Vec<u8>,
    held: u32,
    filled: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        self.held |= value << self.filled;
        self.filled += count;
        while self.filled >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.filled -= 8;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.bytes.push(self.held as u8);
        }
        self.bytes
    }
}

#[test]
fn the_bomb_is_a_picture_without_a_fault() {
    let bomb = png_bomb(1000, 700);
    let picture = image::load_from_memory(&bomb).expect("it can be unpacked when it is small");
    assert_eq!((picture.width(), picture.height()), (1000, 700));
    assert!(picture.to_rgb8().pixels().all(|pixel| pixel.0 == [0, 0, 0]));
    assert!(bomb.len() * 150 < 1000 * 700 * 3, "{} bytes", bomb.len());
}
