//! Trees laid out flat: every branch and leaf is a node of 16 bytes (24 in `f64`) in one array, and
//! a step is one comparison and one load.
//!
//! A leaf leads to itself, so that many descents can step together without asking which have
//! arrived: the processor overlaps their loads, and only every few steps a branch looks whether all
//! are done. Nodes of one tree lie together, parents before children.

use tract_core::internal::*;

use super::parts::{Branch, Child, Mode, Parts};

/// The two types of thresholds.
pub(super) trait Real: Datum + Copy + PartialOrd + Default {
    fn of(wide: f64) -> Self;
    fn wide(self) -> f64;
    fn narrow(self) -> f32;
    fn plus(self, other: Self) -> Self;
}

impl Real for f32 {
    fn of(wide: f64) -> Self {
        wide as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn narrow(self) -> f32 {
        self
    }
    fn plus(self, other: Self) -> Self {
        self + other
    }
}

impl Real for f64 {
    fn of(wide: f64) -> Self {
        wide
    }
    fn wide(self) -> f64 {
        self
    }
    fn narrow(self) -> f32 {
        self as f32
    }
    fn plus(self, other: Self) -> Self {
        self + other
    }
}

#[derive(Clone, Copy, Debug)]
struct Node<F> {
    threshold: F,
    /// The column; [`MISSING_IS_TRUE`] is set where a NaN goes to the true branch.
    feature: u32,
    /// Where false and true lead; a leaf leads to itself.
    next: [u32; 2],
}

const MISSING_IS_TRUE: u32 = 1 << 31;

/// Descents that step together: their loads overlap, and their positions still fit registers.
pub(super) const LANES: usize = 8;

/// How the branches of a forest compare.
#[derive(Debug)]
enum Modes {
    /// All alike, which exporters write.
    Uniform(Mode),
    /// One for each node.
    Mixed(Vec<Mode>),
}

#[derive(Debug)]
pub(super) struct Forest<F> {
    nodes: Vec<Node<F>>,
    modes: Modes,
    /// Whether any branch sends a NaN to its true side.
    missing_is_true: bool,
    /// For each node: its contributions in `weights`; empty for a branch.
    leaves: Vec<(u32, u32)>,
    weights: Vec<(u32, F)>,
    /// The node at which each tree begins.
    roots: Vec<u32>,
    sets: Vec<Vec<F>>,
    targets: usize,
    columns: usize,
}

impl<F: Real> Forest<F> {
    /// What its arrays take.
    pub(super) fn bytes(&self) -> usize {
        let modes = if let Modes::Mixed(modes) = &self.modes { size_of_val(&**modes) } else { 0 };
        let sets: usize = self.sets.iter().map(|set| size_of_val(&**set)).sum();
        size_of_val(&*self.nodes)
            + size_of_val(&*self.leaves)
            + size_of_val(&*self.weights)
            + size_of_val(&*self.roots)
            + modes
            + sets
    }

    /// Fails when a tree leads back into itself.
    pub(super) fn new(parts: Parts) -> TractResult<Self> {
        let places = Places::of(&parts)?;
        let mut forest = Self {
            nodes: Vec::with_capacity(places.order.len()),
            modes: modes(&parts, &places),
            missing_is_true: false,
            leaves: Vec::with_capacity(places.order.len()),
            weights: Vec::new(),
            roots: parts.roots.iter().map(|root| places.of_child(*root)).collect(),
            sets: parts.sets.iter().map(|set| set.iter().map(|value| F::of(*value)).collect()).collect(),
            targets: parts.targets,
            columns: 0,
        };
        for (place, child) in places.order.iter().enumerate() {
            let first = u32::try_from(forest.weights.len())?;
            match *child {
                Child::Branch(index) => {
                    let branch = parts.branches[index];
                    forest.missing_is_true |= branch.missing_is_true;
                    forest.columns = forest.columns.max(branch.feature as usize + 1);
                    forest.nodes.push(Node {
                        threshold: F::of(branch.threshold),
                        feature: branch.feature | if branch.missing_is_true { MISSING_IS_TRUE } else { 0 },
                        next: [places.of_child(branch.when_false), places.of_child(branch.when_true)],
                    });
                }
                Child::Leaf(index) => {
                    let itself = u32::try_from(place)?;
                    forest.nodes.push(Node { threshold: F::default(), feature: 0, next: [itself; 2] });
                    forest
                        .weights
                        .extend(parts.leaves[index].iter().map(|(target, weight)| (*target, F::of(*weight))));
                }
            }
            forest.leaves.push((first, u32::try_from(forest.weights.len())?));
        }
        Ok(forest)
    }

    pub(super) fn trees(&self) -> usize {
        self.roots.len()
    }

    pub(super) fn targets(&self) -> usize {
        self.targets
    }

    /// Columns that the branches look at.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn roots(&self) -> &[u32] {
        &self.roots
    }

    /// What a leaf contributes: target and weight.
    pub(super) fn contributions(&self, leaf: u32) -> &[(u32, F)] {
        let (from, to) = self.leaves[leaf as usize];
        &self.weights[from as usize..to as usize]
    }

    /// The leaves of [`LANES`] descents, each from its own node with its own row.
    pub(super) fn descend(&self, from: [u32; LANES], rows: [&[F]; LANES]) -> [u32; LANES] {
        match (&self.modes, self.missing_is_true) {
            // What scikit-learn and LightGBM write, then XGBoost.
            (Modes::Uniform(Mode::LessOrEqual), false) => {
                self.steps(from, rows, |_, node, x| x <= node.threshold)
            }
            (Modes::Uniform(Mode::LessOrEqual), true) => {
                self.steps(from, rows, |_, node, x| x <= node.threshold || node.takes_missing(x))
            }
            (Modes::Uniform(Mode::Less), _) => {
                self.steps(from, rows, |_, node, x| x < node.threshold || node.takes_missing(x))
            }
            (Modes::Uniform(mode), _) => {
                self.steps(from, rows, |_, node, x| self.compare(*mode, node, x) || node.takes_missing(x))
            }
            (Modes::Mixed(modes), _) => self.steps(from, rows, |place, node, x| {
                self.compare(modes[place as usize], node, x) || node.takes_missing(x)
            }),
        }
    }

    #[inline(always)]
    fn steps(
        &self,
        from: [u32; LANES],
        rows: [&[F]; LANES],
        compare: impl Fn(u32, &Node<F>, F) -> bool,
    ) -> [u32; LANES] {
        // A look after every step would cost a branch each; a leaf stays where it is.
        const STEPS_BETWEEN_LOOKS: usize = 4;
        let mut at = from;
        loop {
            let before = at;
            for _ in 0..STEPS_BETWEEN_LOOKS {
                for lane in 0..LANES {
                    let node = &self.nodes[at[lane] as usize];
                    let x = rows[lane][(node.feature & !MISSING_IS_TRUE) as usize];
                    at[lane] = node.next[usize::from(compare(at[lane], node, x))];
                }
            }
            // No lane moved in four steps: all are leaves, for no branch leads to itself.
            if at == before {
                return at;
            }
        }
    }

    fn compare(&self, mode: Mode, node: &Node<F>, x: F) -> bool {
        match mode {
            Mode::LessOrEqual => x <= node.threshold,
            Mode::Less => x < node.threshold,
            Mode::GreaterOrEqual => x >= node.threshold,
            Mode::Greater => x > node.threshold,
            Mode::Equal => x == node.threshold,
            Mode::NotEqual => x != node.threshold,
            Mode::Member => self.sets.get(node.threshold.wide() as usize).is_some_and(|set| set.contains(&x)),
        }
    }
}

impl Forest<f32> {
    /// The same trees for `f64` readings: every `f32` is an `f64`.
    pub(super) fn widened(&self) -> Forest<f64> {
        let node = |node: &Node<f32>| Node {
            threshold: node.threshold.wide(),
            feature: node.feature,
            next: node.next,
        };
        Forest {
            nodes: self.nodes.iter().map(node).collect(),
            modes: match &self.modes {
                Modes::Uniform(mode) => Modes::Uniform(*mode),
                Modes::Mixed(modes) => Modes::Mixed(modes.clone()),
            },
            missing_is_true: self.missing_is_true,
            leaves: self.leaves.clone(),
            weights: self.weights.iter().map(|(target, weight)| (*target, weight.wide())).collect(),
            roots: self.roots.clone(),
            sets: self.sets.iter().map(|set| set.iter().map(|value| value.wide()).collect()).collect(),
            targets: self.targets,
            columns: self.columns,
        }
    }
}

impl<F: Real> Node<F> {
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    #[inline(always)]
    fn takes_missing(&self, x: F) -> bool {
        self.feature & MISSING_IS_TRUE != 0 && x != x
    }
}

fn modes(parts: &Parts, places: &Places) -> Modes {
    let of = |branch: &Branch| branch.mode;
    let mut reached = places.order.iter().filter_map(|child| match child {
        Child::Branch(index) => Some(of(&parts.branches[*index])),
        Child::Leaf(_) => None,
    });
    // A forest of leaves alone compares nothing.
    let first = reached.next().unwrap_or(Mode::LessOrEqual);
    if reached.all(|mode| mode == first) {
        return Modes::Uniform(first);
    }
    let mode = |child: &Child| match child {
        Child::Branch(index) => of(&parts.branches[*index]),
        Child::Leaf(_) => first,
    };
    Modes::Mixed(places.order.iter().map(mode).collect())
}

/// Where each branch and leaf comes to lie: a tree after the other, parents before children.
struct Places {
    order: Vec<Child>,
    branches: Vec<u32>,
    leaves: Vec<u32>,
}

/// Not reached (yet).
const NOWHERE: u32 = u32::MAX;

impl Places {
    /// Nodes may be shared; a node below itself is an error.
    fn of(parts: &Parts) -> TractResult<Self> {
        let mut places = Self {
            order: Vec::new(),
            branches: vec![NOWHERE; parts.branches.len()],
            leaves: vec![NOWHERE; parts.leaves.len()],
        };
        ensure!(
            parts.branches.len() + parts.leaves.len() < NOWHERE as usize,
            "more nodes than 32 bits can count"
        );
        /// A branch is looked into, or done with.
        enum Visit {
            Enter(Child),
            Leave(usize),
        }
        let mut above = vec![false; parts.branches.len()];
        for root in &parts.roots {
            let mut stack = vec![Visit::Enter(*root)];
            while let Some(visit) = stack.pop() {
                match visit {
                    Visit::Leave(index) => above[index] = false,
                    Visit::Enter(child @ Child::Leaf(index)) => {
                        let place = places
                            .leaves
                            .get_mut(index)
                            .with_context(|| format!("there is no leaf {index}"))?;
                        if *place == NOWHERE {
                            *place = places.order.len() as u32;
                            places.order.push(child);
                        }
                    }
                    Visit::Enter(child @ Child::Branch(index)) => {
                        let branch =
                            parts.branches.get(index).with_context(|| format!("there is no node {index}"))?;
                        ensure!(!above[index], "node {index} lies below itself");
                        if places.branches[index] != NOWHERE {
                            continue;
                        }
                        places.branches[index] = places.order.len() as u32;
                        places.order.push(child);
                        above[index] = true;
                        stack.push(Visit::Leave(index));
                        stack.push(Visit::Enter(branch.when_false));
                        stack.push(Visit::Enter(branch.when_true));
                    }
                }
            }
        }
        Ok(places)
    }

    fn of_child(&self, child: Child) -> u32 {
        match child {
            Child::Branch(index) => self.branches[index],
            Child::Leaf(index) => self.leaves[index],
        }
    }
}
