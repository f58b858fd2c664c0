//! What can be wrong with a part, as it changes the light that the metal gives back.
//!
//! Promise: whatever is drawn lies on metal and is strong enough for a person to see at the
//! camera's resolution, because a defect that nobody can see is a wrong label. The limits that
//! ensure it are the constants below.

use super::Defect;
use super::rng::{Rng, sin_cos};
use super::texture::{Tile, mix, step};
use super::workpiece::{CHAMFER_MM, OPENINGS, clearance_mm, opening_place};

/// Faintest scratch: a change in brightness of more than a quarter of the full scale, 1.5 pixels wide.
const SCRATCH_CONTRAST: (f32, f32) = (0.28, 0.46);
const SCRATCH_WIDTH_MM: (f32, f32) = (1.5, 2.7);
const SCRATCH_HALF_LENGTH_MM: (f32, f32) = (15.0, 38.0);
/// Smallest pit: nearly 6 pixels across, its bottom at most half as bright as the metal.
const PIT_RADIUS_MM: (f32, f32) = (2.8, 5.4);
const PIT_DEPTH: (f32, f32) = (0.5, 0.85);
/// Faintest stain: a quarter darker, 22 pixels across.
const STAIN_RADIUS_MM: (f32, f32) = (11.0, 24.0);
const STAIN_STRENGTH: (f32, f32) = (0.26, 0.52);
/// Tries at a random place before a known free one is taken.
const PLACING_TRIES: u32 = 64;
/// Plain metal 18 mm around, above the centre bore.
const FREE_PLACE_MM: (f32, f32) = (0.0, -40.0);

/// A defect with its measures.
#[derive(Clone, Debug)]
pub(super) enum Flaw {
    None,
    /// Strokes of one tool that slipped.
    Scratch(Vec<Stroke>),
    /// Small craters, near each other.
    Pits(Vec<Pit>),
    /// This opening was not drilled.
    MissingHole(u32),
    /// Dried coolant or rust.
    Stain(Stain),
}

/// A slightly bent line, thinner towards its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    middle: (f32, f32),
    along: (f32, f32),
    half_length_mm: f32,
    /// How far the ends lie off the tangent at the middle.
    sag_mm: f32,
    width_mm: f32,
    /// Positive: the groove glints; negative: it is dark.
    contrast: f32,
}

/// A crater.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pit {
    at: (f32, f32),
    radius_mm: f32,
    depth: f32,
}

/// A patch with a ragged outline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stain {
    at: (f32, f32),
    radius_mm: f32,
    /// Length ÷ width, along u.
    stretch: f32,
    strength: f32,
    /// What each colour keeps more or less of.
    tint: [f32; 3],
    /// Where in the noise its outline is taken from.
    noise_at: (f32, f32),
}

/// What the metal's light is multiplied with and then shifted by, for each colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) gain: [f32; 3],
    pub(super) shift: f32,
}

impl Mark {
    const NONE: Self = Self { gain: [1.0; 3], shift: 0.0 };
}

impl Flaw {
    /// A flaw of the class, with measures by chance.
    pub(super) fn draw(defect: Defect, rng: &mut Rng) -> Self {
        match defect {
            Defect::Ok => Self::None,
            Defect::Scratch => Self::Scratch(strokes(rng)),
            Defect::Pit => Self::Pits(pits(rng)),
            Defect::MissingHole => Self::MissingHole(rng.below(OPENINGS)),
            Defect::Stain => Self::Stain(stain(rng)),
        }
    }

    /// The opening that is not there.
    pub(super) fn missing_opening(&self) -> Option<u32> {
        match self {
            Self::MissingHole(number) => Some(*number),
            _ => None,
        }
    }

    /// The rectangle around all of it, `(u0, v0, u1, v1)` in mm.
    pub(super) fn extent_mm(&self) -> Option<(f32, f32, f32, f32)> {
        let around = |(u, v): (f32, f32), ru: f32, rv: f32| (u - ru, v - rv, u + ru, v + rv);
        let join = |a: (f32, f32, f32, f32), b: (f32, f32, f32, f32)| {
            (a.0.min(b.0), a.1.min(b.1), a.2.max(b.2), a.3.max(b.3))
        };
        match self {
            Self::None => None,
            Self::Scratch(strokes) => strokes.iter().map(|s| s.extent_mm()).reduce(join),
            Self::Pits(pits) => {
                pits.iter().map(|p| around(p.at, 1.3 * p.radius_mm, 1.3 * p.radius_mm)).reduce(join)
            }
            Self::MissingHole(number) => {
                let (place, reach_mm) = opening_place(*number);
                // Its chamfer is missing too.
                let reach_mm = reach_mm + CHAMFER_MM + 2.0;
                Some(around(place, reach_mm, reach_mm))
            }
            Self::Stain(s) => {
                let reach_mm = 1.25 * s.radius_mm;
                Some(around(s.at, reach_mm * s.stretch, reach_mm))
            }
        }
    }

    /// What it does to the metal at a point; `light` is where the light comes from, in the plate's
    /// plane, `clouds` lends stains their outline.
    pub(super) fn mark(&self, u: f32, v: f32, light: (f32, f32), clouds: &Tile) -> Mark {
        match self {
            Self::None | Self::MissingHole(_) => Mark::NONE,
            Self::Scratch(strokes) => {
                Mark { shift: strokes.iter().map(|s| s.shift(u, v)).sum(), ..Mark::NONE }
            }
            Self::Pits(pits) => {
                let gain = pits.iter().map(|pit| pit.gain(u, v, light)).product();
                Mark { gain: [gain; 3], shift: 0.0 }
            }
            Self::Stain(stain) => stain.mark(u, v, clouds),
        }
    }
}

impl Stroke {
    fn point(&self, s: f32) -> (f32, f32) {
        let part = s / self.half_length_mm;
        let t = self.sag_mm * part * part;
        (
            self.middle.0 + s * self.along.0 - t * self.along.1,
            self.middle.1 + s * self.along.1 + t * self.along.0,
        )
    }

    fn extent_mm(&self) -> (f32, f32, f32, f32) {
        let (a, b, c) = (self.point(-self.half_length_mm), self.point(0.0), self.point(self.half_length_mm));
        // The burr lies beside the groove, and the bow may pass its own ends a little.
        let w = 1.4 * self.width_mm + 1.0 + 0.25 * self.sag_mm.abs();
        (
            a.0.min(b.0).min(c.0) - w,
            a.1.min(b.1).min(c.1) - w,
            a.0.max(b.0).max(c.0) + w,
            a.1.max(b.1).max(c.1) + w,
        )
    }

    fn shift(&self, u: f32, v: f32) -> f32 {
        let (du, dv) = (u - self.middle.0, v - self.middle.1);
        let s = du * self.along.0 + dv * self.along.1;
        let part = s / self.half_length_mm;
        if part.abs() >= 1.0 {
            return 0.0;
        }
        let t = dv * self.along.0 - du * self.along.1 - self.sag_mm * part * part;
        let taper = 1.0 - part * part * part * part;
        let line = |off: f32, width: f32| (width / 2.0 + 0.5 - (t - off).abs()).clamp(0.0, 1.0);
        let groove = line(0.0, self.width_mm * taper);
        // The burr beside it throws the light the other way.
        let burr = line(self.width_mm, 0.7 * self.width_mm * taper);
        taper * self.contrast * (groove - 0.55 * burr)
    }
}

impl Pit {
    fn gain(&self, u: f32, v: f32, light: (f32, f32)) -> f32 {
        let (du, dv) = ((u - self.at.0) / self.radius_mm, (v - self.at.1) / self.radius_mm);
        let squared = du * du + dv * dv;
        if squared > 1.7 {
            return 1.0;
        }
        let bowl = 1.0 - step(0.35, 1.15, squared);
        // The wall away from the light faces it; so does the raised rim nearest to the light.
        let facing = -(du * light.0 + dv * light.1);
        let rim = step(0.7, 1.1, squared) * step(1.7, 1.25, squared);
        1.0 - self.depth * bowl * (1.0 - 0.35 * facing) - 0.3 * rim * facing
    }
}

impl Stain {
    fn mark(&self, u: f32, v: f32, clouds: &Tile) -> Mark {
        let (du, dv) = ((u - self.at.0) / (self.radius_mm * self.stretch), (v - self.at.1) / self.radius_mm);
        let squared = du * du + dv * dv;
        if squared > 1.5 {
            return Mark::NONE;
        }
        let ragged = clouds.at(self.noise_at.0 + 1.3 * u, self.noise_at.1 + 1.3 * v);
        let outward = squared.sqrt() + 0.3 * ragged;
        let cover = step(1.0, 0.72, outward) * step(1.5, 1.2, squared);
        // What dries last stays at the border.
        let border = step(0.55, 0.85, outward);
        let dark = self.strength * cover * (0.72 + 0.28 * border + 0.15 * ragged);
        Mark { gain: self.tint.map(|tint| 1.0 - dark * tint), shift: 0.0 }
    }
}

/// A point with `clear_mm` of plain metal around it.
fn place(rng: &mut Rng, clear_mm: f32) -> (f32, f32) {
    for _ in 0..PLACING_TRIES {
        let (u, v) = (rng.range(-90.0, 90.0), rng.range(-54.0, 54.0));
        if clearance_mm(u, v) >= clear_mm {
            return (u, v);
        }
    }
    FREE_PLACE_MM
}

fn strokes(rng: &mut Rng) -> Vec<Stroke> {
    let width_mm = rng.range(SCRATCH_WIDTH_MM.0, SCRATCH_WIDTH_MM.1);
    let size = rng.range(SCRATCH_CONTRAST.0, SCRATCH_CONTRAST.1);
    let contrast = if rng.one_in(3) { -size } else { size };
    let first = 'placed: {
        for attempt in 0..PLACING_TRIES {
            let (sine, cosine) = sin_cos(rng.range(0.0, core::f32::consts::PI));
            // Shorter with every try that ran off the metal, down to the shortest that counts.
            let most = mix(SCRATCH_HALF_LENGTH_MM.1, 17.0, attempt as f32 / PLACING_TRIES as f32);
            let half_length_mm = rng.range(SCRATCH_HALF_LENGTH_MM.0, most);
            let stroke = Stroke {
                middle: place(rng, CHAMFER_MM + 2.0),
                along: (cosine, sine),
                half_length_mm,
                sag_mm: rng.range(-0.22, 0.22) * half_length_mm,
                width_mm,
                contrast,
            };
            let on_metal = (-6..=6).all(|k| {
                let (u, v) = stroke.point(k as f32 / 6.0 * half_length_mm);
                clearance_mm(u, v) > CHAMFER_MM + 1.5
            });
            if on_metal {
                break 'placed stroke;
            }
        }
        let half_length_mm = SCRATCH_HALF_LENGTH_MM.0;
        Stroke { middle: FREE_PLACE_MM, along: (1.0, 0.0), half_length_mm, sag_mm: 0.0, width_mm, contrast }
    };
    let mut strokes = vec![first];
    if rng.one_in(4) {
        // The tool skipped: a shorter, fainter one beside it.
        let off_mm = rng.range(4.5, 7.0) * if rng.one_in(2) { -1.0 } else { 1.0 };
        strokes.push(Stroke {
            middle: (first.middle.0 - off_mm * first.along.1, first.middle.1 + off_mm * first.along.0),
            half_length_mm: first.half_length_mm * rng.range(0.4, 0.8),
            contrast: first.contrast * rng.range(0.6, 0.9),
            ..first
        });
    }
    strokes
}

fn pits(rng: &mut Rng) -> Vec<Pit> {
    let radius_mm = rng.range(PIT_RADIUS_MM.0, PIT_RADIUS_MM.1);
    let depth = rng.range(PIT_DEPTH.0, PIT_DEPTH.1);
    let first = Pit { at: place(rng, radius_mm + CHAMFER_MM + 1.0), radius_mm, depth };
    let mut pits = vec![first];
    for _ in 0..rng.below(4) {
        let (sine, cosine) = sin_cos(rng.range(-3.1, 3.1));
        let away_mm = rng.range(1.8, 3.6) * first.radius_mm;
        let at = (first.at.0 + away_mm * cosine, first.at.1 + away_mm * sine);
        let radius_mm = first.radius_mm * rng.range(0.45, 0.9);
        if clearance_mm(at.0, at.1) > radius_mm + CHAMFER_MM {
            pits.push(Pit { at, radius_mm, depth: first.depth * rng.range(0.7, 1.0) });
        }
    }
    pits
}

fn stain(rng: &mut Rng) -> Stain {
    let rust = [0.72, 1.05, 1.3];
    let coolant = [1.05, 0.97, 0.86];
    let kind = rng.unit();
    Stain {
        // It may run over an edge, but its middle is metal.
        at: place(rng, 8.0),
        radius_mm: rng.range(STAIN_RADIUS_MM.0, STAIN_RADIUS_MM.1),
        stretch: rng.range(0.85, 1.5),
        strength: rng.range(STAIN_STRENGTH.0, STAIN_STRENGTH.1),
        tint: core::array::from_fn(|c| mix(coolant[c], rust[c], kind)),
        noise_at: (rng.range(0.0, 256.0), rng.range(0.0, 256.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_place_is_free() {
        assert!(clearance_mm(FREE_PLACE_MM.0, FREE_PLACE_MM.1) > 18.0);
        for s in [-1.0, 1.0] {
            assert!(clearance_mm(FREE_PLACE_MM.0 + s * SCRATCH_HALF_LENGTH_MM.0, FREE_PLACE_MM.1) > 5.0);
        }
    }

    #[test]
    fn every_flaw_changes_metal_and_stays_inside_its_extent() {
        let clouds = Tile::clouds(&mut Rng::new(1, 2), 32);
        for seed in 0..100 {
            let mut rng = Rng::new(seed, 3);
            for defect in [Defect::Scratch, Defect::Pit, Defect::Stain] {
                let flaw = Flaw::draw(defect, &mut rng);
                let (u0, v0, u1, v1) = flaw.extent_mm().expect("it was drawn");
                let mut changed_mm2 = 0;
                for v in -60..=60 {
                    for u in -96..=96 {
                        let (u, v) = (u as f32, v as f32);
                        let mark = flaw.mark(u, v, (0.6, -0.8), &clouds);
                        let change = (1.0 - mark.gain[1] - mark.shift).abs();
                        if change > 0.1 {
                            let inside = (u0..=u1).contains(&u) && (v0..=v1).contains(&v);
                            assert!(inside, "seed {seed}: {defect:?} at {u} {v} outside {flaw:?}");
                            changed_mm2 += usize::from(clearance_mm(u, v) > 0.0);
                        }
                    }
                }
                let least_mm2 = match defect {
                    Defect::Stain => 100,
                    _ => 14,
                };
                assert!(changed_mm2 >= least_mm2, "seed {seed}: {changed_mm2} mm² of {flaw:?}");
            }
        }
    }
}
