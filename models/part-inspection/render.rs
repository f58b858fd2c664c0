//! Writes the line's pictures for training:
//! `cargo run --release --example render-parts -- OUT PARTS_A_SEED DEFECTS_PER_MILLE SEED…`.
//!
//! A folder a seed with `NUMBER.jpg` and one `labels.csv` for all (`file,label,x,y,width,height`). JPEG,
//! with a quality that changes from part to part, because that is what the daemon will be sent.

use std::error::Error;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use lineside::demo::render::Line;

const USAGE: &str = "render-parts OUT PARTS_A_SEED DEFECTS_PER_MILLE SEED [SEED…]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let out = PathBuf::from(args.next().ok_or(USAGE)?);
    let parts: u64 = args.next().ok_or(USAGE)?.parse()?;
    let defects_per_mille: u32 = args.next().ok_or(USAGE)?.parse()?;
    let seeds = args.map(|seed| seed.parse()).collect::<Result<Vec<u64>, _>>()?;
    fs::create_dir_all(&out)?;
    let mut labels = BufWriter::new(fs::File::create(out.join("labels.csv"))?);
    writeln!(labels, "file,label,x,y,width,height")?;
    for seed in seeds {
        let line = Line::new(seed, defects_per_mille);
        fs::create_dir_all(out.join(seed.to_string()))?;
        for index in 0..parts {
            let part = line.part(index);
            let file = format!("{seed}/{index:05}.jpg");
            let quality = 70 + (index % 27) as u8;
            fs::write(out.join(&file), part.jpeg(quality))?;
            let region = part
                .region
                .map_or(String::from(",,,"), |r| format!("{},{},{},{}", r.x, r.y, r.width, r.height));
            writeln!(labels, "{file},{},{region}", part.truth.label())?;
        }
    }
    labels.flush()?;
    Ok(())
}
