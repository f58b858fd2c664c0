//! Content to features: filled model inputs, as the card describes them.
//!
//! Promise: pure functions of content, time and a state that the caller keeps, one for each origin. A
//! frame that is refused leaves that state as it was. How samples are cut into frames does not change
//! the windows. What one frame may fill is bounded in bytes.
//! Not here: bytes and formats (`decode`), recurrent tensors (`infer`).

mod error;
mod image;
mod resize;
mod rows;
mod shape;
mod window;

pub use error::{FeaturizeError, FeaturizeSetupError};

use crate::base::{Content, Data, Features, Micros, Rows, Tensor};
use crate::config::card::{self, Gap, PortSpec, WindowLayout};
use rows::Row;
use shape::Element;
use window::Ring;

// Model inputs that one frame may fill together. Far above what a device sends at once; a payload of
// some megabytes could otherwise ask for gigabytes, as windows overlap.
const MAX_BYTES_A_FRAME: usize = 64 << 20;
// What a filled input costs beside its elements: lists, lengths, shape.
const BYTES_BESIDE: usize = 256;

/// Fills the input of one model. One a worker: it keeps scratch, and nothing of any frame.
#[derive(Clone, Debug)]
pub struct Featurizer {
    kind: Kind,
    observed: Vec<f64>,
    scaled: Vec<f64>,
}

#[derive(Clone, Debug)]
enum Kind {
    // Boxed: normalisation tables are kilobytes.
    Image(Box<image::Filler>),
    Window { row: Row, port: Port, samples: usize, stride: usize, layout: WindowLayout, gap: Gap },
    Table { row: Row, port: Port, gap: Gap },
}

/// The input to fill with numbers.
#[derive(Clone, Debug)]
struct Port {
    shape: Vec<usize>,
    element: Element,
    len: usize,
}

impl Port {
    fn tensor(&self, values: impl Iterator<Item = f64>) -> Tensor {
        let data = if self.element == Element::F64 {
            let mut data = Vec::with_capacity(self.len);
            values.for_each(|value| data.push(value));
            Data::F64(data)
        } else {
            // Each, and not `extend`: windows come from nested iterators, which are quick from within.
            let mut data = Vec::with_capacity(self.len);
            values.for_each(|value| data.push(value as f32));
            Data::F32(data)
        };
        Tensor { shape: self.shape.clone(), data }
    }

    /// Refuses a frame of `rows` rows that would fill `count` inputs, if they are too many.
    fn admit(&self, rows: usize, count: usize) -> Result<(), FeaturizeError> {
        let element_bytes = if self.element == Element::F64 { 8 } else { 4 };
        let bytes = self.len.saturating_mul(element_bytes).saturating_add(BYTES_BESIDE);
        let limit = (MAX_BYTES_A_FRAME / bytes).max(1);
        if count > limit {
            return Err(FeaturizeError::TooMany { rows, count, bytes, limit });
        }
        Ok(())
    }
}

/// What one origin's frames leave behind for the next. Fresh ones come from [`Featurizer::fresh`].
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureState {
    /// Where the card wants windows.
    ring: Option<Ring>,
    /// When the last good frame came.
    last: Option<Micros>,
}

/// What a frame came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Pushed {
    /// Filled inputs, oldest first; none while a window fills.
    pub features: Vec<Features>,
    /// The pause before this frame was longer than the card joins: the window began anew with it, and
    /// recurrent state must as well, before these features are used.
    pub gap: bool,
}

impl Featurizer {
    /// A featurizer for `features`, filling `input`.
    ///
    /// # Errors
    /// Says in words where the card contradicts itself.
    pub fn new(features: &card::Features, input: &PortSpec) -> Result<Featurizer, FeaturizeSetupError> {
        shape::check(features, input)?;
        let element = shape::element(features, input)?;
        let port = Port { shape: input.shape.clone(), element, len: input.shape.iter().product() };
        let narrow = element == Element::F32;
        let kind = match features {
            card::Features::Image(image) => {
                Kind::Image(Box::new(image::Filler::new(image, &input.shape, element)?))
            }
            card::Features::Window(window) => {
                if window.samples == 0 || window.stride == 0 {
                    let (samples, stride) = (window.samples, window.stride);
                    let what =
                        format!("a window has {samples} samples, stride {stride}; both must be at least 1");
                    return Err(FeaturizeSetupError::Card { what });
                }
                Kind::Window {
                    row: Row::new(&window.channels, &[], narrow)?,
                    port,
                    samples: window.samples,
                    stride: window.stride,
                    layout: window.layout,
                    gap: window.gap,
                }
            }
            card::Features::Table(table) => {
                Kind::Table { row: Row::new(&table.columns, &table.derived, narrow)?, port, gap: table.gap }
            }
        };
        Ok(Featurizer { kind, observed: Vec::new(), scaled: Vec::new() })
    }

    /// The state of an origin that has not spoken yet.
    pub fn fresh(&self) -> FeatureState {
        let ring = match &self.kind {
            Kind::Window { row, samples, stride, .. } => Some(Ring::new(row.columns(), *samples, *stride)),
            Kind::Image(_) | Kind::Table { .. } => None,
        };
        FeatureState { ring, last: None }
    }

    /// Takes one frame's content. `at` is when it came, or its own time in microseconds: always one
    /// and the same clock for one state. `state` comes from this featurizer, or one made alike.
    ///
    /// # Errors
    /// Says what is wrong with this frame. `state` is then as before.
    pub fn push(
        &mut self,
        content: &Content,
        at: Micros,
        state: &mut FeatureState,
    ) -> Result<Pushed, FeaturizeError> {
        let Featurizer { kind, observed, scaled } = self;
        match (kind, content) {
            (Kind::Image(filler), Content::Image(image)) => {
                let input = filler.fill(image)?;
                state.last = Some(at);
                Ok(Pushed { features: vec![Features { input, observed: Vec::new() }], gap: false })
            }
            (Kind::Table { row, port, gap }, Content::Rows(rows)) => {
                let count = checked(rows, row)?;
                port.admit(count, count)?;
                prepare(rows, row, observed, scaled)?;
                let gap = is_gap(*gap, state.last, at);
                state.last = Some(at);
                let width = row.width();
                let features = observed
                    .chunks_exact(width)
                    .zip(scaled.chunks_exact(width))
                    .map(|(observed, scaled)| Features {
                        input: port.tensor(scaled.iter().copied()),
                        observed: observed.to_vec(),
                    })
                    .collect();
                Ok(Pushed { features, gap })
            }
            (Kind::Window { row, port, samples, stride, layout, gap }, Content::Rows(rows)) => {
                let count = checked(rows, row)?;
                let gap = is_gap(*gap, state.last, at);
                // A state of another kind is a mistake of the caller; a fresh window is the honest start.
                let ring = state.ring.get_or_insert_with(|| Ring::new(row.columns(), *samples, *stride));
                let fresh = Ring::new(row.columns(), *samples, *stride);
                let due = if gap { fresh.due(count) } else { ring.due(count) };
                port.admit(count, due)?;
                prepare(rows, row, observed, scaled)?;
                // From here on nothing can fail.
                if gap {
                    ring.clear();
                }
                state.last = Some(at);
                let width = row.width();
                let mut features = Vec::with_capacity(due);
                let mut taken = 0;
                while taken < count {
                    let (more, is_due) = ring.take(&scaled[taken * width..]);
                    taken += more;
                    if is_due {
                        let input = match layout {
                            WindowLayout::Nct => {
                                let ring = &*ring;
                                port.tensor((0..width).flat_map(|c| ring.rows().map(move |row| row[c])))
                            }
                            // With a batch of one the order of elements is the same.
                            WindowLayout::Ntc | WindowLayout::Tnc => {
                                port.tensor(ring.rows().flatten().copied())
                            }
                        };
                        let observed = observed[(taken - 1) * width..taken * width].to_vec();
                        features.push(Features { input, observed });
                    }
                }
                Ok(Pushed { features, gap })
            }
            (Kind::Image(_), Content::Rows(_)) => {
                Err(FeaturizeError::WrongContent { seen: "numbers", expected: "pictures" })
            }
            (_, Content::Image(_)) => {
                Err(FeaturizeError::WrongContent { seen: "a picture", expected: "numbers" })
            }
        }
    }
}

fn is_gap(rule: Gap, last: Option<Micros>, at: Micros) -> bool {
    match (rule, last) {
        (Gap::Reset { max }, Some(last)) => at.since(last) > max,
        _ => false,
    }
}

/// Number of rows, if they are rows of this card.
fn checked(rows: &Rows, row: &Row) -> Result<usize, FeaturizeError> {
    let (values, seen, expected) = (rows.values.len(), rows.columns, row.columns());
    if seen != expected || values == 0 || !values.is_multiple_of(expected) {
        return Err(FeaturizeError::WrongColumns { values, seen, expected });
    }
    Ok(values / expected)
}

/// All rows or none: a frame that is wrong in its last row must not have touched a window.
fn prepare(
    rows: &Rows,
    row: &Row,
    observed: &mut Vec<f64>,
    scaled: &mut Vec<f64>,
) -> Result<(), FeaturizeError> {
    observed.clear();
    scaled.clear();
    rows.iter().enumerate().try_for_each(|(i, values)| row.append(values, i + 1, observed, scaled))
}

#[cfg(test)]
mod tests;
