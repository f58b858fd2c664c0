//! Lines of numbers, with or without a header, to rows.
//!
//! The accepted forms are in `FORMAT.md`. Promise: a cell lands in the column that its header or its
//! place says, or the frame is refused with its line.
//! Not here: quoted line breaks; a number has none.

use std::borrow::Cow;

use super::error::shortened;
use super::{Columns, DecodeError, Extras, time, unknown_field};
use crate::base::{Rows, UnixMicros};

/// What a header's cell, or a place in the line, stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Column(usize),
    Id,
    Time,
    Skip,
}

/// Reads a block of lines. `separator` as configured; `None`: found out from the first line.
pub(super) fn decode(
    payload: &[u8],
    columns: &Columns,
    extras: &Extras,
    separator: Option<char>,
) -> Result<(Rows, Option<String>, Option<UnixMicros>), DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|error| malformed(error.to_string()))?;
    let mut lines = numbered_lines(text).peekable();
    let Some(&(first_number, first)) = lines.peek() else {
        return Err(malformed("it holds no line"));
    };
    let separator = separator.unwrap_or_else(|| found_out(first));
    let mut cells = Vec::new();
    split(first, separator, &mut cells).map_err(|why| in_line(first_number, &why))?;

    let header = header(&cells, columns, extras, separator)?;
    if header.is_some() {
        lines.next();
    }
    let places: Vec<Cell> = header.unwrap_or_else(|| (0..columns.len()).map(Cell::Column).collect());
    let mut values = Vec::new();
    let (mut id, mut own_time): (Option<String>, _) = (None, None);
    let mut row = 0;
    for (number, line) in lines {
        split(line, separator, &mut cells).map_err(|why| in_line(number, &why))?;
        if cells.len() != places.len() || columns.len() == 0 {
            let what = format!("line {number} holds {} cells, {} were expected", cells.len(), places.len());
            return Err(columns.wrong_length(what));
        }
        row += 1;
        let start = values.len();
        values.resize(start + columns.len(), f64::NAN);
        for (cell, place) in cells.iter().zip(&places) {
            match *place {
                Cell::Skip => {}
                // One frame, one id: a second one would be lost, and with it the answer that it names.
                Cell::Id => match &id {
                    _ if cell.is_empty() => {}
                    Some(id) if id != cell.as_ref() => {
                        let (seen, id) = (shortened(cell), shortened(id));
                        let rule =
                            "rows with ids of their own are frames of their own: send each as a message";
                        return Err(in_line(number, &format!("its id is {seen:?} after {id:?}; {rule}")));
                    }
                    _ => id = Some(cell.clone().into_owned()),
                },
                Cell::Time => own_time = moment(cell).map_err(|why| in_line(number, &why))?,
                Cell::Column(column) => {
                    let found = match value(cell, separator) {
                        Some(value) if value.is_nan() => {
                            columns.missing(column, "blank", Some(row)).map(Ok)?
                        }
                        Some(value) => columns.number(column, value).or_else(|_| columns.word(column, cell)),
                        None => columns.word(column, cell),
                    };
                    values[start + column] = found.map_err(|expected| {
                        let (name, seen) = (&columns.names[column], shortened(cell));
                        in_line(number, &format!("`{name}` is {seen:?}; {expected} was expected"))
                    })?;
                }
            }
        }
    }
    if row == 0 {
        return Err(columns.wrong_length("there is a header and no row".into()));
    }
    Ok((Rows { columns: columns.len(), values }, id, own_time))
}

/// The id of a block whatever else is wrong with it: the one that all of its rows give.
pub(super) fn own_id(payload: &[u8], field: &str, separator: Option<char>) -> Option<String> {
    let mut lines = numbered_lines(std::str::from_utf8(payload).ok()?);
    let (_, first) = lines.next()?;
    let separator = separator.unwrap_or_else(|| found_out(first));
    let mut cells = Vec::new();
    split(first, separator, &mut cells).ok()?;
    let (place, width) = (cells.iter().position(|cell| cell == field)?, cells.len());
    let mut id: Option<String> = None;
    for (_, line) in lines {
        // In a line that is too short or too long nobody knows which cell is which.
        if split(line, separator, &mut cells).is_err() || cells.len() != width || cells[place].is_empty() {
            continue;
        }
        if id.get_or_insert_with(|| cells[place].clone().into_owned()) != cells[place].as_ref() {
            return None;
        }
    }
    id
}

/// Lines that are not blank, with their 1-based numbers.
fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.strip_prefix('\u{feff}')
        .unwrap_or(text)
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        // With tabs a line of blank cells is no blank line, but it is if nothing else is on it.
        .filter(|(_, line)| !line.trim_matches(' ').is_empty())
}

fn malformed(what: impl Into<String>) -> DecodeError {
    DecodeError::Malformed { format: "CSV", what: what.into() }
}

fn in_line(number: usize, what: &str) -> DecodeError {
    malformed(format!("line {number}: {what}"))
}

/// The separator of a line that nobody described: the first of `;`, tab, `,` that stands outside of
/// quotes, else blanks. `;` goes first, because beside it a comma is a decimal comma.
fn found_out(line: &str) -> char {
    let unquoted = || line.split('"').step_by(2);
    [';', '\t', ','].into_iter().find(|c| unquoted().any(|part| part.contains(*c))).unwrap_or(' ')
}

/// Cells without their quotes and the blanks around them.
fn split<'l>(line: &'l str, separator: char, cells: &mut Vec<Cow<'l, str>>) -> Result<(), String> {
    cells.clear();
    let blanks = separator == ' ';
    let mut rest = if blanks { line.trim() } else { line };
    loop {
        let start = trim_start(rest, separator);
        if let Some(quoted) = start.strip_prefix('"') {
            let (cell, behind) = unquote(quoted).ok_or("a quoted cell does not end")?;
            cells.push(cell);
            rest = trim_start(behind, separator);
            if rest.is_empty() {
                return Ok(());
            }
            rest = match rest.strip_prefix(separator) {
                Some(next) => next,
                None if blanks && rest.len() < behind.len() => rest,
                None => return Err("characters follow a quoted cell".into()),
            };
        } else {
            let end = if blanks { start.find(char::is_whitespace) } else { start.find(separator) };
            let Some(end) = end else {
                cells.push(start.trim_end().into());
                return Ok(());
            };
            cells.push(start[..end].trim_end().into());
            let behind = &start[end..];
            rest =
                if blanks { behind.trim_start() } else { behind.strip_prefix(separator).unwrap_or(behind) };
        }
    }
}

fn trim_start(text: &str, separator: char) -> &str {
    text.trim_start_matches(|c: char| c.is_whitespace() && (c != separator || separator == ' '))
}

/// The cell behind an opening quote, and what follows its closing one; `""` is a quote (RFC 4180).
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut from = 0;
    loop {
        let end = from + text[from..].find('"')?;
        match text[end + 1..].strip_prefix('"') {
            Some(_) => from = end + 2,
            None if from == 0 => return Some((text[..end].trim().into(), &text[end + 1..])),
            None => {
                return Some((text[..end].replace("\"\"", "\"").trim().to_owned().into(), &text[end + 1..]));
            }
        }
    }
}

/// A cell's number, NaN where it is blank; `None`: it is no number.
fn value(cell: &str, separator: char) -> Option<f64> {
    if cell.is_empty() {
        return Some(f64::NAN);
    }
    let number = match cell.parse::<f64>() {
        Ok(number) => number,
        Err(_) if separator == ';' && cell.bytes().filter(|byte| *byte == b',').count() == 1 => {
            cell.replace(',', ".").parse().ok()?
        }
        Err(_) => return None,
    };
    // `inf` is a value, if a bad one; digits that overflow are none.
    (number.is_finite() || !cell.bytes().any(|byte| byte.is_ascii_digit())).then_some(number)
}

fn moment(cell: &str) -> Result<Option<UnixMicros>, String> {
    match cell.parse::<f64>() {
        _ if cell.is_empty() => Ok(None),
        Ok(seconds) => time::seconds(seconds).map(Some),
        Err(_) => time::rfc3339(cell).map(Some),
    }
}

/// What the first line's cells name; `None` when it is a line of values.
fn header(
    cells: &[Cow<'_, str>],
    columns: &Columns,
    extras: &Extras,
    separator: char,
) -> Result<Option<Vec<Cell>>, DecodeError> {
    let is_header =
        cells.iter().any(|cell| value(cell, separator).is_none() && columns.index(cell).is_some());
    if !is_header {
        return Ok(None);
    }
    let mut places = Vec::with_capacity(cells.len());
    let mut unknown = None;
    for cell in cells {
        let place = match columns.index(cell) {
            Some(column) => Cell::Column(column),
            None if extras.id_field.as_deref() == Some(cell) => Cell::Id,
            None if extras.time_field.as_deref() == Some(cell) => Cell::Time,
            None => {
                unknown.get_or_insert(cell.as_ref());
                Cell::Skip
            }
        };
        if place != Cell::Skip && places.contains(&place) {
            return Err(malformed(format!("the header names `{}` twice", shortened(cell))));
        }
        places.push(place);
    }
    let absent = |column: &usize| !places.contains(&Cell::Column(*column));
    if let (Some(field), true) = (unknown, extras.refuse_unknown) {
        let names = (0..columns.len()).filter(absent).map(|column| columns.names[column].as_str());
        return Err(unknown_field(field, names));
    }
    for column in (0..columns.len()).filter(absent) {
        columns.missing(column, "missing", None)?;
    }
    Ok(Some(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<f64>, String> {
        let (rows, ..) = decode(text.as_bytes(), &Columns::named(&["a", "b", "c?"]), &Extras::strict(), None)
            .map_err(|error| error.to_string())?;
        // A missing value prints as itself, NaN would not equal itself.
        Ok(rows.values.iter().map(|x| if x.is_nan() { -999.0 } else { *x }).collect())
    }

    #[test]
    fn separators_are_found_out_from_the_first_line() {
        for text in ["1,2,3\n", "1;2;3", "1\t2\t3\r\n", " 1  2 3 ", "\u{feff}1, 2 ,3\n\n", "1 \t2\t 3"] {
            assert_eq!(read(text), Ok(vec![1.0, 2.0, 3.0]), "{text:?}");
        }
        assert_eq!(read("1,5;2;,25"), Ok(vec![1.5, 2.0, 0.25]));
        assert_eq!(read("\"1,5\";\"2\";3"), Ok(vec![1.5, 2.0, 3.0]));
    }

    #[test]
    fn a_header_orders_the_cells() {
        assert_eq!(read("c,a,b\n3,1,2\n,4,5\n"), Ok(vec![1.0, 2.0, 3.0, 4.0, 5.0, -999.0]));
        assert_eq!(read("\"b\" \"a\"\n2 1"), Ok(vec![1.0, 2.0, -999.0]));
        assert!(read("a,b,a\n1,2,3").unwrap_err().contains("names `a` twice"));
        assert!(read("a,b,c\n").unwrap_err().contains("a header and no row"));
        assert!(read("a,bb,c\n1,2,3").unwrap_err().contains("`b` is missing: renamed?"));
    }

    #[test]
    fn blank_and_nan_cells_are_missing_ones() {
        assert_eq!(read("1,2,\n1,2,NaN"), Ok(vec![1.0, 2.0, -999.0, 1.0, 2.0, -999.0]));
        assert_eq!(read("1\t2\t"), Ok(vec![1.0, 2.0, -999.0]));
        assert!(read("1,,3").unwrap_err().contains("feature `b` is blank in row 1"));
    }

    #[test]
    fn a_bad_cell_or_line_is_named() {
        assert!(read("1,2,3\n4,5").unwrap_err().contains("line 2 holds 2 cells, 3 were expected"));
        assert!(read("1,2,3\n4,x,6").unwrap_err().contains("line 2: `b` is \"x\"; a number was expected"));
        assert!(read("1,1e999,3").unwrap_err().contains("a number was expected"));
        assert!(read("1,\"2,3").unwrap_err().contains("a quoted cell does not end"));
        assert!(read("1,\"2\"3,4").unwrap_err().contains("characters follow a quoted cell"));
        assert!(read("\n \n").unwrap_err().contains("no line"));
        assert_eq!(read("1,2,inf"), Ok(vec![1.0, 2.0, f64::INFINITY]));
    }

    #[test]
    fn the_id_is_one_for_all_rows_and_the_time_is_the_newest() {
        let extras =
            Extras { id_field: Some("part".into()), time_field: Some("t".into()), refuse_unknown: true };
        let text = "part,a,t\nA2,1,10\nA2,2,1970-01-01T00:00:20Z\n";
        let (rows, id, time) = decode(text.as_bytes(), &Columns::named(&["a"]), &extras, None).unwrap();
        assert_eq!(rows.values, [1.0, 2.0]);
        assert_eq!((id.as_deref(), time), (Some("A2"), Some(UnixMicros(20_000_000))));
        let two = decode(b"part,a,t\nA1,1,10\nA2,2,20\n", &Columns::named(&["a"]), &extras, None);
        let said = two.unwrap_err().to_string();
        assert!(said.contains("line 3") && said.contains("A1") && said.contains("A2"), "{said}");
    }
}
