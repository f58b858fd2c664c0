//! The part that the line makes: a ground bearing plate, as a drawing.
//!
//! Coordinates are millimetres from the middle of the plate, u along the grinding direction.
//! Everything is a signed distance: negative inside, 0 on the edge, with the direction outwards.
//! Not here: light and camera (`scene`), what can be wrong with a part (`flaw`).

/// Half the plate's length and width.
pub(super) const HALF_MM: (f32, f32) = (96.0, 60.0);
const CORNER_RADIUS_MM: f32 = 15.0;
const BORE_AT_MM: (f32, f32) = (75.0, 40.0);
const BORE_RADIUS_MM: f32 = 9.5;
const CENTRE_RADIUS_MM: f32 = 21.0;
const SLOT_AT_MM: f32 = 44.0;
const SLOT_HALF_LENGTH_MM: f32 = 13.0;
const SLOT_RADIUS_MM: f32 = 5.5;
/// Width of the broken edge around the outline and every opening.
pub(super) const CHAMFER_MM: f32 = 3.2;
/// Middle of the engraved code.
pub(super) const CODE_AT_MM: (f32, f32) = (0.0, 41.0);
/// Side of one cell of the code, and how many there are in a row.
pub(super) const CODE_CELL_MM: f32 = 2.0;
/// Cells in a row of the code, its solid border included.
pub(super) const CODE_CELLS: usize = 9;

/// Openings that a drill or a mill must make; one of them may be missing.
pub(super) const OPENINGS: u32 = 7;

/// A distance and the unit vector along which it grows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// Millimetres; negative inside.
    pub distance: f32,
    /// Outwards.
    pub normal: (f32, f32),
}

/// The plate's outline without its openings.
pub(super) fn outline(u: f32, v: f32) -> Edge {
    let (qu, qv) = (u.abs() - HALF_MM.0 + CORNER_RADIUS_MM, v.abs() - HALF_MM.1 + CORNER_RADIUS_MM);
    let (su, sv) = (u.signum(), v.signum());
    if qu > 0.0 && qv > 0.0 {
        let length = (qu * qu + qv * qv).sqrt();
        Edge { distance: length - CORNER_RADIUS_MM, normal: (su * qu / length, sv * qv / length) }
    } else if qu > qv {
        Edge { distance: qu - CORNER_RADIUS_MM, normal: (su, 0.0) }
    } else {
        Edge { distance: qv - CORNER_RADIUS_MM, normal: (0.0, sv) }
    }
}

/// The nearest opening's edge: negative inside the opening. `missing` was never made.
pub(super) fn opening(u: f32, v: f32, missing: Option<u32>) -> Edge {
    let mut nearest = Edge { distance: f32::MAX, normal: (1.0, 0.0) };
    let mut offer = |number: u32, from: (f32, f32), radius_mm: f32| {
        if missing == Some(number) {
            return;
        }
        let length = (from.0 * from.0 + from.1 * from.1).sqrt();
        if length - radius_mm < nearest.distance {
            let per_length = 1.0 / length.max(1e-6);
            nearest =
                Edge { distance: length - radius_mm, normal: (from.0 * per_length, from.1 * per_length) };
        }
    };
    let quadrant = u32::from(u >= 0.0) + 2 * u32::from(v >= 0.0);
    let (bore_u, bore_v) = (BORE_AT_MM.0.copysign(u), BORE_AT_MM.1.copysign(v));
    offer(quadrant, (u - bore_u, v - bore_v), BORE_RADIUS_MM);
    offer(4, (u, v), CENTRE_RADIUS_MM);
    let along = v - v.clamp(-SLOT_HALF_LENGTH_MM, SLOT_HALF_LENGTH_MM);
    offer(5 + u32::from(u >= 0.0), (u - SLOT_AT_MM.copysign(u), along), SLOT_RADIUS_MM);
    nearest
}

/// Middle and reach (radius of a circle around it) of an opening by number.
pub(super) fn opening_place(number: u32) -> ((f32, f32), f32) {
    let side = |bit: u32| if bit == 0 { -1.0 } else { 1.0 };
    match number {
        0..=3 => ((side(number & 1) * BORE_AT_MM.0, side(number >> 1) * BORE_AT_MM.1), BORE_RADIUS_MM),
        4 => ((0.0, 0.0), CENTRE_RADIUS_MM),
        _ => ((side(number - 5) * SLOT_AT_MM, 0.0), SLOT_HALF_LENGTH_MM + SLOT_RADIUS_MM),
    }
}

/// How far plain metal reaches around a point, mm: to the outline, an opening or the code.
pub(super) fn clearance_mm(u: f32, v: f32) -> f32 {
    let half = CODE_CELL_MM * CODE_CELLS as f32 / 2.0;
    let (du, dv) = ((u - CODE_AT_MM.0).abs() - half, (v - CODE_AT_MM.1).abs() - half);
    (-outline(u, v).distance).min(opening(u, v, None).distance).min(du.max(dv))
}

/// Whether the code's cell under a point is engraved; each part's `serial` gives another pattern.
/// Two sides are solid and two alternate, as in a Data Matrix.
pub(super) fn engraved(u: f32, v: f32, serial: u64) -> bool {
    let half = CODE_CELL_MM * CODE_CELLS as f32 / 2.0;
    let (x, y) = ((u - CODE_AT_MM.0 + half) / CODE_CELL_MM, (v - CODE_AT_MM.1 + half) / CODE_CELL_MM);
    let inside = 0.0..CODE_CELLS as f32;
    if !inside.contains(&x) || !inside.contains(&y) {
        return false;
    }
    let (x, y, last) = (x as usize, y as usize, CODE_CELLS - 1);
    match (x, y) {
        (0, _) => true,
        (_, y) if y == last => true,
        (x, 0) => x % 2 == 0,
        (x, y) if x == last => y % 2 == 0,
        (x, y) => serial >> ((y - 1) * (CODE_CELLS - 2) + x - 1) & 1 == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_is_zero_at_the_middle_of_each_side() {
        for (u, v, normal) in
            [(HALF_MM.0, 0.0, (1.0, 0.0)), (-HALF_MM.0, 0.0, (-1.0, 0.0)), (0.0, -HALF_MM.1, (0.0, -1.0))]
        {
            let edge = outline(u, v);
            assert!(edge.distance.abs() < 1e-4, "{edge:?}");
            assert_eq!(edge.normal, normal);
        }
        assert!(outline(HALF_MM.0, HALF_MM.1).distance > 1.0, "the corner is round");
    }

    #[test]
    fn every_opening_is_open_unless_it_is_the_missing_one() {
        for number in 0..OPENINGS {
            let ((u, v), reach_mm) = opening_place(number);
            assert!(opening(u, v, None).distance < 0.0, "opening {number}");
            assert!(opening(u, v, Some(number)).distance > 0.0, "opening {number} was drilled after all");
            assert!(-outline(u, v).distance > reach_mm, "opening {number} breaks the outline");
            for other in (0..OPENINGS).filter(|&other| other != number) {
                assert!(opening(u, v, Some(other)).distance < 0.0, "{other} missing closed {number}");
            }
        }
    }

    #[test]
    fn the_code_lies_on_plain_metal() {
        let half = CODE_CELL_MM * CODE_CELLS as f32 / 2.0;
        for (su, sv) in [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)] {
            let (u, v) = (CODE_AT_MM.0 + su * half, CODE_AT_MM.1 + sv * half);
            assert!(opening(u, v, None).distance > 2.0 && outline(u, v).distance < -4.0);
        }
    }

    #[test]
    fn serials_that_differ_are_engraved_differently() {
        let pattern = |serial| {
            (0..CODE_CELLS * CODE_CELLS)
                .map(|i| {
                    let place = |n: usize| (n as f32 + 0.5 - CODE_CELLS as f32 / 2.0) * CODE_CELL_MM;
                    let (u, v) = (place(i % CODE_CELLS), place(i / CODE_CELLS));
                    engraved(CODE_AT_MM.0 + u, CODE_AT_MM.1 + v, serial)
                })
                .collect::<Vec<_>>()
        };
        assert_ne!(pattern(0b10), pattern(0b01));
        assert_eq!(pattern(0).iter().filter(|&&cell| cell).count(), 2 * CODE_CELLS - 1 + 7);
        assert!(!engraved(60.0, 0.0, u64::MAX));
    }
}
