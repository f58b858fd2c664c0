//! Convolutions: Conv, ConvInteger, QLinearConv, ConvTranspose, any number of axes.

use super::Operator;
use super::call::Call;
use super::quantize::{requantize, zero_points};
use super::value::{Value, count, indices, place, strides};
use crate::base::DataType;

pub(super) fn find(operator: &str) -> Option<Operator> {
    Some(match operator {
        "Conv" => conv,
        "ConvInteger" => conv_integer,
        "QLinearConv" => qlinear_conv,
        "ConvTranspose" => conv_transpose,
        _ => return None,
    })
}

/// How a window moves over the axes behind batch and channel.
pub(super) struct Windows {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    /// In front of each axis.
    pub(super) before: Vec<i64>,
    pub(super) after: Vec<i64>,
    /// Number of windows along each axis.
    pub(super) out: Vec<usize>,
}

impl Windows {
    /// Of a node with `auto_pad`, `pads`, `strides`, `dilations`; `ceil`: the last window may hang over.
    pub(super) fn of(
        call: &Call<'_>,
        kernel: Vec<usize>,
        input: &[usize],
        ceil: bool,
    ) -> Result<Self, String> {
        let axes = input.len();
        let steps = call.lengths("strides", &vec![1; axes])?;
        let dilations = call.lengths("dilations", &vec![1; axes])?;
        let pads = call.ints("pads").unwrap_or_else(|| vec![0; 2 * axes]);
        if kernel.len() != axes || steps.len() != axes || dilations.len() != axes || pads.len() != 2 * axes {
            return Err(format!("its attributes are not for {axes} axes"));
        }
        if steps.contains(&0) || dilations.contains(&0) || kernel.contains(&0) {
            return Err("a length of 0".to_owned());
        }
        let (mut before, mut after) = (pads[..axes].to_vec(), pads[axes..].to_vec());
        let mut out = Vec::new();
        let auto = call.text("auto_pad", "NOTSET");
        for axis in 0..axes {
            let reach = (kernel[axis] - 1) * dilations[axis] + 1;
            let (length, step, reach) = (input[axis] as i64, steps[axis] as i64, reach as i64);
            let windows = match auto.as_str() {
                "SAME_UPPER" | "SAME_LOWER" => {
                    let windows = (length + step - 1) / step;
                    let total = ((windows - 1) * step + reach - length).max(0);
                    let less = total / 2;
                    (before[axis], after[axis]) =
                        if auto == "SAME_UPPER" { (less, total - less) } else { (total - less, less) };
                    windows
                }
                "VALID" => {
                    (before[axis], after[axis]) = (0, 0);
                    let free = length - reach;
                    if ceil { (free + step - 1).div_euclid(step) + 1 } else { free.div_euclid(step) + 1 }
                }
                "NOTSET" | "" => {
                    let free = length + before[axis] + after[axis] - reach;
                    let mut windows =
                        if ceil { (free + step - 1).div_euclid(step) + 1 } else { free.div_euclid(step) + 1 };
                    // A window must not begin in the padding behind.
                    if ceil && (windows - 1) * step >= length + before[axis] {
                        windows -= 1;
                    }
                    windows
                }
                other => return Err(format!("auto_pad {other:?}")),
            };
            out.push(usize::try_from(windows).map_err(|_| format!("no window fits axis {axis}"))?);
        }
        Ok(Self { kernel, strides: steps, dilations, before, after, out })
    }

    /// Where the `tap`-th place of the `window`-th window lies; `None` in the padding.
    pub(super) fn at(&self, window: &[usize], tap: &[usize], input: &[usize]) -> Option<Vec<usize>> {
        (0..input.len())
            .map(|axis| {
                let at = (window[axis] * self.strides[axis] + tap[axis] * self.dilations[axis]) as i64
                    - self.before[axis];
                usize::try_from(at).ok().filter(|at| *at < input[axis])
            })
            .collect()
    }
}

/// The plain sum over window, channel and tap, each input less its zero.
fn convolve(
    call: &Call<'_>,
    x: (&[f64], &[usize]),
    w: (&[f64], &[usize]),
) -> Result<(Vec<f64>, Vec<usize>), String> {
    let ((x, x_shape), (w, w_shape)) = (x, w);
    let ([batch, channels, space @ ..], [maps, group_channels, kernel @ ..]) = (x_shape, w_shape) else {
        return Err("a batch, channels and an axis are wanted".to_owned());
    };
    let group = usize::try_from(call.int("group", 1)).unwrap_or(0);
    if group == 0 || channels / group != *group_channels || maps % group != 0 || channels % group != 0 {
        return Err(format!("{group} groups of {channels} channels and {maps} maps"));
    }
    let windows = Windows::of(call, kernel.to_vec(), space, false)?;
    let shape = [&[*batch, *maps], windows.out.as_slice()].concat();
    let (x_strides, w_strides) = (strides(space), strides(kernel));
    let area: usize = space.iter().product();
    let taps: usize = kernel.iter().product();
    // What each window reads is the same for all maps and channels.
    let mut reads: Vec<Vec<(usize, usize)>> = Vec::new();
    for window in indices(&windows.out) {
        let found = indices(kernel).filter_map(|tap| {
            let at = windows.at(&window, &tap, space)?;
            Some((place(&at, &x_strides), place(&tap, &w_strides)))
        });
        reads.push(found.collect());
    }
    let mut out = Vec::with_capacity(count(&shape)?);
    for n in 0..*batch {
        for map in 0..*maps {
            let first = map / (maps / group) * group_channels;
            for window in &reads {
                let mut sum = 0.0;
                for c in 0..*group_channels {
                    let x = &x[(n * channels + first + c) * area..];
                    let w = &w[(map * group_channels + c) * taps..];
                    sum += window.iter().map(|(x_at, w_at)| x[*x_at] * w[*w_at]).sum::<f64>();
                }
                out.push(sum);
            }
        }
    }
    Ok((out, shape))
}

/// Adds one number to each map.
fn add_bias(values: &mut [f64], shape: &[usize], bias: &[f64]) {
    let area: usize = shape[2..].iter().product();
    for (i, value) in values.iter_mut().enumerate() {
        *value += bias[i / area.max(1) % shape[1]];
    }
}

fn conv(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let (mut values, shape) = convolve(call, (&x.reals()?, &x.shape), (&w.reals()?, &w.shape))?;
    if let Some(bias) = call.optional(2) {
        add_bias(&mut values, &shape, &bias.reals()?);
    }
    Ok(vec![Value::real(x.data_type, &shape, values)])
}

/// A tensor less its zero points; those of weights may be one a map.
fn centred(tensor: &Value, zero: Option<&Value>) -> Result<Vec<f64>, String> {
    let zeros = zero_points(zero, tensor, 0)?;
    Ok(tensor.reals()?.into_iter().zip(zeros).map(|(value, zero)| value - zero).collect())
}

fn conv_integer(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let x_values = centred(x, call.optional(2))?;
    let w_values = centred(w, call.optional(3))?;
    let (values, shape) = convolve(call, (&x_values, &x.shape), (&w_values, &w.shape))?;
    Ok(vec![Value::whole(DataType::I32, &shape, values.into_iter().map(|v| v as i128).collect())])
}

fn qlinear_conv(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, w) = (call.input(0)?, call.input(3)?);
    let x_values = centred(x, call.optional(2))?;
    let w_values = centred(w, call.optional(5))?;
    let (mut values, shape) = convolve(call, (&x_values, &x.shape), (&w_values, &w.shape))?;
    if let Some(bias) = call.optional(8) {
        add_bias(&mut values, &shape, &bias.reals()?);
    }
    let (x_scale, w_scales) = (call.input(1)?.scalar()?, call.input(4)?.reals()?);
    let area: usize = shape[2..].iter().product();
    for (i, value) in values.iter_mut().enumerate() {
        let map = i / area.max(1) % shape[1];
        *value *= x_scale * w_scales[map % w_scales.len()];
    }
    Ok(vec![requantize(&values, &shape, call.input(6)?, call.input(7)?)?])
}

/// Each input element adds the kernel, times itself, to where it stands in the output.
fn conv_transpose(call: &Call<'_>) -> Result<Vec<Value>, String> {
    let (x, w) = (call.input(0)?, call.input(1)?);
    let ([batch, channels, space @ ..], [_, group_maps, kernel @ ..]) = (&x.shape[..], &w.shape[..]) else {
        return Err("a batch, channels and an axis are wanted".to_owned());
    };
    let axes = space.len();
    let group = usize::try_from(call.int("group", 1)).unwrap_or(0);
    if group == 0 || channels % group != 0 {
        return Err(format!("{group} groups of {channels} channels"));
    }
    let steps = call.lengths("strides", &vec![1; axes])?;
    let dilations = call.lengths("dilations", &vec![1; axes])?;
    let extra = call.lengths("output_padding", &vec![0; axes])?;
    let pads = call.ints("pads").unwrap_or_else(|| vec![0; 2 * axes]);
    let auto = call.text("auto_pad", "NOTSET");
    let wanted = call.ints("output_shape");
    let (mut begin, mut out) = (Vec::new(), Vec::new());
    for axis in 0..axes {
        let reach = (kernel[axis] - 1) * dilations[axis] + 1;
        let full = (steps[axis] * (space[axis].saturating_sub(1)) + extra[axis] + reach) as i64;
        let target = match (&wanted, auto.as_str()) {
            (Some(shape), _) => Some(shape[shape.len() - axes + axis]),
            (None, "SAME_UPPER" | "SAME_LOWER") => Some((space[axis] * steps[axis]) as i64),
            _ => None,
        };
        let (before, length) = match (target, auto.as_str()) {
            (Some(length), auto) => {
                let total = (full - length).max(0);
                // As the standard writes it: SAME_UPPER puts the smaller half in front.
                let before = if auto == "SAME_UPPER" { total / 2 } else { total - total / 2 };
                (before, length)
            }
            (None, "VALID") => (0, full),
            (None, _) => (pads[axis], full - pads[axis] - pads[axes + axis]),
        };
        begin.push(before);
        out.push(usize::try_from(length).map_err(|_| format!("axis {axis} gets length {length}"))?);
    }
    let maps = group_maps * group;
    let shape = [&[*batch, maps], out.as_slice()].concat();
    let mut sums = vec![0.0; count(&shape)?];
    let (x_values, w_values) = (x.reals()?, w.reals()?);
    let (area, taps): (usize, usize) = (space.iter().product(), kernel.iter().product());
    let out_area: usize = out.iter().product();
    let out_strides = strides(&out);
    for (x_at, from) in indices(space).enumerate() {
        for (w_at, tap) in indices(kernel).enumerate() {
            let to: Option<Vec<usize>> = (0..axes)
                .map(|axis| {
                    let at = (from[axis] * steps[axis] + tap[axis] * dilations[axis]) as i64 - begin[axis];
                    usize::try_from(at).ok().filter(|at| *at < out[axis])
                })
                .collect();
            let Some(to) = to else { continue };
            let to = place(&to, &out_strides);
            for n in 0..*batch {
                for c in 0..*channels {
                    let number = x_values[(n * channels + c) * area + x_at];
                    let first_map = c / (channels / group) * group_maps;
                    for m in 0..*group_maps {
                        sums[(n * maps + first_map + m) * out_area + to] +=
                            number * w_values[(c * group_maps + m) * taps + w_at];
                    }
                }
            }
        }
    }
    if let Some(bias) = call.optional(2) {
        add_bias(&mut sums, &shape, &bias.reals()?);
    }
    Ok(vec![Value::real(x.data_type, &shape, sums)])
}
