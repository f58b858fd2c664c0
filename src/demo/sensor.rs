//! A milling machine that is not there: readings as its sensor would take them, with known failures.
//!
//! Torque and speed go together as on the machine of AI4I 2020 (UCI data set 601), temperatures drift,
//! the tool wears with each product and is changed in time. Now and then something goes wrong for a
//! few products; the truth follows the rules by which the data set's authors labelled theirs. Readings
//! keep a distance from the rules' borders, where a person could not tell either.
//!
//! Promise: readings depend on the seed only.

/// Torque in Nm and the median speed at it in rpm, as measured in the data set.
const SPEED_AT: [(f64, f64); 15] = [
    (5.0, 2850.0),
    (10.0, 2600.0),
    (15.0, 2300.0),
    (20.0, 1990.0),
    (25.0, 1790.0),
    (30.0, 1665.0),
    (35.0, 1575.0),
    (40.0, 1500.0),
    (45.0, 1445.0),
    (50.0, 1402.0),
    (55.0, 1367.0),
    (60.0, 1335.0),
    (65.0, 1304.0),
    (70.0, 1285.0),
    (77.0, 1250.0),
];
/// The tool is changed at this age; the data set's tools begin to break at 200 minutes.
const CHANGE_TOOL_AT_MIN: f64 = 190.0;
/// One product in so many is the first of a bad spell.
const TROUBLE_ONE_IN: u64 = 24;

/// What the machine makes: quality grades, which wear the tool and stand strain differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    Low,
    Medium,
    High,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The coolant fails: too little difference to the air, too slow to cool itself.
    Heat,
    /// A blunt tool is forced through the material.
    Strain,
    /// The drive is asked for more than it has.
    Overload,
    /// The tool has no contact.
    Idle,
}

/// What the card calls these numbers.
pub const SCHEMA: u16 = 1;
/// Numbers in a reading.
pub const CHANNELS: usize = 6;

/// What the machine's sensor reads of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// As schema 1 of `models/machine-failure` has them: grade, air and process temperature in tenths of
    /// a kelvin, speed in rpm, torque in tenths of a newton metre, tool wear in minutes.
    pub numbers: [i16; CHANNELS],
    /// The label that is right: `ok` or `failure`.
    pub truth: &'static str,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine {
    random: Random,
    air_k: f64,
    difference_k: f64,
    torque_nm: f64,
    wear_min: f64,
    trouble: Option<(Trouble, u64)>,
}

/// Numbers of one product.
#[derive(Clone, Copy, Debug)]
struct State {
    grade: Grade,
    air_k: f64,
    process_k: f64,
    speed_rpm: f64,
    torque_nm: f64,
    wear_min: f64,
}

impl Machine {
    /// A machine in its first shift.
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x6d61_6368_696e_6521);
        let wear_min = random.between(0.0, 120.0).floor();
        Self { random, air_k: 300.0, difference_k: 10.0, torque_nm: 40.0, wear_min, trouble: None }
    }

    /// The next product's reading.
    pub fn reading(&mut self) -> Reading {
        let state = self.step();
        let numbers = [
            f64::from(state.grade as u8),
            10.0 * state.air_k,
            10.0 * state.process_k,
            state.speed_rpm,
            10.0 * state.torque_nm,
            state.wear_min,
        ];
        // All below 4,000.
        let numbers = numbers.map(|number| number.round() as i16);
        Reading { numbers, truth: if state.fails() { "failure" } else { "ok" } }
    }

    fn step(&mut self) -> State {
        let random = &mut self.random;
        self.trouble = match self.trouble {
            Some((trouble, left)) if left > 1 => Some((trouble, left - 1)),
            Some(_) => None,
            None if random.below(TROUBLE_ONE_IN) == 0 => {
                let kinds = [Trouble::Heat, Trouble::Strain, Trouble::Overload, Trouble::Idle];
                Some((kinds[random.below(4) as usize], 2 + random.below(3)))
            }
            None => None,
        };
        let grade = match random.below(10) {
            0..6 => Grade::Low,
            6..9 => Grade::Medium,
            _ => Grade::High,
        };
        // Wandering, and drawn back to where the hall and the spindle belong.
        self.air_k += 0.05 * (300.0 - self.air_k) + 0.25 * random.normal();
        self.air_k = self.air_k.clamp(296.5, 303.5);
        self.difference_k += 0.1 * (10.2 - self.difference_k) + 0.2 * random.normal();
        self.difference_k = self.difference_k.clamp(9.2, 11.6);
        self.torque_nm += 0.4 * (39.0 - self.torque_nm) + 6.0 * random.normal();
        self.torque_nm = self.torque_nm.clamp(22.0, 54.0);
        self.wear_min += [2.0, 3.0, 5.0][grade as usize];
        if self.wear_min > CHANGE_TOOL_AT_MIN {
            self.wear_min = 0.0;
        }
        let mut state = State {
            grade,
            air_k: self.air_k,
            process_k: self.air_k + self.difference_k,
            speed_rpm: 0.0,
            torque_nm: self.torque_nm,
            wear_min: self.wear_min,
        };
        // A worn tool is driven with more care: strain stays well below the grade's limit.
        let careful_nm = 0.8 * state.strain_limit() / state.wear_min.max(1.0);
        state.torque_nm = state.torque_nm.min(careful_nm);
        match self.trouble.map(|(trouble, _)| trouble) {
            None => {}
            // In the data, heat only ever fails to leave when the hall is warm as well.
            Some(Trouble::Heat) => {
                state.air_k = random.between(302.0, 302.6);
                state.process_k = state.air_k + random.between(8.0, 8.35);
                state.torque_nm = random.between(54.0, 62.0);
                state.wear_min = state.wear_min.clamp(20.0, 160.0);
            }
            Some(Trouble::Strain) => {
                state.wear_min = random.between(206.0, 225.0);
                state.torque_nm =
                    (random.between(1.12, 1.25) * state.strain_limit() / state.wear_min).min(68.0);
            }
            Some(Trouble::Overload) => {
                state.torque_nm = random.between(70.0, 75.0);
                state.wear_min = state.wear_min.min(120.0);
            }
            Some(Trouble::Idle) => state.torque_nm = random.between(5.0, 9.5),
        }
        state.speed_rpm = speed_at(state.torque_nm) * (1.0 + 0.01 * random.normal().clamp(-2.0, 2.0));
        if self.trouble.is_some_and(|(trouble, _)| trouble == Trouble::Heat) {
            state.speed_rpm = state.speed_rpm.min(1350.0);
        }
        state
    }
}

impl State {
    fn power_w(&self) -> f64 {
        self.torque_nm * self.speed_rpm * std::f64::consts::TAU / 60.0
    }

    fn strain_limit(&self) -> f64 {
        match self.grade {
            Grade::Low => 11_000.0,
            Grade::Medium => 12_000.0,
            Grade::High => 13_000.0,
        }
    }

    /// The rules of the data set's authors (S. Matzka, 2020), but for the random ones.
    fn fails(&self) -> bool {
        let heat = self.process_k - self.air_k < 8.6 && self.speed_rpm < 1380.0;
        let power = !(3500.0..=9000.0).contains(&self.power_w());
        let strain = self.wear_min * self.torque_nm > self.strain_limit();
        heat || power || strain
    }
}

fn speed_at(torque_nm: f64) -> f64 {
    let after = SPEED_AT.iter().position(|(torque, _)| *torque > torque_nm).unwrap_or(SPEED_AT.len() - 1);
    let ((t0, s0), (t1, s1)) = (SPEED_AT[after.max(1) - 1], SPEED_AT[after.max(1)]);
    s0 + (s1 - s0) * ((torque_nm - t0) / (t1 - t0)).clamp(0.0, 1.0)
}

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Mean 0, variance 1, within ±3.5: the sum of twelve uniform numbers.
    fn normal(&mut self) -> f64 {
        let sum: f64 = (0..12).map(|_| self.between(0.0, 1.0)).sum();
        (sum - 6.0).clamp(-3.5, 3.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Card;
    use std::path::Path;

    #[test]
    fn the_same_seed_gives_the_same_shift() {
        let shift = |seed| {
            let mut machine = Machine::new(seed);
            (0..50).map(|_| machine.reading()).collect::<Vec<_>>()
        };
        assert_eq!(shift(5), shift(5));
        assert_ne!(shift(5), shift(6));
    }

    #[test]
    fn trouble_always_breaks_a_rule_and_a_quiet_machine_keeps_away_from_them() {
        for seed in 0..40 {
            let mut machine = Machine::new(seed);
            for _ in 0..500 {
                let state = machine.step();
                assert_eq!(state.fails(), machine.trouble.is_some(), "{:?} {state:?}", machine.trouble);
                if machine.trouble.is_none() {
                    assert!((3700.0..8700.0).contains(&state.power_w()), "{state:?}");
                    assert!(state.wear_min * state.torque_nm < 0.9 * state.strain_limit(), "{state:?}");
                }
            }
        }
    }

    #[test]
    fn both_truths_come_often_enough_to_be_seen() {
        let mut machine = Machine::new(1);
        let failures = (0..2000).filter(|_| machine.reading().truth == "failure").count();
        assert!((100..400).contains(&failures), "{failures} of 2000");
    }

    #[test]
    fn a_reading_is_what_the_models_card_says_of_it() {
        let mut machine = Machine::new(3);
        let mut same = machine.clone();
        let (Reading { numbers, .. }, state) = (machine.reading(), same.step());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/machine-failure");
        let card = Card::read(&folder).unwrap();
        let schema = card.packets.iter().find(|packet| packet.schema == SCHEMA).unwrap();
        let columns = card.features.columns();
        assert_eq!(schema.channels.len(), CHANNELS);
        for (number, channel) in numbers.iter().zip(&schema.channels) {
            let name = &columns[channel.column.unwrap()].name;
            let meant = match name.as_str() {
                "type" => f64::from(state.grade as u8),
                "air_temperature_k" => state.air_k,
                "process_temperature_k" => state.process_k,
                "rotational_speed_rpm" => state.speed_rpm,
                "torque_nm" => state.torque_nm,
                "tool_wear_min" => state.wear_min,
                other => panic!("{other}"),
            };
            let said = f64::from(*number) * channel.scale + channel.offset;
            assert!((said - meant).abs() <= 0.5 * channel.scale + 1e-9, "{name}: {said}, is {meant}");
        }
    }
}
