//! What was recorded: pictures, CSV or JSON lines, as frames one after the other.
//!
//! Promise: one frame is in memory at a time. [`Recording::count`] reads everything once and names
//! the first mistake with its file and line, so that half a recording is never sent by mistake.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Map, Value};

/// Longest line: far beyond any frame of numbers, and no memory filled by a file that has no lines.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordingError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no recording; give a folder of pictures, a .jpg or .png, a .csv or .tsv, or a .jsonl, .ndjson or .json", .0.display())]
    Kind(PathBuf),
    #[error("{} holds no frames: {what}", path.display())]
    Empty { path: PathBuf, what: &'static str },
    #[error("{}:{line}: {message}", path.display())]
    Line { path: PathBuf, line: usize, message: String },
    #[error("{}: its name cannot stand in the topic: {message}", path.display())]
    Name { path: PathBuf, message: String },
}

impl RecordingError {
    /// The file system's fault and not the recording's.
    pub(super) fn is_io(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

/// A frame as it will be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Name of the file that it came from.
    pub(super) name: String,
    pub(super) payload: Bytes,
}

/// A recording that is there.
#[derive(Debug)]
pub(super) enum Recording {
    Pictures(Vec<PathBuf>),
    Lines { path: PathBuf, kind: LineKind },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    /// Each line goes out as it is.
    Raw,
    Csv,
    Json,
}

impl Recording {
    /// Finds out what `path` is. `raw`: lines are neither turned into JSON nor checked.
    pub(super) fn open(path: &Path, raw: bool) -> Result<Self, RecordingError> {
        let read = |source| RecordingError::Read { path: path.to_owned(), source };
        if fs::metadata(path).map_err(read)?.is_dir() {
            let mut files = Vec::new();
            pictures_below(path, &mut files)?;
            files.sort();
            if files.is_empty() {
                let what = "no .jpg, .jpeg or .png below it";
                return Err(RecordingError::Empty { path: path.to_owned(), what });
            }
            return Ok(Self::Pictures(files));
        }
        let kind = match extension(path).as_str() {
            "jpg" | "jpeg" | "png" => {
                return Ok(Self::Pictures(vec![path.to_owned()]));
            }
            "csv" | "tsv" | "jsonl" | "ndjson" | "json" if raw => LineKind::Raw,
            "csv" | "tsv" => LineKind::Csv,
            "jsonl" | "ndjson" | "json" => LineKind::Json,
            _ => return Err(RecordingError::Kind(path.to_owned())),
        };
        Ok(Self::Lines { path: path.to_owned(), kind })
    }

    /// Frames in one round. `check` says what is wrong with a file's name.
    pub(super) fn count(&self, check: &dyn Fn(&str) -> Option<String>) -> Result<u64, RecordingError> {
        let files = match self {
            Self::Pictures(files) => files.as_slice(),
            Self::Lines { path, .. } => std::slice::from_ref(path),
        };
        for path in files {
            if let Some(message) = check(&name(path)) {
                return Err(RecordingError::Name { path: path.clone(), message });
            }
        }
        match self {
            // Pictures are sent as they are, also broken ones: that is what a recording is for.
            Self::Pictures(files) => Ok(files.len() as u64),
            Self::Lines { path, .. } => {
                let mut frames = 0;
                for frame in self.frames() {
                    frame?;
                    frames += 1;
                }
                if frames == 0 {
                    let what = "it has no lines (a header alone is none)";
                    return Err(RecordingError::Empty { path: path.clone(), what });
                }
                Ok(frames)
            }
        }
    }

    /// One round from the start.
    pub(super) fn frames(&self) -> Frames<'_> {
        match self {
            Self::Pictures(files) => Frames::Pictures(files.iter()),
            Self::Lines { path, kind } => Frames::Lines(Lines::new(path, *kind)),
        }
    }
}

fn pictures_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), RecordingError> {
    let read = |source| RecordingError::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let path = entry.path();
        // Links to folders are not followed: a circle would never end.
        if entry.file_type().map_err(read)?.is_dir() {
            pictures_below(&path, found)?;
        } else if matches!(extension(&path).as_str(), "jpg" | "jpeg" | "png")
            // `._x.jpg` and the like are another system's notes, not pictures.
            && !name(&path).starts_with('.')
        {
            found.push(path);
        }
    }
    Ok(())
}

fn extension(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// One round of a recording.
pub(super) enum Frames<'r> {
    Pictures(std::slice::Iter<'r, PathBuf>),
    Lines(Lines<'r>),
}

impl Iterator for Frames<'_> {
    type Item = Result<Recorded, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Lines(lines) => lines.next_frame().transpose(),
            Self::Pictures(files) => {
                let path = files.next()?;
                Some(match fs::read(path) {
                    Ok(bytes) => Ok(Recorded { name: name(path), payload: bytes.into() }),
                    Err(source) => Err(RecordingError::Read { path: path.clone(), source }),
                })
            }
        }
    }
}

/// The lines of a file, read as they are asked for.
pub(super) struct Lines<'r> {
    path: &'r Path,
    kind: LineKind,
    reader: Option<BufReader<File>>,
    line: usize,
    columns: Option<Columns>,
}

/// What a CSV file's first line says of the others.
struct Columns {
    separator: char,
    count: usize,
    /// Empty where there is no header.
    names: Vec<String>,
}

impl<'r> Lines<'r> {
    fn new(path: &'r Path, kind: LineKind) -> Self {
        Self { path, kind, reader: None, line: 0, columns: None }
    }

    fn next_frame(&mut self) -> Result<Option<Recorded>, RecordingError> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            if line.trim().is_empty() {
                continue;
            }
            let payload = match self.kind {
                LineKind::Raw => Some(Bytes::from(line)),
                LineKind::Json => Some(self.json(line)?),
                LineKind::Csv => self.csv(&line)?,
            };
            if let Some(payload) = payload {
                return Ok(Some(Recorded { name: name(self.path), payload }));
            }
        }
    }

    /// Without its end; the first one without a byte order mark.
    fn next_line(&mut self) -> Result<Option<String>, RecordingError> {
        let read = |source| RecordingError::Read { path: self.path.to_owned(), source };
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(BufReader::new(File::open(self.path).map_err(read)?)),
        };
        let mut bytes = Vec::new();
        reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).map_err(read)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        if bytes.len() as u64 == MAX_LINE_BYTES && !bytes.ends_with(b"\n") {
            return Err(self.wrong(format!("the line has over {MAX_LINE_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            self.wrong(format!("not UTF-8: {}; save the file as UTF-8", error.utf8_error()))
        })?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let text = if self.line == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        Ok(Some(text.to_owned()))
    }

    fn wrong(&self, message: String) -> RecordingError {
        RecordingError::Line { path: self.path.to_owned(), line: self.line, message }
    }

    fn json(&self, line: String) -> Result<Bytes, RecordingError> {
        match serde_json::from_str::<serde::de::IgnoredAny>(&line) {
            Ok(_) => Ok(Bytes::from(line)),
            Err(error) => {
                let hint = if matches!(line.trim(), "[" | "{") {
                    "; the file must have one frame a line"
                } else {
                    ""
                };
                let column = error.column();
                let text = error.to_string();
                // The line that serde_json counts is the first one of one.
                let text = text.split(" at line ").next().unwrap_or_default();
                Err(self.wrong(format!("not JSON at column {column}: {text}{hint}")))
            }
        }
    }

    /// The line as JSON; `None` for the header.
    fn csv(&mut self, line: &str) -> Result<Option<Bytes>, RecordingError> {
        let Some(columns) = &self.columns else {
            let separator = separator(line);
            let cells = cells(line, separator).map_err(|message| self.wrong(message))?;
            // `0017` is a name as well, but of a part and not of a column.
            let is_title = |cell: &String| {
                matches!(value(cell, separator), Value::String(_))
                    && cell.bytes().any(|b| !b.is_ascii_digit())
            };
            let is_header = cells.iter().any(is_title);
            let names = if is_header { self.header(&cells)? } else { Vec::new() };
            self.columns = Some(Columns { separator, count: cells.len(), names });
            return if is_header { Ok(None) } else { self.csv(line) };
        };
        let cells = cells(line, columns.separator).map_err(|message| self.wrong(message))?;
        if cells.len() != columns.count {
            let (have, want) = (cells.len(), columns.count);
            return Err(self.wrong(format!("{have} cells; the first line has {want}")));
        }
        let values = cells.iter().map(|cell| value(cell, columns.separator));
        let json = if columns.names.is_empty() {
            Value::Array(values.collect())
        } else {
            Value::Object(columns.names.iter().cloned().zip(values).collect::<Map<_, _>>())
        };
        Ok(Some(Bytes::from(json.to_string())))
    }

    fn header(&self, cells: &[String]) -> Result<Vec<String>, RecordingError> {
        for (at, cell) in cells.iter().enumerate() {
            if cell.is_empty() {
                return Err(self.wrong(format!("column {} has no name in the header", at + 1)));
            }
            if cells[..at].contains(cell) {
                return Err(self.wrong(format!("two columns are called {cell:?}")));
            }
        }
        Ok(cells.to_vec())
    }
}

/// The one of `,` `;` and tab that the line has most of, outside of quotes.
fn separator(line: &str) -> char {
    let count = |wanted: char| {
        let mut quoted = false;
        line.chars()
            .filter(|c| {
                quoted ^= *c == '"';
                !quoted && *c == wanted
            })
            .count()
    };
    // The last of equals wins: a line of one column has a comma's rules.
    [';', '\t', ','].into_iter().max_by_key(|c| count(*c)).unwrap_or(',')
}

/// A line's cells, trimmed, quotes taken off (RFC 4180, but one line a record).
fn cells(line: &str, separator: char) -> Result<Vec<String>, String> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.trim_start_matches(' ');
        let after = if let Some(mut quoted) = start.strip_prefix('"') {
            let mut cell = String::new();
            loop {
                let Some(quote) = quoted.find('"') else {
                    return Err(format!(
                        "the quote that opens cell {} does not close on its line",
                        cells.len() + 1
                    ));
                };
                cell.push_str(&quoted[..quote]);
                quoted = &quoted[quote + 1..];
                match quoted.strip_prefix('"') {
                    Some(more) => {
                        cell.push('"');
                        quoted = more;
                    }
                    None => break,
                }
            }
            cells.push(cell);
            quoted.trim_start_matches(' ')
        } else {
            let end = start.find(separator).unwrap_or(start.len());
            cells.push(start[..end].trim().to_owned());
            &start[end..]
        };
        if after.is_empty() {
            return Ok(cells);
        }
        rest = after
            .strip_prefix(separator)
            .ok_or_else(|| format!("text behind the closing quote of cell {}", cells.len()))?;
    }
}

/// Numbers as numbers, blanks as null, all else as text. Behind `;` a comma is a decimal comma.
fn value(cell: &str, separator: char) -> Value {
    if cell.is_empty() || cell.eq_ignore_ascii_case("nan") || cell.eq_ignore_ascii_case("null") {
        return Value::Null;
    }
    let number = |text: &str| -> Option<Value> {
        // `007` is a name: as the number 7 it would meet another part's.
        let digits = text.trim_start_matches(['+', '-']);
        if digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit() {
            return None;
        }
        // Whole numbers stay whole: an id of 17 digits must not be rounded, and one that no integer holds is a name.
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            let small = text.parse::<i64>().map(Value::from);
            return small.or_else(|_| text.parse::<u64>().map(Value::from)).ok();
        }
        // `inf` and names that Rust takes for numbers are text here; JSON knows neither.
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        serde_json::Number::from_f64(text.parse().ok().filter(|_| plain)?).map(Value::Number)
    };
    let decimal_comma = || number(&cell.replacen(',', ".", 1)).filter(|_| separator == ';');
    number(cell).or_else(decimal_comma).unwrap_or_else(|| Value::String(cell.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn played(file: &str, content: &[u8], raw: bool) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        fs::write(&path, content).unwrap();
        let recording = Recording::open(&path, raw).map_err(|error| error.to_string())?;
        recording.count(&|_| None).map_err(|error| error.to_string())?;
        let text = |frame: Result<Recorded, _>| String::from_utf8(frame.unwrap().payload.to_vec()).unwrap();
        Ok(recording.frames().map(text).collect())
    }

    #[test]
    fn a_csv_with_a_header_becomes_objects_with_numbers_nulls_and_text() {
        let text = "\u{feff}id,temp,\"note, long\",n\r\n12345678901234567, 1.5 ,\"a \"\"b\"\"\",\r\n\r\n2,-3e2,x,NaN";
        assert_eq!(
            played("a.csv", text.as_bytes(), false).unwrap(),
            [
                r#"{"id":12345678901234567,"n":null,"note, long":"a \"b\"","temp":1.5}"#,
                r#"{"id":2,"n":null,"note, long":"x","temp":-300.0}"#
            ]
        );
    }

    #[test]
    fn a_csv_without_a_header_becomes_arrays() {
        assert_eq!(played("a.csv", b"1,2.5\n3,4\n", false).unwrap(), ["[1,2.5]", "[3,4]"]);
    }

    #[test]
    fn serial_numbers_keep_every_digit() {
        let cells = "a,b,c,d,e\n18446744073709551615,18446744073709551616,-9223372036854775809,0017,+49";
        let sent = r#"{"a":18446744073709551615,"b":"18446744073709551616","c":"-9223372036854775809","d":"0017","e":49}"#;
        assert_eq!(played("a.csv", cells.as_bytes(), false).unwrap(), [sent]);
        // They are no header either: the first part would be missing.
        let parts = played("a.csv", b"0017,1.5\n0018,2\n", false).unwrap();
        assert_eq!(parts, [r#"["0017",1.5]"#, r#"["0018",2]"#]);
    }

    #[test]
    fn a_semicolon_brings_the_decimal_comma() {
        assert_eq!(played("a.csv", b"t;p\n1,5;2\n", false).unwrap(), [r#"{"p":2,"t":1.5}"#]);
        assert_eq!(played("a.tsv", b"t\tp\n1,5\t2\n", false).unwrap(), [r#"{"p":2,"t":"1,5"}"#]);
    }

    #[test]
    fn raw_lines_go_out_as_they_stand() {
        assert_eq!(played("a.csv", b"t,p\n1,  5\n", true).unwrap(), ["t,p", "1,  5"]);
    }

    #[test]
    fn json_lines_go_out_unchanged() {
        let text = b"{\"b\":1.50, \"a\": 2}\n\n[1]\n";
        assert_eq!(played("a.jsonl", text, false).unwrap(), ["{\"b\":1.50, \"a\": 2}", "[1]"]);
    }

    #[test]
    fn the_first_mistake_is_named_with_its_line() {
        for (file, content, why) in [
            ("a.jsonl", &b"{}\n{\"a\":}\n"[..], "a.jsonl:2: not JSON at column 6: expected value"),
            ("a.json", b"[\n1\n]", "one frame a line"),
            ("a.csv", b"a,b\n1,2\n1,2,3\n", "a.csv:3: 3 cells; the first line has 2"),
            ("a.csv", b"a,a\n1,2\n", "a.csv:1: two columns"),
            ("a.csv", b"a,\n1,2\n", "a.csv:1: column 2 has no name"),
            ("a.csv", b"a,b\n\"1,2\n", "a.csv:2: the quote"),
            ("a.csv", b"a,b\n\"1\"x,2\n", "a.csv:2: text behind"),
            ("a.csv", b"a,b\n\xff,2\n", "a.csv:2: not UTF-8"),
            ("a.csv", b"a,b\n", "no frames"),
            ("a.jsonl", b"", "no frames"),
            ("a.txt", b"1", "no recording"),
        ] {
            let message = played(file, content, false).unwrap_err();
            assert!(message.contains(why), "{file}: {message}");
        }
    }

    #[test]
    fn pictures_come_sorted_from_all_folders_below_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        for file in ["b/2.PNG", "b/1.jpg", "a.jpeg", "notes.txt", "._a.jpg"] {
            fs::write(folder.path().join(file), file).unwrap();
        }
        let recording = Recording::open(folder.path(), false).unwrap();
        assert_eq!(recording.count(&|_| None).unwrap(), 3);
        let frames: Vec<_> = recording.frames().map(Result::unwrap).collect();
        let names: Vec<_> = frames.iter().map(|frame| frame.name.as_str()).collect();
        assert_eq!(names, ["a.jpeg", "1.jpg", "2.PNG"]);
        assert_eq!(&frames[2].payload[..], b"b/2.PNG");
        let error = recording.count(&|name| (name == "1.jpg").then(|| "no".into())).unwrap_err();
        assert!(error.to_string().contains("1.jpg"), "{error}");
        assert!(matches!(
            Recording::open(&folder.path().join("none"), false),
            Err(error) if error.is_io()
        ));
    }

    proptest! {
        #[test]
        fn no_line_breaks_the_reader(content in prop::collection::vec(any::<u8>(), 0..200)) {
            for file in ["a.csv", "a.jsonl"] {
                // Frames or a message: nothing else may happen.
                if let Ok(frames) = played(file, &content, false) {
                    for frame in frames {
                        prop_assert!(serde_json::from_str::<Value>(&frame).is_ok(), "{frame}");
                    }
                }
            }
        }

        #[test]
        fn quoted_cells_come_back(cells in prop::collection::vec("[ -~äß]{0,8}", 1..5)) {
            let line = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect::<Vec<_>>();
            prop_assert_eq!(super::cells(&line.join(","), ',').unwrap(), cells);
        }
    }
}
