//! Inputs on which ways to answer are compared: ordinary ones and extremes.
//!
//! Deterministic: the same model is compared on the same numbers everywhere.

use std::collections::HashSet;

use crate::base::{Data, DataType, Tensor};
use crate::config::card::PortSpec;

/// Inputs with a name for messages.
pub(super) struct Probe {
    pub(super) name: String,
    pub(super) inputs: Vec<Tensor>,
}

/// How the numbers of one probe are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Mostly within ±3.
    Normal(u64),
    /// From 0 to 1, as pictures and probabilities are.
    Unit(u64),
    /// Whole numbers from 0 to 255.
    Bytes(u64),
    Zeros,
    Ones,
    /// Every magnitude from 1e-6 to 1e4, both signs.
    Wide(u64),
    /// The type's own limits among ordinary numbers.
    Limits(u64),
}

const KINDS: &[(&str, Kind)] = &[
    ("ordinary numbers (seed 1)", Kind::Normal(1)),
    ("ordinary numbers (seed 2)", Kind::Normal(2)),
    ("numbers from 0 to 1", Kind::Unit(3)),
    ("bytes", Kind::Bytes(4)),
    ("zeros", Kind::Zeros),
    ("ones", Kind::Ones),
    ("numbers of every magnitude", Kind::Wide(5)),
    ("extremes of the type", Kind::Limits(6)),
];

/// The probes for a model with these inputs, ordinary ones first. What is the state of a recurrent layer, as
/// `states` names them, stays between −1 and 1, as such a state does: beyond, the digits that an f32 has left are the probe's
/// fault and not the layer's.
pub(super) fn probes(specs: &[PortSpec], states: &HashSet<String>) -> Vec<Probe> {
    KINDS
        .iter()
        .map(|(name, kind)| {
            let mut random = Random::new(match kind {
                Kind::Normal(seed)
                | Kind::Unit(seed)
                | Kind::Bytes(seed)
                | Kind::Wide(seed)
                | Kind::Limits(seed) => *seed,
                Kind::Zeros | Kind::Ones => 0,
            });
            let input = |spec: &PortSpec| {
                let tensor = tensor(spec, *kind, &mut random);
                if states.contains(&spec.name) { bounded(tensor) } else { tensor }
            };
            let inputs = specs.iter().map(input).collect();
            Probe { name: (*name).to_owned(), inputs }
        })
        .collect()
}

fn bounded(tensor: Tensor) -> Tensor {
    let data = match tensor.data {
        Data::F32(values) => Data::F32(values.into_iter().map(|value| value.clamp(-1.0, 1.0)).collect()),
        Data::F64(values) => Data::F64(values.into_iter().map(|value| value.clamp(-1.0, 1.0)).collect()),
        other => other,
    };
    Tensor { data, ..tensor }
}

/// The same inputs, each number off by a rounding or so, and what is below an f32's digits as 0: what that changes
/// in an answer is no fault. (An optimised division multiplies by a reciprocal, which there is none of.)
pub(super) fn nudged(inputs: &[Tensor]) -> Vec<Tensor> {
    // 2^-20: eight units in the last place of an f32, what a few operators may add up.
    const NUDGE: f64 = 1.0 / 1_048_576.0;
    let mut random = Random::new(7);
    let mut sign = || if random.next() & 1 == 0 { 1.0 + NUDGE } else { 1.0 - NUDGE };
    inputs
        .iter()
        .map(|tensor| {
            let data = match &tensor.data {
                Data::F32(values) => {
                    let nudged =
                        |v: &f32| if v.is_subnormal() { 0.0 } else { (f64::from(*v) * sign()) as f32 };
                    Data::F32(values.iter().map(nudged).collect())
                }
                Data::F64(values) => Data::F64(values.iter().map(|v| v * sign()).collect()),
                other => other.clone(),
            };
            Tensor { shape: tensor.shape.clone(), data }
        })
        .collect()
}

fn tensor(spec: &PortSpec, kind: Kind, random: &mut Random) -> Tensor {
    let count = spec.shape.iter().product();
    let mut draw = || real(kind, random);
    macro_rules! whole {
        ($variant:ident, $type:ty) => {{
            let limits = [<$type>::MIN, <$type>::MAX];
            let values = (0..count)
                .map(|i| match (kind, i % 5) {
                    // Indices and counts are small; extremes of a wide type would only be out of range.
                    (Kind::Limits(_), 0) if size_of::<$type>() == 1 => limits[(i / 5) % 2],
                    (Kind::Bytes(_), _) | (Kind::Limits(_), _) if size_of::<$type>() == 1 => draw() as $type,
                    _ => (draw().abs() % 3.0) as $type,
                })
                .collect();
            Data::$variant(values)
        }};
    }
    let data = match spec.data_type {
        DataType::F32 => Data::F32((0..count).map(|_| draw() as f32).collect()),
        DataType::F64 => Data::F64((0..count).map(|_| draw()).collect()),
        DataType::F16 => Data::F16(
            (0..count)
                .map(|_| tract_core::prelude::f16::from_f64(draw().clamp(-65504.0, 65504.0)).to_bits())
                .collect(),
        ),
        DataType::I64 => whole!(I64, i64),
        DataType::I32 => whole!(I32, i32),
        DataType::I16 => whole!(I16, i16),
        DataType::I8 => whole!(I8, i8),
        DataType::U64 => whole!(U64, u64),
        DataType::U32 => whole!(U32, u32),
        DataType::U16 => whole!(U16, u16),
        DataType::U8 => whole!(U8, u8),
        DataType::Bool => Data::Bool((0..count).map(|_| draw() > 0.5).collect()),
        DataType::Text => Data::Text((0..count).map(|_| format!("{:.0}", draw().abs() % 10.0)).collect()),
    };
    Tensor { shape: spec.shape.clone(), data }
}

fn real(kind: Kind, random: &mut Random) -> f64 {
    match kind {
        Kind::Normal(_) => random.normal(),
        Kind::Unit(_) => random.unit(),
        Kind::Bytes(_) => (random.unit() * 256.0).floor(),
        Kind::Zeros => 0.0,
        Kind::Ones => 1.0,
        Kind::Wide(_) => {
            let size = 10_f64.powf(random.unit() * 10.0 - 6.0);
            if random.next() & 1 == 0 { size } else { -size }
        }
        Kind::Limits(_) => match random.next() % 8 {
            0 => 0.0,
            1 => -0.0,
            // The smallest normal f32 and one below it.
            2 => f64::from(f32::MIN_POSITIVE),
            3 => f64::from(f32::MIN_POSITIVE) / 4.0,
            4 => 1e4,
            5 => -1e4,
            _ => random.normal(),
        },
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
pub(in crate::engine) struct Random(u64);

impl Random {
    pub(in crate::engine) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::engine) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, 1.
    pub(in crate::engine) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean 0, variance 1: twelve uniform numbers less six.
    pub(in crate::engine) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_have_the_models_shapes_and_are_the_same_each_time() {
        let spec = |data_type| PortSpec { name: "x".into(), data_type, shape: vec![2, 3] };
        let specs = [spec(DataType::F32), spec(DataType::I64), spec(DataType::U8), spec(DataType::Text)];
        let none = HashSet::new();
        for (first, second) in probes(&specs, &none).iter().zip(&probes(&specs, &none)) {
            for ((tensor, again), spec) in first.inputs.iter().zip(&second.inputs).zip(&specs) {
                assert_eq!(
                    (tensor.data_type(), &tensor.shape, tensor.len()),
                    (spec.data_type, &spec.shape, 6)
                );
                assert_eq!(tensor, again, "{}", first.name);
            }
        }
    }

    #[test]
    fn a_state_stays_between_minus_one_and_one() {
        let spec = |name: &str| PortSpec { name: name.into(), data_type: DataType::F32, shape: vec![40] };
        let states = HashSet::from(["h".to_owned()]);
        let largest =
            |tensor: &Tensor| tensor.as_f32().unwrap().iter().fold(0.0_f32, |all, x| all.max(x.abs()));
        let probes = probes(&[spec("x"), spec("h")], &states);
        assert!(probes.iter().all(|probe| largest(&probe.inputs[1]) <= 1.0));
        assert!(probes.iter().any(|probe| largest(&probe.inputs[0]) > 1e3));
    }

    #[test]
    fn a_nudge_is_a_few_roundings() {
        let moved = nudged(&[Tensor::f32(&[4], vec![1.0, 0.0, -1e4, f32::MIN_POSITIVE / 4.0])]);
        let values = moved[0].as_f32().unwrap();
        assert!((values[0] - 1.0).abs() > 0.0 && (values[0] - 1.0).abs() < 2e-6);
        assert_eq!(values[1], 0.0);
        assert!((values[2] / -1e4 - 1.0).abs() < 2e-6);
        assert_eq!(values[3], 0.0);
    }
}
