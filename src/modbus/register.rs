//! What stands in a register: its type, the order of its bytes, scale and offset; and which requests
//! fetch a whole list of them.

use alloc::string::String;
use alloc::vec::Vec;

use super::wire::{Request, Table};

/// A value as it is laid over registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// One address of a table of bits: 0 or 1.
    Bit,
    /// One register, unsigned.
    U16,
    /// One register, two's complement.
    I16,
    /// Two registers, unsigned.
    U32,
    /// Two registers, two's complement.
    I32,
    /// Two registers, IEEE 754.
    F32,
    /// Four registers, IEEE 754.
    F64,
}

impl Type {
    /// Addresses that it occupies.
    pub const fn addresses(self) -> u16 {
        match self {
            Self::Bit | Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::F64 => 4,
        }
    }
}

/// In which order the bytes of a value stand, `a` being the highest. The specification settles the two
/// bytes of a register (high first); how registers make a larger number, each maker decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Order {
    /// Highest register first: big-endian throughout.
    #[default]
    Abcd,
    /// Lowest register first.
    Cdab,
    /// Highest register first, the bytes inside each swapped.
    Badc,
    /// Lowest register first, bytes swapped: little-endian throughout.
    Dcba,
}

/// A value to fetch.
#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    /// Its name: the field of the frame.
    pub name: String,
    /// Whose it is.
    pub unit: u8,
    /// In which of the unit's tables.
    pub table: Table,
    /// Its first address, as on the wire: from 0.
    pub address: u16,
    /// What stands there.
    pub kind: Type,
    /// How.
    pub order: Order,
    /// Value = number × scale + offset.
    pub scale: f64,
    /// Value = number × scale + offset.
    pub offset: f64,
}

impl Register {
    /// The address behind its last one.
    pub fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.kind.addresses())
    }

    /// Its value in `data`, the reply to a request that begins at `first`. `None`: it is not in there,
    /// or is not a number (NaN, infinite).
    pub fn value(&self, first: u16, data: &[u8]) -> Option<f64> {
        let at = usize::from(self.address.checked_sub(first)?);
        let number = if self.kind == Type::Bit {
            f64::from(data.get(at / 8)? >> (at % 8) & 1)
        } else {
            let raw = data.get(2 * at..2 * (at + usize::from(self.kind.addresses())))?;
            match *raw {
                [a, b] => self.number([a, b]),
                [a, b, c, d] => self.number([a, b, c, d]),
                [a, b, c, d, e, f, g, h] => self.number([a, b, c, d, e, f, g, h]),
                _ => return None,
            }
        };
        let value = number * self.scale + self.offset;
        value.is_finite().then_some(value)
    }

    fn number<const N: usize>(&self, mut raw: [u8; N]) -> f64 {
        if matches!(self.order, Order::Cdab | Order::Dcba) {
            raw.reverse();
        }
        // Reversing turned the registers round and their bytes with them.
        if matches!(self.order, Order::Cdab | Order::Badc) {
            raw.chunks_exact_mut(2).for_each(|register| register.swap(0, 1));
        }
        let bits = raw.iter().fold(0, |bits: u64, byte| bits << 8 | u64::from(*byte));
        match self.kind {
            Type::Bit | Type::U16 | Type::U32 => bits as f64,
            Type::I16 => f64::from(bits as u16 as i16),
            Type::I32 => f64::from(bits as u32 as i32),
            Type::F32 => f64::from(f32::from_bits(bits as u32)),
            Type::F64 => f64::from_bits(bits),
        }
    }
}

/// One request and the registers that it fetches, by their place in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Whom it asks.
    pub unit: u8,
    /// Which table.
    pub table: Table,
    /// From which address on.
    pub address: u16,
    /// How many.
    pub count: u16,
    /// Whose values are in the reply.
    pub registers: Vec<usize>,
}

impl Fetch {
    /// As a request.
    pub fn request(&self) -> Request<'static> {
        Request::Read { table: self.table, address: self.address, count: self.count }
    }

    /// The same, one request a register.
    pub fn apart(&self, registers: &[Register]) -> Vec<Fetch> {
        let one = |index: &usize| Fetch::of(*index, &registers[*index]);
        self.registers.iter().map(one).collect()
    }

    fn of(index: usize, register: &Register) -> Self {
        let Register { unit, table, address, kind, .. } = *register;
        Self { unit, table, address, count: kind.addresses(), registers: alloc::vec![index] }
    }
}

/// The fewest requests that fetch `registers`: neighbours and overlaps go together, never an address
/// that nobody asked for, since many units refuse a request that touches one.
pub fn plan(registers: &[Register]) -> Vec<Fetch> {
    let mut order: Vec<usize> = (0..registers.len()).collect();
    order.sort_by_key(|index| {
        let register = &registers[*index];
        (register.unit, register.table, register.address)
    });
    let mut plan: Vec<Fetch> = Vec::new();
    for index in order {
        let register = &registers[index];
        if let Some(last) = plan.last_mut()
            && (last.unit, last.table) == (register.unit, register.table)
            && u32::from(register.address) <= u32::from(last.address) + u32::from(last.count)
        {
            let count =
                register.end().max(u32::from(last.address) + u32::from(last.count)) - u32::from(last.address);
            if count <= u32::from(register.table.max_count()) {
                last.count = count as u16;
                last.registers.push(index);
                continue;
            }
        }
        plan.push(Fetch::of(index, register));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(unit: u8, table: Table, address: u16, kind: Type) -> Register {
        Register { name: "r".into(), unit, table, address, kind, order: Order::Abcd, scale: 1.0, offset: 0.0 }
    }

    fn holding(address: u16, kind: Type) -> Register {
        register(1, Table::HoldingRegisters, address, kind)
    }

    #[test]
    fn every_type_and_order_gives_its_number() {
        let value = |kind, order, data: &[u8]| Register { order, ..holding(0, kind) }.value(0, data).unwrap();
        use Order::{Abcd, Badc, Cdab, Dcba};
        assert_eq!(value(Type::U16, Abcd, &[0xff, 0xfe]), 65_534.0);
        assert_eq!(value(Type::I16, Abcd, &[0xff, 0xfe]), -2.0);
        assert_eq!(value(Type::I16, Badc, &[0xfe, 0xff]), -2.0);
        for (order, data) in [
            (Abcd, [0x01, 0x02, 0x03, 0x04]),
            (Cdab, [0x03, 0x04, 0x01, 0x02]),
            (Badc, [0x02, 0x01, 0x04, 0x03]),
            (Dcba, [0x04, 0x03, 0x02, 0x01]),
        ] {
            assert_eq!(value(Type::U32, order, &data), f64::from(0x0102_0304), "{order:?}");
        }
        assert_eq!(value(Type::I32, Cdab, &[0xff, 0xfe, 0xff, 0xff]), -2.0);
        assert_eq!(value(Type::F32, Abcd, &123.25f32.to_be_bytes()), 123.25);
        assert_eq!(value(Type::F32, Dcba, &(-0.5f32).to_le_bytes()), -0.5);
        assert_eq!(value(Type::F64, Abcd, &1e-300f64.to_be_bytes()), 1e-300);
        assert_eq!(value(Type::F64, Dcba, &1e-300f64.to_le_bytes()), 1e-300);
    }

    #[test]
    fn bits_are_counted_from_the_lowest() {
        let coil = |address| register(1, Table::Coils, address, Type::Bit).value(19, &[0xcd, 0x6b, 0x05]);
        // The example of "MODBUS Application Protocol", 6.1: coils 20 to 38, addresses 19 to 37.
        let on: Vec<u16> = (19..38).filter(|address| coil(*address) == Some(1.0)).collect();
        assert_eq!(on, [19, 21, 22, 25, 26, 27, 28, 30, 32, 33, 35, 37]);
        assert_eq!(coil(18), None, "before the first");
        assert_eq!(coil(19 + 24), None, "behind the last");
    }

    #[test]
    fn scale_and_offset_make_units_and_what_is_no_number_is_missing() {
        let scaled = Register { scale: 0.1, offset: -40.0, ..holding(7, Type::U16) };
        assert_eq!(scaled.value(5, &[0, 0, 0, 0, 0x01, 0xf4]), Some(10.0));
        assert_eq!(scaled.value(5, &[0, 0, 0, 0, 1]), None);
        for number in [f32::NAN, f32::INFINITY] {
            assert_eq!(holding(0, Type::F32).value(0, &number.to_be_bytes()), None);
        }
    }

    #[test]
    fn neighbours_share_a_request_and_gaps_do_not() {
        let list = [
            holding(10, Type::F32),
            holding(12, Type::U16),
            holding(14, Type::U16),
            register(2, Table::HoldingRegisters, 13, Type::U16),
            register(1, Table::Coils, 13, Type::Bit),
            holding(8, Type::U32),
            holding(10, Type::U32),
        ];
        let requests: Vec<_> = plan(&list)
            .into_iter()
            .map(|fetch| (fetch.unit, fetch.address, fetch.count, fetch.registers))
            .collect();
        assert_eq!(
            requests,
            [(1, 13, 1, vec![4]), (1, 8, 5, vec![5, 0, 6, 1]), (1, 14, 1, vec![2]), (2, 13, 1, vec![3])]
        );
    }

    #[test]
    fn a_request_never_holds_more_than_its_reply_can() {
        let many: Vec<Register> = (0..130).map(|at| holding(at * 2, Type::F32)).collect();
        let plan = plan(&many);
        assert_eq!(plan.iter().map(|fetch| fetch.count).collect::<Vec<_>>(), [124, 124, 12]);
        assert_eq!(plan[1].apart(&many).len(), 62);
        let last = [holding(65_534, Type::U32), holding(65_533, Type::U16)];
        assert_eq!(super::plan(&last)[0].count, 3);
    }
}
