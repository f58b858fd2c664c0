//! Numbers added up eight at a time.
//!
//! Written out: a build for size makes no loop of one number a vector, and one for speed makes it of this.

/// Every eighth number together, from each of the first eight on; and what stands behind the last whole eight.
pub(super) fn eight_sums(numbers: &[f32]) -> ([f32; 8], &[f32]) {
    let (eights, rest) = numbers.as_chunks::<8>();
    let mut sums = [0.0_f32; 8];
    for [a, b, c, d, e, f, g, h] in eights {
        sums[0] += a;
        sums[1] += b;
        sums[2] += c;
        sums[3] += d;
        sums[4] += e;
        sums[5] += f;
        sums[6] += g;
        sums[7] += h;
    }
    (sums, rest)
}
