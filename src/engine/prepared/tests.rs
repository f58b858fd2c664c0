use super::*;
use crate::base::Data;
use crate::engine::compile::Random;
use crate::engine::{Verified, golden, shared_models};

fn shipped() -> Vec<PathBuf> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let entries = models.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("model.toml").is_file()).collect();
    folders.sort();
    assert!(folders.len() >= 6, "{folders:?}");
    folders
}

/// A copy of a shipped model without what was prepared of it.
fn copied(folder: &Path) -> (tempfile::TempDir, Card) {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in from.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy(&path, &name);
            } else if !is_one(&path) {
                fs::copy(&path, name).unwrap();
            }
        }
    }
    let base = tempfile::tempdir().unwrap();
    let to = base.path().join(folder.file_name().unwrap());
    copy(folder, &to);
    let card = Card::read(&to).unwrap();
    (base, card)
}

fn answers(model: &Model) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = model
        .inputs()
        .iter()
        .map(|spec| {
            let elements: usize = spec.shape.iter().product();
            Tensor::f32(&spec.shape, (0..elements).map(|n| (n % 251) as f32 / 251.0).collect())
        })
        .collect();
    model.session().run(&inputs.iter().collect::<Vec<_>>()).unwrap()
}

fn bits(tensors: &[Tensor]) -> Vec<Vec<u32>> {
    let bits = |tensor: &Tensor| match &tensor.data {
        Data::F32(numbers) => numbers.iter().map(|number| number.to_bits()).collect(),
        other => panic!("{other:?}"),
    };
    tensors.iter().map(bits).collect()
}

#[test]
fn a_shipped_model_answers_bit_for_bit_as_its_onnx_file_and_holds_its_golden_cases() {
    for folder in shipped() {
        let (_base, card) = copied(&folder);
        let plain = Model::load(&card).unwrap();
        assert_eq!(plain.path(), card.folder.join("model.onnx"));
        let made = prepare(&card).unwrap();
        assert!(made.without.is_empty() && made.files.len() == 1, "{folder:?}: {made:?}");
        let prepared = Model::load(&card).unwrap();
        assert_eq!(prepared.path(), made.files[0], "{:?}", prepared.unprepared());
        assert!(prepared.unprepared().is_none());
        assert_eq!(prepared.inputs(), plain.inputs());
        assert_eq!(prepared.outputs(), plain.outputs());
        assert_eq!((prepared.memory(), prepared.least()), (plain.memory(), plain.least()));
        assert_eq!(bits(&answers(&prepared)), bits(&answers(&plain)), "{folder:?}");
        assert!(golden::check(&prepared, &card).unwrap().cases.len() >= 3);
    }
}

#[test]
fn the_shipped_models_are_prepared_by_this_version() {
    for folder in shipped() {
        let model = Model::load(&Card::read(&folder).unwrap()).unwrap();
        assert!(
            model.is_prepared(),
            "{}: {:?}; run `lineside prepare models/*` and commit what it writes",
            folder.display(),
            model.unprepared()
        );
    }
}

#[test]
fn preparing_twice_gives_the_same_bytes_and_leaves_no_other_file() {
    for folder in shipped() {
        let (_base, card) = copied(&folder);
        fs::write(card.folder.join("model-batch-8.8x9.prepared"), "old").unwrap();
        let first = prepare(&card).unwrap().files;
        let bytes = fs::read(&first[0]).unwrap();
        for _ in 0..4 {
            assert_eq!(prepare(&card).unwrap().files, first);
            assert!(fs::read(&first[0]).unwrap() == bytes, "{folder:?}");
        }
        assert_eq!(earlier(&card), first);
    }
}

/// A prepared model, and what becomes of it after something was done to its file.
fn after(change: impl FnOnce(&mut Vec<u8>, &mut Card)) -> (Model, Card) {
    let (base, mut card) = copied(&shipped()[2]);
    let path = prepare(&card).unwrap().files.remove(0);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes, &mut card);
    fs::write(&path, bytes).unwrap();
    let model = Model::load(&card).unwrap();
    drop(base);
    (model, card)
}

fn resealed(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() - digest::BYTES);
    let sum = digest::sha256(bytes);
    bytes.extend(sum);
}

#[test]
fn a_file_that_does_not_fit_is_left_and_the_graph_loaded() {
    let unfit = |change: &dyn Fn(&mut Vec<u8>, &mut Card)| {
        let (model, card) = after(change);
        assert_eq!(model.path(), card.folder.join("model.onnx"));
        format!("{}", model.unprepared().unwrap())
    };
    assert_eq!(unfit(&|bytes, _| bytes[200] ^= 1), "it is damaged");
    assert_eq!(unfit(&|bytes, _| bytes.truncate(300)), "it is damaged");
    assert_eq!(unfit(&|bytes, _| bytes.truncate(50)), "it is damaged");
    for other in ["", "lineside 0.0.9 prepared 1, tract 0.23.9\n", "{}"] {
        let change = |bytes: &mut Vec<u8>, _: &mut Card| *bytes = other.into();
        assert_eq!(unfit(&change), "it was not written by this version");
    }
    let stale = "it was made from another graph, or for other shapes or fixed inputs than the card's";
    let change = |bytes: &mut Vec<u8>, _: &mut Card| {
        let at = first_line().len();
        bytes[at] ^= 1;
        resealed(bytes);
    };
    assert_eq!(unfit(&change), stale);
}

#[test]
fn a_prepared_graph_of_other_bytes_is_refused_or_runs_and_never_panics() {
    let mut random = Random::new(7);
    let mut below = move |end: usize| random.next() as usize % end;
    for folder in ["hydraulic-pump", "machine-failure", "machine-temperature"] {
        let (_base, card) = copied(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(folder));
        let path = prepare(&card).unwrap().files.remove(0);
        let whole = fs::read(&path).unwrap();
        let from = first_line().len() + digest::BYTES;
        let to = whole.len() - digest::BYTES;
        // Most of a graph is weights; operators stand around their names.
        let is_name = |at: usize| whole[at..at + 8].iter().all(u8::is_ascii_graphic);
        let places: Vec<usize> =
            (from..to - 8).filter(|at| is_name(*at)).flat_map(|at| at - 16..at + 32).collect();
        let mut refused = 0;
        for _ in 0..400 {
            let mut bytes = whole.clone();
            bytes[places[below(places.len())]] = below(256) as u8;
            resealed(&mut bytes);
            fs::write(&path, bytes).unwrap();
            match load(&card, Instant::now()) {
                Ok(model) => {
                    let model = model.unwrap();
                    let inputs: Vec<Tensor> =
                        model.inputs().iter().map(|spec| Tensor::zeros(&spec.shape)).collect();
                    let _ = model.session().run(&inputs.iter().collect::<Vec<_>>());
                }
                Err(unfit) => {
                    assert!(!unfit.to_string().is_empty());
                    refused += 1;
                }
            }
        }
        assert!((20..400).contains(&refused), "{folder}: {refused}");
    }
}

/// What has no word yet is loaded from ONNX as before; whatever has one answers alike, bit for bit.
#[test]
fn a_real_model_is_prepared_and_answers_alike_or_its_operator_is_named() {
    let Some(models) = shared_models::folder() else { return };
    let mut prepared = Vec::new();
    for folder in models.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(verified) = Verified::read(&folder.join("model.onnx")) else { continue };
        let inputs = shared_models::tensors(&folder, "in");
        let typed = || {
            let graph = Verified::read(&folder.join("model.onnx")).and_then(Verified::parse).unwrap();
            let specs = shared_models::specs(&graph, &inputs);
            graph.typed(&specs)
        };
        drop(verified);
        let (Ok(plain), Ok(ready)) = (typed(), typed().and_then(|typed| typed.ready())) else { continue };
        let specs = ready.specs.clone();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        match content(ready, [7; digest::BYTES]) {
            Err(why) => println!("not prepared: {name}, {why}"),
            Ok(bytes) => {
                let again = read(folder.clone(), bytes, Instant::now(), [7; digest::BYTES], &specs).unwrap();
                let run = |model: Model| model.session().run(&inputs.iter().collect::<Vec<_>>()).unwrap();
                assert_eq!(run(again.lowered().unwrap()), run(plain.optimised().unwrap()), "{name}");
                prepared.push(name);
            }
        }
    }
    assert!(prepared.len() >= 4, "{prepared:?}");
    println!("prepared: {prepared:?}");
}

#[test]
fn a_graph_that_is_not_the_cards_is_refused_whatever_lies_beside_it() {
    let (_base, card) = copied(&shipped()[2]);
    prepare(&card).unwrap();
    let other = shipped()[1].join("model.onnx");
    fs::copy(other, card.folder.join("model.onnx")).unwrap();
    assert!(matches!(Model::load(&card), Err(ModelError::Digest { .. })));
    fs::remove_file(card.folder.join("model.onnx")).unwrap();
    assert!(matches!(Model::load(&card), Err(ModelError::Read { .. })));
}

#[test]
fn what_is_no_file_or_has_no_end_is_left_without_a_wait() {
    let (_base, card) = copied(&shipped()[2]);
    let path = prepare(&card).unwrap().files.remove(0);
    let unfit = || Model::load(&card).unwrap().unprepared().unwrap().to_string();
    let sparse = File::create(&path).unwrap();
    sparse.set_len(1 << 40).unwrap();
    assert_eq!(unfit(), "it was not written by this version");
    fs::write(&path, first_line()).unwrap();
    File::options().append(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(unfit(), "it is damaged");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(unfit().starts_with("it cannot be read"), "{}", unfit());
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert!(unfit().starts_with("it cannot be read"), "{}", unfit());
    fs::remove_file(&path).unwrap();
    assert!(process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(unfit().starts_with("it cannot be read"), "{}", unfit());
}
