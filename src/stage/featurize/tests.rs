//! The featurizer as a whole: portions, gaps, refusals, shapes.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::{DataType, Image};
use crate::config::card::{
    Channel, Channels, Derived, DerivedOp, Filter, Fit, ImageFeatures, ImageLayout, TableFeatures,
    WindowFeatures,
};

pub(super) fn channel(name: &str) -> Channel {
    Channel {
        name: name.into(),
        unit: String::new(),
        impute: None,
        mean: 0.0,
        std: 1.0,
        allow_nan: false,
        words: Vec::new(),
        input: None,
        whole: false,
    }
}

fn port(shape: &[usize], data_type: DataType) -> PortSpec {
    PortSpec { name: "x".into(), data_type, shape: shape.to_vec() }
}

fn window(channels: usize, samples: usize, stride: usize, layout: WindowLayout, gap: Gap) -> Featurizer {
    let names = ["a", "b", "c"];
    let mut columns: Vec<Channel> = names[..channels].iter().map(|name| channel(name)).collect();
    (columns[0].mean, columns[0].std) = (2.0, 4.0);
    let shape = match layout {
        WindowLayout::Nct => [1, channels, samples],
        WindowLayout::Ntc => [1, samples, channels],
        WindowLayout::Tnc => [samples, 1, channels],
    };
    let card = WindowFeatures { input: "x".into(), channels: columns, samples, stride, layout, gap };
    Featurizer::new(&card::Features::Window(card), &port(&shape, DataType::F32)).unwrap()
}

fn rows(columns: usize, values: &[f64]) -> Content {
    Content::Rows(Rows { columns, values: values.to_vec() })
}

fn inputs(pushed: &Pushed) -> Vec<&[f32]> {
    pushed.features.iter().map(|features| features.input.as_f32().unwrap()).collect()
}

fn table() -> card::Features {
    let ratio = Derived { channel: channel("r"), op: DerivedOp::Ratio, of: [0, 1] };
    let columns = vec![channel("a"), Channel { impute: Some(4.0), std: 2.0, ..channel("b") }];
    let gap = Gap::Reset { max: Duration::from_secs(1) };
    card::Features::Table(TableFeatures { input: Some("x".into()), columns, derived: vec![ratio], gap })
}

fn picture(width: usize, height: usize, layout: ImageLayout) -> card::Features {
    card::Features::Image(ImageFeatures {
        input: "x".into(),
        width,
        height,
        channels: Channels::Rgb,
        fit: Fit::Stretch,
        filter: Filter::Bilinear,
        layout,
        scale: 1.0 / 255.0,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
    })
}

#[test]
fn layouts_order_the_same_window() {
    let content = rows(2, &[2.0, 10.0, 6.0, 20.0, 10.0, 30.0]);
    let first = |layout| {
        let mut featurizer = window(2, 3, 3, layout, Gap::Ignore);
        let mut state = featurizer.fresh();
        featurizer.push(&content, Micros(0), &mut state).unwrap().features.remove(0)
    };
    let nct = first(WindowLayout::Nct);
    assert_eq!(nct.input, Tensor::f32(&[1, 2, 3], vec![0.0, 1.0, 2.0, 10.0, 20.0, 30.0]));
    assert_eq!(nct.observed, [10.0, 30.0]);
    let by_time = vec![0.0, 10.0, 1.0, 20.0, 2.0, 30.0];
    assert_eq!(first(WindowLayout::Ntc).input, Tensor::f32(&[1, 3, 2], by_time.clone()));
    assert_eq!(first(WindowLayout::Tnc).input, Tensor::f32(&[3, 1, 2], by_time));
}

#[test]
fn a_pause_begins_the_window_anew_and_is_told() {
    let mut featurizer = window(1, 2, 2, WindowLayout::Nct, Gap::Reset { max: Duration::from_micros(10) });
    let mut state = featurizer.fresh();
    let mut push = |value: f64, at: u64| {
        let pushed = featurizer.push(&rows(1, &[value]), Micros(at), &mut state).unwrap();
        (pushed.gap, inputs(&pushed).concat())
    };
    assert_eq!(push(2.0, 100), (false, vec![]));
    assert_eq!(push(6.0, 110), (false, vec![0.0, 1.0]));
    assert_eq!(push(2.0, 120), (false, vec![]));
    assert_eq!(push(10.0, 131), (true, vec![]));
    assert_eq!(push(14.0, 132), (false, vec![2.0, 3.0]));
    // A clock that was set back is no pause.
    assert_eq!(push(2.0, 5), (false, vec![]));
    assert_eq!(push(6.0, 15), (false, vec![0.0, 1.0]));
}

#[test]
fn a_refused_frame_leaves_no_trace() {
    let mut featurizer = window(1, 3, 1, WindowLayout::Nct, Gap::Reset { max: Duration::from_micros(10) });
    let mut state = featurizer.fresh();
    featurizer.push(&rows(1, &[1.0, 2.0]), Micros(0), &mut state).unwrap();
    let before = state.clone();
    for bad in [
        rows(1, &[3.0, f64::NAN]),
        rows(1, &[3.0, f64::INFINITY]),
        rows(2, &[3.0, 4.0]),
        rows(1, &[]),
        Content::Image(Image { width: 1, height: 1, channels: 1, pixels: vec![0] }),
    ] {
        assert!(featurizer.push(&bad, Micros(99), &mut state).is_err());
        assert_eq!(state, before);
    }
    let refused = featurizer.push(&rows(1, &[3.0, f64::NAN]), Micros(1), &mut state).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "feature `a` is missing in row 2; send it, or give the card an `impute` for it"
    );
}

#[test]
fn origins_do_not_mix() {
    let mut featurizer = window(1, 2, 2, WindowLayout::Nct, Gap::Ignore);
    let (mut left, mut right) = (featurizer.fresh(), featurizer.fresh());
    assert!(featurizer.push(&rows(1, &[2.0]), Micros(0), &mut left).unwrap().features.is_empty());
    assert!(featurizer.push(&rows(1, &[6.0]), Micros(0), &mut right).unwrap().features.is_empty());
    let pushed = featurizer.push(&rows(1, &[10.0]), Micros(0), &mut left).unwrap();
    assert_eq!(inputs(&pushed), [[0.0, 2.0]]);
}

#[test]
fn each_row_of_a_table_is_an_input_of_its_own() {
    let mut featurizer = Featurizer::new(&table(), &port(&[1, 3], DataType::F32)).unwrap();
    let mut state = featurizer.fresh();
    let pushed = featurizer.push(&rows(2, &[8.0, 2.0, 8.0, f64::NAN]), Micros(0), &mut state).unwrap();
    assert_eq!(inputs(&pushed), [[8.0, 1.0, 4.0], [8.0, 2.0, 2.0]]);
    assert_eq!(pushed.features[1].observed, [8.0, 4.0, 2.0]);
    assert!(!pushed.gap);
    assert!(featurizer.push(&rows(2, &[8.0, 2.0]), Micros(1_000_001), &mut state).unwrap().gap);
    assert!(!featurizer.push(&rows(2, &[8.0, 2.0]), Micros(2_000_001), &mut state).unwrap().gap);
    let mut wide = Featurizer::new(&table(), &port(&[3], DataType::F64)).unwrap();
    let pushed = wide.push(&rows(2, &[8.0, 2.0]), Micros(0), &mut wide.fresh()).unwrap();
    assert_eq!(pushed.features[0].input, Tensor { shape: vec![3], data: Data::F64(vec![8.0, 1.0, 4.0]) });
}

#[test]
fn a_frame_that_would_fill_memory_is_refused_before_it_does() {
    let mut featurizer = window(1, 100_000, 1, WindowLayout::Nct, Gap::Ignore);
    let mut state = featurizer.fresh();
    let refused = featurizer.push(&rows(1, &vec![0.0; 200_000]), Micros(0), &mut state).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "200000 rows in one frame make 100001 model inputs of 400256 bytes each; send at most 167 a frame"
    );
    assert_eq!(state, featurizer.fresh());
    // Many rows that complete few windows are no burden.
    let mut featurizer = window(1, 100_000, 100_000, WindowLayout::Nct, Gap::Ignore);
    let mut state = featurizer.fresh();
    assert_eq!(
        featurizer.push(&rows(1, &vec![0.0; 200_000]), Micros(0), &mut state).unwrap().features.len(),
        2
    );
}

#[test]
fn a_card_that_does_not_fit_its_graph_is_named_at_boot() {
    let said = |features: &card::Features, shape: &[usize], data_type| {
        Featurizer::new(features, &port(shape, data_type)).unwrap_err().to_string()
    };
    let pixels = picture(64, 48, ImageLayout::Nchw);
    assert_eq!(
        said(&pixels, &[1, 3, 32, 32], DataType::F32),
        "input `x` has the shape [1, 3, 32, 32], but the features give [1, 3, 48, 64] \
         (layout nchw, 3 channels, 64x48 pixels)"
    );
    assert!(said(&pixels, &[1, 48, 64, 3], DataType::F32).contains("[1, 3, 48, 64]"));
    assert!(said(&pixels, &[12, 3, 48, 64], DataType::F32).contains("[12, 3, 48, 64]"));
    assert!(said(&pixels, &[1, 3, 48, 64], DataType::F16).contains("takes f16; pictures fill f32 or u8"));
    assert!(said(&pixels, &[1, 3, 48, 64], DataType::U8).contains("use scale 1, mean 0, std 1"));
    assert!(Featurizer::new(&pixels, &port(&[3, 48, 64], DataType::F32)).is_ok());
    assert!(
        Featurizer::new(&picture(64, 48, ImageLayout::Nhwc), &port(&[1, 48, 64, 3], DataType::F32)).is_ok()
    );
    assert!(said(&table(), &[1, 2], DataType::F32).contains("2 columns and 1 derived ones"));
    assert!(said(&table(), &[1, 3], DataType::I64).contains("numbers fill f32 or f64"));
    assert!(said(&table(), &[0, 3], DataType::F32).contains("[0, 3]"));
    let card = WindowFeatures {
        input: "x".into(),
        channels: vec![channel("a"), channel("b")],
        samples: 5,
        stride: 5,
        layout: WindowLayout::Nct,
        gap: Gap::Ignore,
    };
    let series = card::Features::Window(card.clone());
    assert!(said(&series, &[1, 5, 2], DataType::F32).contains("layout nct, 2 channels, 5 samples"));
    assert!(Featurizer::new(&series, &port(&[1, 2, 1, 5], DataType::F32)).is_ok());
    assert!(Featurizer::new(&series, &port(&[1, 10], DataType::F32)).is_ok());
    let still = card::Features::Window(WindowFeatures { stride: 0, ..card });
    assert!(said(&still, &[1, 2, 5], DataType::F32).contains("stride 0; both must be at least 1"));
}

#[test]
fn a_picture_fills_its_input() {
    let features = picture(4, 2, ImageLayout::Nchw);
    let mut featurizer = Featurizer::new(&features, &port(&[1, 3, 2, 4], DataType::F32)).unwrap();
    let image = Image { width: 40, height: 20, channels: 3, pixels: [255, 0, 51].repeat(800) };
    let mut state = featurizer.fresh();
    let pushed = featurizer.push(&Content::Image(image), Micros(0), &mut state).unwrap();
    let unit = 1.0f32 / 255.0;
    let planes = [[255.0 * unit; 8], [0.0; 8], [51.0 * unit; 8]].concat();
    assert_eq!(pushed.features, [Features { input: Tensor::f32(&[1, 3, 2, 4], planes), observed: vec![] }]);
    let refused = featurizer.push(&rows(1, &[1.0]), Micros(0), &mut state).unwrap_err();
    assert_eq!(refused.to_string(), "the frame holds numbers; the model decides on pictures");
}

proptest! {
    #[test]
    fn portions_do_not_matter(
        channels in 1..4usize, samples in 1..7usize, stride in 1..9usize,
        values in proptest::collection::vec(-100.0..100.0f64, 0..120),
        cuts in proptest::collection::vec(1..9usize, 40),
        layout in 0..3usize,
    ) {
        let layout = [WindowLayout::Nct, WindowLayout::Ntc, WindowLayout::Tnc][layout];
        let values = &values[..values.len() / channels * channels];
        let mut featurizer = window(channels, samples, stride, layout, Gap::Ignore);
        let mut push = |portions: &mut dyn Iterator<Item = usize>| {
            let mut state = featurizer.fresh();
            let mut rest = values;
            let mut features = Vec::new();
            while !rest.is_empty() {
                let (portion, next) = rest.split_at(rest.len().min(portions.next().unwrap_or(1) * channels));
                rest = next;
                features.extend(featurizer.push(&rows(channels, portion), Micros(0), &mut state).unwrap().features);
            }
            (features, state)
        };
        let singly = push(&mut std::iter::repeat(1));
        prop_assert_eq!(&push(&mut std::iter::once(1000)), &singly);
        prop_assert_eq!(&push(&mut cuts.into_iter()), &singly);

        let history: Vec<&[f64]> = values.chunks(channels).collect();
        let starts = (0..).map(|i| i * stride).take_while(|start| start + samples <= history.len());
        prop_assert_eq!(singly.0.len(), starts.clone().count());
        for (features, start) in singly.0.iter().zip(starts) {
            let input = features.input.as_f32().unwrap();
            for (t, row) in history[start..start + samples].iter().enumerate() {
                for (c, &value) in row.iter().enumerate() {
                    let expected = if c == 0 { (value - 2.0) / 4.0 } else { value } as f32;
                    let place = if layout == WindowLayout::Nct { c * samples + t } else { t * channels + c };
                    prop_assert_eq!(input[place], expected);
                }
            }
            prop_assert_eq!(&features.observed[..], history[start + samples - 1]);
        }
    }

    #[test]
    fn any_picture_fills_any_input(
        width in 1..40usize, height in 1..40usize, grey: bool,
        to_width in 1..20usize, to_height in 1..20usize, fit in 0..3usize, filter in 0..7usize, seed: u8,
    ) {
        let channels = if grey { 1 } else { 3 };
        let pixels = (0..width * height * channels).map(|i| (i as u8).wrapping_mul(seed)).collect();
        let card::Features::Image(mut card) = picture(to_width, to_height, ImageLayout::Nhwc) else { unreachable!() };
        card.fit = [Fit::Stretch, Fit::Letterbox { pad: 114 }, Fit::CentreCrop][fit];
        card.filter = [
            Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::BilinearFast, Filter::Bicubic,
            Filter::BicubicFast, Filter::Lanczos,
        ][filter];
        let spec = port(&[1, to_height, to_width, 3], DataType::F32);
        let mut featurizer = Featurizer::new(&card::Features::Image(card), &spec).unwrap();
        let mut state = featurizer.fresh();
        let content = Content::Image(Image { width, height, channels, pixels });
        let pushed = featurizer.push(&content, Micros(0), &mut state).unwrap();
        let input = pushed.features[0].input.as_f32().unwrap();
        prop_assert_eq!(input.len(), to_width * to_height * 3);
        prop_assert!(input.iter().all(|x| (0.0..=1.0).contains(x)));
    }
}
