//! A convolution's input, copied run by run.
//!
//! For a convolution tract lays out what each position of the output sees in columns (im2col), gathered one
//! element at a time from a padded picture that is copied one element at a time as well (0.23.9). Positions
//! beside each other see elements beside each other, unless there are strides: here whole runs are copied,
//! to the same places. Faster, and as fast in a build that is optimised for size. So short filters, for which tract
//! lays out all positions at once and one element at a time, go this way as well.
//!
//! Which elements those are follows from the convolution (tract's operator keeps it to itself). It is bounds of
//! memory as well: the last one is held against the picture's end.

use std::alloc::Layout;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::knobs::KnobScope;
use tract_core::ops::array::{Pad, PadMode};
use tract_core::ops::cnn::{Conv, PaddingSpec, PoolSpec};
use tract_core::ops::matmul::pack::DynPackedExoticFact;
use tract_core::tract_linalg::WeightType;
use tract_core::tract_linalg::mmm::{EagerPackedInput, MMMInputFormat, MMMInputValue, PackedMatrixStorage};
use tract_core::tract_linalg::pack::PackedFormat;

use super::lowering;

/// Rewrites to the fastest operators, ours for the inputs of convolutions.
pub(super) fn optimise(model: &mut TypedModel) -> TractResult<()> {
    let mut convolutions = Convolutions::new();
    let mut all_ours = true;
    for node in model.nodes() {
        if let Some(convolution) = node.op_as::<Conv>() {
            all_ours &= model.outlet_fact(node.inputs[0])?.datum_type == DatumType::F32;
            convolutions.insert(format!("{}.lazyIm2col", node.name), convolution.clone());
        }
    }
    if all_ours {
        // The least volume of a filter whose positions tract leaves to the kernel, panel by panel: 6 where it is not set.
        let short = KnobScope::new([("TRACT_LAZY_IM2COL_MIN_KERNEL", "2")])?;
        short.enter(|| lowering::apply(model))?;
    } else {
        lowering::apply(model)?;
    }
    apply(model, &convolutions)
}

/// By the name of the node that lays out its columns.
type Convolutions = HashMap<String, Conv>;

/// Takes the place of tract's operators in a graph that is optimised already.
fn apply(model: &mut TypedModel, convolutions: &Convolutions) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let Some(input) = node.inputs.first() else { continue };
        let picture = model.outlet_fact(*input)?;
        let ours: Option<Box<dyn TypedOp>> = if let Some(pad) = node.op_as::<Pad>() {
            Padded::of(pad, picture).map(|op| Box::new(op) as _)
        } else if let Some(convolution) = convolutions.get(&node.name)
            && node.op.name() == "LazyIm2col"
        {
            Columns::of(node.op.clone(), convolution, picture)?.map(|op| Box::new(op) as _)
        } else {
            None
        };
        if let Some(ours) = ours {
            model.node_mut(id).op = ours;
        }
    }
    Ok(())
}

/// A picture in a frame of zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Padded(Pad);

impl Padded {
    fn of(pad: &Pad, picture: &TypedFact) -> Option<Self> {
        let PadMode::Constant(around) = &pad.mode else { return None };
        let zeros = around.try_as_plain_ram().ok()?.as_bytes().iter().all(|byte| *byte == 0);
        let datum_type = picture.datum_type;
        (zeros && datum_type.is_copy() && around.datum_type() == datum_type).then(|| Self(pad.clone()))
    }
}

impl Op for Padded {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    op_as_typed_op!();
}

impl EvalOp for Padded {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let picture = args_1!(inputs);
        let pads = &self.0.pads;
        let shape: TVec<usize> = picture
            .shape()
            .iter()
            .zip(pads)
            .map(|(length, (before, after))| before + length + after)
            .collect();
        // SAFETY: `frame` writes every byte, before anything reads one.
        #[expect(unsafe_code, reason = "tract's own zeros are written one by one")]
        let mut framed = unsafe { Tensor::uninitialized_dt(picture.datum_type(), &shape)? };
        let mut plain = framed.try_as_plain_ram_mut()?;
        let from = picture.try_as_plain_ram()?;
        frame(from.as_bytes(), plain.as_bytes_mut(), picture.shape(), pads);
        Ok(tvec!(framed.into_tvalue()))
    }
}

impl TypedOp for Padded {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    as_op!();
}

/// Copies what `from` holds, of the given lengths along its axes, into the middle of `to`; zeros go around it.
fn frame(from: &[u8], to: &mut [u8], lengths: &[usize], pads: &[(usize, usize)]) {
    if from.is_empty() {
        return to.fill(0);
    }
    if pads.iter().all(|pad| *pad == (0, 0)) {
        return to.copy_from_slice(from);
    }
    let (before, after) = pads[0];
    let step_from = from.len() / lengths[0];
    let step_to = to.len() / (before + lengths[0] + after);
    let (above, middle) = to.split_at_mut(before * step_to);
    let (middle, below) = middle.split_at_mut(lengths[0] * step_to);
    above.fill(0);
    below.fill(0);
    if step_from == step_to {
        return middle.copy_from_slice(from);
    }
    // The rows of a picture: the usual case, and most of the time.
    if lengths.len() == 2 {
        let element = step_from / lengths[1];
        return rows(from, middle, lengths[0], pads[1].0 * element, pads[1].1 * element);
    }
    let rows = from.chunks_exact(step_from).zip(middle.chunks_exact_mut(step_to));
    for (from, to) in rows {
        frame(from, to, &lengths[1..], &pads[1..]);
    }
}

/// Copies so many rows; in front of each go `left` bytes of zeros, behind each `right`.
fn rows(from: &[u8], to: &mut [u8], rows: usize, left: usize, right: usize) {
    let bytes = from.len() / rows;
    assert!(from.len() == bytes * rows && to.len() == (left + bytes + right) * rows);
    let (mut from, mut to, mut ahead) = (from.as_ptr(), to.as_mut_ptr(), rows);
    // SAFETY: the lengths are looked at above.
    #[expect(
        unsafe_code,
        reason = "a slice a row takes a third of the time, where slices are not inlined for size"
    )]
    unsafe {
        zero(to, left);
        to = to.add(left);
        loop {
            copy(from, to, bytes);
            from = from.add(bytes);
            to = to.add(bytes);
            ahead -= 1;
            if ahead == 0 {
                return zero(to, right);
            }
            zero(to, right + left);
            to = to.add(right + left);
        }
    }
}

/// # Safety
/// `to` can be written for `bytes`.
#[expect(unsafe_code, reason = "see its caller")]
unsafe fn zero(to: *mut u8, bytes: usize) {
    // SAFETY: the caller's.
    unsafe {
        match bytes {
            0 => {}
            // Floats in a frame of one element, on both sides: no function is called for them.
            8 => to.cast::<[u8; 8]>().write([0; 8]),
            _ => to.write_bytes(0, bytes),
        }
    }
}

/// # Safety
/// `from` can be read for `bytes`, `to` written; they are apart.
#[expect(unsafe_code, reason = "see its caller")]
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    // musl's own copies 16 bytes a turn. Of blocks in one piece a compiler would see that they are what it does.
    type Half = [u8; 32];
    const BLOCK: usize = 2 * size_of::<Half>();
    let block = |from: *const u8, to: *mut u8| {
        // SAFETY: those below are blocks of what the caller gives.
        unsafe {
            let front = from.cast::<Half>().read();
            let back = from.add(size_of::<Half>()).cast::<Half>().read();
            to.cast::<Half>().write(front);
            to.add(size_of::<Half>()).cast::<Half>().write(back);
        }
    };
    // SAFETY: the last block begins behind the one before it, or within.
    unsafe {
        if bytes <= BLOCK {
            return from.copy_to_nonoverlapping(to, bytes);
        }
        let (last_from, last_to) = (from.add(bytes - BLOCK), to.add(bytes - BLOCK));
        let (mut from, mut to) = (from, to);
        loop {
            block(from, to);
            from = from.add(BLOCK);
            to = to.add(BLOCK);
            if from >= last_from {
                return block(last_from, last_to);
            }
        }
    }
}

/// The columns of a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Columns {
    stock: Box<dyn TypedOp>,
    places: Arc<Places>,
    /// The first byte of each group of channels.
    groups: Arc<[isize]>,
    picture_bytes: usize,
}

/// Where the elements of a group stand, in bytes: each position of the output plus each k of the filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Places {
    packer: PackedFormat,
    ks: Vec<isize>,
    /// How many positions the panels hold.
    positions: usize,
    /// Of one panel after the other.
    pieces: Vec<Piece>,
    /// Where each panel's pieces end.
    ends: Vec<usize>,
}

impl Places {
    fn of(packer: PackedFormat, ks: Vec<isize>, positions: &[isize]) -> Self {
        let (mut pieces, mut ends) = (Vec::new(), Vec::new());
        for panel in positions.chunks(packer.r) {
            pieces.extend(Piece::all(panel));
            ends.push(pieces.len());
        }
        Self { packer, ks, positions: positions.len(), pieces, ends }
    }

    /// The pieces of the panel of that number.
    fn panel(&self, number: usize) -> Option<&[Piece]> {
        let begin =
            number.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or_default());
        self.pieces.get(begin..*self.ends.get(number)?)
    }
}

/// Positions of a panel that are laid out together, down all ks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Piece {
    /// Eight neighbours, by their first.
    Run8(isize),
    /// Eight, each two elements behind the one before: a stride of two.
    Second8(isize),
    Apart8([isize; 8]),
    Run4(isize),
    Apart4([isize; 4]),
    One(isize),
}

impl Piece {
    /// All of a panel's positions.
    fn all(positions: &[isize]) -> impl Iterator<Item = Self> {
        const RUN: isize = ELEMENT as isize;
        fn steps(some: &[isize], step: isize) -> bool {
            some.windows(2).all(|pair| pair[1] - pair[0] == step)
        }
        let (eights, rest) = positions.as_chunks::<8>();
        let (fours, rest) = rest.as_chunks::<4>();
        let eights = eights.iter().map(|some| match some[0] {
            first if steps(some, RUN) => Self::Run8(first),
            first if steps(some, 2 * RUN) => Self::Second8(first),
            _ => Self::Apart8(*some),
        });
        let fours =
            fours.iter().map(|some| if steps(some, RUN) { Self::Run4(some[0]) } else { Self::Apart4(*some) });
        eights.chain(fours).chain(rest.iter().map(|position| Self::One(*position)))
    }
}

const ELEMENT: usize = size_of::<f32>();

impl Columns {
    /// Those of a convolution over a picture that has its frame already; None where they are not single floats, or
    /// other columns than `stock` says.
    fn of(stock: Box<dyn TypedOp>, convolution: &Conv, picture: &TypedFact) -> TractResult<Option<Self>> {
        let Some(shape) = picture.shape.as_concrete() else { return Ok(None) };
        let fact = stock.output_facts(&[picture])?.remove(0);
        let packed = fact.exotic_fact.as_ref().and_then(|fact| fact.downcast_ref::<DynPackedExoticFact>());
        let Some(packed) = packed else { return Ok(None) };
        let packer = packed.packers.first().and_then(|packer| packer.downcast_ref::<PackedFormat>());
        let (Some(packer), DatumType::F32) = (packer, picture.datum_type) else { return Ok(None) };

        let spec = PoolSpec { padding: PaddingSpec::Valid, ..convolution.pool_spec.clone() };
        let output = spec.output_shape(shape)?;
        let input = spec.data_format.shape(shape)?;
        let bytes = |step: usize| (step * ELEMENT) as isize;
        let steps = |apart: &[usize]| -> Vec<isize> {
            input.hw_strides().iter().zip(apart).map(|(step, apart)| bytes(step * apart)).collect()
        };
        let positions = grid(output.hw_dims(), &steps(&spec.strides()));
        let channels = convolution.input_channels() / convolution.group;
        let channel = bytes(*input.c_stride());
        let ks = grid(
            &[&[channels], spec.kernel_shape.as_slice()].concat(),
            &[&[channel], steps(&spec.dilations()).as_slice()].concat(),
        );
        let groups = grid(&[convolution.group], &[channel * channels as isize]);

        let picture_bytes = shape.iter().product::<usize>() * ELEMENT;
        let (Some(group), Some(position), Some(k)) = (groups.last(), positions.last(), ks.last()) else {
            return Ok(None);
        };
        let is_inside = (group + position + k) as usize + ELEMENT <= picture_bytes;
        let is_stocks = packed.mn == positions.len().to_dim() && packed.k == ks.len().to_dim();
        let places = Places::of(packer.clone(), ks, &positions);
        Ok((is_inside && is_stocks).then(|| Self {
            stock,
            places: Arc::new(places),
            groups: groups.into(),
            picture_bytes,
        }))
    }
}

/// So many steps of these lengths along each axis, the last axis the fastest: where each place stands. No step leads
/// back, so that the last place is the outermost.
fn grid(lengths: &[usize], steps: &[isize]) -> Vec<isize> {
    lengths.iter().zip(steps).fold(vec![0], |places, (length, step)| {
        places.iter().flat_map(|place| (0..*length as isize).map(move |nth| place + nth * step)).collect()
    })
}

impl Op for Columns {
    fn name(&self) -> StaticName {
        self.stock.name()
    }

    op_as_typed_op!();
}

impl EvalOp for Columns {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let picture = args_1!(inputs);
        let plain = picture.try_as_plain_ram()?.as_bytes();
        let bytes = plain.len();
        ensure!(bytes == self.picture_bytes, "a picture of {bytes} bytes, not {}", self.picture_bytes);
        let group = |first: &isize| {
            let from = Start(plain.as_ptr().wrapping_offset(*first));
            let (picture, places) = (picture.clone(), self.places.clone());
            Box::new(Group { picture, places, first: *first, from }) as Box<dyn MMMInputValue>
        };
        let columns = PackedMatrixStorage::new_batched(
            &[1, self.groups.len()],
            self.groups.iter().map(group).collect(),
        );
        Ok(tvec!(columns.into_tensor(picture.datum_type()).into_tvalue()))
    }
}

impl TypedOp for Columns {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.stock.output_facts(inputs)
    }

    as_op!();
}

/// What one group of filters sees.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    picture: TValue,
    places: Arc<Places>,
    first: isize,
    from: Start,
}

/// Where a group begins in the bytes of the picture that it holds: asked for once, not for each panel.
#[derive(Clone, Copy, Debug)]
struct Start(*const u8);

// SAFETY: it is read through a group alone, which holds the picture, and nobody writes to what is held.
#[expect(unsafe_code, reason = "a pointer says of itself that it is not to be shared")]
unsafe impl Send for Start {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "as above")]
unsafe impl Sync for Start {}

/// Groups are compared by what they see, not by where it is.
impl PartialEq for Start {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Start {}

impl Hash for Group {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.picture.as_bytes(), &self.places, self.first).hash(state);
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "columns of {:?}", self.picture)
    }
}

impl MMMInputValue for Group {
    fn format(&self) -> &dyn MMMInputFormat {
        &*self.places
    }

    fn scratch_panel_buffer_layout(&self) -> Option<Layout> {
        Some(self.places.packer.single_panel_layout(self.k(), ELEMENT))
    }

    fn panel_bytes(&self, panel: usize, buffer: Option<*mut u8>) -> TractResult<*const u8> {
        let to = buffer.context("a panel has a buffer")?;
        let Places { packer, ks, .. } = &*self.places;
        let panel = self.places.panel(panel).context("a panel of the convolution")?;
        // SAFETY: `Columns::of` has seen that a group's first byte, a position and a k, none of them negative, add up to an
        // element of a picture of this length, which `eval` has compared; the buffer has the layout above, ks · width
        // elements.
        #[expect(
            unsafe_code,
            reason = "the kernels' buffers are bare memory; an eighth of a small network's time"
        )]
        unsafe {
            lay_out(self.from.0, ks, panel, to.cast(), packer.r);
        }
        Ok(to)
    }

    fn mn(&self) -> usize {
        self.places.positions
    }

    fn k(&self) -> usize {
        self.places.ks.len()
    }

    fn exotic_fact(&self) -> &dyn ExoticFact {
        &*self.places
    }

    fn extract_at_mn_f16(&self, _: usize, _: &mut [f16]) -> TractResult<()> {
        bail!("columns are not taken apart")
    }

    fn extract_at_mn_f32(&self, _: usize, _: &mut [f32]) -> TractResult<()> {
        bail!("columns are not taken apart")
    }
}

impl fmt::Display for Places {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "columns, {}", self.packer)
    }
}

impl ExoticFact for Places {
    fn buffer_sizes(&self) -> TVec<TDim> {
        tvec!(MMMInputFormat::mem_size(self, self.ks.len().to_dim(), self.positions.to_dim()))
    }
}

// A format of its own, as tract's is: `PackedFormat` would say that the panels are laid out already.
impl MMMInputFormat for Places {
    fn r(&self) -> usize {
        self.packer.r
    }

    fn precursor(&self) -> WeightType {
        self.packer.precursor()
    }

    fn k_alignment(&self) -> usize {
        1
    }

    fn mem_size(&self, k: TDim, mn: TDim) -> TDim {
        k * mn * ELEMENT
    }

    fn prepare_tensor(&self, _: &Tensor, _: usize, _: usize) -> TractResult<Tensor> {
        bail!("columns are of one convolution")
    }

    fn prepare_one_view(&self, _: &TensorView, _: usize, _: usize) -> TractResult<Box<dyn MMMInputValue>> {
        bail!("columns are of one convolution")
    }

    fn extract_at_mn_f16(&self, _: &EagerPackedInput, _: usize, _: &mut [f16]) -> TractResult<()> {
        bail!("columns are not taken apart")
    }

    fn extract_at_mn_f32(&self, _: &EagerPackedInput, _: usize, _: &mut [f32]) -> TractResult<()> {
        bail!("columns are not taken apart")
    }
}

/// Lays out a panel of `width` columns; those behind its last position are zero.
///
/// # Safety
/// `from` can be read for an element at each position and k, `to` written for `width` elements a k; there is a k.
#[expect(unsafe_code, reason = "see its caller")]
unsafe fn lay_out(from: *const u8, ks: &[isize], panel: &[Piece], to: *mut f32, width: usize) {
    let (mut column, end) = (to, to.wrapping_add(width));
    for piece in panel {
        // SAFETY: the caller's; all of a panel's pieces have `width` positions at most.
        unsafe {
            match piece {
                Piece::Run8(first) => run::<8>(from.offset(*first), ks, column, width),
                Piece::Second8(first) => {
                    let from = from.offset(*first);
                    down(ks, column, width, |k| seconds(from.offset(k).cast()));
                }
                Piece::Apart8([a, b, c, d, e, f, g, h]) => {
                    // Of eight and four by hand: loops are not unrolled where size counts.
                    let (a, b, c, d) = (from.offset(*a), from.offset(*b), from.offset(*c), from.offset(*d));
                    let (e, f, g, h) = (from.offset(*e), from.offset(*f), from.offset(*g), from.offset(*h));
                    down(ks, column, width, |k| {
                        [at(a, k), at(b, k), at(c, k), at(d, k), at(e, k), at(f, k), at(g, k), at(h, k)]
                    });
                }
                Piece::Run4(first) => run::<4>(from.offset(*first), ks, column, width),
                Piece::Apart4([a, b, c, d]) => {
                    let (a, b, c, d) = (from.offset(*a), from.offset(*b), from.offset(*c), from.offset(*d));
                    down(ks, column, width, |k| [at(a, k), at(b, k), at(c, k), at(d, k)]);
                }
                Piece::One(position) => run::<1>(from.offset(*position), ks, column, width),
            }
        }
        column = column.wrapping_add(match piece {
            Piece::Run8(_) | Piece::Second8(_) | Piece::Apart8(_) => 8,
            Piece::Run4(_) | Piece::Apart4(_) => 4,
            Piece::One(_) => 1,
        });
    }
    while column < end {
        // SAFETY: the caller's; the column is one of the panel's.
        unsafe { down(ks, column, width, |_| [0.0]) };
        column = column.wrapping_add(1);
    }
}

/// For each k `N` neighbours.
///
/// # Safety
/// `from` can be read for `N` elements at each k, `to` written for as many at each `width`; there is a k.
#[expect(unsafe_code, reason = "see its caller")]
unsafe fn run<const N: usize>(from: *const u8, ks: &[isize], to: *mut f32, width: usize) {
    // SAFETY: the caller's.
    unsafe { down(ks, to, width, |k| from.offset(k).cast::<[f32; N]>().read()) }
}

/// For each k what `row` gives, one below the other.
///
/// # Safety
/// `to` can be written for `N` elements at each `width`, as often as there are ks; there is one.
#[expect(unsafe_code, reason = "see its caller")]
unsafe fn down<const N: usize>(ks: &[isize], to: *mut f32, width: usize, row: impl Fn(isize) -> [f32; N]) {
    let (mut to, mut ks) = (to, ks.as_ptr_range());
    // Looked whether it is done behind each turn alone; a `for` looks in front of the first, and for size in front of each.
    loop {
        // SAFETY: the caller's.
        unsafe {
            to.cast::<[f32; N]>().write(row(*ks.start));
            ks.start = ks.start.add(1);
        }
        to = to.wrapping_add(width);
        if ks.start == ks.end {
            return;
        }
    }
}

/// The first and every second one behind it.
///
/// # Safety
/// `from` can be read for 15 elements.
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "see its caller")]
unsafe fn seconds(from: *const f32) -> [f32; 8] {
    use std::arch::aarch64::{float32x4_t, vld2q_f32};
    // The second load begins one element early: nothing is read behind the last.
    // SAFETY: the caller's; two vectors of four floats are eight floats.
    unsafe {
        let (front, back) = (vld2q_f32(from), vld2q_f32(from.add(7)));
        std::mem::transmute::<[float32x4_t; 2], [f32; 8]>([front.0, back.1])
    }
}

/// The first and every second one behind it.
///
/// # Safety
/// `from` can be read for 15 elements.
#[cfg(not(target_arch = "aarch64"))]
#[expect(unsafe_code, reason = "see its caller")]
unsafe fn seconds(from: *const f32) -> [f32; 8] {
    // SAFETY: the caller's.
    let at = |place| unsafe { from.add(place).read() };
    [at(0), at(2), at(4), at(6), at(8), at(10), at(12), at(14)]
}

/// # Safety
/// There is an element at `k` from `from`.
#[expect(unsafe_code, reason = "see its caller")]
unsafe fn at(from: *const u8, k: isize) -> f32 {
    // SAFETY: the caller's.
    unsafe { from.offset(k).cast::<f32>().read() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tract_core::ops::cnn::conv::KernelFormat;
    use tract_core::ops::nn::DataFormat;

    /// As [`optimise`] finds them.
    fn convolutions(model: &TypedModel) -> Convolutions {
        let nodes = model.nodes().iter();
        nodes
            .filter_map(|node| Some((format!("{}.lazyIm2col", node.name), node.op_as::<Conv>()?.clone())))
            .collect()
    }

    /// Shows each panel of a group: for each k the elements at the panel's positions.
    fn panels(group: &dyn MMMInputValue, mut panel: impl FnMut(&[&[f32]])) {
        let layout = group.scratch_panel_buffer_layout().unwrap();
        let width = group.format().r();
        let mut buffer = Tensor::zero_aligned::<f32>(&[layout.size() / ELEMENT], layout.align()).unwrap();
        for number in 0..group.panels_count() {
            let bytes = buffer.try_as_plain_ram_mut().unwrap().as_bytes_mut().as_mut_ptr();
            group.panel_bytes(number, Some(bytes)).unwrap();
            let positions = width.min(group.mn() - number * width);
            let plain = buffer.try_as_plain_ram().unwrap();
            let rows = plain.as_slice::<f32>().unwrap().chunks(width).take(group.k());
            panel(&rows.map(|row| &row[..positions]).collect::<Vec<_>>());
        }
    }

    fn numbered(shape: &[usize]) -> Tensor {
        let numbers: Vec<f32> = (1..=shape.iter().product::<usize>()).map(|number| number as f32).collect();
        Tensor::from_shape(shape, &numbers).unwrap()
    }

    fn only(op: &dyn TypedOp, input: &Tensor) -> TValue {
        op.eval_out_of_plan(tvec!(input.clone().into_tvalue())).unwrap().unwrap().remove(0)
    }

    /// All that the groups see, panel by panel.
    fn seen(columns: &Tensor) -> Vec<Vec<f32>> {
        let storage = columns.try_storage_as::<PackedMatrixStorage>().unwrap();
        let mut all = Vec::new();
        for group in storage.values() {
            panels(&**group, |rows| all.push(rows.concat()));
        }
        all
    }

    proptest! {
        #[test]
        fn columns_and_frames_are_tracts_own_byte_for_byte(
            (channels, filters, group) in (1_usize..4, 1_usize..20, 1_usize..3),
            (height, width) in (5_usize..14, 5_usize..40),
            kernel in prop::sample::select(vec![[1_usize, 1], [3, 3], [1, 3], [2, 3], [5, 2]]),
            (strides, dilations) in ([1_usize..3, 1_usize..3], [1_usize..3, 1_usize..3]),
            (before, after) in ([0_usize..3, 0_usize..3], [0_usize..3, 0_usize..3]),
            channels_last in any::<bool>(),
        ) {
            let channels = channels * group;
            let pool_spec = PoolSpec::new(
                if channels_last { DataFormat::NHWC } else { DataFormat::NCHW },
                TVec::from_slice(&kernel),
                PaddingSpec::Explicit(TVec::from_slice(&before), TVec::from_slice(&after)),
                Some(TVec::from_slice(&dilations)),
                Some(TVec::from_slice(&strides)),
                channels,
                filters * group,
            );
            let tall = |at: usize, length: usize| length + before[at] + after[at] > (kernel[at] - 1) * dilations[at];
            prop_assume!(tall(0, height) && tall(1, width));
            let shape = if channels_last { [1, height, width, channels] } else { [1, channels, height, width] };
            let mut model = TypedModel::default();
            let picture = model.add_source("picture", f32::fact(shape)).unwrap();
            let weights = model.add_const("weights", numbered(&[filters * group, channels / group, kernel[0], kernel[1]])).unwrap();
            let bias = model.add_const("bias", Tensor::zero::<f32>(&[filters * group]).unwrap()).unwrap();
            let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group, q_params: None };
            let answer = model.wire_node("conv", conv, &[picture, weights, bias]).unwrap();
            model.select_output_outlets(&answer).unwrap();
            let mut whole = model.clone().into_decluttered().unwrap();
            optimise(&mut whole).unwrap();
            let mut stock = model.into_decluttered().unwrap();
            let convolutions = convolutions(&stock);
            stock.optimize().unwrap();
            let mut ours = stock.clone();
            apply(&mut ours, &convolutions).unwrap();
            for (stock_node, node) in stock.nodes().iter().zip(ours.nodes()) {
                let answers = || {
                    let input = numbered(stock.outlet_fact(node.inputs[0]).unwrap().shape.as_concrete().unwrap());
                    (only(&*node.op, &input), only(&*stock_node.op, &input))
                };
                if node.op_is::<Padded>() {
                    let (ours, stock) = answers();
                    prop_assert_eq!(ours, stock);
                } else if node.op_is::<Columns>() {
                    let (ours, stock) = answers();
                    prop_assert_eq!(seen(&ours), seen(&stock));
                } else {
                    prop_assert!(node.op.name() != "LazyIm2col" && node.op.name() != "Pad");
                }
            }
            let run = |model: TypedModel| {
                model.into_runnable().unwrap().run(tvec!(numbered(&shape).into_tvalue())).unwrap().remove(0)
            };
            let right = run(stock);
            prop_assert_eq!(&run(ours), &right);
            prop_assert_eq!(&run(whole), &right);
        }
    }

    #[test]
    fn a_usual_convolution_copies_whole_runs_in_a_frame() {
        let pool_spec =
            PoolSpec::new(DataFormat::NCHW, tvec!(3, 3), PaddingSpec::SameUpper, None, None, 2, 16);
        let mut model = TypedModel::default();
        let picture = model.add_source("picture", f32::fact([1, 2, 48, 48])).unwrap();
        let weights = model.add_const("weights", numbered(&[16, 2, 3, 3])).unwrap();
        let bias = model.add_const("bias", Tensor::zero::<f32>(&[16]).unwrap()).unwrap();
        let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
        let answer = model.wire_node("conv", conv, &[picture, weights, bias]).unwrap();
        model.select_output_outlets(&answer).unwrap();
        let mut model = model.into_decluttered().unwrap();
        let convolutions = convolutions(&model);
        model.optimize().unwrap();
        apply(&mut model, &convolutions).unwrap();
        let columns = model.nodes().iter().find_map(|node| node.op_as::<Columns>()).unwrap();
        let pieces = &columns.places.pieces;
        let runs = pieces.iter().filter(|piece| matches!(piece, Piece::Run8(_) | Piece::Run4(_))).count();
        assert!(columns.places.packer.r < 4 || runs * 3 > pieces.len(), "{runs} runs of {}", pieces.len());
        assert!(model.nodes().iter().any(|node| node.op_is::<Padded>()));
    }

    #[test]
    fn a_stride_of_two_takes_every_second_element() {
        let positions: Vec<isize> = (0..12).map(|position| 100 + 8 * position).collect();
        let pieces: Vec<Piece> = Piece::all(&positions).collect();
        assert_eq!(pieces, [Piece::Second8(100), Piece::Apart4([164, 172, 180, 188])]);
        let picture: Vec<f32> = (0..64).map(|number| number as f32).collect();
        let mut panel = [f32::NAN; 24];
        // SAFETY: the last position and k, 188 + 4, are within the picture; the panel is of two ks, 12 wide.
        #[expect(unsafe_code, reason = "what is tested takes bare memory")]
        unsafe {
            lay_out(picture.as_ptr().cast(), &[0, 4], &pieces, panel.as_mut_ptr(), 12);
        }
        let right: Vec<f32> =
            [0, 1].iter().flat_map(|k| (0..12).map(move |at| (25 + 2 * at + k) as f32)).collect();
        assert_eq!(panel[..], right[..]);
    }

    #[test]
    fn a_short_filter_over_a_series_copies_whole_runs_as_well() {
        let pool_spec = PoolSpec::new(DataFormat::NCHW, tvec!(3), PaddingSpec::SameUpper, None, None, 4, 32);
        let mut model = TypedModel::default();
        let series = model.add_source("series", f32::fact([1, 4, 60])).unwrap();
        let weights = model.add_const("weights", numbered(&[32, 4, 3])).unwrap();
        let bias = model.add_const("bias", Tensor::zero::<f32>(&[32]).unwrap()).unwrap();
        let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
        let answer = model.wire_node("conv", conv, &[series, weights, bias]).unwrap();
        model.select_output_outlets(&answer).unwrap();
        let mut model = model.into_decluttered().unwrap();
        optimise(&mut model).unwrap();
        assert!(model.nodes().iter().any(|node| node.op_is::<Columns>()));
    }

    #[test]
    fn a_frame_of_anything_but_zeros_stays_tracts() {
        let of = |around: Tensor| {
            let pad = Pad { pads: vec![(1, 1)], mode: PadMode::Constant(around.into_arc_tensor()) };
            Padded::of(&pad, &f32::fact([3])).is_some()
        };
        assert!(of(tensor0(0.0_f32)));
        assert!(!of(tensor0(-0.0_f32)) && !of(tensor0(1.0_f32)) && !of(tensor0(0_i64)));
    }
}
