//! The camera above the conveyor: pose, light, optics and sensor of one shot.
//!
//! A pixel is mapped back onto the plate, the plate's drawing says what is there, the light says
//! how bright it is; then come the lens and the sensor. Brightness is in display values, 0 to 1.

use std::f32::consts::PI;

use super::flaw::Flaw;
use super::rng::{Rng, sin_cos};
use super::texture::{Tile, mix, step};
use super::workpiece::{self, Edge};
use super::{HEIGHT, Region, WIDTH};

/// How far the plate's shadow falls, away from the light.
const SHADOW_MM: f32 = 7.0;

/// Surfaces of one line: its belt and the metal that it works.
#[derive(Clone, Debug)]
pub(super) struct Surfaces {
    brushed: Tile,
    clouds: Tile,
}

impl Surfaces {
    /// Those of a seed.
    pub(super) fn new(seed: u64) -> Self {
        // A stream of their own: parts count from 0.
        let mut rng = Rng::new(seed, u64::MAX);
        Self { brushed: Tile::streaks(&mut rng), clouds: Tile::clouds(&mut rng, 32) }
    }
}

/// Everything that chance decides about one shot, but the flaw.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    /// Pixel of the plate's middle.
    centre: (f32, f32),
    /// Cosine and sine of the plate's turn.
    turn: (f32, f32),
    pixels_per_mm: f32,
    /// Change of scale from the picture's middle to its bottom: the camera looks slightly aslant.
    keystone: f32,
    /// Where the light comes from, in the picture's plane, unit length.
    light: (f32, f32),
    gain: f32,
    /// Change of brightness from the middle to the right and the bottom edge.
    gradient: (f32, f32),
    vignette: f32,
    white: [f32; 3],
    /// The bright band that ground metal shows: place along u, slant, width, strength.
    band: (f32, f32, f32, f32),
    metal: f32,
    /// Which stretch of the surface textures this part got.
    texture_at: (f32, f32),
    belt_at: f32,
    rails: (f32, f32),
    serial: u64,
    /// Weight of each neighbour along x (belt motion, defocus) and y.
    blur: (f32, f32),
    /// Standard deviation of the sensor's noise at middle brightness.
    noise: f32,
    noise_seed: u64,
}

impl Shot {
    /// A shot by chance.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let upside_down = if rng.one_in(2) { PI } else { 0.0 };
        let (sine, cosine) = sin_cos(upside_down + rng.range(-0.13, 0.13));
        let (light_y, light_x) = sin_cos(rng.range(-PI, PI));
        let warmth = rng.range(-0.035, 0.035);
        let defocus = rng.range(0.04, 0.2);
        Self {
            centre: (
                WIDTH as f32 / 2.0 + rng.range(-22.0, 22.0),
                HEIGHT as f32 / 2.0 + rng.range(-13.0, 13.0),
            ),
            turn: (cosine, sine),
            pixels_per_mm: rng.range(0.95, 1.07),
            keystone: rng.range(-0.035, 0.035),
            light: (light_x, light_y),
            gain: rng.range(0.8, 1.16),
            gradient: (rng.range(-0.13, 0.13), rng.range(-0.13, 0.13)),
            vignette: rng.range(0.02, 0.16),
            white: [1.0 + warmth, 1.0, 1.0 - warmth],
            band: (
                rng.range(-110.0, 110.0),
                rng.range(-0.5, 0.5),
                rng.range(28.0, 60.0),
                rng.range(0.06, 0.2),
            ),
            metal: rng.range(0.54, 0.64),
            texture_at: (rng.range(0.0, 256.0), rng.range(0.0, 256.0)),
            belt_at: rng.range(0.0, 256.0),
            rails: (rng.range(8.0, 15.0), HEIGHT as f32 - rng.range(8.0, 15.0)),
            serial: rng.bits(),
            blur: (defocus + rng.range(0.0, 0.05), defocus),
            noise: rng.range(0.003, 0.012),
            noise_seed: rng.bits(),
        }
    }

    /// Pixel → plate, mm.
    fn to_plate(&self, x: f32, y: f32) -> (f32, f32) {
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        let scale = self.pixels_per_mm * (1.0 + self.keystone * dy / (HEIGHT as f32 / 2.0));
        self.turned(dx / scale, dy / scale)
    }

    fn turned(&self, dx: f32, dy: f32) -> (f32, f32) {
        (dx * self.turn.0 + dy * self.turn.1, dy * self.turn.0 - dx * self.turn.1)
    }

    /// Plate, mm → pixel.
    fn to_pixel(&self, u: f32, v: f32) -> (f32, f32) {
        let (across, down) = (u * self.turn.0 - v * self.turn.1, u * self.turn.1 + v * self.turn.0);
        // dy = down × ppm × (1 + keystone × dy ÷ half), solved for dy.
        let bend = self.keystone * self.pixels_per_mm / (HEIGHT as f32 / 2.0);
        let dy = down * self.pixels_per_mm / (1.0 - down * bend);
        let scale = self.pixels_per_mm * (1.0 + self.keystone * dy / (HEIGHT as f32 / 2.0));
        (self.centre.0 + across * scale, self.centre.1 + dy)
    }

    /// The upright rectangle of pixels around a rectangle on the plate.
    pub(super) fn region(&self, (u0, v0, u1, v1): (f32, f32, f32, f32)) -> Region {
        let corners = [(u0, v0), (u1, v0), (u0, v1), (u1, v1)].map(|(u, v)| self.to_pixel(u, v));
        let span = |values: [f32; 4], limit: usize| {
            let low = values.iter().copied().fold(f32::MAX, f32::min);
            let high = values.iter().copied().fold(f32::MIN, f32::max);
            let low = low.floor().clamp(0.0, limit as f32 - 1.0) as usize;
            (low, (high.ceil().clamp(0.0, limit as f32) as usize).max(low + 1))
        };
        let (left, right) = span(corners.map(|c| c.0), WIDTH);
        let (top, bottom) = span(corners.map(|c| c.1), HEIGHT);
        Region { x: left, y: top, width: right - left, height: bottom - top }
    }

    /// The picture, `HEIGHT × WIDTH × 3` bytes.
    pub(super) fn expose(&self, flaw: &Flaw, surfaces: &Surfaces) -> Vec<u8> {
        let light = self.turned(self.light.0, self.light.1);
        let touched = flaw.extent_mm().map(|(u0, v0, u1, v1)| (u0..=u1, v0..=v1));
        let mut picture = Vec::with_capacity(WIDTH * HEIGHT * 3);
        for row in 0..HEIGHT {
            let y = row as f32 + 0.5;
            for column in 0..WIDTH {
                let x = column as f32 + 0.5;
                let (u, v) = self.to_plate(x, y);
                let plate = workpiece::outline(u, v);
                // Far from the plate there is no opening to ask for: most of the belt.
                let hole = match plate.distance > 1.0 {
                    true => Edge { distance: f32::MAX, normal: (1.0, 0.0) },
                    false => workpiece::opening(u, v, flaw.missing_opening()),
                };
                let inside_mm = (-plate.distance).min(hole.distance);
                let cover = (0.5 + inside_mm * self.pixels_per_mm).clamp(0.0, 1.0);
                let mut colour = [0.0; 3];
                if cover < 1.0 {
                    let ground = self.ground(x, y, (u, v), light, plate, flaw, surfaces);
                    colour = ground.map(|c| c * (1.0 - cover));
                }
                if cover > 0.0 {
                    let mut metal = self.metal(u, v, light, plate, hole, surfaces);
                    if touched.as_ref().is_some_and(|(us, vs)| us.contains(&u) && vs.contains(&v)) {
                        let mark = flaw.mark(u, v, light, &surfaces.clouds);
                        for (value, gain) in metal.iter_mut().zip(mark.gain) {
                            *value = *value * gain + mark.shift;
                        }
                    }
                    for (sum, value) in colour.iter_mut().zip(metal) {
                        *sum += cover * value;
                    }
                }
                let lit = self.lit(x, y);
                picture.extend(colour.iter().zip(self.white).map(|(c, white)| c * lit * white));
            }
        }
        self.lens(&mut picture);
        self.sensor(&picture)
    }

    /// The lamp's and the lens's evenness.
    fn lit(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x / (WIDTH as f32 / 2.0) - 1.0, y / (HEIGHT as f32 / 2.0) - 1.0);
        let vignette = 1.0 - self.vignette * 0.5 * (dx * dx + dy * dy);
        self.gain * (1.0 + self.gradient.0 * dx + self.gradient.1 * dy) * vignette
    }

    /// Ground metal: grinding lines, the band of light across them, the chamfer, the code.
    fn metal(&self, u: f32, v: f32, light: (f32, f32), plate: Edge, hole: Edge, from: &Surfaces) -> [f32; 3] {
        let (tu, tv) = (u + self.texture_at.0, v + self.texture_at.1);
        let lines = from.brushed.at(0.5 * tu, 1.6 * tv);
        let patches = from.clouds.at(0.8 * tu, 0.8 * tv);
        let off = (u + self.band.1 * v - self.band.0) / self.band.2;
        let band = self.band.3 / (1.0 + off * off);
        let mut level = self.metal * (1.0 + 0.055 * lines + 0.02 * patches) + band * (1.0 + 0.12 * lines);
        // The chamfer leans outwards on the outline, inwards on an opening.
        let (inside_mm, lean) = if -plate.distance < hole.distance {
            (-plate.distance, plate.normal)
        } else {
            (hole.distance, (-hole.normal.0, -hole.normal.1))
        };
        let chamfer = step(workpiece::CHAMFER_MM, 2.4, inside_mm);
        level *= 1.0 + chamfer * (0.42 * (lean.0 * light.0 + lean.1 * light.1) - 0.04);
        if workpiece::engraved(u, v, self.serial) {
            level *= 0.62;
        }
        [level * 0.985, level, level * 1.02]
    }

    /// Belt, rails, and the plate's shadow; also what is seen through an opening.
    #[expect(
        clippy::too_many_arguments,
        reason = "one pixel's place in both coordinates, and what lies there"
    )]
    fn ground(
        &self,
        x: f32,
        y: f32,
        (u, v): (f32, f32),
        light: (f32, f32),
        plate: Edge,
        flaw: &Flaw,
        from: &Surfaces,
    ) -> [f32; 3] {
        if y < self.rails.0 || y > self.rails.1 {
            let depth = (self.rails.0 - y).max(y - self.rails.1);
            let level = 0.42 + 0.04 * from.brushed.at(0.3 * x, 1.5 * y) + 0.16 * step(3.0, 5.0, depth);
            return [level * step(0.0, 2.5, depth); 3].map(|c| c.max(0.03));
        }
        let rubber = from.clouds.at(2.6 * x + self.belt_at, 2.6 * y);
        let scuffs = from.brushed.at(0.25 * x + self.belt_at, 0.8 * y);
        let along = (x + self.belt_at + 2.0 * y) * 0.125;
        // Never negative, so truncation is the floor.
        let weave = along - along as u32 as f32 - 0.5;
        let level = 1.0 + 0.16 * rubber + 0.09 * scuffs + 0.12 * weave.abs();
        let (su, sv) = (u + SHADOW_MM * light.0, v + SHADOW_MM * light.1);
        let shade = if plate.distance < 0.0 {
            let lit = workpiece::opening(su, sv, flaw.missing_opening()).distance;
            mix(0.3, 0.85, step(2.0, -4.0, lit))
        } else if plate.distance < SHADOW_MM + 5.0 {
            mix(0.38, 1.0, step(-4.0, 5.0, workpiece::outline(su, sv).distance))
        } else {
            1.0
        };
        [0.145, 0.19, 0.185].map(|c| c * level * shade)
    }

    /// A small blur; rows first, then columns.
    fn lens(&self, picture: &mut [f32]) {
        let stride = WIDTH * 3;
        let (wx, wy) = self.blur;
        let mut line = vec![0.0; stride];
        for row in picture.chunks_exact_mut(stride) {
            line.copy_from_slice(row);
            for i in 3..stride - 3 {
                row[i] = line[i] * (1.0 - 2.0 * wx) + wx * (line[i - 3] + line[i + 3]);
            }
        }
        // `line` keeps what the row above was before it was blurred.
        line.copy_from_slice(&picture[..stride]);
        for y in 1..HEIGHT - 1 {
            let (above_and_this, below) = picture.split_at_mut((y + 1) * stride);
            let this = &mut above_and_this[y * stride..];
            for i in 0..stride {
                let sharp = this[i];
                this[i] = sharp * (1.0 - 2.0 * wy) + wy * (line[i] + below[i]);
                line[i] = sharp;
            }
        }
    }

    /// Noise that grows with brightness, then 8 bits.
    fn sensor(&self, picture: &[f32]) -> Vec<u8> {
        let mut rng = Rng::new(self.noise_seed, 0);
        let mut bytes = Vec::with_capacity(picture.len());
        // The sum of two bytes, brought to a standard deviation of 1.
        let scale = self.noise * 255.0 / 104.5;
        for pixel in picture.chunks_exact(3) {
            let drawn = rng.bits().to_le_bytes();
            for (c, value) in pixel.iter().enumerate() {
                let noise = (f32::from(drawn[2 * c]) + f32::from(drawn[2 * c + 1]) - 255.0) * scale;
                // `as` clips to 0..=255.
                bytes.push((value * 255.0 + noise * (0.6 + 0.8 * value) + 0.5) as u8);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_plate_map_onto_each_other() {
        for seed in 0..50 {
            let shot = Shot::draw(&mut Rng::new(seed, 0));
            for (u, v) in [(0.0, 0.0), (96.0, 60.0), (-96.0, 60.0), (40.0, -20.0)] {
                let (x, y) = shot.to_pixel(u, v);
                let (bu, bv) = shot.to_plate(x, y);
                assert!((bu - u).abs() < 1e-2 && (bv - v).abs() < 1e-2, "{u} {v} came back as {bu} {bv}");
            }
        }
    }

    #[test]
    fn the_plate_is_always_wholly_in_the_picture() {
        for seed in 0..2_000 {
            let shot = Shot::draw(&mut Rng::new(seed, 1));
            for (u, v) in [(96.0, 50.0), (96.0, -50.0), (-96.0, 50.0), (80.0, 60.0), (-80.0, -60.0)] {
                let (x, y) = shot.to_pixel(u, v);
                assert!((2.0..WIDTH as f32 - 2.0).contains(&x), "seed {seed}: x {x}");
                assert!((2.0..HEIGHT as f32 - 2.0).contains(&y), "seed {seed}: y {y}");
            }
        }
    }
}
