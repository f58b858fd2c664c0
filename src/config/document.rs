//! TOML as written: every value with its place, every mistake collected instead of the first one.
//!
//! `keys!` declares a table once: its keys, their types, ranges, defaults and meaning. From that come
//! the reader, the complaints about unknown, missing and mistyped keys, and the JSON Schema, so the
//! three cannot drift apart. A serde derive would stop at the first mistake.
//! Not here: rules that join several keys (`check`, `card::check`).

mod declare;
mod leaf;

use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value as Json, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::{Complaint, Complaints};
use super::nearest::nearest;
use super::world::World;

pub(crate) use declare::{keys, words};
pub(crate) use leaf::{Flag, List, Number, Text, Whole};

/// What became of a key.
#[derive(Clone, Debug, Default)]
pub(crate) enum Field<V> {
    /// Not written, and without a default of its own.
    #[default]
    Absent,
    /// Not written; this stands instead.
    Default(V),
    /// Written and wrong, or wanted and missing: the complaint is made already.
    Broken,
    /// Written, with its place in bytes.
    Given(Spanned<V>),
}

impl<V> Field<V> {
    /// The value, written or default.
    pub(crate) fn value(&self) -> Option<&V> {
        match self {
            Self::Absent | Self::Broken => None,
            Self::Default(value) => Some(value),
            Self::Given(spanned) => Some(spanned.get_ref()),
        }
    }

    /// The value with its place; one by default stands at the start.
    pub(crate) fn table(&self) -> Option<(usize, &V)> {
        self.value().map(|value| (self.at().unwrap_or(0), value))
    }

    /// What was written, with its place.
    pub(crate) fn given(&self) -> Option<&Spanned<V>> {
        match self {
            Self::Given(spanned) => Some(spanned),
            _ => None,
        }
    }

    /// The place of what was written.
    pub(crate) fn at(&self) -> Option<usize> {
        self.given().map(|spanned| spanned.span().start)
    }

    /// Whether the key stands in the file, right or wrong.
    pub(crate) fn is_written(&self) -> bool {
        matches!(self, Self::Given(_) | Self::Broken)
    }

    /// `value` where nothing was written.
    pub(crate) fn or(self, value: V) -> Self {
        match self {
            Self::Absent => Self::Default(value),
            other => other,
        }
    }
}

/// Collects complaints while a document is read and checked.
pub(crate) struct Reader<'a> {
    world: Option<&'a dyn World>,
    /// Of the whole document: made when a complaint asks for it.
    schema: fn() -> Json,
    complaints: Vec<(usize, String)>,
}

impl Reader<'_> {
    /// One more complaint about the text at byte `at`.
    pub(crate) fn complain(&mut self, at: usize, message: impl Into<String>) {
        self.complaints.push((at, message.into()));
    }

    /// How many complaints there are so far.
    pub(crate) fn complaints(&self) -> usize {
        self.complaints.len()
    }

    /// A value of another type than `expected`; `None`, so that it can end a reading function.
    pub(crate) fn mistyped<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        name: &str,
        expected: &str,
    ) -> Option<T> {
        let quoted = match value.get_ref() {
            DeValue::String(text)
                if expected.contains("number") && text.replace('_', "").parse::<f64>().is_ok() =>
            {
                "; leave out the quotes"
            }
            _ => "",
        };
        let seen = seen(value.get_ref(), name);
        self.complain(value.span().start, format!("{name} is {seen}; expected {expected}{quoted}"));
        None
    }

    /// The table behind `value`, after complaints about keys that are not in `known`.
    pub(crate) fn table<'v, 'i>(
        &mut self,
        value: &'v Spanned<DeValue<'i>>,
        name: &str,
        known: &[&str],
    ) -> Option<&'v DeTable<'i>> {
        let Some(table) = value.get_ref().as_table() else {
            return self.mistyped(value, name, "a table");
        };
        for key in table.keys() {
            let word = key.get_ref();
            if known.contains(&word.as_ref()) {
                continue;
            }
            let help = if let Some(near) = nearest(word, known) {
                format!("did you mean `{near}`?")
            } else if let Some(place) = home_of(&(self.schema)(), word) {
                format!("it belongs in {place}")
            } else {
                format!("known here: {}", known.join(", "))
            };
            let place = if name.is_empty() { "at the top".to_owned() } else { format!("in {name}") };
            self.complain(key.span().start, format!("unknown key `{word}` {place}; {help}"));
        }
        Some(table)
    }

    /// One key of a table that starts at byte `at`.
    pub(crate) fn field<T: Written>(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        required_in: Option<(usize, &str)>,
    ) -> Field<T::Value> {
        match (table.get(key), required_in) {
            (Some(value), _) => match T::read(value, key, self) {
                Some(read) => Field::Given(Spanned::new(value.span(), read)),
                None => Field::Broken,
            },
            (None, Some((at, table_name))) => {
                let message = match (T::header(table_name, key), table_name) {
                    (Some(header), _) => format!("{header} is missing; every file has one"),
                    (None, "") => format!("`{key}` is missing; expected {}", T::expected()),
                    (None, _) => format!("`{key}` is missing in {table_name}; expected {}", T::expected()),
                };
                self.complain(at, message);
                Field::Broken
            }
            (None, None) => Field::Absent,
        }
    }
}

/// What a TOML value may be read as.
pub(crate) trait Written {
    /// What reading gives.
    type Value;
    /// What is expected, in words of TOML: `a whole number from 1 to 5`.
    fn expected() -> String;
    /// The header that opens it as `key` of the table `above`, where it is a table or a list of them.
    fn header(above: &str, key: &str) -> Option<String> {
        let _ = (above, key);
        None
    }
    /// The value; `None` after a complaint about it.
    fn read(value: &Spanned<DeValue<'_>>, name: &str, reader: &mut Reader<'_>) -> Option<Self::Value>;
    /// JSON Schema of what may be written.
    fn schema() -> Json;
    /// A default, for the schema; null: not worth showing.
    fn shown(value: &Self::Value) -> Json;
}

/// What a table's declaration says of one key, for the schema.
pub(crate) struct KeyPage {
    /// As Rust writes it.
    pub(crate) key: &'static str,
    /// Its comment's lines.
    pub(crate) meaning: &'static str,
    pub(crate) is_required: bool,
    pub(crate) schema: fn() -> Json,
    /// One, or none.
    pub(crate) default: &'static [fn() -> Json],
}

/// JSON Schema of a table. One function for all tables, which are data: written out for each key it is a hundredth of
/// a device's binary.
pub(crate) fn schema_of_table(keys: &[KeyPage]) -> Json {
    let name = |key: &KeyPage| key.key.trim_start_matches("r#");
    let mut properties = Map::new();
    for key in keys {
        let mut schema = (key.schema)();
        schema["description"] = key.meaning.trim().replace("\n ", " ").into();
        let default = key.default.first().map(|default| default());
        if let Some(default) = default.filter(|default| !default.is_null()) {
            schema["default"] = default;
        }
        properties.insert(name(key).into(), schema);
    }
    let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
    let required: Vec<&str> = keys.iter().filter(|key| key.is_required).map(name).collect();
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// What stands there, for a message; short, and without what might be a secret.
pub(crate) fn seen(value: &DeValue<'_>, name: &str) -> String {
    let (kind, text) = match value {
        DeValue::String(text) => ("a string", format!("the string {:?}", shorten(text))),
        DeValue::Integer(number) => ("a number", format!("the whole number {number}")),
        DeValue::Float(number) => ("a number", format!("the number {number}")),
        DeValue::Boolean(flag) => ("a boolean", flag.to_string()),
        DeValue::Datetime(date) => ("a date", format!("the date {date}")),
        DeValue::Array(_) => return "an array".into(),
        DeValue::Table(_) => return "a table".into(),
    };
    if name.contains("password") { kind.into() } else { text }
}

/// At most 40 characters of `text`.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The table that knows `key`, as a header: `[pipeline.source]`.
fn home_of(schema: &Json, key: &str) -> Option<String> {
    fn search(schema: &Json, key: &str, path: &mut Vec<String>) -> bool {
        let properties = schema.get("properties").or_else(|| schema.pointer("/items/properties"));
        let Some(properties) = properties.and_then(Json::as_object) else { return false };
        if properties.contains_key(key) {
            return true;
        }
        properties.iter().any(|(name, below)| {
            path.push(name.clone());
            let found = search(below, key, path);
            if !found {
                path.pop();
            }
            found
        })
    }
    let mut path = Vec::new();
    (search(schema, key, &mut path) && !path.is_empty()).then(|| format!("[{}]", path.join(".")))
}

/// Reads `text` as a `T`, hands it to `rules`, and gives what they made of it, or every complaint.
///
/// `world`: where `${ENV}` is looked up; `None`: strings stand as written.
pub(crate) fn read<T: Written, M>(
    text: &str,
    file: &Path,
    world: Option<&dyn World>,
    rules: impl FnOnce(T::Value, &mut Reader<'_>) -> Option<M>,
) -> Result<M, Complaints> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { world, schema: T::schema, complaints: Vec::new() };
    let meant = if errors.is_empty() {
        let value = Spanned::new(0..0, DeValue::Table(table.into_inner()));
        T::read(&value, "", &mut reader).and_then(|written| rules(written, &mut reader))
    } else {
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            reader.complain(at, format!("not TOML: {}", error.message().replace('\n', ", ")));
        }
        None
    };
    match meant {
        Some(meant) if reader.complaints.is_empty() => Ok(meant),
        _ => {
            debug_assert!(!reader.complaints.is_empty(), "a rule gave up in silence");
            reader.complaints.sort_by_key(|(at, _)| *at);
            reader.complaints.dedup();
            let placed = reader.complaints.into_iter().map(|(at, message)| {
                let (line, column) = place(text, at);
                Complaint { file: file.to_owned(), line, column, message }
            });
            Err(Complaints(placed.collect()))
        }
    }
}

/// Line and column, both from 1 and in characters, of byte `at`.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Where a value stands in a text that was read without complaint: `["pipeline", "0", "model"]`. Falls
/// back to the nearest table around it, so that there is always a place to point at.
pub(crate) fn place_of(text: &str, path: &[&str]) -> (usize, usize) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, _) = DeTable::parse_recoverable(text);
    let span: Range<usize> = table.span();
    let mut here = &Spanned::new(span, DeValue::Table(table.into_inner()));
    let mut at = 0;
    for step in path {
        let next = match here.get_ref() {
            DeValue::Table(table) => table.get(*step),
            DeValue::Array(array) => step.parse().ok().and_then(|index: usize| array.get(index)),
            _ => None,
        };
        let Some(next) = next else { break };
        at = next.span().start;
        here = next;
    }
    place(text, at)
}

/// `"a", "b" or "c"`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("{only:?}"),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(|word| format!("{word:?}")).collect();
            format!("{} or {last:?}", most.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    keys! {
        /// A line.
        Line {
            /// How fast.
            speed_mm_per_s: Whole<1, 10> = 3,
            /// What it is called.
            name: Text [required],
            /// Where it stops.
            stops: List<Number>,
            /// Whether it runs.
            on: Flag = true,
            /// What stands at it.
            robot: List<Robot>,
        }
    }

    keys! {
        /// A robot.
        Robot {
            /// Its arms.
            arms: Whole<0, 4> [required],
        }
    }

    fn complaints(text: &str) -> Vec<String> {
        let wrong = read::<Line, ()>(text, Path::new("l.toml"), None, |_, _| None).unwrap_err();
        wrong.0.iter().map(ToString::to_string).collect()
    }

    fn line(text: &str) -> Line {
        read::<Line, Line>(text, Path::new("l.toml"), None, |line, _| Some(line)).unwrap()
    }

    #[test]
    fn values_come_with_defaults_and_places() {
        let line = line("name = \"a\"\nstops = [1, 2.5]\n[[robot]]\narms = 0x2\n");
        assert_eq!(line.speed_mm_per_s.value(), Some(&3));
        assert_eq!(line.speed_mm_per_s.at(), None);
        assert_eq!(line.name.at(), Some(7));
        assert_eq!(line.on.value(), Some(&true));
        let stops: Vec<f64> = line.stops.value().unwrap().iter().map(|stop| *stop.get_ref()).collect();
        assert_eq!(stops, [1.0, 2.5]);
        assert_eq!(line.robot.value().unwrap()[0].get_ref().arms.value(), Some(&2));
    }

    #[test]
    fn every_mistake_is_told_in_file_order() {
        let text = "speed_mm_per_s = 11\nnam = \"a\"\nstops = [\"1\", true]\non = 1\n\n[[robot]]\narms \
            = -1\n[[robot]]\nlegs = 2\n";
        assert_eq!(
            complaints(text),
            [
                "l.toml:1:1: `name` is missing; expected a string",
                "l.toml:1:18: speed_mm_per_s is 11; it must be 1 to 10",
                "l.toml:2:1: unknown key `nam` at the top; did you mean `name`?",
                "l.toml:3:10: stops is the string \"1\"; expected a number; leave out the quotes",
                "l.toml:3:15: stops is true; expected a number",
                "l.toml:4:6: on is the whole number 1; expected true or false",
                "l.toml:7:8: arms is -1; it must be 0 to 4",
                "l.toml:8:1: `arms` is missing in robot; expected a whole number from 0 to 4",
                "l.toml:9:1: unknown key `legs` in robot; known here: arms",
            ]
        );
    }

    #[test]
    fn a_key_in_the_wrong_table_is_shown_the_right_one() {
        let found = complaints("name = \"a\"\narms = 2\n");
        assert_eq!(found, ["l.toml:2:1: unknown key `arms` at the top; it belongs in [robot]"]);
    }

    #[test]
    fn what_is_no_toml_says_where() {
        assert!(complaints("name = \n")[0].starts_with("l.toml:1:"), "{:?}", complaints("name = \n"));
        let twice = complaints("name = \"a\"\nname = \"b\"\n");
        assert!(twice[0].starts_with("l.toml:2:1: not TOML: "), "{twice:?}");
        let both = complaints("name = 'a\n\non = x\n");
        assert!(both.len() >= 2, "{both:?}");
    }

    #[test]
    fn columns_count_characters_and_a_mark_at_the_front_is_passed_over() {
        assert_eq!(place("aé=ü\nx", 4), (1, 4));
        assert_eq!(place("a\r\nbc", 4), (2, 2));
        assert_eq!(place("", 0), (1, 1));
        assert_eq!(
            complaints("\u{feff}name = \"ü\"\nstops = [ 'é', nan ]"),
            [
                "l.toml:2:11: stops is the string \"é\"; expected a number",
                "l.toml:2:16: stops is the number nan; it must be a finite number, at most 3.4e38 either way"
            ]
        );
    }

    #[test]
    fn numbers_beyond_their_type_are_complaints_and_no_panics() {
        for number in ["9223372036854775808", "-1", "1e400", "340282366920938463463374607431768211456"] {
            assert_eq!(complaints(&format!("name = 'a'\nspeed_mm_per_s = {number}")).len(), 1, "{number}");
            let stops = format!("name = 'a'\nstops = [{number}]");
            let read = read::<Line, Line>(&stops, Path::new("l.toml"), None, |line, _| Some(line));
            assert_eq!(read.is_ok(), number == "-1" || number.starts_with("92"), "{number}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow() {
        let deep = format!("name = 'a'\nstops = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(!complaints(&deep).is_empty());
        let tables = format!("name = 'a'\n[{}a]\n", "a.".repeat(100_000));
        assert!(!complaints(&tables).is_empty());
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_shown() {
        let value = DeValue::parse("12345").unwrap();
        assert_eq!(seen(value.get_ref(), "password"), "a number");
    }

    #[test]
    fn the_place_of_a_key_is_found_again() {
        let text = "name = 'a'\n[[robot]]\narms = 1\n[[robot]]\n  arms = 2\n";
        assert_eq!(place_of(text, &["robot", "1", "arms"]), (5, 10));
        assert_eq!(place_of(text, &["robot", "1", "legs"]), (4, 1));
        assert_eq!(place_of(text, &["nothing"]), (1, 1));
    }
}
