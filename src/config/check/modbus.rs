//! The rules of `[pipeline.source.modbus]`.

use std::time::Duration;

use toml::Spanned;

use super::Rules;
use crate::config::Modbus;
use crate::config::document::{Field, shorten};
use crate::config::raw::{RawModbus, RawModbusRegister};
use crate::modbus::wire::MAX_UNIT;
use crate::modbus::{Register, Type};

impl Rules<'_, '_> {
    /// `[pipeline.source.modbus]`, which begins at byte `at`.
    pub(super) fn modbus(&mut self, raw: &RawModbus, at: usize) -> Option<Modbus> {
        let none = Spanned::new(at..at, Vec::new());
        let written = if raw.register.is_written() { raw.register.given() } else { Some(&none) };
        let registers = written.and_then(|list| {
            if list.get_ref().is_empty() {
                self.complain(
                    at,
                    "modbus has no register; at least one [[pipeline.source.modbus.register]] is read",
                );
                return None;
            }
            self.registers(list.get_ref())
        });
        let ms = |field: &Field<u64>| field.value().map(|ms| Duration::from_millis(*ms));
        Some(Modbus {
            role: *raw.role.value()?,
            period: ms(&raw.period_ms)?,
            reply_timeout: ms(&raw.reply_timeout_ms)?,
            retries: u32::try_from(*raw.retries.value()?).ok()?,
            registers: registers?,
        })
    }

    fn registers(&mut self, list: &[Spanned<RawModbusRegister>]) -> Option<Vec<Register>> {
        let mut names: Vec<&str> = Vec::new();
        for raw in list {
            let Some(name) = raw.get_ref().name.given() else { continue };
            let text = name.get_ref().as_str();
            if text.is_empty() {
                self.complain(name.span().start, "name is empty; name the value as the model's card does");
            } else if names.contains(&text) {
                let seen = shorten(text);
                self.complain(
                    name.span().start,
                    format!("name {seen:?} belongs to an earlier register already; a field is read once"),
                );
            }
            names.push(text);
        }
        let registers: Vec<_> = list.iter().map(|raw| self.register(raw.get_ref())).collect();
        registers.into_iter().collect()
    }

    fn register(&mut self, raw: &RawModbusRegister) -> Option<Register> {
        let table = raw.table.value().copied();
        let kind = match (&raw.r#type, table?) {
            (Field::Given(kind), table) if table.is_bits() => {
                self.complain(
                    kind.span().start,
                    format!("type is written, but a {} is a single bit; remove it", table.as_str()),
                );
                None
            }
            (Field::Absent, table) if table.is_bits() => Some(Type::Bit),
            (Field::Absent, _) => Some(Type::U16),
            (kind, _) => kind.value().copied(),
        };
        let address = raw.address.value().and_then(|address| u16::try_from(*address).ok());
        if let (Some(kind), Some(address), Some(at)) = (kind, address, raw.address.at())
            && usize::from(address) + usize::from(kind.addresses()) > 0x1_0000
        {
            self.complain(
                at,
                format!(
                    "address is {address}, and the value takes {} from there on; 65535 is the last",
                    kind.addresses()
                ),
            );
            return None;
        }
        if let Field::Given(scale) = &raw.scale
            && *scale.get_ref() == 0.0
        {
            self.complain(
                scale.span().start,
                "scale is 0, which makes every value the same; 1 leaves it as it is",
            );
        }
        Some(Register {
            name: raw.name.value()?.clone(),
            unit: raw
                .unit
                .value()
                .and_then(|unit| u8::try_from(*unit).ok())
                .filter(|unit| *unit <= MAX_UNIT)?,
            table: table?,
            address: address?,
            kind: kind?,
            order: *raw.order.value()?,
            scale: *raw.scale.value()?,
            offset: *raw.offset.value()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, ModbusRole, SourceKind};
    use crate::modbus::{Order, Table};

    /// A Modbus source with these lines in `[pipeline.source]`, in `.modbus` and as registers.
    fn modbus(source: &str, own: &str, registers: &str) -> Result<Modbus, String> {
        let text = format!(
            "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://b\"\n[[pipeline]]\nname = \"p\"\nmodel = \"m\"\n\
             decode = {{ format = \"json\" }}\n[pipeline.source]\nkind = \"serial\"\nport = \"/dev/ttyUSB0\"\n\
             framing = \"modbus_rtu\"\n{source}\n[pipeline.source.modbus]\n{own}\n{registers}"
        );
        let read = Config::parse(&text, Path::new("l.toml"), &|_: &str| None);
        read.map_err(|complaints| complaints.to_string()).map(|config| {
            match &config.pipelines[0].source.kind {
                SourceKind::Serial(serial) => serial.modbus().cloned().unwrap(),
                SourceKind::Mqtt { .. } => panic!("not serial"),
            }
        })
    }

    const TWO: &str = "[[pipeline.source.modbus.register]]\nname = \"t\"\nunit = 3\naddress = 0\n\
        [[pipeline.source.modbus.register]]\nname = \"on\"\nunit = 247\ntable = \"coil\"\naddress = 65535\n";

    #[test]
    fn what_is_not_written_has_the_usual_value() {
        let made = modbus("", "", TWO).unwrap();
        assert_eq!(made.role, ModbusRole::Master);
        assert_eq!(made.period, Duration::from_secs(1));
        assert_eq!(made.reply_timeout, Duration::from_millis(500));
        assert_eq!(made.retries, 1);
        let [t, on] = made.registers.as_slice() else { panic!("{made:?}") };
        assert_eq!((t.unit, t.table, t.kind, t.order), (3, Table::HoldingRegisters, Type::U16, Order::Abcd));
        assert_eq!((t.scale, t.offset), (1.0, 0.0));
        assert_eq!((on.unit, on.table, on.kind, on.address), (247, Table::Coils, Type::Bit, 65_535));
    }

    #[test]
    fn each_mistake_is_told_at_its_place() {
        let register = |lines: &str| {
            modbus(
                "",
                "",
                &format!(
                    "[[pipeline.source.modbus.register]]\nname = \"a\"\nunit = 1\naddress = 5\n{lines}\n"
                ),
            )
            .unwrap_err()
        };
        for (lines, complaint) in [
            ("type = \"u8\"", "l.toml:20:8: type is \"u8\"; expected \"u16\", \"i16\", \"u32\""),
            ("table = \"coils\"", "l.toml:20:9: table is \"coils\""),
            ("table = \"coil\"\ntype = \"u16\"", "l.toml:21:8: type is written, but a coil is a single bit"),
            ("order = \"abdc\"", "l.toml:20:9: order is \"abdc\""),
            ("scale = 0", "l.toml:20:9: scale is 0"),
            ("adress = 1", "l.toml:20:1: unknown key `adress`"),
        ] {
            assert!(register(lines).starts_with(complaint), "{}", register(lines));
        }
        let twice = modbus("", "", &TWO.replace("\"on\"", "\"t\"")).unwrap_err();
        assert!(twice.starts_with("l.toml:21:8: name \"t\" belongs to an earlier register"), "{twice}");
        let beyond = modbus("", "", &TWO.replace("65535", "65535\ntype = \"u32\"").replace("coil", "input"))
            .unwrap_err();
        assert!(beyond.starts_with("l.toml:24:11: address is 65535, and the value takes 2"), "{beyond}");
        let unit = modbus("", "", &TWO.replace("247", "248")).unwrap_err();
        assert!(unit.starts_with("l.toml:22:8: unit is 248; it must be 1 to 247"), "{unit}");
        let none = modbus("", "period_ms = 1", "").unwrap_err();
        assert!(none.contains("period_ms is 1; it must be 10 to") && none.contains("register"), "{none}");
    }
}
