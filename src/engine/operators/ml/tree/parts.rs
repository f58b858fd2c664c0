//! A forest as its attributes tell it, before it is laid out flat.

use tract_core::internal::{TractResult, bail};

/// How a branch compares a reading with its threshold. True leads to the true branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
    /// The reading is one of a set; the threshold is the set's number.
    Member,
}

impl Mode {
    /// `None` for a leaf.
    pub(super) fn parse(name: &str) -> TractResult<Option<Self>> {
        Ok(Some(match name {
            "LEAF" => return Ok(None),
            "BRANCH_LEQ" => Self::LessOrEqual,
            "BRANCH_LT" => Self::Less,
            "BRANCH_GTE" => Self::GreaterOrEqual,
            "BRANCH_GT" => Self::Greater,
            "BRANCH_EQ" => Self::Equal,
            "BRANCH_NEQ" => Self::NotEqual,
            other => {
                bail!("a node's mode is {other:?}; it must be LEAF or BRANCH_LEQ, _LT, _GTE, _GT, _EQ, _NEQ")
            }
        }))
    }

    /// As `TreeEnsemble` numbers them.
    pub(super) fn numbered(number: i64) -> TractResult<Self> {
        Ok(match number {
            0 => Self::LessOrEqual,
            1 => Self::Less,
            2 => Self::GreaterOrEqual,
            3 => Self::Greater,
            4 => Self::Equal,
            5 => Self::NotEqual,
            6 => Self::Member,
            other => bail!("a node's mode is {other}; it must be 0 to 6"),
        })
    }
}

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    Branch(usize),
    Leaf(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    pub(super) feature: u32,
    /// Or the number of its set, for [`Mode::Member`].
    pub(super) threshold: f64,
    pub(super) mode: Mode,
    /// A NaN goes to the true branch.
    pub(super) missing_is_true: bool,
    pub(super) when_true: Child,
    pub(super) when_false: Child,
}

#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) branches: Vec<Branch>,
    /// Target and weight of each leaf's contributions.
    pub(super) leaves: Vec<Vec<(u32, f64)>>,
    /// One for each tree.
    pub(super) roots: Vec<Child>,
    pub(super) sets: Vec<Vec<f64>>,
    pub(super) targets: usize,
    /// The numbers were given in `f64`.
    pub(super) wide: bool,
}

/// Column numbers above this would need a row of gigabytes.
const MAX_FEATURES: i64 = 1 << 28;

/// A column's number as it stands in the attributes.
pub(super) fn feature(id: i64) -> TractResult<u32> {
    match u32::try_from(id) {
        Ok(feature) if id < MAX_FEATURES => Ok(feature),
        _ => bail!("a node looks at column {id}"),
    }
}

/// A target's number as it stands in the attributes.
pub(super) fn target(id: i64, targets: usize) -> TractResult<u32> {
    match u32::try_from(id) {
        Ok(target) if (target as usize) < targets => Ok(target),
        _ => bail!("a leaf adds to target {id}; there are {targets}"),
    }
}
