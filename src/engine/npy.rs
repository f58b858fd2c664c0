//! NumPy's `.npy` files to tensors and back.
//!
//! Reads versions 1 to 3, either byte order, C and Fortran order, and every type of
//! [`Data`], strings included (`<U…` and, as UTF-8, `|S…`). Writes version 1,
//! little-endian, C order. Promise: nothing is allocated that the file's own size does not cover.
//! Format: NumPy enhancement proposal 1, `numpy.lib.format`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::ModelError;
use super::load::MAX_FILE_BYTES;
use crate::base::{Data, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";
/// A string takes more memory than its bytes in the file, so strings have a cap of their own.
const MAX_STRINGS: usize = 1 << 22;
/// NumPy itself never has more than 64 axes.
const MAX_AXES: usize = 64;

/// Why bytes are not an array that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// Another kind of file.
    #[error("not a .npy file: it does not begin with \\x93NUMPY; save it with numpy.save")]
    Magic,
    /// A version from the future.
    #[error("version {major} of the .npy format is not known; versions 1 to 3 are")]
    Version {
        /// As in the file.
        major: u8,
    },
    /// The header breaks off or does not say what it must.
    #[error("the .npy header is broken: {why}")]
    Header {
        /// What is missing.
        why: String,
    },
    /// An element type that a model cannot take.
    #[error(
        "element type {descr} is not supported; convert the array first, say with x.astype(numpy.float32) \
         (or x.astype(str) for strings)"
    )]
    ElementType {
        /// As in the header.
        descr: String,
    },
    /// Header and data disagree.
    #[error("the header says shape {shape:?} of {descr}, which is {expected} bytes; {seen} bytes follow it")]
    Length {
        /// As in the header.
        shape: Vec<usize>,
        /// As in the header.
        descr: String,
        /// Bytes that shape and type make; words where that is beyond counting.
        expected: String,
        /// Bytes behind the header.
        seen: usize,
    },
    /// A string that is not text.
    #[error("string {index} of the array is not valid text")]
    Text {
        /// Which element.
        index: usize,
    },
}

/// Reads one file.
///
/// # Errors
/// It cannot be read ([`ModelError::Read`]), is too large, or is no array ([`ModelError::Npy`]).
pub fn read(path: &Path) -> Result<Tensor, ModelError> {
    let unreadable = |source: io::Error| ModelError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(ModelError::TooLarge { path: path.to_owned(), bytes, max_bytes: MAX_FILE_BYTES });
    }
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut content).map_err(unreadable)?;
    parse(&content).map_err(|source| ModelError::Npy { path: path.to_owned(), source })
}

/// Writes one file, over an older one.
///
/// # Errors
/// Whatever the system says.
pub fn write(path: &Path, tensor: &Tensor) -> io::Result<()> {
    std::fs::write(path, to_bytes(tensor))
}

/// The array in the bytes of a `.npy` file.
///
/// # Errors
/// See [`NpyError`].
pub fn parse(bytes: &[u8]) -> Result<Tensor, NpyError> {
    let broken = |why: &str| NpyError::Header { why: why.to_owned() };
    let rest = bytes.strip_prefix(MAGIC).ok_or(NpyError::Magic)?;
    let (&[major, _minor], rest) = rest.split_first_chunk().ok_or_else(|| broken("it breaks off"))?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_le_bytes(*length)), rest)),
        2 | 3 => rest.split_first_chunk().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
        _ => return Err(NpyError::Version { major }),
    }
    .ok_or_else(|| broken("it breaks off"))?;
    let (header, data) = rest.split_at_checked(length).ok_or_else(|| broken("it breaks off"))?;
    let header = Header::parse(&String::from_utf8_lossy(header))?;
    header.tensor(data)
}

/// What stands in the header's dictionary.
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Result<Self, NpyError> {
        let broken = |why: &str| NpyError::Header { why: format!("{why} in {:?}", text.trim_end()) };
        let value = |key: &str| {
            let quoted = [format!("'{key}':"), format!("\"{key}\":")];
            let at = quoted.iter().find_map(|quoted| text.find(quoted).map(|at| at + quoted.len()));
            at.map(|at| text[at..].trim_start()).ok_or_else(|| broken(&format!("no {key}")))
        };
        let descr = value("descr")?;
        let quote = descr.chars().next().filter(|quote| matches!(quote, '\'' | '"'));
        let descr = match quote {
            Some(quote) => descr[1..].split(quote).next().unwrap_or("").to_owned(),
            // A list: named fields.
            None => return Err(NpyError::ElementType { descr: "with named fields".to_owned() }),
        };
        let fortran_order = match value("fortran_order")? {
            order if order.starts_with("True") => true,
            order if order.starts_with("False") => false,
            _ => return Err(broken("fortran_order is neither True nor False")),
        };
        let inner = value("shape")?.strip_prefix('(').and_then(|shape| shape.split_once(')'));
        let (inner, _) = inner.ok_or_else(|| broken("shape is no tuple"))?;
        let lengths = inner.split(',').map(|length| length.trim().trim_end_matches('L'));
        let shape: Vec<usize> = lengths
            .filter(|length| !length.is_empty())
            .map(|length| length.parse().map_err(|_| broken("shape holds no whole numbers")))
            .collect::<Result<_, _>>()?;
        if shape.len() > MAX_AXES {
            return Err(broken("more axes than NumPy has"));
        }
        Ok(Self { descr, fortran_order, shape })
    }

    fn tensor(self, data: &[u8]) -> Result<Tensor, NpyError> {
        let unsupported = || NpyError::ElementType { descr: self.descr.clone() };
        let (order, kind) = self.descr.split_at_checked(1).ok_or_else(unsupported)?;
        let (kind, size) = kind.split_at_checked(1).ok_or_else(unsupported)?;
        let size: usize = size.parse().map_err(|_| unsupported())?;
        let big = match order {
            "<" | "|" => false,
            ">" => true,
            "=" => cfg!(target_endian = "big"),
            _ => return Err(unsupported()),
        };
        let element_bytes = if kind == "U" { size.checked_mul(4).ok_or_else(unsupported)? } else { size };
        let count = self.shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
        let expected = count.and_then(|count| count.checked_mul(element_bytes));
        let is_text = matches!(kind, "U" | "S");
        let too_many_strings = is_text && count.is_some_and(|count| count > MAX_STRINGS);
        if expected != Some(data.len()) || too_many_strings {
            return Err(NpyError::Length {
                expected: match expected {
                    Some(_) if too_many_strings => {
                        format!("more than the {MAX_STRINGS} strings that are read")
                    }
                    Some(expected) => expected.to_string(),
                    None => "more than can be counted".to_owned(),
                },
                seen: data.len(),
                shape: self.shape,
                descr: self.descr,
            });
        }
        macro_rules! numbers {
            ($type:ty, $variant:ident) => {
                Data::$variant(self.ordered(data, size_of::<$type>(), |bytes| {
                    let mut exact = [0; size_of::<$type>()];
                    exact.copy_from_slice(bytes);
                    if big { <$type>::from_be_bytes(exact) } else { <$type>::from_le_bytes(exact) }
                }))
            };
        }
        let data = match (kind, size) {
            ("f", 2) => numbers!(u16, F16),
            ("f", 4) => numbers!(f32, F32),
            ("f", 8) => numbers!(f64, F64),
            ("i", 1) => numbers!(i8, I8),
            ("i", 2) => numbers!(i16, I16),
            ("i", 4) => numbers!(i32, I32),
            ("i", 8) => numbers!(i64, I64),
            ("u", 1) => numbers!(u8, U8),
            ("u", 2) => numbers!(u16, U16),
            ("u", 4) => numbers!(u32, U32),
            ("u", 8) => numbers!(u64, U64),
            ("b", 1) => Data::Bool(self.ordered(data, 1, |byte| byte[0] != 0)),
            ("U" | "S", _) if size == 0 => Data::Text(vec![String::new(); count.unwrap_or(0)]),
            ("U", _) => texts(self.ordered(data, element_bytes, |bytes| utf32(bytes, big)))?,
            ("S", _) => texts(self.ordered(data, element_bytes, |bytes| {
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                String::from_utf8(bytes[..end].to_vec()).ok()
            }))?,
            _ => return Err(unsupported()),
        };
        Ok(Tensor { shape: self.shape, data })
    }

    /// The elements in C order.
    fn ordered<T>(&self, data: &[u8], element_bytes: usize, read: impl Fn(&[u8]) -> T) -> Vec<T> {
        if !self.fortran_order || self.shape.len() < 2 {
            return data.chunks_exact(element_bytes).map(read).collect();
        }
        let count = data.len() / element_bytes;
        let mut index = vec![0; self.shape.len()];
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            // In Fortran order the first axis is the one whose neighbours lie side by side.
            let at = index.iter().zip(&self.shape).rev().fold(0, |at, (i, length)| at * length + i);
            elements.push(read(&data[at * element_bytes..][..element_bytes]));
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        elements
    }
}

fn utf32(bytes: &[u8], big: bool) -> Option<String> {
    let codes = bytes.chunks_exact(4).map(|code| {
        let mut exact = [0; 4];
        exact.copy_from_slice(code);
        if big { u32::from_be_bytes(exact) } else { u32::from_le_bytes(exact) }
    });
    let codes: Vec<u32> = codes.collect();
    let end = codes.iter().rposition(|code| *code != 0).map_or(0, |last| last + 1);
    codes[..end].iter().map(|code| char::from_u32(*code)).collect()
}

fn texts(read: Vec<Option<String>>) -> Result<Data, NpyError> {
    let texts = read.into_iter().enumerate().map(|(index, text)| text.ok_or(NpyError::Text { index }));
    Ok(Data::Text(texts.collect::<Result<_, _>>()?))
}

/// The bytes of a `.npy` file with this tensor.
pub fn to_bytes(tensor: &Tensor) -> Vec<u8> {
    let longest = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
    let descr = match &tensor.data {
        Data::F32(_) => "<f4".to_owned(),
        Data::F64(_) => "<f8".to_owned(),
        Data::F16(_) => "<f2".to_owned(),
        Data::I64(_) => "<i8".to_owned(),
        Data::I32(_) => "<i4".to_owned(),
        Data::I16(_) => "<i2".to_owned(),
        Data::I8(_) => "|i1".to_owned(),
        Data::U64(_) => "<u8".to_owned(),
        Data::U32(_) => "<u4".to_owned(),
        Data::U16(_) => "<u2".to_owned(),
        Data::U8(_) => "|u1".to_owned(),
        Data::Bool(_) => "|b1".to_owned(),
        Data::Text(texts) => format!("<U{}", longest(texts)),
    };
    let shape: String = tensor.shape.iter().map(|length| format!("{length},")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    // 10 bytes before the header, one line feed behind it: data begins at a multiple of 64.
    let padding = (64 - (header.len() + 11) % 64) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');

    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    // 64 axes of 20 digits are far below 65 535 bytes.
    bytes.extend(u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(header.as_bytes());
    macro_rules! numbers {
        ($values:expr) => {
            bytes.extend($values.iter().flat_map(|value| value.to_le_bytes()))
        };
    }
    match &tensor.data {
        Data::F32(values) => numbers!(values),
        Data::F64(values) => numbers!(values),
        Data::F16(values) | Data::U16(values) => numbers!(values),
        Data::I64(values) => numbers!(values),
        Data::I32(values) => numbers!(values),
        Data::I16(values) => numbers!(values),
        Data::I8(values) => numbers!(values),
        Data::U64(values) => numbers!(values),
        Data::U32(values) => numbers!(values),
        Data::U8(values) => bytes.extend(values),
        Data::Bool(values) => bytes.extend(values.iter().map(|value| u8::from(*value))),
        Data::Text(values) => {
            let width = longest(values);
            for text in values {
                let codes = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(width);
                bytes.extend(codes.flat_map(u32::to_le_bytes));
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this dictionary and these bytes.
    fn file(major: u8, dictionary: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([major, 0]);
        let length = dictionary.len() as u32;
        bytes.extend(&length.to_le_bytes()[..if major == 1 { 2 } else { 4 }]);
        bytes.extend(dictionary.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn header(descr: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
    }

    #[test]
    fn every_element_type_comes_back_as_it_was_written() {
        let all = [
            Data::F32(vec![1.5, f32::NEG_INFINITY]),
            Data::F64(vec![1.5, -0.0]),
            Data::F16(vec![0x3c00, 1]),
            Data::I64(vec![i64::MIN, 1]),
            Data::I32(vec![i32::MIN, 1]),
            Data::I16(vec![i16::MIN, 1]),
            Data::I8(vec![i8::MIN, 1]),
            Data::U64(vec![u64::MAX, 1]),
            Data::U32(vec![u32::MAX, 1]),
            Data::U16(vec![u16::MAX, 1]),
            Data::U8(vec![u8::MAX, 1]),
            Data::Bool(vec![true, false]),
            Data::Text(vec!["Lötstelle".into(), String::new()]),
        ];
        for data in all {
            let tensor = Tensor { shape: vec![2, 1], data };
            assert_eq!(parse(&to_bytes(&tensor)).unwrap(), tensor);
        }
    }

    #[test]
    fn a_scalar_and_an_empty_array_keep_their_shape() {
        for shape in [vec![], vec![0], vec![3, 0, 2]] {
            let count = shape.iter().product();
            let tensor = Tensor { shape, data: Data::F32(vec![0.5; count]) };
            let bytes = to_bytes(&tensor);
            assert_eq!((bytes.len() - 4 * count) % 64, 0);
            assert_eq!(parse(&bytes).unwrap(), tensor);
        }
    }

    #[test]
    fn all_three_versions_and_both_byte_orders_are_read() {
        for major in [1, 2, 3] {
            let big = parse(&file(major, &header(">i2", "(2,)"), &[1, 0, 0, 7])).unwrap();
            assert_eq!(big, Tensor { shape: vec![2], data: Data::I16(vec![256, 7]) });
        }
        assert_eq!(parse(&file(4, "", &[])), Err(NpyError::Version { major: 4 }));
    }

    #[test]
    fn fortran_order_is_turned_into_c_order() {
        // numpy.asfortranarray([[1, 2, 3], [4, 5, 6]])
        let dictionary = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }";
        let tensor = parse(&file(1, dictionary, &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(tensor, Tensor { shape: vec![2, 3], data: Data::U8(vec![1, 2, 3, 4, 5, 6]) });
    }

    #[test]
    fn byte_strings_are_read_as_utf_8() {
        let tensor = parse(&file(1, &header("|S3", "(2,)"), b"ok\0bad")).unwrap();
        assert_eq!(tensor.data, Data::Text(vec!["ok".into(), "bad".into()]));
        assert_eq!(parse(&file(1, &header("|S1", "(1,)"), b"\xff")), Err(NpyError::Text { index: 0 }));
    }

    #[test]
    fn an_absurd_shape_is_refused_before_anything_is_allocated() {
        let absurd = ["(1000000000000,)", "(99999999999, 99999999999)", "(18446744073709551615, 2)"];
        for (descr, shape) in ["<f4", "<U0", "|b1"].iter().flat_map(|d| absurd.map(|s| (d, s))) {
            let error = parse(&file(1, &header(descr, shape), &[0; 4])).unwrap_err();
            assert!(matches!(error, NpyError::Length { seen: 4, .. }), "{descr} {shape}: {error}");
        }
    }

    #[test]
    fn what_is_no_array_of_numbers_is_refused_in_words() {
        assert_eq!(parse(b"PK\x03\x04"), Err(NpyError::Magic));
        assert_eq!(parse(b""), Err(NpyError::Magic));
        for descr in ["<c8", "|O", "<M8[ns]", "<f16", "?", ""] {
            let error = parse(&file(1, &header(descr, "(0,)"), &[])).unwrap_err();
            assert!(matches!(error, NpyError::ElementType { .. }), "{descr}: {error}");
        }
        let fields = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0,), }";
        assert!(matches!(parse(&file(1, fields, &[])), Err(NpyError::ElementType { .. })));
    }

    #[test]
    fn no_cut_of_a_good_file_is_read_as_something_else() {
        let whole = to_bytes(&Tensor::f32(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]));
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "cut at {length}");
        }
    }
}
