//! Noise to look surfaces up in: brushed metal, clouds of dirt, belt rubber.
//!
//! Tables tile, so that any offset is as good as any other. Values are about −1 to 1.

use super::rng::Rng;

/// A tile of smooth noise, `SIDE × SIDE`, repeated without end.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    values: Vec<f32>,
}

const SIDE: usize = 256;

/// Added to every coordinate: a multiple of the side that keeps them positive, because truncation
/// is the floor there and much cheaper.
const LIFT: f32 = 16.0 * SIDE as f32;

impl Tile {
    /// Fine lines along x, as a brush or a grinding belt leaves them.
    pub(super) fn streaks(rng: &mut Rng) -> Self {
        let mut values = Vec::with_capacity(SIDE * SIDE);
        for _ in 0..SIDE {
            // Every line has its own depth; along the line it comes and goes slowly.
            let depth = triangle(rng);
            let mut row: Vec<f32> = (0..SIDE).map(|_| triangle(rng)).collect();
            for _ in 0..3 {
                row = running_mean(&row, 9);
            }
            values.extend(row.iter().map(|value| 0.65 * depth + 2.2 * value));
        }
        Self { values }
    }

    /// Soft patches of about `size` texels across, with finer ones in them.
    pub(super) fn clouds(rng: &mut Rng, size: usize) -> Self {
        let mut values = vec![0.0; SIDE * SIDE];
        let (mut cell, mut weight) = (size.next_power_of_two().clamp(2, SIDE / 2), 0.62);
        while cell >= 2 {
            let cells = SIDE / cell;
            let lattice: Vec<f32> = (0..cells * cells).map(|_| rng.range(-1.0, 1.0)).collect();
            let corner = |x: usize, y: usize| lattice[(y % cells) * cells + x % cells];
            for (i, value) in values.iter_mut().enumerate() {
                let (x, y) = (i % SIDE, i / SIDE);
                let (fx, fy) = (ease((x % cell) as f32 / cell as f32), ease((y % cell) as f32 / cell as f32));
                let (cx, cy) = (x / cell, y / cell);
                let top = mix(corner(cx, cy), corner(cx + 1, cy), fx);
                let bottom = mix(corner(cx, cy + 1), corner(cx + 1, cy + 1), fx);
                *value += weight * mix(top, bottom, fy);
            }
            cell /= 2;
            weight *= 0.5;
        }
        Self { values }
    }

    /// The noise at a point, in texels; between texels it is interpolated.
    /// Points further than 16 tiles to the left of or above the origin read the first texel.
    pub(super) fn at(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x + LIFT, y + LIFT);
        let (ix, iy) = (x as usize, y as usize);
        let (fx, fy) = (x - ix as f32, y - iy as f32);
        let (x0, x1) = (ix % SIDE, (ix + 1) % SIDE);
        let (row0, row1) = ((iy % SIDE) * SIDE, ((iy + 1) % SIDE) * SIDE);
        let v = &self.values;
        mix(mix(v[row0 + x0], v[row0 + x1], fx), mix(v[row1 + x0], v[row1 + x1], fx), fy)
    }
}

/// Between −1 and 1, mostly near 0.
fn triangle(rng: &mut Rng) -> f32 {
    rng.unit() + rng.unit() - 1.0
}

/// The mean of `2 × reach + 1` neighbours on a ring.
fn running_mean(ring: &[f32], reach: usize) -> Vec<f32> {
    let n = ring.len();
    (0..n)
        .map(|i| {
            let sum: f32 = (0..=2 * reach).map(|k| ring[(i + n + k - reach) % n]).sum();
            sum / (2 * reach + 1) as f32
        })
        .collect()
}

/// `a` at 0, `b` at 1.
pub(super) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// 0 to 1 with level ends.
fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// 0 below `low`, 1 above `high`, smooth between them; falls when `high` is below `low`.
pub(super) fn step(low: f32, high: f32, x: f32) -> f32 {
    ease(((x - low) / (high - low)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_joins_its_own_other_side() {
        let mut rng = Rng::new(1, 1);
        for tile in [Tile::streaks(&mut rng), Tile::clouds(&mut rng, 32)] {
            for k in 0..50 {
                let (x, y) = (k as f32 * 5.3 - 40.0, k as f32 * 3.1 - 70.0);
                assert!((tile.at(x, y) - tile.at(x + SIDE as f32, y - SIDE as f32)).abs() < 2e-2);
            }
        }
    }

    #[test]
    fn noise_is_centred_and_of_order_one() {
        let mut rng = Rng::new(5, 0);
        for tile in [Tile::streaks(&mut rng), Tile::clouds(&mut rng, 32)] {
            let mean = tile.values.iter().sum::<f32>() / tile.values.len() as f32;
            let peak = tile.values.iter().fold(0.0f32, |peak, v| peak.max(v.abs()));
            assert!(mean.abs() < 0.2, "mean {mean}");
            assert!((0.5..2.5).contains(&peak), "peak {peak}");
        }
    }

    #[test]
    fn a_step_falls_when_its_ends_are_turned_round() {
        assert_eq!((step(1.0, 2.0, 0.0), step(1.0, 2.0, 3.0)), (0.0, 1.0));
        assert_eq!((step(2.0, 1.0, 0.0), step(2.0, 1.0, 3.0)), (1.0, 0.0));
        assert_eq!(step(0.0, 2.0, 1.0), 0.5);
    }
}
