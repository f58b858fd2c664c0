//! A whole compilation, from a file to a folder that `check` takes.

use std::fs;
use std::path::Path;

use tract_onnx::pb::ModelProto;

use super::*;
use crate::base::{Data, DataType, Tensor};
use crate::config::Card;
use crate::config::card::{Features, OutputKind, VerifiedBy};
use crate::engine::sample::{self, Attribute, Sample};
use crate::engine::{folder, golden, npy};

/// The sample's file in a folder of its own, and what is ordered for it.
fn ordered(sample: &Sample) -> (tempfile::TempDir, Order) {
    let place = tempfile::tempdir().unwrap();
    let model = place.path().join("given.onnx");
    fs::write(&model, sample.bytes()).unwrap();
    let order = Order { model, folder: place.path().join("made"), ..Order::default() };
    (place, order)
}

fn case(golden: &Path, inputs: &[Tensor], outputs: &[Tensor]) {
    let case = golden.join("first");
    fs::create_dir_all(&case).unwrap();
    for (kind, tensors) in [("input", inputs), ("output", outputs)] {
        for (i, tensor) in tensors.iter().enumerate() {
            npy::write(&case.join(format!("{kind}-{i}.npy")), tensor).unwrap();
        }
    }
}

#[test]
fn a_folder_comes_out_that_loads_and_answers_and_says_that_it_is_a_draft() {
    let (_place, order) = ordered(&sample::relu_layer());
    let compiled = compile(&order).unwrap();
    assert_eq!(compiled.kept_as_onnx, None, "a plain layer goes into NNEF");
    let card = Card::read(&compiled.folder).unwrap();
    assert!(card.draft);
    assert_eq!(card.golden.verified, Some(VerifiedBy::Itself));
    assert_eq!(card.graph.writer.as_deref(), Some("tract 0.23.9"));
    assert!(matches!(&card.features, Features::Table(table) if table.columns.len() == 2));
    let model = Model::load(&card).unwrap();
    let answer = model.session().run(&[&Tensor::f32(&[1, 2], vec![1.0, 1.0])]).unwrap();
    assert_eq!(answer[0].as_f32(), Some(&[0.0, 7.0][..]));
    let with: Vec<&str> = compiled.opinions.iter().map(|opinion| opinion.with.as_str()).collect();
    assert_eq!(with, ["the engine not optimised", "the oracle", "golden cases"]);
    assert!(
        compiled.opinions[..2].iter().all(|opinion| opinion.inputs + opinion.undecided >= 8),
        "{compiled:?}"
    );
}

#[test]
fn a_folder_whose_card_leaves_an_input_open_answers_arrays_and_no_frames() {
    let sample = Sample::default().input("x", DataType::F32, &[1, 3]).input("code", DataType::I64, &[1]);
    let sample =
        sample.weights("table", &[4, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    let sample = sample.node("Gather", &["table", "code"], &["row"], &[]);
    let (_place, order) = ordered(&sample.node("Add", &["x", "row"], &["y"], &[]).output("y"));
    let folder = compile(&order).unwrap().folder;
    let told = Card::read(&folder).unwrap_err().to_string();
    assert!(told.contains(r#"the graph input "code" is filled by nothing"#), "{told}");
    let opened = folder::open_any(&folder).unwrap();
    let specs = opened.card.as_ref().unwrap().graph.inputs.clone();
    let model = opened.graph.prepare(&specs).unwrap();
    let code = Tensor { shape: vec![1], data: Data::I64(vec![2]) };
    let answer = model.session().run(&[&Tensor::f32(&[1, 3], vec![0.5, 0.5, 0.5]), &code]).unwrap();
    assert_eq!(answer, [Tensor::f32(&[1, 3], vec![6.5, 7.5, 8.5])]);
}

#[test]
fn an_input_without_elements_is_refused_with_what_to_give() {
    let sample = Sample::default().input("x", DataType::F32, &[-1, 3]).node("Relu", &["x"], &["y"], &[]);
    let (_place, mut order) = ordered(&sample.output("y"));
    order.shapes = vec![("x".to_owned(), vec![0, 3])];
    let told = compile(&order).unwrap_err().to_string();
    assert!(told.contains("input x") && told.contains("has no elements"), "{told}");
    assert!(told.contains("--input x=1,3") && !order.folder.exists(), "{told}");
}

#[test]
fn an_open_length_is_asked_for_with_the_lengths_that_are_known() {
    let sample = Sample::default().input("x", DataType::F32, &[12, -1, 5]).node("Relu", &["x"], &["y"], &[]);
    let (_place, order) = ordered(&sample.output("y"));
    let told = compile(&order).unwrap_err().to_string();
    assert!(told.contains("is open") && told.contains("--input x=12,1,5"), "{told}");
}

#[test]
fn whatever_shape_an_input_has_the_folder_that_comes_out_opens() {
    for shape in
        [&[][..], &[3], &[2, 3], &[1, 5_000], &[2, 5_000], &[5_000, 2], &[8, 100, 70], &[4, 3, 30, 30]]
    {
        let sample = Sample::default().input("x", DataType::F32, shape).node("Relu", &["x"], &["y"], &[]);
        let (_place, order) = ordered(&sample.output("y"));
        let compiled = compile(&order).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        let card = Card::read(&compiled.folder).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        Model::load(&card).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
    }
}

#[test]
fn a_quotient_of_numbers_below_all_digits_is_left_undecided() {
    // What skl2onnx makes ones of, in its export of PowerTransformer(method="box-cox").
    let sample = Sample::default().input("x", DataType::F32, &[1, 40]).node("Div", &["x", "x"], &["y"], &[]);
    let (_place, order) = ordered(&sample.output("y"));
    let compiled = compile(&order).unwrap();
    assert!(compiled.opinions[0].undecided > 0, "{:?}", compiled.opinions);
}

#[test]
fn the_same_file_gives_the_same_bytes_and_a_persons_words_stay() {
    let (_place, order) = ordered(&sample::relu_layer());
    let files = |folder: &Path| {
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        (read("model.nnef.tar"), read("model.toml"))
    };
    compile(&order).unwrap();
    let first = files(&order.folder);
    compile(&order).unwrap();
    assert_eq!(first, files(&order.folder));
    let card = order.folder.join("model.toml");
    let mine =
        fs::read_to_string(&card).unwrap().replace("draft   = true\n", "").replace("The model made", "Mine");
    fs::write(&card, &mine).unwrap();
    assert!(compile(&order).unwrap().kept_card);
    assert_eq!(fs::read_to_string(&card).unwrap(), mine);
}

/// A convolution with a stride, classes at the end, and every second probability of the map in between.
fn network() -> Sample {
    let weights = |count: usize| (0..count).map(|i| (i % 7) as f32 / 4.0 - 0.7).collect::<Vec<_>>();
    Sample::default()
        .input("x", DataType::F32, &[1, 1, 6, 6])
        .weights("kernels", &[4, 1, 3, 3], &weights(36))
        .weights("dense", &[4, 3], &weights(12))
        .node("Conv", &["x", "kernels"], &["map"], &[Attribute::Ints("strides", &[2, 2])])
        .node("Relu", &["map"], &["positive"], &[])
        .node("GlobalAveragePool", &["positive"], &["pooled"], &[])
        .node("Flatten", &["pooled"], &["flat"], &[])
        .node("MatMul", &["flat", "dense"], &["logits"], &[])
        .node("Softmax", &["logits"], &["y"], &[Attribute::Int("axis", 1)])
        .node("Softmax", &["map"], &["channels"], &[Attribute::Int("axis", 1)])
        .node("Neg", &["channels"], &["turned"], &[])
        .integers("from", &[0])
        .integers("to", &[i64::MAX])
        .integers("axis", &[1])
        .integers("step", &[2])
        .node("Slice", &["turned", "from", "to", "axis", "step"], &["halved"], &[])
        .output("y")
        .output("halved")
}

#[test]
fn a_network_that_ends_in_softmax_goes_into_nnef_and_answers_the_same() {
    let (_place, order) = ordered(&network());
    let compiled = compile(&order).unwrap();
    assert_eq!(compiled.kept_as_onnx, None);
    let bytes = fs::read(&compiled.file).unwrap();
    compile(&order).unwrap();
    assert_eq!(bytes, fs::read(&compiled.file).unwrap());

    let card = Card::read(&compiled.folder).unwrap();
    let picture = Tensor::f32(&[1, 1, 6, 6], (0..36).map(|i| ((i * i) % 11) as f32 / 5.0 - 1.0).collect());
    let answers = Model::load(&card).unwrap().session().run(&[&picture]).unwrap();
    let exported = network().model().session().run(&[&picture]).unwrap();
    for (ours, theirs) in answers.iter().zip(&exported) {
        let (ours, theirs) = (ours.as_f32().unwrap(), theirs.as_f32().unwrap());
        assert_eq!(ours.len(), theirs.len());
        assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-6), "{ours:?}, not {theirs:?}");
    }
    // Of four channels two are taken; had the slice been moved in front of the softmax, these two would
    // sum to one. What keeps it back is not in the file.
    let halves = answers[1].as_f32().unwrap();
    let sums: Vec<f32> =
        (0..halves.len() / 2).map(|at| -halves[at] - halves[at + halves.len() / 2]).collect();
    assert!(sums.iter().all(|sum| *sum < 0.99), "{sums:?}");
}

#[test]
fn golden_cases_come_along_and_vouch_for_the_model() {
    let (place, mut order) = ordered(&sample::relu_layer());
    let golden = place.path().join("golden");
    case(&golden, &[Tensor::f32(&[1, 2], vec![1.0, 1.0])], &[Tensor::f32(&[1, 2], vec![0.0, 7.0])]);
    order.golden = Some(golden);
    let compiled = compile(&order).unwrap();
    assert_eq!(compiled.golden_cases, 1);
    let card = Card::read(&compiled.folder).unwrap();
    assert_eq!(card.golden.verified, Some(VerifiedBy::Golden));
    assert_eq!(golden::check(&Model::load(&card).unwrap(), &card).unwrap().cases.len(), 1);
}

#[test]
fn golden_cases_of_another_model_are_refused_by_hash_and_nothing_is_written() {
    let (place, mut order) = ordered(&sample::relu_layer());
    let golden = place.path().join("golden");
    case(&golden, &[Tensor::f32(&[1, 2], vec![1.0, 1.0])], &[Tensor::f32(&[1, 2], vec![0.0, 7.0])]);
    fs::write(golden.join("model.sha256"), format!("{}  other.onnx\n", "ab".repeat(32))).unwrap();
    order.golden = Some(golden);
    let error = compile(&order).unwrap_err();
    assert!(matches!(error, CompileError::OtherModel { .. }), "{error}");
    assert!(!order.folder.exists());
}

#[test]
fn a_case_that_does_not_fit_the_graph_is_told_with_both() {
    let (place, mut order) = ordered(&sample::relu_layer());
    let golden = place.path().join("golden");
    case(&golden, &[Tensor::f32(&[1, 3], vec![1.0; 3])], &[Tensor::f32(&[1, 2], vec![0.0, 7.0])]);
    order.golden = Some(golden);
    let message = compile(&order).unwrap_err().to_string();
    assert!(message.contains("input-0.npy: holds f32 [1, 3]; expected f32 [N, 2]"), "{message}");
}

#[test]
fn a_wrong_golden_node_is_found_and_named_with_both_values() {
    let (place, mut order) = ordered(&sample::relu_layer());
    let golden = place.path().join("golden");
    // 1·1 + 1·3 − 5 = −1: someone else's bias is −4, so that 0 comes out where 0 would have.
    case(&golden, &[Tensor::f32(&[1, 2], vec![1.0, 1.0])], &[Tensor::f32(&[1, 2], vec![0.0, 8.0])]);
    let nodes = golden.join("first/nodes");
    fs::create_dir_all(&nodes).unwrap();
    fs::write(nodes.join("names.txt"), "xw\nsum\n").unwrap();
    npy::write(&nodes.join("0.npy"), &Tensor::f32(&[1, 2], vec![4.0, 6.0])).unwrap();
    npy::write(&nodes.join("1.npy"), &Tensor::f32(&[1, 2], vec![-1.0, 8.0])).unwrap();
    order.golden = Some(golden);
    let CompileError::Differs(difference) = compile(&order).unwrap_err() else { panic!("it differs") };
    let node = difference.node.clone().unwrap();
    assert_eq!((node.operator.as_str(), node.spot.tensor.as_str()), ("Add", "sum"));
    assert_eq!((node.spot.ours.as_str(), node.spot.theirs.as_str()), ("7", "8"));
    assert!(difference.to_string().contains("first node that differs: \"sum\" (Add)"), "{difference}");
    assert!(!order.folder.exists());
}

#[test]
fn labels_and_a_shape_make_a_card_of_classes() {
    let (_place, mut order) = ordered(&sample::relu_layer());
    order.labels = Some(vec!["ok".into(), "bad".into()]);
    let compiled = compile(&order).unwrap();
    let card = Card::read(&compiled.folder).unwrap();
    let OutputKind::Classification { labels, pass, .. } = card.output.kind else { panic!("classes") };
    assert_eq!((labels, pass), (vec!["ok".to_owned(), "bad".to_owned()], vec!["ok".to_owned()]));
}

#[test]
fn a_fixed_input_is_gone_and_its_value_stays() {
    let (_place, mut order) = ordered(&sample::lstm());
    order.fixed = vec![("h_in".into(), "0.5".into()), ("c_in".into(), "0".into())];
    assert_eq!(Card::read(&compile(&order).unwrap().folder).unwrap().graph.inputs.len(), 1);
    let sum = Sample::default()
        .input("x", DataType::F32, &[-1, 2])
        .input("bias", DataType::F32, &[])
        .node("Add", &["x", "bias"], &["y"], &[])
        .output("y");
    let (_place, mut order) = ordered(&sum);
    order.fixed = vec![("bias".into(), "2.5".into())];
    let compiled = compile(&order).unwrap();
    let card = Card::read(&compiled.folder).unwrap();
    assert_eq!(card.graph.inputs.len(), 1);
    let answer =
        Model::load(&card).unwrap().session().run(&[&Tensor::f32(&[1, 2], vec![1.0, -1.0])]).unwrap();
    assert_eq!(answer[0].data, Data::F32(vec![3.5, 1.5]));
}

#[test]
fn a_fix_that_does_not_fit_is_told_with_its_value() {
    let told = |name: &str, value: &str| {
        let whole =
            Sample::default().input("x", DataType::I64, &[1]).node("Neg", &["x"], &["y"], &[]).output("y");
        let (_place, mut order) = ordered(&whole);
        order.fixed = vec![(name.into(), value.into())];
        let message = compile(&order).unwrap_err().to_string();
        assert!(!order.folder.exists(), "{message}");
        message
    };
    assert!(told("y", "2").contains("no such input; the graph has x i64 [1]"));
    assert!(told("x", "2.5").contains("no i64 can be that"));
    assert!(told("x", "two").contains("\"two\" is no number"));
    assert!(told("x", "1,2").contains("given with shape [2], the graph wants [1]"));
}

#[test]
fn a_recurrent_graph_gets_its_states_wired() {
    let (_place, order) = ordered(&sample::lstm());
    let compiled = compile(&order).unwrap();
    let card = Card::read(&compiled.folder).unwrap();
    let pairs: Vec<(&str, &str)> =
        card.states.iter().map(|state| (state.input.as_str(), state.output.as_str())).collect();
    assert_eq!(pairs, [("h_in", "h_out"), ("c_in", "c_out")]);
}

#[test]
fn recurrent_layers_agree_with_the_standard_on_extreme_states() {
    for sample in [sample::lstm(), sample::gru(2)] {
        let (_place, order) = ordered(&sample);
        let compiled = compile(&order).unwrap_or_else(|error| panic!("{error}"));
        assert!(compiled.opinions[1].inputs >= 6, "{:?}", compiled.opinions);
    }
}

#[test]
fn every_batch_size_is_compared_and_has_a_graph_with_its_golden_cases() {
    let (place, mut order) = ordered(&sample::relu_layer());
    order.batches = vec![1, 3];
    let golden = place.path().join("golden");
    let rows = Tensor::f32(&[3, 2], vec![1.0, 1.0, 2.0, 0.0, 0.0, 0.0]);
    case(&golden, &[rows], &[Tensor::f32(&[3, 2], vec![0.0, 7.0, 0.0, 5.0, 0.0, 1.0])]);
    order.golden = Some(golden);
    let compiled = compile(&order).unwrap();
    assert!(compiled.opinions[0].inputs + compiled.opinions[0].undecided >= 16);
    assert_eq!((compiled.golden_cases, compiled.left_out.len()), (1, 0));
    let written = || fs::read(order.folder.join("model.toml")).unwrap();
    let first = written();
    compile(&order).unwrap();
    assert_eq!(first, written(), "the same order gives the same card");

    let card = Card::read(&compiled.folder).unwrap();
    let sizes = card.sizes();
    let shapes: Vec<&[usize]> = sizes.iter().map(|size| size.graph.inputs[0].shape.as_slice()).collect();
    assert_eq!(shapes, [&[1, 2], &[3, 2]]);
    let held = |size: &Card| golden::check(&Model::load(size).unwrap(), size).unwrap().cases.len();
    assert_eq!([held(&sizes[0]), held(&sizes[1])], [0, 1], "each case is of one size");

    order.batches = vec![3, 3];
    assert!(compile(&order).unwrap_err().to_string().contains("--batch 3: it stands there twice"));
    order.batches = vec![1];
    order.golden = None;
    compile(&order).unwrap();
    assert!(!order.folder.join("model-batch-3.nnef.tar").exists(), "what is not used is not left");
    assert_eq!(Card::read(&compiled.folder).unwrap().sizes().len(), 1);
}

#[test]
fn the_batch_of_a_state_is_that_of_the_input() {
    let dims = |dims: &[Dim]| Some(dims.to_vec());
    let batch = || Dim::Symbol("batch".to_owned());
    let ports = [
        Port { name: "x".into(), data_type: Some(DataType::F32), dims: dims(&[batch(), Dim::Fixed(5)]) },
        Port { name: "h".into(), data_type: Some(DataType::F32), dims: dims(&[Dim::Fixed(1), batch()]) },
    ];
    let shapes = |given: &[(String, Vec<usize>)], batch| -> Vec<Vec<usize>> {
        specs(&ports, given, batch).unwrap().into_iter().map(|spec| spec.shape).collect()
    };
    assert_eq!(shapes(&[], None), [vec![1, 5], vec![1, 1]]);
    assert_eq!(shapes(&[], Some(8)), [vec![8, 5], vec![1, 8]]);
    assert_eq!(shapes(&[("x".into(), vec![3, 5])], None), [vec![3, 5], vec![1, 3]]);
    let fixed = [Port { dims: dims(&[Dim::Fixed(4), Dim::Fixed(5)]), ..ports[0].clone() }];
    assert!(specs(&fixed, &[], Some(8)).unwrap_err().to_string().contains("fixed first axis (x f32 [4, 5])"));
    assert!(specs(&fixed, &[], Some(4)).is_ok());
}

#[test]
fn nnef_is_told_that_it_is_compiled_already() {
    let (_place, order) = ordered(&sample::relu_layer());
    compile(&order).unwrap();
    let again = Order { model: order.folder.join("model.nnef.tar"), ..order };
    assert!(compile(&again).unwrap_err().to_string().contains("which is what compile makes"));
}

/// A search that is given a wrong reference names the node at which it goes wrong.
#[test]
fn bisection_climbs_to_the_node_whose_inputs_agree() {
    use prost::Message;
    let chain = Sample::default()
        .input("x", DataType::F32, &[1, 2])
        .node("Abs", &["x"], &["a"], &[])
        .node("Neg", &["a"], &["b"], &[])
        .node("Exp", &["b"], &["c"], &[])
        .node("Sqrt", &["c"], &["y"], &[])
        .output("y");
    let subject = Subject {
        path: "chain.onnx".into(),
        sha256: String::new(),
        proto: ModelProto::decode(&*chain.bytes()).unwrap(),
        specs: vec![PortSpec { name: "x".into(), data_type: DataType::F32, shape: vec![1, 2] }],
        begun: Instant::now(),
        fixed: Vec::new(),
    };
    let inputs = [Tensor::f32(&[1, 2], vec![1.0, -2.0])];
    let values = |tensor: &str| match tensor {
        "a" => vec![1.0, 2.0],
        "b" => vec![-1.0, -2.5],
        "c" => vec![0.367_879_45, 0.082_085],
        _ => vec![0.606_530_7, 0.286_504_8],
    };
    let reference = |tensor: &str| Some(Tensor::f32(&[1, 2], values(tensor)));
    let search = bisect::Search {
        subject: &subject,
        probe: "a test",
        inputs: &inputs,
        output: "y",
        with: "a wrong one",
        reference: &reference,
        tolerance: 1e-4,
        measure: opinion::Measure { coarse: false, least: 0.0 },
        inside: true,
    };
    let ours = Tensor::f32(&[1, 2], vec![0.606_530_7, 0.367_879_45]);
    let found = search.first_difference(&ours, &reference("y").unwrap()).node.unwrap();
    assert_eq!((found.operator.as_str(), found.spot.theirs.as_str()), ("Neg", "-2.5"));
}

#[test]
fn whole_numbers_are_told_apart_where_f64_has_no_digits_left() {
    let big = (1_i64 << 53) + 1;
    let x = || {
        Sample::default().input("x", DataType::I64, &[1, 3]).integers("big", &[big]).node(
            "Add",
            &["x", "big"],
            &["large"],
            &[],
        )
    };
    let axis = [Attribute::Int("axis", 1)];
    let samples = [
        x().node("ReduceMax", &["large"], &["y"], &[]),
        x().node("ReduceMin", &["large"], &["y"], &[]),
        x().integers("low", &[big + 1]).node("Squeeze", &["low"], &["l"], &[]).node(
            "Clip",
            &["large", "l"],
            &["y"],
            &[],
        ),
        x().node("Transpose", &["x"], &["t"], &[]).node("MatMul", &["large", "t"], &["y"], &[]),
        x().node("ArgMax", &["large"], &["y"], &axis),
        x().integers("k", &[2]).node("TopK", &["large", "k"], &["v", "y"], &[]).output("v"),
        x().integers("along", &[1]).node("CumSum", &["large", "along"], &["y"], &[]),
    ];
    for sample in samples {
        let (_place, order) = ordered(&sample.output("y"));
        let compiled = compile(&order).unwrap_or_else(|error| panic!("{error}"));
        assert!(compiled.opinions[1].inputs >= 8, "{compiled:?}");
    }
}

#[test]
fn what_turns_on_a_rounding_in_front_of_it_is_no_fault() {
    // A hyperbolic tangent less itself to the last digit: 0, or a rounding of either sign.
    let x: Vec<f32> = (1..40).map(|step| step as f32 / 10.0).collect();
    let tanh: Vec<f32> = x.iter().map(|x| f64::from(*x).tanh() as f32).collect();
    let sample = Sample::default().input("x", DataType::I64, &[1, 1]);
    let sample = sample.weights("w", &[1, 39], &x).weights("t", &[1, 39], &tanh);
    let sample = sample.node("Cast", &["x"], &["f"], &[Attribute::Int("to", 1)]);
    let sample = sample.node("Mul", &["f", "w"], &["a"], &[]).node("Tanh", &["a"], &["b"], &[]);
    let sample = sample.node("Sub", &["b", "t"], &["rest"], &[]).node("Sign", &["rest"], &["y"], &[]);
    let (_place, order) = ordered(&sample.output("y"));
    let compiled = compile(&order).unwrap_or_else(|error| panic!("{error}"));
    assert!(compiled.opinions[1].undecided > 0, "{:?}", compiled.opinions);
}

#[test]
fn what_leaves_the_range_of_an_f32_on_the_way_is_no_fault() {
    let (along, rows) = ([Attribute::Int("axis", 1)], [Attribute::Ints("axes", &[1])]);
    let samples = [
        // Twenty bytes make more than an f32 holds; a 0 behind them makes no number of it.
        Sample::default().input("x", DataType::F32, &[30, 60]).node("ReduceProd", &["x"], &["y"], &rows),
        Sample::default().input("x", DataType::F32, &[40, 2]).node("LpNormalization", &["x"], &["y"], &along),
    ];
    for sample in samples {
        let (_place, order) = ordered(&sample.output("y"));
        compile(&order).unwrap_or_else(|error| panic!("{error}"));
    }
}
