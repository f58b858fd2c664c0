//! Packets of sensors to rows: the header's schema says which number is which feature.
//!
//! Promise: a number is scaled in 64 bits; a feature that a packet does not carry is missing, and is
//! so refused or imputed like any other. Not here: the layout ([`super::framing::packet`]).

use super::framing::packet::{self, SampleType};
use super::{Columns, DecodeError};
use crate::base::Rows;
use crate::config::card::{PacketChannel, PacketSchema};

pub(super) fn decode(
    payload: &[u8],
    columns: &Columns,
    schemas: &[PacketSchema],
) -> Result<Rows, DecodeError> {
    let (header, samples) = packet::split(payload)
        .map_err(|why| DecodeError::Malformed { format: "packet", what: why.to_string() })?;
    let Some(schema) = schemas.iter().find(|schema| schema.schema == header.schema) else {
        let known: Vec<String> = schemas.iter().map(|schema| schema.schema.to_string()).collect();
        let known = format!("it names {}", known.join(", "));
        return Err(DecodeError::UnknownSchema { schema: header.schema, known });
    };
    let channels = &schema.channels;
    if channels.len() != usize::from(header.channels) {
        let what = format!(
            "a packet with {} channels; schema {} has {}",
            header.channels,
            header.schema,
            channels.len()
        );
        return Err(DecodeError::Malformed { format: "packet", what });
    }
    match header.samples {
        SampleType::I16 => {
            rows(samples.as_chunks().0, channels, columns, |bytes| f64::from(i16::from_le_bytes(bytes)))
        }
        SampleType::F32 => {
            rows(samples.as_chunks().0, channels, columns, |bytes| f64::from(f32::from_le_bytes(bytes)))
        }
    }
}

fn rows<const SIZE: usize>(
    numbers: &[[u8; SIZE]],
    channels: &[PacketChannel],
    columns: &Columns,
    number: impl Fn([u8; SIZE]) -> f64,
) -> Result<Rows, DecodeError> {
    let width = columns.len();
    let mut values = vec![f64::NAN; numbers.len() / channels.len() * width];
    for (row, sample) in values.chunks_exact_mut(width.max(1)).zip(numbers.chunks_exact(channels.len())) {
        for (bytes, channel) in sample.iter().zip(channels) {
            if let Some(column) = channel.column {
                row[column] = number(*bytes) * channel.scale + channel.offset;
            }
        }
    }
    for (index, value) in values.iter_mut().enumerate() {
        if value.is_nan() {
            *value = columns.missing(index % width, "NaN", Some(index / width + 1))?;
        }
    }
    Ok(Rows { columns: width, values })
}

#[cfg(test)]
mod tests {
    use super::super::framing::packet::Header;
    use super::*;

    fn schema() -> Vec<PacketSchema> {
        let channel = |column, scale, offset| PacketChannel { column, scale, offset };
        let channels = vec![channel(Some(1), 0.5, 10.0), channel(None, 1.0, 0.0), channel(Some(0), 1.0, 0.0)];
        vec![PacketSchema { schema: 7, channels }]
    }

    const HEADER: Header =
        Header { samples: SampleType::I16, sensor: 1, schema: 7, sequence: 0, time_us: 0, channels: 3 };

    fn packet(header: Header, samples: &[i16]) -> Vec<u8> {
        let mut out = vec![0; 200];
        let bytes = header.write_i16(samples, &mut out).unwrap();
        out.truncate(bytes);
        out
    }

    #[test]
    fn numbers_land_in_their_columns_scaled() {
        let columns = Columns::named(&["a", "b"]);
        let rows = decode(&packet(HEADER, &[1, 99, 2, -1, 99, 3]), &columns, &schema()).unwrap();
        assert_eq!(rows.values, [2.0, 10.5, 3.0, 9.5]);
    }

    #[test]
    fn what_the_card_does_not_know_is_refused_by_name() {
        let columns = Columns::named(&["a", "b"]);
        let refused = |header, samples: &[i16]| {
            decode(&packet(header, samples), &columns, &schema()).unwrap_err().to_string()
        };
        assert!(
            refused(Header { schema: 8, ..HEADER }, &[1, 2, 3])
                .starts_with("schema 8 is not known to the card (it names 7)")
        );
        assert!(refused(Header { channels: 1, ..HEADER }, &[1]).contains("1 channels; schema 7 has 3"));
        assert!(
            decode(b"junk", &columns, &schema()).unwrap_err().to_string().contains("4 bytes are no packet")
        );
    }

    #[test]
    fn nan_is_a_missing_value_and_needs_permission() {
        let header = Header { samples: SampleType::F32, ..HEADER };
        let mut out = [0; 64];
        let bytes = header.write_f32(&[f32::NAN, 0.0, 1.0], &mut out).unwrap();
        let refused = decode(&out[..bytes], &Columns::named(&["a", "b"]), &schema()).unwrap_err();
        assert!(refused.to_string().starts_with("feature `b` is NaN in row 1"), "{refused}");
        let rows = decode(&out[..bytes], &Columns::named(&["a", "b?"]), &schema()).unwrap();
        assert!(rows.values[1].is_nan() && rows.values[0] == 1.0);
    }
}
