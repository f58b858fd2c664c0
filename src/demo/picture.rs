//! Annotated pictures for people: what the camera saw, what the model said, what is true.
//!
//! A frame in the verdict's colour (green pass, red fail, amber uncertain), the answer above the part,
//! the truth below it, and white corners around the defect that the line put there. Files are named
//! after seed, part, verdict and label, and a wrong answer says so in its name.

use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use jpeg_encoder::{ColorType, Encoder, EncodingError};

use super::font;
use super::judge::Answer;
use super::render::Region;
use crate::base::Image;

/// The picture is enlarged, so that letters can be small on it.
const SCALE: usize = 2;
const FRAME: usize = 6;
const BAR: usize = 34;
/// Pixels a dot of a letter.
const DOT: usize = 3;
const JPEG_QUALITY: u8 = 88;

type Colour = [u8; 3];
const GREEN: Colour = [38, 166, 91];
const RED: Colour = [214, 48, 49];
const AMBER: Colour = [230, 160, 20];
const GREY: Colour = [120, 120, 120];
const DARK: Colour = [24, 26, 30];
const WHITE: Colour = [255, 255, 255];

/// Why pictures cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The folder cannot be made.
    #[error("cannot make the folder {} (--save)", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A picture cannot be written.
    #[error("cannot write {} (--save)", path.display())]
    Write {
        /// The picture.
        path: PathBuf,
        /// Why.
        source: EncodingError,
    },
}

/// Makes `folder` if it is not there.
pub fn prepare(folder: &Path) -> Result<(), SaveError> {
    fs::create_dir_all(folder).map_err(|source| SaveError::Folder { path: folder.to_owned(), source })
}

/// Writes the picture of an answer on the line of `seed` into `folder`; an answer without a part has
/// none.
pub fn save(folder: &Path, seed: u64, answer: &Answer) -> Result<(), SaveError> {
    let Some(part) = &answer.part else { return Ok(()) };
    let canvas = draw(&part.picture, part.region, answer);
    let path = folder.join(file_name(seed, answer));
    let write = || {
        let file = BufWriter::new(fs::File::create(&path)?);
        let (width, height) = (canvas.width as u16, canvas.height as u16);
        Encoder::new(file, JPEG_QUALITY).encode(&canvas.pixels, width, height, ColorType::Rgb)
    };
    write().map_err(|source| SaveError::Write { path: path.clone(), source })
}

fn file_name(seed: u64, answer: &Answer) -> String {
    // A label is the model's: whatever it holds, it stays one file name.
    let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "-");
    let Answer { index, verdict, label, truth, .. } = answer;
    let wrong = if answer.is_right() { String::new() } else { format!("-WRONG-is-{truth}") };
    format!("seed{seed}-part{index:06}-{}-{}{wrong}.jpg", plain(verdict), plain(label))
}

fn draw(picture: &Image, region: Option<Region>, answer: &Answer) -> Image {
    let (wide, high) = (picture.width * SCALE, picture.height * SCALE);
    let mut canvas = Canvas::new(wide + 2 * FRAME, high + 2 * BAR);
    let colour = match answer.verdict.as_str() {
        "pass" => GREEN,
        "fail" => RED,
        "uncertain" => AMBER,
        _ => GREY,
    };
    canvas.fill(0, 0, canvas.width, canvas.height, colour);
    canvas.picture(FRAME, BAR, picture);
    if let Some(Region { x, y, width, height }) = region {
        let (x, y) = (FRAME + x * SCALE, BAR + y * SCALE);
        canvas.outline(x, y, width * SCALE, height * SCALE);
    }
    let text_y = (BAR - font::HEIGHT * DOT) / 2;
    let said = format!("{} {} {:.2}", answer.verdict, answer.label, answer.score);
    canvas.text(FRAME + 4, text_y, &said, WHITE);
    let number = format!("{:06}", answer.index);
    canvas.text(canvas.width - FRAME - 4 - text_width(&number), text_y, &number, WHITE);

    let below = BAR + high;
    canvas.fill(FRAME, below, wide, BAR - FRAME, DARK);
    let text_y = below + (BAR - FRAME - font::HEIGHT * DOT) / 2;
    canvas.text(FRAME + 4, text_y, &format!("truth {}", answer.truth), WHITE);
    let (word, colour) = if answer.is_right() { ("right", GREEN) } else { ("wrong", RED) };
    canvas.text(canvas.width - FRAME - 4 - text_width(word), text_y, word, colour);
    Image { width: canvas.width, height: canvas.height, channels: 3, pixels: canvas.pixels }
}

fn text_width(text: &str) -> usize {
    (text.chars().count() * (font::WIDTH + 1)).saturating_sub(1) * DOT
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![0; width * height * 3] }
    }

    /// Whatever lies outside is cut off.
    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: Colour) {
        let right = (x + width).min(self.width);
        for row in y..(y + height).min(self.height) {
            for column in x..right {
                let at = (row * self.width + column) * 3;
                self.pixels[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    fn picture(&mut self, x: usize, y: usize, picture: &Image) {
        for row in 0..picture.height {
            for column in 0..picture.width {
                let at = (row * picture.width + column) * 3;
                let colour = [picture.pixels[at], picture.pixels[at + 1], picture.pixels[at + 2]];
                self.fill(x + column * SCALE, y + row * SCALE, SCALE, SCALE, colour);
            }
        }
    }

    /// A box of white corners with a dark edge: seen on any ground, and nothing of the defect is hidden.
    fn outline(&mut self, x: usize, y: usize, width: usize, height: usize) {
        const GAP: usize = 6;
        let (x, y) = (x.saturating_sub(GAP), y.saturating_sub(GAP));
        let (width, height) = (width + 2 * GAP, height + 2 * GAP);
        let (arm_x, arm_y) = ((width / 3).clamp(4, 24), (height / 3).clamp(4, 24));
        for (thick, colour, grow) in [(4, DARK, 1), (2, WHITE, 0)] {
            for left in [x, x + width - 2] {
                for top in [y, y + height - 2] {
                    let start_x = if left == x { left } else { left + 2 - arm_x };
                    let start_y = if top == y { top } else { top + 2 - arm_y };
                    let back = |at: usize| at.saturating_sub(grow);
                    self.fill(back(start_x), back(top), arm_x + 2 * grow, thick, colour);
                    self.fill(back(left), back(start_y), thick, arm_y + 2 * grow, colour);
                }
            }
        }
    }

    fn text(&mut self, x: usize, y: usize, text: &str, colour: Colour) {
        for (at, letter) in text.chars().enumerate() {
            let left = x + at * (font::WIDTH + 1) * DOT;
            for (row, dots) in font::glyph(letter).into_iter().enumerate() {
                for column in (0..font::WIDTH).filter(|column| dots >> (font::WIDTH - 1 - column) & 1 == 1) {
                    self.fill(left + column * DOT, y + row * DOT, DOT, DOT, colour);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::judge::Stream;
    use crate::demo::render::Line;
    use std::sync::Arc;

    fn answer(verdict: &str, label: &str, index: u64) -> Answer {
        let part = Line::new(4, 500).part(index);
        Answer {
            stream: Stream::Inspection,
            index,
            verdict: verdict.into(),
            label: label.into(),
            score: 0.987,
            truth: part.truth.label(),
            part: Some(Arc::new(part)),
        }
    }

    #[test]
    fn a_saved_picture_can_be_opened_and_wears_its_verdicts_colour() {
        let folder = tempfile::tempdir().unwrap();
        for (verdict, colour) in [("pass", GREEN), ("fail", RED), ("uncertain", AMBER), ("none", GREY)] {
            let answer = answer(verdict, "missing_hole", 2);
            save(folder.path(), 7, &answer).unwrap();
            let picture = image::open(folder.path().join(file_name(7, &answer))).unwrap().to_rgb8();
            assert_eq!(picture.dimensions(), (640 + 12, 480 + 68));
            let near = |a: u8, b: u8| a.abs_diff(b) < 12;
            let corner = picture.get_pixel(2, 300).0;
            assert!(corner.iter().zip(colour).all(|(a, b)| near(*a, b)), "{verdict}: {corner:?}");
        }
    }

    #[test]
    fn a_wrong_answer_is_named_so() {
        let right = (0..).map(|index| answer("fail", "pit", index)).find(Answer::is_right).unwrap();
        assert!(!file_name(7, &right).contains("WRONG"));
        let wrong = Answer { label: "../o".into(), ..right };
        assert_eq!(file_name(7, &wrong), format!("seed7-part{:06}-fail----o-WRONG-is-pit.jpg", wrong.index));
    }

    #[test]
    fn boxes_at_every_border_and_letters_without_a_shape_are_drawn_without_a_panic() {
        let picture = Line::new(1, 0).part(0).picture;
        for (x, y, width, height) in [(0, 0, 1, 1), (319, 239, 1, 1), (0, 0, 320, 240), (310, 0, 10, 240)] {
            draw(&picture, Some(Region { x, y, width, height }), &answer("pass", "größe", 1));
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = prepare(&file.path().join("below")).unwrap_err();
        assert!(error.to_string().contains("below"), "{error}");
    }
}
