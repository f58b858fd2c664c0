//! Whether the features that a card describes fill the input that the graph has.
//!
//! Axes of length 1 are nobody's: `[1, 3, 32, 32]` and `[3, 32, 32]` take the same picture. A flat
//! input takes the elements in the card's own order.

use super::error::FeaturizeSetupError;
use crate::base::DataType;
use crate::config::card::{Features, ImageLayout, PortSpec, WindowLayout};

/// What a filled input is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F64,
    U8,
}

/// The element type to fill with.
pub(super) fn element(features: &Features, input: &PortSpec) -> Result<Element, FeaturizeSetupError> {
    match (features, input.data_type) {
        (_, DataType::F32) => Ok(Element::F32),
        (Features::Image(_), DataType::U8) => Ok(Element::U8),
        (Features::Window(_) | Features::Table(_), DataType::F64) => Ok(Element::F64),
        _ => Err(FeaturizeSetupError::DataType {
            input: input.name.clone(),
            seen: input.data_type.as_str(),
            remedy: match features {
                Features::Image(_) => "pictures fill f32 or u8; export the model with such an input",
                _ => "numbers fill f32 or f64; export the model with such an input",
            },
        }),
    }
}

/// Compares the input's shape with what the features give.
pub(super) fn check(features: &Features, input: &PortSpec) -> Result<(), FeaturizeSetupError> {
    let (given, how, any_shape) = match features {
        Features::Image(image) => {
            let (width, height, channels) = (image.width, image.height, image.channels.count());
            match image.layout {
                ImageLayout::Nchw => (
                    vec![1, channels, height, width],
                    format!("layout nchw, {channels} channels, {width}x{height} pixels"),
                    false,
                ),
                ImageLayout::Nhwc => (
                    vec![1, height, width, channels],
                    format!("layout nhwc, {channels} channels, {width}x{height} pixels"),
                    false,
                ),
            }
        }
        Features::Window(window) => {
            let (channels, samples) = (window.channels.len(), window.samples);
            let (given, layout) = match window.layout {
                WindowLayout::Nct => (vec![1, channels, samples], "nct"),
                WindowLayout::Ntc => (vec![1, samples, channels], "ntc"),
                WindowLayout::Tnc => (vec![samples, 1, channels], "tnc"),
            };
            (given, format!("layout {layout}, {channels} channels, {samples} samples"), false)
        }
        Features::Table(table) => {
            let (columns, derived) = (table.columns.len(), table.derived.len());
            (vec![1, columns + derived], format!("{columns} columns and {derived} derived ones"), true)
        }
    };
    let (seen_axes, given_axes) = (axes(&input.shape), axes(&given));
    let count = |axes: &[usize]| axes.iter().try_fold(1usize, |product, axis| product.checked_mul(*axis));
    // Pictures have no agreed flat order that a card could mean by accident; numbers do.
    let flat = seen_axes.len() == 1 && !matches!(features, Features::Image(_));
    let same_count = count(&input.shape).is_some_and(|n| n > 0 && Some(n) == count(&given));
    if same_count && (any_shape || flat || seen_axes == given_axes) {
        return Ok(());
    }
    Err(FeaturizeSetupError::Shape { input: input.name.clone(), seen: input.shape.clone(), given, how })
}

fn axes(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|axis| *axis != 1).collect()
}
