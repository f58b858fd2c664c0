//! A checksum chosen while the program runs, out of the whole catalogue.

use alloc::boxed::Box;

use crc::Table;

use super::checksum::{Checksum, Sum, Unchecked};
use crate::base::wire::{ByteOrder, CrcAlgorithm, CrcName};

/// A checksum chosen while the program runs, with its tables built for speed.
#[derive(Debug)]
pub enum AnyChecksum {
    /// None at all.
    Unchecked(Unchecked),
    /// Up to 8 bits.
    U8(Box<Sum<u8, Table<16>>>),
    /// Up to 16 bits.
    U16(Box<Sum<u16, Table<16>>>),
    /// Up to 32 bits.
    U32(Box<Sum<u32, Table<16>>>),
    /// Up to 64 bits.
    U64(Box<Sum<u64, Table<16>>>),
    /// Up to 82 bits. One table: nobody sends enough of them to want sixteen.
    U128(Box<Sum<u128, Table<1>>>),
}

impl AnyChecksum {
    /// `None`: no checksum. `order`: `None` is the algorithm's own.
    pub fn new(name: Option<CrcName>, order: Option<ByteOrder>) -> AnyChecksum {
        let Some(name) = name else { return Self::Unchecked(Unchecked) };
        macro_rules! ordered {
            ($variant:ident $type:ty, $algorithm:ident) => {
                Self::$variant(Box::new(match order {
                    Some(order) => <$type>::ordered($algorithm, order),
                    None => <$type>::new($algorithm),
                }))
            };
        }
        match name.algorithm() {
            CrcAlgorithm::U8(algorithm) => ordered!(U8 Sum::<u8, Table<16>>, algorithm),
            CrcAlgorithm::U16(algorithm) => ordered!(U16 Sum::<u16, Table<16>>, algorithm),
            CrcAlgorithm::U32(algorithm) => ordered!(U32 Sum::<u32, Table<16>>, algorithm),
            CrcAlgorithm::U64(algorithm) => ordered!(U64 Sum::<u64, Table<16>>, algorithm),
            CrcAlgorithm::U128(algorithm) => ordered!(U128 Sum::<u128, Table<1>>, algorithm),
        }
    }

    fn chosen(&self) -> &dyn Checksum {
        match self {
            Self::Unchecked(sum) => sum,
            Self::U8(sum) => &**sum,
            Self::U16(sum) => &**sum,
            Self::U32(sum) => &**sum,
            Self::U64(sum) => &**sum,
            Self::U128(sum) => &**sum,
        }
    }
}

impl Checksum for AnyChecksum {
    fn bytes(&self) -> usize {
        self.chosen().bytes()
    }
    fn write(&self, covered: &[u8], out: &mut [u8]) {
        self.chosen().write(covered, out);
    }
    fn holds(&self, covered: &[u8], sum: &[u8]) -> bool {
        self.chosen().holds(covered, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::wire::CRC_NAMES;

    #[test]
    fn every_name_gives_the_check_value_of_the_catalogue() {
        assert!(CRC_NAMES.len() > 100, "{}", CRC_NAMES.len());
        for name in CRC_NAMES {
            let parsed = CrcName::parse(name).unwrap();
            let sum = AnyChecksum::new(Some(parsed), Some(ByteOrder::Little));
            let mut out = [0; 16];
            sum.write(b"123456789", &mut out[..sum.bytes()]);
            let check = match parsed.algorithm() {
                CrcAlgorithm::U8(a) => u128::from(a.check),
                CrcAlgorithm::U16(a) => u128::from(a.check),
                CrcAlgorithm::U32(a) => u128::from(a.check),
                CrcAlgorithm::U64(a) => u128::from(a.check),
                CrcAlgorithm::U128(a) => a.check,
            };
            assert_eq!(u128::from_le_bytes(out), check, "{name}");
        }
    }
}
