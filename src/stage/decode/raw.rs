//! Bare little-endian numbers, one row after the other.
//!
//! Not here: judging infinity (`featurize`).

use super::{Columns, DecodeError};
use crate::base::Rows;

/// 32-bit floats; NaN is a missing value.
pub(super) fn f32le(payload: &[u8], columns: &Columns) -> Result<Rows, DecodeError> {
    let mut rows = decode::<4>(payload, columns, |bytes| f64::from(f32::from_le_bytes(bytes)))?;
    let count = columns.len();
    for (index, value) in rows.values.iter_mut().enumerate() {
        if value.is_nan() {
            *value = columns.missing(index % count, "NaN", Some(index / count + 1))?;
        }
    }
    Ok(rows)
}

/// 16-bit signed integers.
pub(super) fn i16le(payload: &[u8], columns: &Columns) -> Result<Rows, DecodeError> {
    decode::<2>(payload, columns, |bytes| f64::from(i16::from_le_bytes(bytes)))
}

fn decode<const SIZE: usize>(
    payload: &[u8],
    columns: &Columns,
    number: impl Fn([u8; SIZE]) -> f64,
) -> Result<Rows, DecodeError> {
    let row_bytes = columns.len() * SIZE;
    if row_bytes == 0 || !payload.len().is_multiple_of(row_bytes) {
        return Err(DecodeError::WrongBytes { seen: payload.len(), columns: columns.len(), size: SIZE });
    }
    let (numbers, _) = payload.as_chunks::<SIZE>();
    Ok(Rows { columns: columns.len(), values: numbers.iter().map(|bytes| number(*bytes)).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_in_order_and_nan_needs_permission() {
        let columns = Columns::named(&["a", "b?"]);
        let bytes: Vec<u8> = [1.5f32, f32::NAN, -2.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let rows = f32le(&bytes, &columns).unwrap();
        assert_eq!((rows.values[0], rows.values[2], rows.values[3]), (1.5, -2.0, 4.0));
        assert!(rows.values[1].is_nan());
        let refused = f32le(&f32::NAN.to_le_bytes(), &Columns::named(&["a"])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "feature `a` is NaN in row 1; send it, or give the card an `impute` for it"
        );
        let rows = i16le(&[0xff, 0xff, 0x00, 0x80], &columns).unwrap();
        assert_eq!(rows.values, [-1.0, -32768.0]);
    }

    #[test]
    fn a_torn_row_is_refused_with_both_lengths() {
        let columns = Columns::named(&["a", "b"]);
        assert_eq!(
            f32le(&[0; 12], &columns).unwrap_err().to_string(),
            "12 bytes are no whole number of rows: 2 columns of 4 bytes make 8 bytes a row"
        );
        assert!(i16le(&[0; 4], &Columns::named(&[])).is_err());
    }
}
