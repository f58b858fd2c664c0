//! Resize and its older name Upsample: nearest, linear, cubic, along each axis in turn.

use super::Operator;
use super::call::Call;
use super::norm::lines;
use super::value::{Value, axis, count};

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "Resize" => resize,
        "Upsample" => |call| {
            let scales = match call.optional(1) {
                Some(scales) => scales.reals()?,
                None => call.floats("scales").ok_or("no scales")?,
            };
            let x = call.input(0)?;
            let out: Vec<usize> = x
                .shape
                .iter()
                .zip(&scales)
                .map(|(length, scale)| (*length as f64 * scale).floor() as usize)
                .collect();
            let how = How {
                mode: call.text("mode", "nearest"),
                transform: "asymmetric".to_owned(),
                rounding: "floor".to_owned(),
                cubic: -0.75,
                exclude_outside: false,
                extrapolation: 0.0,
                antialias: false,
            };
            resized(x, &out, &scales, &vec![(0.0, 1.0); out.len()], &how)
        },
        _ => return None,
    })
}

struct How {
    mode: String,
    transform: String,
    rounding: String,
    cubic: f64,
    exclude_outside: bool,
    extrapolation: f64,
    antialias: bool,
}

fn resize(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let x = call.input(0)?;
    let rank = x.shape.len();
    let old = call.opset < 11;
    let (scales_at, sizes_at) = if old { (1, 9) } else { (2, 3) };
    let axes: Vec<usize> = match call.ints("axes") {
        Some(axes) => axes.into_iter().map(|a| axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    let mut scales = vec![1.0; rank];
    let mut out = x.shape.clone();
    let given = |position| call.optional(position).filter(|value| value.len() > 0);
    if let Some(sizes) = given(sizes_at) {
        let sizes = sizes.reals()?;
        let ratio = |i: usize| sizes[i] / x.shape[axes[i]] as f64;
        let policy = call.text("keep_aspect_ratio_policy", "stretch");
        let common = match policy.as_str() {
            "not_larger" => Some((0..axes.len()).map(ratio).fold(f64::INFINITY, f64::min)),
            "not_smaller" => Some((0..axes.len()).map(ratio).fold(0.0, f64::max)),
            _ => None,
        };
        for (i, a) in axes.iter().enumerate() {
            match common {
                None => (scales[*a], out[*a]) = (ratio(i), sizes[i] as usize),
                Some(scale) => {
                    // Halves go up here.
                    (scales[*a], out[*a]) = (scale, (scale * x.shape[*a] as f64 + 0.5).floor() as usize);
                }
            }
        }
    } else if let Some(given) = given(scales_at) {
        for (a, scale) in axes.iter().zip(given.reals()?) {
            scales[*a] = scale;
            out[*a] = (x.shape[*a] as f64 * scale).floor() as usize;
        }
    } else {
        return Err("neither scales nor sizes are given".to_owned());
    }
    let mut region = vec![(0.0, 1.0); rank];
    let transform =
        call.text("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" });
    if transform == "tf_crop_and_resize" {
        let roi = call.input(1)?.reals()?;
        for (i, a) in axes.iter().enumerate() {
            region[*a] = (roi[i], roi[axes.len() + i]);
        }
    }
    let how = How {
        mode: call.text("mode", "nearest"),
        transform,
        rounding: call.text("nearest_mode", if old { "up where it shrinks" } else { "round_prefer_floor" }),
        cubic: call.float("cubic_coeff_a", -0.75),
        exclude_outside: call.flag("exclude_outside"),
        extrapolation: call.float("extrapolation_value", 0.0),
        antialias: call.flag("antialias"),
    };
    resized(x, &out, &scales, &region, &how)
}

fn resized(
    x: &Value,
    out: &[usize],
    scales: &[f64],
    region: &[(f64, f64)],
    how: &How,
) -> Result<Vec<Value>, String> {
    count(out)?;
    let mut shape = x.shape.clone();
    let mut numbers = x.reals()?;
    let mut outside = false;
    for a in 0..shape.len() {
        if shape[a] == out[a] && scales[a] == 1.0 && region[a] == (0.0, 1.0) {
            continue;
        }
        let taps: Vec<Option<Vec<(usize, f64)>>> =
            (0..out[a]).map(|i| weights(i, shape[a], out[a], scales[a], region[a], how)).collect();
        let mut next = shape.clone();
        next[a] = out[a];
        let mut changed = vec![0.0; count(&next)?];
        for (from, to) in lines(&shape, a).into_iter().zip(lines(&next, a)) {
            for (at, taps) in to.into_iter().zip(&taps) {
                changed[at] = match taps {
                    Some(taps) => taps.iter().map(|(i, weight)| numbers[from[*i]] * weight).sum(),
                    None => {
                        outside = true;
                        f64::NAN
                    }
                };
            }
        }
        (shape, numbers) = (next, changed);
    }
    if outside {
        // Only what was put in is not a number: the engine's inputs here are finite.
        for number in &mut numbers {
            if number.is_nan() {
                *number = how.extrapolation;
            }
        }
    }
    Ok(vec![Value::real(x.data_type, &shape, numbers)])
}

/// What the `i`-th output along one axis is made of; `None`: it lies outside of the region.
fn weights(
    i: usize,
    length: usize,
    out: usize,
    scale: f64,
    (start, end): (f64, f64),
    how: &How,
) -> Option<Vec<(usize, f64)>> {
    let (at, last) = (i as f64, (length - 1) as f64);
    // The length that scale and input ask for, before it is cut to a whole number.
    let wanted = length as f64 * scale;
    let x = match how.transform.as_str() {
        "align_corners" => {
            if out == 1 {
                0.0
            } else {
                at * last / (wanted - 1.0)
            }
        }
        "asymmetric" => at / scale,
        "pytorch_half_pixel" => {
            // The length as it comes out: onnxruntime's reading, and the engine's.
            if out > 1 { (at + 0.5) / scale - 0.5 } else { 0.0 }
        }
        "half_pixel_symmetric" => {
            let adjustment = out as f64 / wanted;
            let centre = length as f64 / 2.0;
            centre * (1.0 - adjustment) + (at + 0.5) / scale - 0.5
        }
        "tf_crop_and_resize" => {
            let x = if out > 1 {
                start * last + at * (end - start) * last / (out as f64 - 1.0)
            } else {
                0.5 * (start + end) * last
            };
            if x < 0.0 || x > last {
                return None;
            }
            x
        }
        _ => (at + 0.5) / scale - 0.5,
    };
    let clamped = |i: f64| i.clamp(0.0, last) as usize;
    if how.mode == "nearest" {
        let nearest = match how.rounding.as_str() {
            "round_prefer_ceil" => (x + 0.5).floor(),
            "floor" => x.floor(),
            "ceil" => x.ceil(),
            "up where it shrinks" if scale < 1.0 => x.ceil(),
            "up where it shrinks" => x.floor(),
            _ => (x - 0.5).ceil(),
        };
        return Some(vec![(clamped(nearest), 1.0)]);
    }
    let cubic = how.mode == "cubic";
    // With antialias, shrinking widens the filter.
    let widen = if how.antialias { scale.min(1.0) } else { 1.0 };
    let reach = if cubic { 2.0 } else { 1.0 } / widen;
    let kernel = |distance: f64| {
        let d = (distance * widen).abs();
        if !cubic {
            return (1.0 - d).max(0.0);
        }
        let a = how.cubic;
        if d <= 1.0 {
            ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
        } else if d < 2.0 {
            ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
        } else {
            0.0
        }
    };
    let (first, stop) = ((x - reach).floor() as i64, (x + reach).ceil() as i64);
    let mut taps: Vec<(f64, f64)> = (first..=stop).map(|i| (i as f64, kernel(i as f64 - x))).collect();
    if how.exclude_outside {
        taps.retain(|(i, _)| (0.0..=last).contains(i));
    }
    if how.exclude_outside || how.antialias {
        let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
        for (_, weight) in &mut taps {
            *weight /= sum;
        }
    }
    Some(taps.into_iter().map(|(i, weight)| (clamped(i), weight)).collect())
}
