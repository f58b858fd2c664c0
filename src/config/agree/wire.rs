//! What a port gives, held against what the model takes: registers by name or by number, rows by length.

use super::super::card::{Card, Channel};
use super::super::nearest::nearest;
use super::super::serial::Wire;
use super::super::{Format, Modbus, Pipeline, SourceKind, UnknownFields};

/// Keys of the pipeline, and what is wrong there.
type Fault = (Vec<String>, String);

pub(super) fn faults(pipeline: &Pipeline, card: &Card) -> Vec<Fault> {
    let columns = card.features.columns();
    let SourceKind::Serial(serial) = &pipeline.source.kind else { return Vec::new() };
    match (&serial.wire, pipeline.decode.format) {
        // Pictures have a complaint about the format.
        _ if columns.is_empty() => Vec::new(),
        (Wire::Modbus(modbus), Format::Json) => by_name(modbus, pipeline, card),
        (Wire::Modbus(modbus), _) => in_order(modbus, pipeline.decode.format, card).into_iter().collect(),
        (Wire::Frames(framing), Format::F32le | Format::I16le) => {
            let row = columns.len() * if pipeline.decode.format == Format::F32le { 4 } else { 2 };
            let (room, key) = framing.payload_bytes();
            let whole_rows = (*room.start()).max(1).next_multiple_of(row);
            let message = format!(
                "a frame has {} bytes at most behind its sequence number, and a row of the {} columns of {:?} takes \
                 {row}; no frame holds whole rows",
                room.end(),
                columns.len(),
                card.name
            );
            if whole_rows <= *room.end() { Vec::new() } else { vec![(keys(&["source", key]), message)] }
        }
        _ => Vec::new(),
    }
}

fn keys(path: &[&str]) -> Vec<String> {
    path.iter().map(|key| (*key).to_owned()).collect()
}

/// Registers whose names become the fields of an object.
fn by_name(modbus: &Modbus, pipeline: &Pipeline, card: &Card) -> Vec<Fault> {
    let columns = card.features.columns();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let decode = &pipeline.decode;
    let beside: Vec<&str> =
        [&decode.id_field, &decode.time_field].into_iter().flatten().map(String::as_str).collect();
    let mut faults = Vec::new();
    let mut meant = Vec::new();
    for (index, register) in modbus.registers.iter().enumerate() {
        let name = register.name.as_str();
        let message = match columns.iter().find(|column| column.name == name) {
            Some(column) => {
                meant.push(name);
                if column.words.is_empty() {
                    continue;
                }
                format!(
                    "name {name:?} is one of several words to the model {:?}, and a register holds a number",
                    card.name
                )
            }
            None if beside.contains(&name) || decode.unknown_fields == UnknownFields::Ignore => continue,
            None => {
                let near = nearest(name, &names);
                meant.extend(near);
                let help = match near {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("it takes {}", some(&names)),
                };
                format!(
                    "name {name:?} is no feature of the model {:?}, so every round would be refused; {help}",
                    card.name
                )
            }
        };
        faults.push((keys(&["source", "modbus", "register", &index.to_string(), "name"]), message));
    }
    let needed = |column: &&Channel| {
        // With nothing at all there is nothing to complete.
        let may_miss = !meant.is_empty() && (column.impute.is_some() || column.allow_nan);
        !may_miss && !meant.contains(&column.name.as_str())
    };
    let missing: Vec<&str> = columns.iter().filter(needed).map(|column| column.name.as_str()).collect();
    // Where every name is wrong, that is the mistake.
    if !missing.is_empty() && (!meant.is_empty() || faults.is_empty()) {
        let message = format!(
            "no register is named {}, which the model {:?} needs: every round would be refused; add it, or give the \
             card an `impute` for it",
            some(&missing),
            card.name
        );
        faults.push((keys(&["source", "modbus", "register"]), message));
    }
    faults
}

/// Registers whose values stand one behind the other, without names.
fn in_order(modbus: &Modbus, format: Format, card: &Card) -> Option<Fault> {
    let columns = card.features.columns();
    let registers = &modbus.registers;
    // Rows of numbers may be several; a line is one.
    let fits = match format {
        Format::F32le => registers.len().is_multiple_of(columns.len()),
        _ => registers.len() == columns.len(),
    };
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let message = if !fits {
        format!(
            "format carries the registers in their order, one for each column, and there are {} for the {} columns of \
             the model {:?} ({}); \"json\" goes by name",
            registers.len(),
            columns.len(),
            card.name,
            some(&names)
        )
    } else {
        let (register, column) = registers.iter().zip(names.iter().cycle()).find(|(register, column)| {
            register.name != **column && names.contains(&register.name.as_str())
        })?;
        format!(
            "format carries the registers in their order, and {:?} stands where the model {:?} takes {column:?}; put \
             them in the order of the card, or use \"json\", which goes by name",
            register.name, card.name
        )
    };
    Some((keys(&["decode", "format"]), message))
}

/// The first few of many names.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::complaints;
    use super::super::tests::card;
    use crate::config::Config;

    const CLASSES: &str = "kind = \"classification\"\nlabels = [\"a\", \"b\"]\npass = [\"a\"]";
    /// Two columns that are needed, and one that is not.
    const TABLE: &str = "kind = \"table\"\ncolumn = [{ name = \"torque_nm\" }, { name = \"speed\" }, { name = \"wear\", \
        impute = 1.0 }]";

    fn found(source: &str, decode: &str, features: &str) -> Vec<String> {
        let text = format!(
            "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"p\"\nmodel = \"m\"\n\
             decode = {{ {decode} }}\n[pipeline.source]\nkind = \"serial\"\nport = \"/dev/ttyS1\"\n{source}\n"
        );
        let config = Config::parse(&text, Path::new("l.toml"), &|_: &str| None).unwrap();
        let found = complaints(&config.file, &text, 0, &config.pipelines[0], &card(features, CLASSES));
        found.iter().map(ToString::to_string).collect()
    }

    fn registers(names: &[&str]) -> String {
        let one = |name: &&str| {
            format!("[[pipeline.source.modbus.register]]\nname = \"{name}\"\nunit = 1\naddress = 0\n")
        };
        format!("framing = \"modbus_rtu\"\n{}", names.iter().map(one).collect::<String>())
    }

    const JSON: &str = "format = \"json\"";

    #[test]
    fn a_register_is_named_as_the_model_calls_its_value() {
        assert!(found(&registers(&["torque_nm", "speed"]), JSON, TABLE).is_empty());
        let wrong = found(&registers(&["torque", "speed"]), JSON, TABLE);
        assert_eq!(
            wrong,
            [
                "l.toml:14:8: name \"torque\" is no feature of the model \"m\", so every round would be refused; did you mean \
              \"torque_nm\"?"
            ]
        );
        let other = found(&registers(&["torque_nm", "speed", "oil"]), JSON, TABLE);
        assert!(other[0].ends_with("it takes torque_nm, speed, wear"), "{other:?}");
        let part = "format = \"json\", id_field = \"oil\"";
        assert!(found(&registers(&["torque_nm", "speed", "oil"]), part, TABLE).is_empty());
        let ignore = "format = \"json\", unknown_fields = \"ignore\"";
        assert!(found(&registers(&["torque_nm", "speed", "oil"]), ignore, TABLE).is_empty());
        assert!(
            found(&registers(&["oil"]), ignore, TABLE)[0]
                .contains("no register is named torque_nm, speed, wear,")
        );
    }

    #[test]
    fn what_the_model_needs_is_read_from_somewhere() {
        let missing = found(&registers(&["torque_nm"]), JSON, TABLE);
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(missing[0].contains("no register is named speed, which the model"), "{missing:?}");
    }

    #[test]
    fn a_register_holds_no_word() {
        let words = "kind = \"table\"\ncolumn = [{ name = \"type\", words = [\"L\", \"M\"] }]";
        let found = found(&registers(&["type"]), JSON, words);
        assert!(found[0].contains("name \"type\" is one of several words"), "{found:?}");
    }

    #[test]
    fn registers_in_order_are_as_many_as_columns_and_in_theirs() {
        let all = ["torque_nm", "speed", "wear"];
        for format in ["format = \"csv\"", "format = \"f32le\""] {
            assert!(found(&registers(&all), format, TABLE).is_empty());
            assert!(found(&registers(&["x", "y", "z"]), format, TABLE).is_empty());
            let few = found(&registers(&all[..1]), format, TABLE);
            assert!(
                few[0].starts_with("l.toml:8:21: format carries the registers in their order, one for each column, and there are 1"),
                "{few:?}"
            );
            let swapped = found(&registers(&["speed", "torque_nm", "wear"]), format, TABLE);
            assert!(
                swapped[0].contains("\"speed\" stands where the model \"m\" takes \"torque_nm\""),
                "{swapped:?}"
            );
        }
    }

    #[test]
    fn a_frame_of_numbers_holds_whole_rows() {
        let fixed = |bytes: u32| format!("framing = \"fixed\"\nsync = \"AA\"\nframe_bytes = {bytes}");
        assert!(found(&fixed(24), "format = \"f32le\"", TABLE).is_empty());
        assert!(found(&fixed(6), "format = \"i16le\"", TABLE).is_empty());
        let torn = found(&fixed(23), "format = \"f32le\"", TABLE);
        assert!(torn[0].starts_with("l.toml:14:15: a frame has 23 bytes"), "{torn:?}");
        let short = found("framing = \"cobs\"\nmax_frame_bytes = 11", "format = \"f32le\"", TABLE);
        assert_eq!(short.len(), 1, "{short:?}");
        assert!(found("framing = \"cobs\"\nmax_frame_bytes = 12", "format = \"f32le\"", TABLE).is_empty());
    }
}
