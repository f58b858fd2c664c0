//! TfIdfVectorizer (opset 9): counts of n-grams, of whole numbers or strings.
//!
//! Source: ONNX, Operators.md. The pool lists all 1-grams, then all 2-grams and so on; an n-gram is n
//! items that lie `skip + 1` apart, for every skip up to `max_skip_count` (1-grams only once).

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::literal::{Built, Inputs, Literal, wrap};
use super::values::ints;

#[derive(Debug)]
struct TfIdf {
    lengths: std::ops::RangeInclusive<usize>,
    skips: usize,
    /// Column of each n-gram.
    columns: HashMap<Vec<Item>, usize>,
    width: usize,
    weights: Option<Vec<f32>>,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Count,
    Presence,
    Weighted,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
enum Item {
    Number(i64),
    Text(String),
}

pub(super) fn tfidf(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let pool: Vec<Item> =
        match node.get_attr_opt_vec::<String>("pool_strings")?.filter(|pool| !pool.is_empty()) {
            Some(texts) => texts.into_iter().map(Item::Text).collect(),
            None => node.get_attr_vec::<i64>("pool_int64s")?.into_iter().map(Item::Number).collect(),
        };
    let begins: Vec<usize> = node.get_attr_vec("ngram_counts")?;
    let of_ngram: Vec<usize> = node.get_attr_vec("ngram_indexes")?;
    let lengths = node.get_attr("min_gram_length")?..=node.get_attr("max_gram_length")?;
    let mut columns = HashMap::new();
    let mut number = 0;
    for (n, begin) in begins.iter().enumerate() {
        let end = begins.get(n + 1).copied().unwrap_or(pool.len());
        let grams = pool.get(*begin..end).context("ngram_counts beyond the pool")?.chunks_exact(n + 1);
        for gram in grams {
            let column = *of_ngram.get(number).context("fewer ngram_indexes than n-grams")?;
            number += 1;
            if lengths.contains(&(n + 1)) {
                columns.insert(gram.to_vec(), column);
            }
        }
    }
    let tfidf = TfIdf {
        lengths,
        skips: node.get_attr("max_skip_count")?,
        columns,
        width: of_ngram.iter().max().map_or(0, |most| most + 1),
        weights: node.get_attr_opt_vec("weights")?,
        mode: match node.get_attr::<&str>("mode")? {
            "TF" => Mode::Count,
            "IDF" => Mode::Presence,
            "TFIDF" => Mode::Weighted,
            other => bail!("mode {other:?}"),
        },
    };
    ensure!(tfidf.weights.as_ref().is_none_or(|weights| weights.len() >= tfidf.width), "too few weights");
    wrap(context, node, tfidf)
}

impl TfIdf {
    fn counts(&self, row: &[Item]) -> Vec<f32> {
        let mut counts = vec![0_f32; self.width];
        for distance in 1..=self.skips + 1 {
            for length in self.lengths.clone().filter(|length| *length > 1 || distance == 1) {
                for begin in 0..row.len() {
                    let gram: Vec<Item> =
                        row[begin..].iter().step_by(distance).take(length).cloned().collect();
                    if gram.len() == length
                        && let Some(column) = self.columns.get(&gram)
                    {
                        counts[*column] += 1.0;
                    }
                }
            }
        }
        counts
    }

    fn weighted(&self, column: usize, count: f32) -> f32 {
        let weight = self.weights.as_ref().map_or(1.0, |weights| weights[column]);
        match self.mode {
            Mode::Count => count,
            Mode::Presence => {
                if count > 0.0 {
                    weight
                } else {
                    0.0
                }
            }
            Mode::Weighted => weight * count,
        }
    }
}

impl Literal for TfIdf {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let items: Vec<Item> = if x.datum_type() == String::datum_type() {
            x.try_as_plain_ram()?.as_slice::<String>()?.iter().cloned().map(Item::Text).collect()
        } else {
            ints(x)?.into_iter().map(Item::Number).collect()
        };
        let (rows, length) = match *x.shape() {
            [] => (1, 1),
            [length] => (1, length),
            [rows, length] => (rows, length),
            ref other => bail!("items of shape {other:?}"),
        };
        let row = |i: usize| {
            let counts = self.counts(&items[i * length..(i + 1) * length]);
            counts
                .into_iter()
                .enumerate()
                .map(|(column, count)| self.weighted(column, count))
                .collect::<Vec<_>>()
        };
        let values: Vec<f32> = (0..rows).flat_map(row).collect();
        let shape = if x.rank() == 2 { vec![rows, self.width] } else { vec![self.width] };
        Ok(vec![Tensor::from_shape(&shape, &values)?])
    }
}
