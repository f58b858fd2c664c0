//! The rules of `[[packet]]`: what a sensor's packets carry, held against the features.

use toml::Spanned;

use super::Rules;
use crate::config::card::raw::RawPacket;
use crate::config::card::{Features, PacketChannel, PacketSchema};
use crate::config::document::{Field, shorten};

impl Rules<'_, '_> {
    pub(super) fn packets(
        &mut self,
        list: &Field<Vec<Spanned<RawPacket>>>,
        features: Option<&Features>,
    ) -> Option<Vec<PacketSchema>> {
        let list = match list {
            Field::Given(list) => list,
            Field::Broken => return None,
            Field::Absent | Field::Default(_) => return Some(Vec::new()),
        };
        if let Some(Features::Image(_)) = features {
            self.complain(
                list.span().start,
                "the model looks at pictures, which no packet carries; remove [[packet]]",
            );
            return None;
        }
        let mut packets: Vec<PacketSchema> = Vec::new();
        let mut whole = true;
        for raw in list.get_ref() {
            match self.packet(raw, features) {
                Some(packet) if packets.iter().any(|earlier| earlier.schema == packet.schema) => {
                    let at = raw.get_ref().schema.at().unwrap_or(raw.span().start);
                    self.complain(
                        at,
                        format!("schema {} belongs to an earlier [[packet]] already", packet.schema),
                    );
                }
                Some(packet) => packets.push(packet),
                None => whole = false,
            }
        }
        whole.then_some(packets)
    }

    fn packet(&mut self, raw: &Spanned<RawPacket>, features: Option<&Features>) -> Option<PacketSchema> {
        let at = raw.span().start;
        let raw = raw.get_ref();
        let schema = *raw.schema.value()? as u16;
        let list = raw.channel.given()?;
        if !(1..=255).contains(&list.get_ref().len()) {
            let message =
                format!("packet has {} channels; one sample has 1 to 255 numbers", list.get_ref().len());
            self.complain(list.span().start, message);
            return None;
        }
        let columns = features?.columns();
        let mut channels = Vec::new();
        for channel in list.get_ref() {
            let channel = channel.get_ref();
            let (name, scale, offset) =
                (channel.name.given()?, *channel.scale.value()?, *channel.offset.value()?);
            let column = columns.iter().position(|column| column.name == *name.get_ref());
            if scale == 0.0 {
                let at = channel.scale.at().unwrap_or(at);
                self.complain(
                    at,
                    "scale is 0, which makes every reading the same; it multiplies the number in the packet",
                );
            }
            if column.is_some() && channels.iter().any(|earlier: &PacketChannel| earlier.column == column) {
                self.complain(
                    name.span().start,
                    format!("{:?} stands for an earlier channel already", shorten(name.get_ref())),
                );
            }
            if let (Some(column), Some(unit)) = (column, channel.unit.given())
                && columns[column].unit != *unit.get_ref()
            {
                let message = format!(
                    "unit of {:?} is {:?}, but the feature is in {:?}; scale and offset lead to the feature's unit",
                    shorten(name.get_ref()),
                    shorten(unit.get_ref()),
                    columns[column].unit
                );
                self.complain(unit.span().start, message);
            }
            channels.push(PacketChannel { column, scale, offset });
        }
        let missing: Vec<&str> = columns
            .iter()
            .enumerate()
            .filter(|(index, column)| {
                let may_miss = column.allow_nan || column.impute.is_some();
                !may_miss && !channels.iter().any(|channel| channel.column == Some(*index))
            })
            .map(|(_, column)| column.name.as_str())
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "packets of schema {schema} do not carry {}, which the model needs; name the channel so, or give \
                 the feature an `impute`",
                missing.join(", ")
            );
            self.complain(list.span().start, message);
            return None;
        }
        Some(PacketSchema { schema, channels })
    }
}
