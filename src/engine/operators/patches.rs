//! Operators that slide a kernel over space: LpPool (opset 18), GlobalLpPool (opset 2) and Col2Im (opset 18).
//!
//! Source: ONNX, Operators.md. LpPool: (Σ |x|^p)^(1/p) over the elements of a patch that lie inside.
//! Col2Im: the sum of all columns' elements at the place of the image that each was taken from.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_ndarray::{ArrayD, IxDyn};

use super::literal::{Built, Form, Inputs, Literal, Seen, choose, seen, wrap};
use super::stock;
use super::values::{array, coordinates, floats, from_array, from_floats, ints};
use crate::engine::untrusted::graph::MAX_ELEMENTS;

/// Where a kernel comes to lie.
#[derive(Debug)]
pub(super) struct Windows {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Pads,
    ceil: bool,
}

#[derive(Debug)]
enum Pads {
    /// In front of every axis, then behind every axis.
    Explicit(Vec<usize>),
    /// As many outputs as ⌈input ÷ stride⌉; an odd pad goes in front where `lower`.
    Same { lower: bool },
}

#[derive(Debug)]
struct LpPool {
    p: i32,
    windows: Windows,
}

pub(super) fn lp_pool(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let p = node.get_attr_opt("p")?.unwrap_or(2);
    wrap(context, node, LpPool { p, windows: Windows::of(node)? })
}

/// tract's, with `auto_pad` told in pads where it fails: a kernel as long as its stride has none.
pub(super) fn conv_transpose(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let auto = node.get_attr_opt::<&str>("auto_pad")?.unwrap_or("NOTSET");
    if !auto.starts_with("SAME") {
        return stock(context, node);
    }
    ensure!(
        node.get_attr_opt_vec::<i64>("output_shape")?.is_none(),
        "output_shape beside auto_pad={auto} is not supported; export pads"
    );
    let weights = || {
        let graphs = context.parent_graphs.iter().rev().flat_map(|graph| &graph.initializer);
        let dims = graphs.filter(|tensor| Some(&tensor.name) == node.input.get(1)).map(|tensor| &tensor.dims);
        dims.map(|dims| dims.iter().skip(2).copied().collect::<Vec<i64>>()).next()
    };
    let Some(kernel) = node.get_attr_opt_vec::<i64>("kernel_shape")?.or_else(weights) else {
        return stock(context, node);
    };
    let of_axes = |name, usual: i64| -> TractResult<Vec<i64>> {
        let given = node.get_attr_opt_vec(name)?.unwrap_or_else(|| vec![usual; kernel.len()]);
        ensure!(given.len() == kernel.len(), "{name} {given:?} for a kernel {kernel:?}");
        Ok(given)
    };
    let (strides, dilations, more) =
        (of_axes("strides", 1)?, of_axes("dilations", 1)?, of_axes("output_padding", 0)?);
    let pad = |i: usize| more[i] + (kernel[i] - 1) * dilations[i] + 1 - strides[i];
    let pads: Vec<i64> = (0..kernel.len()).map(pad).collect();
    ensure!(
        pads.iter().all(|pad| *pad >= 0),
        "auto_pad={auto} where the kernel {kernel:?} is shorter than its stride {strides:?}: the standard and \
         onnxruntime disagree; export pads"
    );
    if pads.iter().any(|pad| *pad > 0) && !pads.contains(&0) {
        return stock(context, node);
    }
    let split =
        |pad: &i64| if auto == "SAME_UPPER" { (pad / 2, pad - pad / 2) } else { (pad - pad / 2, pad / 2) };
    let (front, back): (Vec<i64>, Vec<i64>) = pads.iter().map(split).unzip();
    let mut told = node.clone();
    told.attribute.retain(|attribute| !["auto_pad", "pads"].contains(&attribute.name.as_str()));
    told.attribute.push(AttributeProto {
        name: "pads".into(),
        ints: [front, back].concat(),
        r#type: AttributeType::Ints.into(),
        ..AttributeProto::default()
    });
    stock(context, &told)
}

impl Windows {
    pub(super) fn of(node: &NodeProto) -> TractResult<Self> {
        Self::of_kernel(node, node.get_attr_vec("kernel_shape")?)
    }

    /// Of a node that may leave it to its weights how long the kernel is.
    pub(super) fn of_kernel(node: &NodeProto, kernel: Vec<usize>) -> TractResult<Self> {
        let of_axes = |name| -> TractResult<Vec<usize>> {
            Ok(node.get_attr_opt_vec(name)?.unwrap_or_else(|| vec![1; kernel.len()]))
        };
        let pads = match node.get_attr_opt::<&str>("auto_pad")?.unwrap_or("NOTSET") {
            "SAME_UPPER" => Pads::Same { lower: false },
            "SAME_LOWER" => Pads::Same { lower: true },
            "VALID" => Pads::Explicit(vec![0; 2 * kernel.len()]),
            _ => Pads::Explicit(node.get_attr_opt_vec("pads")?.unwrap_or_else(|| vec![0; 2 * kernel.len()])),
        };
        let windows = Self {
            strides: of_axes("strides")?,
            dilations: of_axes("dilations")?,
            ceil: node.get_attr_opt::<i64>("ceil_mode")?.unwrap_or(0) != 0,
            pads,
            kernel,
        };
        ensure!(windows.strides.iter().chain(&windows.dilations).all(|step| *step > 0), "a step of 0");
        Ok(windows)
    }

    /// Elements of a kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Refuses lengths along which no window fits, and windows that hold nothing where that has no value.
    pub(super) fn check(&self, lengths: &[usize], nothing_has_a_value: bool) -> TractResult<()> {
        for (i, length) in lengths.iter().enumerate().take(self.kernel.len()) {
            let (count, front) = self.axis(i, *length)?;
            ensure!(count > 0, "axis {} has a length of 0, which no window fits", i + 2);
            // More are refused as a tensor, and would take long here.
            if count as u64 > MAX_ELEMENTS {
                continue;
            }
            let (stride, dilation) = (self.strides[i], self.dilations[i]);
            // Of a window that begins inside, the first place is.
            let holds = |window: usize| match front.checked_sub(window * stride) {
                Some(before) => {
                    let tap = before.div_ceil(dilation);
                    tap < self.kernel[i] && tap * dilation - before < *length
                }
                None => window * stride - front < *length,
            };
            let mut outer = (0..count.min(front.div_ceil(stride))).chain([count - 1]);
            ensure!(
                nothing_has_a_value || outer.all(holds),
                "a window along axis {} lies in the padding only, which has no value: take pads below the kernel's {}",
                i + 2,
                self.kernel[i]
            );
        }
        Ok(())
    }

    /// Number of outputs and pad in front along one axis.
    fn axis(&self, i: usize, length: usize) -> TractResult<(usize, usize)> {
        let span = (self.kernel[i] - 1).saturating_mul(self.dilations[i]).saturating_add(1);
        let stride = self.strides[i];
        Ok(match &self.pads {
            Pads::Same { lower } => {
                let count = length.div_ceil(stride);
                let pad = ((count.saturating_sub(1)) * stride + span).saturating_sub(length);
                (count, if *lower { pad.div_ceil(2) } else { pad / 2 })
            }
            Pads::Explicit(pads) => {
                let (front, back) = (pads[i], pads[i + self.kernel.len()]);
                let padded = length.saturating_add(front).saturating_add(back);
                // Rounded up, a window may lie a part of a stride beyond.
                let fits = padded >= span || self.ceil && span - padded < stride;
                ensure!(
                    fits,
                    "a window spans {span}, the axis {padded} with its padding, so that none fits: take a smaller \
                     kernel or more pads"
                );
                let room = padded.saturating_sub(span);
                let mut count = if self.ceil { room.div_ceil(stride) } else { room / stride } + 1;
                // A patch that would begin in the padding behind is none.
                if self.ceil && (count - 1) * stride >= length + front {
                    count -= 1;
                }
                (count, front)
            }
        })
    }

    /// What `of` makes of the elements of each window that lie inside.
    pub(super) fn pooled(&self, x: &ArrayD<f64>, of: impl Fn(&[f64]) -> f64) -> TractResult<ArrayD<f64>> {
        ensure!(x.ndim() == self.kernel.len() + 2, "shape {:?} for a kernel {:?}", x.shape(), self.kernel);
        let spatial = &x.shape()[2..];
        let axes: Vec<(usize, usize)> = spatial
            .iter()
            .enumerate()
            .map(|(i, length)| self.axis(i, *length))
            .collect::<TractResult<_>>()?;
        let shape: Vec<usize> =
            x.shape()[..2].iter().copied().chain(axes.iter().map(|(count, _)| *count)).collect();
        let taps: Vec<Vec<usize>> = coordinates(&self.kernel).collect();
        let mut inside = Vec::with_capacity(taps.len());
        Ok(ArrayD::from_shape_fn(IxDyn(&shape), |at| {
            let mut from = vec![at[0], at[1]];
            inside.clear();
            inside.extend(taps.iter().filter_map(|tap| {
                from.truncate(2);
                for (i, tap) in tap.iter().enumerate() {
                    let place = at[i + 2] * self.strides[i] + tap * self.dilations[i];
                    from.push(place.checked_sub(axes[i].1).filter(|place| *place < spatial[i])?);
                }
                Some(x[&*from])
            }));
            of(&inside)
        }))
    }
}

impl Literal for LpPool {
    fn name(&self) -> &'static str {
        "LpPool"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        let pooled = self.windows.pooled(&array(x)?, |inside| {
            inside.iter().map(|x| x.abs().powi(self.p)).sum::<f64>().powf(1.0 / f64::from(self.p))
        })?;
        Ok(vec![from_array(x.datum_type(), &pooled)?])
    }
}

#[derive(Debug)]
struct GlobalLpPool {
    p: i32,
}

/// tract divides by the number of elements, and takes no absolute values (0.23.9).
pub(super) fn global_lp_pool(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    wrap(context, node, GlobalLpPool { p: node.get_attr_opt("p")?.unwrap_or(2) })
}

impl Literal for GlobalLpPool {
    fn name(&self) -> &'static str {
        "GlobalLpPool"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let x = inputs.need(0)?;
        ensure!(x.rank() > 2, "shape {:?} has no space to pool", x.shape());
        let mut shape = x.shape().to_vec();
        let pixels: usize = shape.drain(2..).product();
        let norm = |plane: &[f64]| {
            plane.iter().map(|x| x.abs().powi(self.p)).sum::<f64>().powf(1.0 / f64::from(self.p))
        };
        let values: Vec<f64> = floats(x)?.chunks(pixels.max(1)).map(norm).collect();
        shape.resize(x.rank(), 1);
        Ok(vec![from_floats(x.datum_type(), &shape, &values)?])
    }
}

/// Stands where tract would answer wrongly and we have nothing better.
#[derive(Debug)]
struct Refused;

/// tract's indices of integer pictures are wrong (0.23.9); a picture in floats has right ones.
pub(super) fn max_pool(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    if node.output.len() < 2 {
        return stock(context, node);
    }
    choose(context, node, Refused, |inputs| !inputs[0].is_some_and(|x| x.datum_type.is_float()))
}

impl Literal for Refused {
    fn name(&self) -> &'static str {
        "MaxPool"
    }

    fn eval(&self, _: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        bail!("MaxPool with Indices takes floats only: cast its input to float first")
    }
}

#[derive(Debug)]
struct Col2Im {
    dilations: Option<Vec<usize>>,
    pads: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
}

pub(super) fn col2im(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let col2im = Col2Im {
        dilations: node.get_attr_opt_vec("dilations")?,
        pads: node.get_attr_opt_vec("pads")?,
        strides: node.get_attr_opt_vec("strides")?,
    };
    wrap(context, node, col2im)
}

fn lengths(tensor: &Tensor) -> TractResult<Vec<usize>> {
    ints(tensor)?.into_iter().map(|length| Ok(usize::try_from(length)?)).collect()
}

impl Literal for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn eval(&self, inputs: &Inputs<'_>) -> TractResult<Vec<Tensor>> {
        let (x, image, block) = (inputs.need(0)?, lengths(inputs.need(1)?)?, lengths(inputs.need(2)?)?);
        let axes = image.len();
        let ones = vec![1; axes];
        let (dilations, strides) =
            (self.dilations.as_ref().unwrap_or(&ones), self.strides.as_ref().unwrap_or(&ones));
        let no_pads = vec![0; 2 * axes];
        let pads = self.pads.as_ref().unwrap_or(&no_pads);
        ensure!(block.len() == axes && pads.len() == 2 * axes, "block {block:?} of image {image:?}");
        let taps: usize = block.iter().product();
        let &[batches, rows, columns] = x.shape() else { bail!("columns of shape {:?}", x.shape()) };
        ensure!(taps > 0 && rows % taps == 0, "{rows} rows for blocks of {taps}");
        let counts = (0..axes)
            .map(|i| {
                let span = (block[i] - 1) * dilations[i] + 1;
                let room = (image[i] + pads[i] + pads[i + axes])
                    .checked_sub(span)
                    .context("a block beyond the image")?;
                Ok(room / strides[i] + 1)
            })
            .collect::<TractResult<Vec<usize>>>()?;
        ensure!(counts.iter().product::<usize>() == columns, "{columns} columns where {counts:?} are taken");
        let values = floats(x)?;
        let shape: Vec<usize> = [&[batches, rows / taps], &*image].concat();
        let pixels: usize = image.iter().product();
        let mut out = vec![0.0; shape.iter().product()];
        for (tap, offset) in coordinates(&block).enumerate() {
            for (column, position) in coordinates(&counts).enumerate() {
                let place = (0..axes).try_fold(0, |flat, i| {
                    let at = (position[i] * strides[i] + offset[i] * dilations[i]).checked_sub(pads[i])?;
                    (at < image[i]).then_some(flat * image[i] + at)
                });
                let Some(place) = place else { continue };
                for plane in 0..batches * rows / taps {
                    out[plane * pixels + place] += values[(plane * taps + tap) * columns + column];
                }
            }
        }
        Ok(vec![from_floats(x.datum_type(), &shape, &out)?])
    }

    fn forms(&self, inputs: &[Option<Seen>]) -> TractResult<Option<Vec<Form>>> {
        let (x, image, block) = (seen(inputs, 0)?, seen(inputs, 1)?, seen(inputs, 2)?);
        let axes = image.lengths()?.first().copied().context("image_shape is a list")?;
        let mut shape = vec![Some(x.shape[0].clone()), None];
        if let Some(block) = &block.value {
            let taps: usize = lengths(block)?.iter().product();
            ensure!(taps > 0, "an empty block");
            shape[1] = Some(x.shape[1].clone() / taps);
        }
        match &image.value {
            Some(image) => shape.extend(lengths(image)?.iter().map(|length| Some(length.to_dim()))),
            None => shape.extend(vec![None; axes]),
        }
        Ok(Some(vec![Form::open(x.datum_type, shape)]))
    }
}

#[cfg(test)]
mod tests {
    use crate::base::{DataType, Tensor};
    use crate::engine::sample::{Attribute, Sample};

    #[test]
    fn a_transposed_kernel_as_long_as_its_stride_needs_no_pads() {
        let with = |stride: i64| {
            let attributes =
                [Attribute::Ints("strides", &[2, stride]), Attribute::Text("auto_pad", "SAME_UPPER")];
            let sample = Sample::default().input("x", DataType::F32, &[1, 1, 1, 2]).output("y");
            sample.weights("w", &[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]).node(
                "ConvTranspose",
                &["x", "w"],
                &["y"],
                &attributes,
            )
        };
        let input = Tensor::f32(&[1, 1, 1, 2], vec![1.0, 10.0]);
        let answer = with(2).model().session().run(&[&input]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[1, 1, 2, 4], vec![1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0])]);
        // Along the second axis one of the two columns in the middle is cut off behind.
        let answer = with(1).model().session().run(&[&input]).unwrap();
        assert_eq!(answer, [Tensor::f32(&[1, 1, 2, 2], vec![1.0, 12.0, 3.0, 34.0])]);
    }
}
