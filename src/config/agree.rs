//! A pipeline held against the card of its model: do they speak of the same thing?
//!
//! Pure; `check` asks. Not here: the card against its graph (`engine`).

mod wire;

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::card::{Card, Features, OutputKind};
use super::check::is_folder_name;
use super::world::{World, expand};
use super::{Complaint, Format, Pipeline, document};

/// What does not fit between a pipeline, the `index`-th of `file`, which holds `text`, and the card of the
/// model that it names. Empty: all is well.
pub fn complaints(file: &Path, text: &str, index: usize, pipeline: &Pipeline, card: &Card) -> Vec<Complaint> {
    let faults = faults(pipeline, card).into_iter();
    let faults = faults.map(|(keys, message)| at(file, text, index, keys, message));
    let of_wire = wire::faults(pipeline, card).into_iter().map(|(keys, message)| {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        at(file, text, index, &keys, message)
    });
    faults.chain(of_wire).collect()
}

/// A complaint that points at a key of the `index`-th pipeline: `["source", "topic"]`.
pub fn at(file: &Path, text: &str, index: usize, keys: &[&str], message: String) -> Complaint {
    let index = index.to_string();
    let mut path = vec!["pipeline", index.as_str()];
    path.extend(keys);
    let (line, column) = document::place_of(text, &path);
    Complaint { file: file.to_owned(), line, column, message }
}

/// A complaint that points at a key of a table: `["broker", "ca_file"]`.
pub fn at_key(file: &Path, text: &str, keys: &[&str], message: String) -> Complaint {
    let (line, column) = document::place_of(text, keys);
    Complaint { file: file.to_owned(), line, column, message }
}

/// The folders of the models that a config names, by index of the pipeline, even when other things are
/// wrong with it: so that one check tells the mistakes of its cards as well. What cannot be made out is
/// left out; the config's own complaints speak of it.
pub fn model_folders(text: &str, file: &Path, world: &dyn World) -> Vec<(usize, PathBuf)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Vec::new();
    }
    let table = table.get_ref();
    let string = |value: Option<&Spanned<DeValue<'_>>>| {
        expand(value?.get_ref().as_str()?, world).ok().filter(|text| !text.is_empty())
    };
    let beside = file.parent().unwrap_or(Path::new(""));
    let models = match table.get("models").map(|models| models.get_ref().get("path")) {
        Some(path @ Some(_)) => match string(path) {
            Some(path) => beside.join(path),
            None => return Vec::new(),
        },
        _ => beside.join("models"),
    };
    let pipelines = table.get("pipeline").and_then(|list| list.get_ref().as_array());
    let named =
        pipelines.into_iter().flat_map(|list| list.iter().enumerate()).filter_map(|(index, pipeline)| {
            let model = string(pipeline.get_ref().get("model"))?;
            is_folder_name(&model).then(|| (index, models.join(model)))
        });
    named.collect()
}

fn faults(pipeline: &Pipeline, card: &Card) -> Vec<(&'static [&'static str], String)> {
    let mut faults: Vec<(&'static [&'static str], String)> = Vec::new();
    let is_image = pipeline.decode.format == Format::Image;
    match &card.features {
        Features::Image(_) if !is_image => faults.push((
            &["decode", "format"],
            format!("the model {:?} looks at pictures; format = \"image\" would do", card.name),
        )),
        Features::Window(_) | Features::Table(_) if is_image => faults.push((
            &["decode", "format"],
            format!(
                "the model {:?} takes numbers, not pictures; format = \"json\", \
                     \"csv\", \"f32le\", \"i16le\" or \"packet\" would do",
                card.name
            ),
        )),
        _ => {}
    }
    if pipeline.decode.format == Format::Packet && !is_image && card.packets.is_empty() {
        faults.push((
            &["decode", "format"],
            format!(
                "the model {:?} has no [[packet]] in its card, which says what the numbers of a packet are; \
                 add one to its model.toml",
                card.name
            ),
        ));
    }
    let columns = card.features.columns();
    for (keys, field) in [
        (&["decode", "id_field"], &pipeline.decode.id_field),
        (&["decode", "time_field"], &pipeline.decode.time_field),
    ] {
        if let Some(field) = field
            && columns.iter().any(|column| column.name == *field)
        {
            faults.push((
                keys,
                format!(
                    "{} is {field:?}, which the model {:?} takes as a value; it cannot be both",
                    keys[1], card.name
                ),
            ));
        }
    }
    let decides = match &card.output.kind {
        OutputKind::Classification { pass, .. } if pass.is_empty() => {
            Some("its card names no label that is in order (`pass`), so nothing is decided")
        }
        OutputKind::Regression { .. } => Some("it is a regression: its card decides by `range`"),
        OutputKind::MultiLabel { thresholds: Some(_), .. } => {
            Some("its card has a threshold for each label (`thresholds`)")
        }
        _ => None,
    };
    if let Some(why) = decides {
        if pipeline.threshold.is_some() {
            faults.push((
                &["threshold"],
                format!("threshold changes nothing for {:?}: {why}; remove it", card.name),
            ));
        }
        // One threshold for each label still leaves a common band around them.
        if pipeline.uncertain.is_some() && !matches!(card.output.kind, OutputKind::MultiLabel { .. }) {
            faults.push((
                &["uncertain"],
                format!("uncertain changes nothing for {:?}: {why}; remove it", card.name),
            ));
        }
    }
    let threshold = pipeline.threshold.or(card.output.threshold);
    let uncertain = pipeline.uncertain.or(card.output.uncertain);
    if let (Some(threshold), Some((low, high))) = (threshold, uncertain)
        && !(low..=high).contains(&threshold)
    {
        let whose = |own: bool| if own { "the pipeline's" } else { "the card's" };
        faults.push((
            if pipeline.threshold.is_some() { &["threshold"] } else { &["uncertain"] },
            format!(
                "{} threshold {threshold} lies outside {} uncertain band [{low}, {high}]; set both here",
                whose(pipeline.threshold.is_some()),
                whose(pipeline.uncertain.is_some())
            ),
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    pub(super) fn card(features: &str, output: &str) -> Card {
        let columns = features.matches("{ name").count().max(1);
        let text = format!(
            "schema = \"lineside.card/1\"\nname = \"m\"\nversion = \"1\"\nsummary = \"s\"\n\
                licence = \"MIT\"\n[graph]\nfile = \"m.onnx\"\nsha256 = \"{}\"\ninput = [{{ \
                name = \"x\", type = \"f32\", shape = [1, {columns}] }}]\n[features]\ninput = \"x\"\n\
                {features}\n[output]\ntensor = \"y\"\n{output}\n",
            "0".repeat(64)
        );
        Card::parse(&text, Path::new("m")).unwrap()
    }

    const TABLE: &str = "kind = \"table\"\ncolumn = [{ name = \"a\" }]";
    const IMAGE: &str = "kind = \"image\"\nwidth = 1\nheight = 1\nchannels = \"grey\"";
    const CLASSES: &str = "kind = \"classification\"\nlabels = [\"a\", \"b\"]\npass = [\"a\"]\nthreshold = 0.5\n\
        uncertain = [0.4, 0.6]";
    const VALUES: &str = "kind = \"regression\"\ntarget = [{ name = \"t\" }]";

    fn found(own: &str, format: &str, card: &Card) -> Vec<String> {
        let text = format!(
            "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"p\"\n\
                model = \"m\"\n{own}\n[pipeline.source]\nkind = \"mqtt\"\ntopic = \"t\"\n\
                [pipeline.decode]\nformat = \"{format}\"\n"
        );
        let config = Config::parse(&text, Path::new("l.toml"), &|_: &str| None).unwrap();
        complaints(&config.file, &text, 0, &config.pipelines[0], card)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn pictures_go_to_models_that_look_and_numbers_to_models_that_count() {
        assert!(found("", "json", &card(TABLE, CLASSES)).is_empty());
        assert!(found("", "image", &card(IMAGE, CLASSES)).is_empty());
        let seen = found("", "image", &card(TABLE, CLASSES));
        assert!(seen[0].starts_with("l.toml:13:10: the model \"m\" takes numbers"), "{seen:?}");
        assert!(found("", "csv", &card(IMAGE, CLASSES))[0].contains("looks at pictures"));
    }

    #[test]
    fn a_field_is_an_id_or_a_value() {
        let found = found("", "json\"\nid_field = \"a\"\ntime_field = \"t", &card(TABLE, CLASSES));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("l.toml:14:12: id_field is \"a\""), "{found:?}");
    }

    #[test]
    fn a_threshold_lies_inside_the_band_whoever_wrote_either() {
        assert!(found("threshold = 0.6", "json", &card(TABLE, CLASSES)).is_empty());
        let own = found("threshold = 0.7", "json", &card(TABLE, CLASSES));
        assert!(
            own[0].starts_with("l.toml:8:13: the pipeline's threshold 0.7 lies outside the card's"),
            "{own:?}"
        );
        let band = found("uncertain = [0.1, 0.2]", "json", &card(TABLE, CLASSES));
        assert!(band[0].starts_with("l.toml:8:13: the card's threshold 0.5"), "{band:?}");
        assert!(found("threshold = 0.15\nuncertain = [0.1, 0.2]", "json", &card(TABLE, CLASSES)).is_empty());
    }

    #[test]
    fn models_are_found_in_a_config_that_is_wrong() {
        let folders = |text: &str| model_folders(text, Path::new("etc/l.toml"), &|_: &str| None);
        let text = "[[pipeline]]\nmodel = \"a\"\nqos = 9\n[[pipeline]]\n[[pipeline]]\nmodel = \"../b\"\n\
            [[pipeline]]\nmodel = \"c\"\n";
        assert_eq!(folders(text), [(0, "etc/models/a".into()), (3, "etc/models/c".into())]);
        assert_eq!(folders(&format!("{text}[models]\npath = \"/m\"\n"))[0].1, Path::new("/m/a"));
        assert!(folders(&format!("{text}[models]\npath = \"${{NOPE}}\"\n")).is_empty());
        assert!(folders("models = 1\npipeline = 2").is_empty());
        assert!(folders("= broken").is_empty());
    }

    #[test]
    fn a_threshold_that_changes_nothing_is_refused() {
        let seen = found("threshold = 0.5\nuncertain = [0.1, 0.9]", "json", &card(TABLE, VALUES));
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(seen[0].contains("decides by `range`"), "{seen:?}");
        assert!(found("", "json", &card(TABLE, VALUES)).is_empty());
    }
}
