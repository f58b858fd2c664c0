//! `ai.onnx.ml.SVMClassifier` and `SVMRegressor`: support vectors and every kernel.
//!
//! Standard: ai.onnx.ml 1; layout and voting are libsvm's, as onnxruntime reads them. Kernels of a
//! row x and a support vector v, with `kernel_params` γ, c₀ and d:
//! `LINEAR` x·v, `POLY` (γ x·v + c₀)^d, `RBF` exp(-γ |x - v|²), `SIGMOID` tanh(γ x·v + c₀).
//! Arithmetic in `f64`, rounded once to `f32`.
//!
//! Each pair of classes i < j has a score; i gets a vote when it is above 0, else j, and the class
//! with the most votes is the label, the first of equals. With `prob_a` and `prob_b` the scores are
//! probabilities (Platt's sigmoid for each pair, coupled by Wu, Lin and Weng's second method, stopped
//! as libsvm stops it); without, they are the pairs' scores, and the one score s of two classes becomes
//! `[-s, s]`, with `LOGISTIC` the logistic of both. Without support vectors each class has
//! a row of coefficients (liblinear).

use tract_core::internal::*;

use super::attributes::{Attributes, picked};
use super::kernel::{Fact, Kernel as Operator, matrix, tensor};
use super::linear::largest;
use super::post_transform::{PostTransform, logistic};

#[derive(Clone, Copy, Debug)]
enum Kernel {
    Linear,
    Poly { gamma: f64, coef0: f64, degree: f64 },
    Rbf { gamma: f64 },
    Sigmoid { gamma: f64, coef0: f64 },
}

impl Kernel {
    fn read(attributes: &Attributes<'_>) -> TractResult<Self> {
        let name = attributes.text("kernel_type")?;
        let name = name.as_deref().unwrap_or("LINEAR");
        if name == "LINEAR" {
            return Ok(Self::Linear);
        }
        let params = attributes.floats("kernel_params")?;
        let [gamma, coef0, degree] = params[..] else {
            bail!("kernel_params has {} values; gamma, coef0 and degree are needed", params.len());
        };
        let (gamma, coef0, degree) = (f64::from(gamma), f64::from(coef0), f64::from(degree));
        Ok(match name {
            "POLY" => Self::Poly { gamma, coef0, degree },
            "RBF" => Self::Rbf { gamma },
            "SIGMOID" => Self::Sigmoid { gamma, coef0 },
            other => bail!("kernel_type is {other:?}; it must be LINEAR, POLY, RBF or SIGMOID"),
        })
    }

    fn of(self, x: &[f32], vector: &[f32]) -> f64 {
        let pairs = x.iter().zip(vector).map(|(x, v)| (f64::from(*x), f64::from(*v)));
        let dot = || pairs.clone().map(|(x, v)| x * v).sum::<f64>();
        match self {
            Self::Linear => dot(),
            Self::Poly { gamma, coef0, degree } => (gamma * dot() + coef0).powf(degree),
            Self::Rbf { gamma } => (-gamma * pairs.map(|(x, v)| (x - v) * (x - v)).sum::<f64>()).exp(),
            Self::Sigmoid { gamma, coef0 } => (gamma * dot() + coef0).tanh(),
        }
    }
}

/// Vectors of one length, each a row.
#[derive(Debug)]
struct Rows {
    values: Vec<f32>,
    columns: usize,
}

impl Rows {
    fn new(what: &str, values: Vec<f32>, rows: usize) -> TractResult<Self> {
        ensure!(
            rows > 0 && !values.is_empty() && values.len().is_multiple_of(rows),
            "{} {what} do not make {rows} rows of equal length",
            values.len()
        );
        let columns = values.len() / rows;
        Ok(Self { values, columns })
    }

    fn kernels(&self, kernel: Kernel, x: &[f32]) -> impl Iterator<Item = f64> {
        self.values.chunks_exact(self.columns).map(move |vector| kernel.of(x, vector))
    }
}

fn dot(kernels: &[f64], coefficients: &[f32]) -> f64 {
    kernels.iter().zip(coefficients).map(|(kernel, weight)| kernel * f64::from(*weight)).sum()
}

/// Calls `each` with every row of the input.
fn for_each_row(
    input: &Tensor,
    columns: usize,
    mut each: impl FnMut(&[f32]) -> TractResult<()>,
) -> TractResult<usize> {
    let (rows, given) = matrix(input)?;
    ensure!(given == columns, "the input has {given} columns, not {columns}");
    let input = input.cast_to::<f32>()?;
    input.try_as_plain_ram()?.as_slice::<f32>()?.chunks_exact(columns).try_for_each(&mut each)?;
    Ok(rows)
}

fn numbers(inputs: &[Fact], columns: usize) -> TractResult<TDim> {
    let [input] = inputs else { bail!("it takes one input") };
    ensure!(input.datum_type.is_number(), "its input is {:?}, not numbers", input.datum_type);
    input.expect_columns(columns, true)?;
    Ok(input.matrix()?.0)
}

#[derive(Debug)]
struct SvmRegressor {
    kernel: Kernel,
    /// Support vectors, or the one row of coefficients when there are none.
    vectors: Rows,
    /// One for each support vector; empty when there are none.
    coefficients: Vec<f32>,
    rho: f32,
    one_class: bool,
    post_transform: PostTransform,
}

pub(super) fn regressor(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Operator>> {
    let coefficients = attributes.floats("coefficients")?;
    let rho = attributes.floats("rho")?;
    let supports = usize::try_from(attributes.int("n_supports")?.unwrap_or(0)).unwrap_or(0);
    let (kernel, vectors, coefficients) = if supports > 0 {
        ensure!(
            coefficients.len() == supports,
            "there are {supports} support vectors and {} coefficients",
            coefficients.len()
        );
        let vectors = Rows::new("support_vectors", attributes.floats("support_vectors")?, supports)?;
        (Kernel::read(attributes)?, vectors, coefficients)
    } else {
        (Kernel::Linear, Rows::new("coefficients", coefficients, 1)?, Vec::new())
    };
    Ok(Arc::new(SvmRegressor {
        kernel,
        vectors,
        coefficients,
        rho: *rho.first().context("rho is empty")?,
        one_class: attributes.int("one_class")?.unwrap_or(0) != 0,
        post_transform: PostTransform::parse(attributes.text("post_transform")?.as_deref())?,
    }))
}

impl Operator for SvmRegressor {
    fn weights_bytes(&self) -> usize {
        size_of_val(&*self.vectors.values) + size_of_val(&*self.coefficients)
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        Ok(tvec!(Fact::new(DatumType::F32, &[numbers(inputs, self.vectors.columns)?, 1.to_dim()])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut scores = Vec::new();
        let rows = for_each_row(&inputs[0], self.vectors.columns, |x| {
            let kernels: Vec<f64> = self.vectors.kernels(self.kernel, x).collect();
            let sum =
                if self.coefficients.is_empty() { kernels[0] } else { dot(&kernels, &self.coefficients) };
            let score = (sum + f64::from(self.rho)) as f32;
            let mut score = [match self.one_class {
                true if score > 0.0 => 1.0,
                true => -1.0,
                false => score,
            }];
            self.post_transform.apply(&mut score);
            scores.extend(score);
            Ok(())
        })?;
        Ok(tvec!(tensor(&[rows, 1], scores)?))
    }
}

#[derive(Debug)]
struct SvmClassifier {
    labels: Tensor,
    decision: Decision,
    post_transform: PostTransform,
    /// Decides between two classes that each have a row of coefficients.
    all_positive: bool,
}

#[derive(Debug)]
enum Decision {
    /// Each class has a row of coefficients.
    Rows { coefficients: Rows, rho: f32 },
    /// Each pair of classes has a score.
    Pairs(Pairs),
}

#[derive(Debug)]
struct Pairs {
    kernel: Kernel,
    vectors: Rows,
    /// Where each class's support vectors begin, and where the last one's end.
    starts: Vec<usize>,
    /// `[classes - 1, vectors]`.
    coefficients: Vec<f32>,
    rho: Vec<f32>,
    /// Platt's A and B for each pair; empty: no probabilities.
    platt: Vec<(f64, f64)>,
}

pub(super) fn classifier(attributes: &Attributes<'_>) -> TractResult<Arc<dyn Operator>> {
    let labels = attributes.labels("classlabels_ints", "classlabels_strings")?;
    let labels = labels.context("it has neither classlabels_ints nor classlabels_strings")?;
    let classes = labels.len();
    let coefficients = attributes.floats("coefficients")?;
    let all_positive = coefficients.iter().all(|weight| *weight >= 0.0);
    let rho = attributes.floats("rho")?;
    let counts = attributes.ints("vectors_per_class")?;
    let mut starts = vec![0_usize];
    for count in &counts {
        let next = usize::try_from(*count).ok().and_then(|count| starts[starts.len() - 1].checked_add(count));
        starts.push(next.with_context(|| format!("vectors_per_class are {counts:?}"))?);
    }
    let vectors = starts[starts.len() - 1];
    let post_transform = PostTransform::parse(attributes.text("post_transform")?.as_deref())?;
    let decision = if vectors == 0 {
        let rho = *rho.first().context("rho is empty")?;
        Decision::Rows { coefficients: Rows::new("coefficients", coefficients, classes)?, rho }
    } else {
        let pairs = classes * (classes - 1) / 2;
        ensure!(counts.len() == classes, "there are {classes} labels, {} vectors_per_class", counts.len());
        ensure!(classes > 1, "one class needs no pairs");
        ensure!(
            coefficients.len() >= (classes - 1) * vectors && rho.len() >= pairs,
            "{classes} classes with {vectors} support vectors need {} coefficients and {pairs} rho, \
             not {} and {}",
            (classes - 1) * vectors,
            coefficients.len(),
            rho.len()
        );
        let (a, b) = (attributes.floats("prob_a")?, attributes.floats("prob_b")?);
        ensure!(
            a.len() == b.len() && (a.is_empty() || a.len() >= pairs),
            "there are {} prob_a and {} prob_b for {pairs} pairs of classes",
            a.len(),
            b.len()
        );
        ensure!(
            classes > 2 || !a.is_empty() || post_transform != PostTransform::Probit,
            "PROBIT has no meaning for one score of two classes"
        );
        Decision::Pairs(Pairs {
            kernel: Kernel::read(attributes)?,
            vectors: Rows::new("support_vectors", attributes.floats("support_vectors")?, vectors)?,
            starts,
            coefficients,
            rho,
            platt: a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(*b))).collect(),
        })
    };
    Ok(Arc::new(SvmClassifier { labels, decision, post_transform, all_positive }))
}

impl SvmClassifier {
    fn input_columns(&self) -> usize {
        match &self.decision {
            Decision::Rows { coefficients, .. } => coefficients.columns,
            Decision::Pairs(pairs) => pairs.vectors.columns,
        }
    }

    /// Number of scores of a row.
    fn score_columns(&self) -> usize {
        let classes = self.labels.len();
        match &self.decision {
            Decision::Pairs(pairs) if pairs.platt.is_empty() && classes > 2 => classes * (classes - 1) / 2,
            _ => classes,
        }
    }

    /// The label's place and the scores of one row.
    fn row(&self, x: &[f32]) -> (usize, Vec<f32>) {
        let classes = self.labels.len();
        match &self.decision {
            Decision::Rows { coefficients, rho } => {
                let sums = coefficients.kernels(Kernel::Linear, x);
                let mut scores: Vec<f32> = sums.map(|sum| (sum + f64::from(*rho)) as f32).collect();
                let mut best = largest(&scores);
                let line = if self.all_positive { scores[best] >= 0.5 } else { scores[best] > 0.0 };
                if classes == 2 && line {
                    best = 1;
                }
                self.post_transform.apply(&mut scores);
                (best, scores)
            }
            Decision::Pairs(pairs) => {
                let raw = pairs.scores(classes, x);
                let best = votes(classes, &raw);
                if !pairs.platt.is_empty() {
                    let mut scores = pairs.probabilities(classes, &raw);
                    self.post_transform.apply(&mut scores);
                    return (best, scores);
                }
                let mut scores: Vec<f32> = raw.iter().map(|score| *score as f32).collect();
                match (&scores[..], self.post_transform) {
                    ([score], PostTransform::None) => scores = vec![-score, *score],
                    ([score], PostTransform::Logistic) => scores = vec![logistic(-score), logistic(*score)],
                    ([score], _) => scores = vec![1.0 - score, *score],
                    (_, transform) => transform.apply(&mut scores),
                }
                (best, scores)
            }
        }
    }
}

impl Operator for SvmClassifier {
    fn weights_bytes(&self) -> usize {
        match &self.decision {
            Decision::Rows { coefficients, .. } => size_of_val(&*coefficients.values),
            Decision::Pairs(pairs) => {
                size_of_val(&*pairs.vectors.values)
                    + size_of_val(&*pairs.coefficients)
                    + size_of_val(&*pairs.rho)
            }
        }
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = numbers(inputs, self.input_columns())?;
        Ok(tvec!(
            Fact::new(self.labels.datum_type(), std::slice::from_ref(&rows)),
            Fact::new(DatumType::F32, &[rows, self.score_columns().to_dim()]),
        ))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (mut best, mut scores) = (Vec::new(), Vec::new());
        let rows = for_each_row(&inputs[0], self.input_columns(), |x| {
            let (place, row) = self.row(x);
            best.push(place);
            scores.extend(row);
            Ok(())
        })?;
        let labels = picked(&self.labels, &best, &[rows])?;
        Ok(tvec!(labels, tensor(&[rows, self.score_columns()], scores)?))
    }
}

/// Every pair of classes, the smaller place first.
fn pairs_of(classes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..classes).flat_map(move |i| (i + 1..classes).map(move |j| (i, j)))
}

fn votes(classes: usize, scores: &[f64]) -> usize {
    let mut votes = vec![0_usize; classes];
    for ((i, j), score) in pairs_of(classes).zip(scores) {
        votes[if *score > 0.0 { i } else { j }] += 1;
    }
    largest(&votes)
}

impl Pairs {
    /// The row of coefficients against class i belongs, for j's vectors, to row i, and the other way
    /// round to row j - 1: no class is held against itself, so the row for that is left out.
    fn scores(&self, classes: usize, x: &[f32]) -> Vec<f64> {
        let kernels: Vec<f64> = self.vectors.kernels(self.kernel, x).collect();
        let of = |class: usize, row: usize| {
            let vectors = self.starts[class]..self.starts[class + 1];
            let coefficients = &self.coefficients[row * kernels.len()..][..kernels.len()];
            dot(&kernels[vectors.clone()], &coefficients[vectors])
        };
        let sums = pairs_of(classes).map(|(i, j)| of(i, j - 1) + of(j, i));
        sums.zip(&self.rho).map(|(sum, rho)| sum + f64::from(*rho)).collect()
    }

    fn probabilities(&self, classes: usize, scores: &[f64]) -> Vec<f32> {
        let mut wins = vec![0.0; classes * classes];
        for (((i, j), score), (a, b)) in pairs_of(classes).zip(scores).zip(&self.platt) {
            let wins_i = 1.0 - f64::from(logistic((score * a + b) as f32));
            let wins_i = wins_i.clamp(1e-7, 1.0 - 1e-7);
            wins[i * classes + j] = wins_i;
            wins[j * classes + i] = 1.0 - wins_i;
        }
        coupled(classes, &wins).into_iter().map(|probability| probability as f32).collect()
    }
}

/// Probabilities of classes from those of pairs: Wu, Lin, Weng (2004), the second method.
fn coupled(classes: usize, wins: &[f64]) -> Vec<f64> {
    // As in libsvm: the answer depends on where it stops.
    const MAX_SWEEPS: usize = 100;
    let enough = 0.005 / classes as f64;
    let at = |i: usize, j: usize| i * classes + j;
    let mut q = vec![0.0; classes * classes];
    for i in 0..classes {
        for j in (0..classes).filter(|j| *j != i) {
            q[at(i, i)] += wins[at(j, i)] * wins[at(j, i)];
            q[at(i, j)] = -wins[at(j, i)] * wins[at(i, j)];
        }
    }
    let mut p = vec![1.0 / classes as f64; classes];
    for _ in 0..MAX_SWEEPS {
        let mut qp: Vec<f64> = (0..classes).map(|i| (0..classes).map(|j| q[at(i, j)] * p[j]).sum()).collect();
        let mut pqp: f64 = p.iter().zip(&qp).map(|(p, qp)| p * qp).sum();
        if qp.iter().all(|qp| (qp - pqp).abs() < enough) {
            break;
        }
        for i in 0..classes {
            let step = (pqp - qp[i]) / q[at(i, i)];
            p[i] += step;
            pqp = (pqp + step * (step * q[at(i, i)] + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
            for j in 0..classes {
                qp[j] = (qp[j] + step * q[at(i, j)]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}
