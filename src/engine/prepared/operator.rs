//! The operators that a prepared graph has words for, and back.
//!
//! A new one is a variant here, with a line each way; the file counts them, so `FORM` goes up with it. What has no
//! word is named by `prepare`, and its graph is loaded from ONNX as before.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tract_core::internal::*;
use tract_core::ops::array::{Gather, MultiBroadcastTo, Pad, PadMode, Slice, TypedConcat};
use tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_core::ops::cast::Cast;
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::downsample::Downsample;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_core::ops::gru_cell::GruEpilogue;
use tract_core::ops::konst::Const;
use tract_core::ops::lstm_cell::LstmEpilogue;
use tract_core::ops::nn::{DataFormat, Reduce, Reducer, Softmax, SoftmaxKind};
use tract_core::ops::source::TypedSource;
use tract_core::ops::{logic, math, nn};

use super::value::{Type, Value};
use crate::engine::passes::{Fence, Quotient};

/// An operator with all that it is made with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Operator<'a> {
    Source(Type, Vec<usize>),
    #[serde(borrow)]
    Const(Value<'a>),
    Conv {
        pool: Pool,
        kernel: Kernel,
        group: usize,
        quantised: Option<Type>,
    },
    EinSum {
        axes: Cow<'a, str>,
        operating: Type,
        quantised: Option<Type>,
    },
    Binary(Binary, Option<Type>),
    ElementWise(ElementWise, Option<Type>),
    Reduce(Reduction, Vec<usize>),
    Softmax {
        axes: Vec<usize>,
        quantised: Option<Type>,
        logarithm: bool,
    },
    Slice {
        axis: usize,
        start: i64,
        end: i64,
    },
    Concat(usize),
    AddAxis(usize),
    RmAxis(usize),
    MoveAxis(usize, usize),
    Reshape(usize, Vec<i64>, Vec<i64>),
    MaxPool(Pool),
    SumPool {
        pool: Pool,
        counts_padding: bool,
        normalises: bool,
    },
    PadWith(Vec<(usize, usize)>, Value<'a>),
    PadByReflection(Vec<(usize, usize)>),
    PadByEdge(Vec<(usize, usize)>),
    Gather(usize, Option<Type>),
    Cast(Type),
    Downsample {
        axis: usize,
        stride: isize,
        modulo: usize,
    },
    Broadcast(Vec<i64>),
    Iff,
    LstmCell(usize),
    GruCell(usize),
    Fence {
        hides: bool,
    },
}

/// The window of a convolution or a pool.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pool {
    format: Format,
    kernel: Vec<usize>,
    padding: Padding,
    dilations: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
    channels: (usize, usize),
}

#[derive(Debug, Serialize, Deserialize)]
enum Padding {
    Explicit(Vec<usize>, Vec<usize>),
    ExplicitOnnxPool(Vec<usize>, Vec<usize>, bool),
    Valid,
    SameUpper,
    SameLower,
}

/// Words for values of a type that need nothing more to be made.
macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident for $theirs:ident {
        $($word:ident $(($field:ident))? = $their_word:ident,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
        pub(super) enum $name {
            $($word $((words!(@bool $field)))?,)*
        }

        impl $name {
            fn of(theirs: &$theirs) -> Self {
                match theirs {
                    $($theirs::$their_word $(($field))? => Self::$word $((*$field))?,)*
                }
            }

            fn theirs(self) -> $theirs {
                match self {
                    $(Self::$word $(($field))? => $theirs::$their_word $(($field))?,)*
                }
            }
        }
    };
    (@bool $field:ident) => { bool };
}

words! {
    /// Order of a kernel's axes.
    Kernel for KernelFormat { Oihw = OIHW, Hwio = HWIO, Ohwi = OHWI, }
}

words! {
    /// Order of a picture's axes.
    Format for DataFormat { Nchw = NCHW, Nhwc = NHWC, Chw = CHW, Hwc = HWC, }
}

words! {
    /// What becomes of the elements along some axes.
    Reduction for Reducer {
        ArgMax(last) = ArgMax,
        ArgMin(last) = ArgMin,
        Max = Max,
        Min = Min,
        Prod = Prod,
        Sum = Sum,
        MeanOfSquares = MeanOfSquares,
        All = All,
        Any = Any,
    }
}

/// Words for operators that go by element: those without parameters, and those `with` some.
macro_rules! by_element {
    ($(#[doc = $doc:literal])* $name:ident for $theirs:ident {
        $($word:ident = $($path:ident)::+,)*
    } with {
        $($with:ident { $field:ident: $type:ty } = $($with_path:ident)::+,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
        pub(super) enum $name {
            $($word,)*
            $($with($type),)*
        }

        impl $name {
            fn of(theirs: &dyn $theirs) -> Option<Self> {
                $(if theirs.is::<$($path)::+>() {
                    return Some(Self::$word);
                })*
                $(if let Some(theirs) = theirs.downcast_ref::<$($with_path)::+>() {
                    return Some(Self::$with(theirs.$field));
                })*
                None
            }

            fn theirs(self) -> Box<dyn $theirs> {
                match self {
                    $(Self::$word => Box::new($($path)::+ {}),)*
                    $(Self::$with($field) => Box::new($($with_path)::+ { $field }),)*
                }
            }
        }
    };
}

by_element! {
    /// Of two tensors.
    Binary for BinMiniOp {
        Add = math::Add,
        Sub = math::Sub,
        Mul = math::Mul,
        Div = math::Div,
        Quotient = Quotient,
        Rem = math::Rem,
        Pow = math::Pow,
        Min = math::Min,
        Max = math::Max,
        And = logic::And,
        Or = logic::Or,
        Xor = logic::Xor,
        Eq = logic::CompEq,
        NotEq = logic::CompNE,
        Less = logic::CompLT,
        LessOrEqual = logic::CompLTE,
        Greater = logic::CompGT,
        GreaterOrEqual = logic::CompGTE,
    } with {}
}

by_element! {
    /// Of one tensor.
    ElementWise for ElementWiseMiniOp {
        Abs = math::Abs,
        Neg = math::Neg,
        Sign = math::Sign,
        Exp = math::Exp,
        Ln = math::Ln,
        Square = math::Square,
        Sqrt = math::Sqrt,
        Recip = math::Recip,
        Rsqrt = math::Rsqrt,
        Ceil = math::Ceil,
        Floor = math::Floor,
        RoundHalfToEven = math::RoundHalfToEven,
        Cos = math::Cos,
        Sin = math::Sin,
        Tan = math::Tan,
        Tanh = math::Tanh,
        Erf = math::Erf,
        Not = logic::Not,
        Sigmoid = nn::Sigmoid,
        Silu = nn::Silu,
        HardSwish = nn::HardSwish,
        GeluExact = nn::GeluExact,
    } with {
        GeluApproximate { fast_impl: bool } = nn::GeluApproximate,
        LeakyRelu { alpha: f32 } = nn::LeakyRelu,
    }
}

impl Pool {
    fn of(spec: &PoolSpec) -> Self {
        let padding = match &spec.padding {
            PaddingSpec::Explicit(before, after) => Padding::Explicit(before.to_vec(), after.to_vec()),
            PaddingSpec::ExplicitOnnxPool(before, after, ceil) => {
                Padding::ExplicitOnnxPool(before.to_vec(), after.to_vec(), *ceil)
            }
            PaddingSpec::Valid => Padding::Valid,
            PaddingSpec::SameUpper => Padding::SameUpper,
            PaddingSpec::SameLower => Padding::SameLower,
        };
        Self {
            format: Format::of(&spec.data_format),
            kernel: spec.kernel_shape.to_vec(),
            padding,
            dilations: spec.dilations.as_ref().map(|dilations| dilations.to_vec()),
            strides: spec.strides.as_ref().map(|strides| strides.to_vec()),
            channels: (spec.input_channels, spec.output_channels),
        }
    }

    fn theirs(&self) -> PoolSpec {
        let few = |numbers: &Vec<usize>| TVec::from_slice(numbers);
        let padding = match &self.padding {
            Padding::Explicit(before, after) => PaddingSpec::Explicit(few(before), few(after)),
            Padding::ExplicitOnnxPool(before, after, ceil) => {
                PaddingSpec::ExplicitOnnxPool(few(before), few(after), *ceil)
            }
            Padding::Valid => PaddingSpec::Valid,
            Padding::SameUpper => PaddingSpec::SameUpper,
            Padding::SameLower => PaddingSpec::SameLower,
        };
        PoolSpec {
            data_format: self.format.theirs(),
            kernel_shape: few(&self.kernel),
            padding,
            dilations: self.dilations.as_ref().map(few),
            strides: self.strides.as_ref().map(few),
            input_channels: self.channels.0,
            output_channels: self.channels.1,
        }
    }
}

/// Lengths that are numbers; None where one is a symbol.
pub(super) fn numbers(lengths: &[TDim]) -> Option<Vec<i64>> {
    lengths.iter().map(|length| length.to_i64().ok()).collect()
}

fn lengths(numbers: &[i64]) -> TVec<TDim> {
    numbers.iter().map(|number| TDim::Val(*number)).collect()
}

/// A type that may be left open: None inside where there is no word for it.
fn perhaps(datum_type: Option<DatumType>) -> Option<Option<Type>> {
    match datum_type {
        None => Some(None),
        Some(datum_type) => Type::of(datum_type).map(Some),
    }
}

impl<'a> Operator<'a> {
    /// None where there is no word for it.
    pub(super) fn of(op: &'a dyn TypedOp) -> Option<Self> {
        if let Some(source) = op.downcast_ref::<TypedSource>() {
            let shape = source.fact.shape.as_concrete()?.to_vec();
            return Some(Self::Source(Type::of(source.fact.datum_type)?, shape));
        }
        if let Some(constant) = op.downcast_ref::<Const>() {
            return constant.exotic_fact().is_none().then(|| Value::of(constant.val()).map(Self::Const))?;
        }
        if let Some(conv) = op.downcast_ref::<Conv>() {
            return Some(Self::Conv {
                pool: Pool::of(&conv.pool_spec),
                kernel: Kernel::of(&conv.kernel_fmt),
                group: conv.group,
                quantised: perhaps(conv.q_params)?,
            });
        }
        if let Some(product) = op.downcast_ref::<EinSum>() {
            return Some(Self::EinSum {
                axes: Cow::Owned(product.axes.to_string()),
                operating: Type::of(product.operating_dt)?,
                quantised: perhaps(product.q_params)?,
            });
        }
        if let Some(TypedBinOp(op, datum_type)) = op.downcast_ref::<TypedBinOp>() {
            return Some(Self::Binary(Binary::of(&**op)?, perhaps(*datum_type)?));
        }
        if let Some(ElementWiseOp(op, datum_type)) = op.downcast_ref::<ElementWiseOp>() {
            return Some(Self::ElementWise(ElementWise::of(&**op)?, perhaps(*datum_type)?));
        }
        if let Some(reduce) = op.downcast_ref::<Reduce>() {
            return Some(Self::Reduce(Reduction::of(&reduce.reducer), reduce.axes.to_vec()));
        }
        if let Some(softmax) = op.downcast_ref::<Softmax>() {
            return Some(Self::Softmax {
                axes: softmax.axes.to_vec(),
                quantised: perhaps(softmax.quant_output_dt)?,
                logarithm: softmax.kind == SoftmaxKind::LogSoftmax,
            });
        }
        if let Some(Slice { axis, start, end }) = op.downcast_ref::<Slice>() {
            return Some(Self::Slice { axis: *axis, start: start.to_i64().ok()?, end: end.to_i64().ok()? });
        }
        if let Some(concat) = op.downcast_ref::<TypedConcat>() {
            return Some(Self::Concat(concat.axis));
        }
        if let Some(axis) = op.downcast_ref::<AxisOp>() {
            return Some(match axis {
                AxisOp::Add(axis) => Self::AddAxis(*axis),
                AxisOp::Rm(axis) => Self::RmAxis(*axis),
                AxisOp::Move(from, to) => Self::MoveAxis(*from, *to),
                AxisOp::Reshape(at, from, to) => Self::Reshape(*at, numbers(from)?, numbers(to)?),
            });
        }
        if let Some(pool) = op.downcast_ref::<MaxPool>() {
            return pool.with_index_outputs.is_none().then(|| Self::MaxPool(Pool::of(&pool.pool_spec)));
        }
        if let Some(pool) = op.downcast_ref::<SumPool>() {
            return Some(Self::SumPool {
                pool: Pool::of(&pool.pool_spec),
                counts_padding: pool.count_include_pad,
                normalises: pool.normalize,
            });
        }
        if let Some(Pad { pads, mode }) = op.downcast_ref::<Pad>() {
            return Some(match mode {
                PadMode::Constant(value) => Self::PadWith(pads.clone(), Value::of(value)?),
                PadMode::Reflect => Self::PadByReflection(pads.clone()),
                PadMode::Edge => Self::PadByEdge(pads.clone()),
            });
        }
        if let Some(gather) = op.downcast_ref::<Gather>() {
            return Some(Self::Gather(gather.axis, perhaps(gather.output_type)?));
        }
        if let Some(cast) = op.downcast_ref::<Cast>() {
            return Some(Self::Cast(Type::of(cast.to)?));
        }
        if let Some(Downsample { axis, stride, modulo }) = op.downcast_ref::<Downsample>() {
            return Some(Self::Downsample { axis: *axis, stride: *stride, modulo: *modulo });
        }
        if let Some(broadcast) = op.downcast_ref::<MultiBroadcastTo>() {
            return Some(Self::Broadcast(numbers(&broadcast.shape.to_tvec())?));
        }
        if op.is::<logic::Iff>() {
            return Some(Self::Iff);
        }
        if let Some(cell) = op.downcast_ref::<LstmEpilogue>() {
            return Some(Self::LstmCell(cell.hidden));
        }
        if let Some(cell) = op.downcast_ref::<GruEpilogue>() {
            return Some(Self::GruCell(cell.hidden));
        }
        op.downcast_ref::<Fence>().map(|fence| Self::Fence { hides: fence.hides })
    }

    /// The operator itself.
    pub(super) fn theirs(&self) -> TractResult<Box<dyn TypedOp>> {
        let datum_type = |element: &Option<Type>| element.map(Type::datum_type);
        let pad = |pads: &[(usize, usize)], mode| Box::new(Pad { pads: pads.to_vec(), mode });
        Ok(match self {
            Self::Source(element, shape) => Box::new(TypedSource { fact: element.datum_type().fact(shape) }),
            Self::Const(value) => Box::new(Const::new(value.tensor()?)?),
            Self::Conv { pool, kernel, group, quantised } => Box::new(Conv {
                pool_spec: pool.theirs(),
                kernel_fmt: kernel.theirs(),
                group: *group,
                q_params: datum_type(quantised),
            }),
            Self::EinSum { axes, operating, quantised } => Box::new(EinSum {
                axes: axes.parse()?,
                operating_dt: operating.datum_type(),
                q_params: datum_type(quantised),
            }),
            Self::Binary(op, element) => Box::new(TypedBinOp(op.theirs(), datum_type(element))),
            Self::ElementWise(op, element) => Box::new(ElementWiseOp(op.theirs(), datum_type(element))),
            Self::Reduce(reducer, axes) => {
                Box::new(Reduce { axes: TVec::from_slice(axes), reducer: reducer.theirs() })
            }
            Self::Softmax { axes, quantised, logarithm } => Box::new(Softmax {
                axes: TVec::from_slice(axes),
                quant_output_dt: datum_type(quantised),
                kind: if *logarithm { SoftmaxKind::LogSoftmax } else { SoftmaxKind::Softmax },
            }),
            Self::Slice { axis, start, end } => {
                Box::new(Slice { axis: *axis, start: TDim::Val(*start), end: TDim::Val(*end) })
            }
            Self::Concat(axis) => Box::new(TypedConcat { axis: *axis }),
            Self::AddAxis(axis) => Box::new(AxisOp::Add(*axis)),
            Self::RmAxis(axis) => Box::new(AxisOp::Rm(*axis)),
            Self::MoveAxis(from, to) => Box::new(AxisOp::Move(*from, *to)),
            Self::Reshape(at, from, to) => Box::new(AxisOp::Reshape(*at, lengths(from), lengths(to))),
            Self::MaxPool(pool) => Box::new(MaxPool { pool_spec: pool.theirs(), with_index_outputs: None }),
            Self::SumPool { pool, counts_padding, normalises } => Box::new(SumPool {
                pool_spec: pool.theirs(),
                count_include_pad: *counts_padding,
                normalize: *normalises,
            }),
            Self::PadWith(pads, value) => pad(pads, PadMode::Constant(value.tensor()?)),
            Self::PadByReflection(pads) => pad(pads, PadMode::Reflect),
            Self::PadByEdge(pads) => pad(pads, PadMode::Edge),
            Self::Gather(axis, element) => Box::new(Gather { axis: *axis, output_type: datum_type(element) }),
            Self::Cast(element) => Box::new(Cast { to: element.datum_type() }),
            Self::Downsample { axis, stride, modulo } => {
                Box::new(Downsample { axis: *axis, stride: *stride, modulo: *modulo })
            }
            Self::Broadcast(shape) => Box::new(MultiBroadcastTo { shape: lengths(shape).into() }),
            Self::Iff => Box::new(logic::Iff),
            Self::LstmCell(hidden) => Box::new(LstmEpilogue { hidden: *hidden }),
            Self::GruCell(hidden) => Box::new(GruEpilogue { hidden: *hidden }),
            Self::Fence { hides } => Box::new(Fence { hides: *hides }),
        })
    }
}
