//! Checksums of frames: which bytes they take on the wire and whether they hold.
//!
//! Promise: `core` alone; each algorithm is its own type, so that a microcontroller links the one it
//! uses. Not here: the names of the catalogue (`base::wire`).

use core::fmt;

use crc::{Algorithm, Crc, Implementation, NoTable, Table, Width};

use crate::base::wire::ByteOrder;

/// Bytes of the longest checksum: 82 bits, as DARC has them, in whole bytes; and room to spare.
pub const LONGEST_BYTES: usize = 16;

/// What stands at the end of a frame to tell a good one from a damaged one.
pub trait Checksum {
    /// Bytes on the wire, at most [`LONGEST_BYTES`].
    fn bytes(&self) -> usize;

    /// Writes the checksum of `covered` into `out`, which has [`Checksum::bytes`] bytes.
    fn write(&self, covered: &[u8], out: &mut [u8]);

    /// Whether `sum` is the checksum of `covered`.
    fn holds(&self, covered: &[u8], sum: &[u8]) -> bool {
        let mut own = [0; LONGEST_BYTES];
        let own = &mut own[..self.bytes()];
        self.write(covered, own);
        own == sum
    }
}

/// Frames without a checksum: what arrives is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unchecked;

impl Checksum for Unchecked {
    fn bytes(&self) -> usize {
        0
    }
    fn write(&self, _: &[u8], _: &mut [u8]) {}
    fn holds(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// A CRC of `W` bits or fewer, computed as `I` says: [`NoTable`] is smallest, `Table<1>` takes 256
/// entries, `Table<16>` sixteen times that and is fastest.
pub struct Sum<W: Width, I: Implementation = NoTable> {
    crc: Crc<W, I>,
    order: ByteOrder,
}

impl<W: Width, I: Implementation> fmt::Debug for Sum<W, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sum").field("width", &self.crc.algorithm.width).field("order", &self.order).finish()
    }
}

/// The order in which the algorithm's own hardware sends its checksum: one that takes the low bit of
/// each byte first sends its low byte first.
pub const fn natural_order<W: Width>(algorithm: &Algorithm<W>) -> ByteOrder {
    if algorithm.refout { ByteOrder::Little } else { ByteOrder::Big }
}

macro_rules! sums {
    ($($width:ty: $($table:ty),*;)*) => {$($(
        impl Sum<$width, $table> {
            /// In the algorithm's natural byte order.
            pub const fn new(algorithm: &'static Algorithm<$width>) -> Self {
                Self::ordered(algorithm, natural_order(algorithm))
            }

            /// In a byte order of the sender's choice.
            pub const fn ordered(algorithm: &'static Algorithm<$width>, order: ByteOrder) -> Self {
                Self { crc: Crc::<$width, $table>::new(algorithm), order }
            }
        }

        impl Checksum for Sum<$width, $table> {
            #[inline]
            fn bytes(&self) -> usize {
                (self.crc.algorithm.width as usize).div_ceil(8)
            }

            fn write(&self, covered: &[u8], out: &mut [u8]) {
                let value = self.crc.checksum(covered);
                let bytes = self.bytes();
                match self.order {
                    ByteOrder::Little => out.copy_from_slice(&value.to_le_bytes()[..bytes]),
                    ByteOrder::Big => {
                        let all = value.to_be_bytes();
                        out.copy_from_slice(&all[all.len() - bytes..]);
                    }
                }
            }
        }
    )*)*};
}

sums! {
    u8: NoTable, Table<1>, Table<16>;
    u16: NoTable, Table<1>, Table<16>;
    u32: NoTable, Table<1>, Table<16>;
    u64: NoTable, Table<1>, Table<16>;
    u128: NoTable, Table<1>, Table<16>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_the_wire(checksum: &impl Checksum) -> Vec<u8> {
        let mut out = vec![0; checksum.bytes()];
        checksum.write(b"123456789", &mut out);
        assert!(checksum.holds(b"123456789", &out));
        assert!(!checksum.holds(b"123456780", &out));
        out
    }

    #[test]
    fn reflected_checksums_come_low_byte_first_and_others_high_byte_first() {
        // Check values of the catalogue: MODBUS 0x4b37, IBM-3740 0x29b1.
        assert_eq!(on_the_wire(&Sum::<u16>::new(&crc::CRC_16_MODBUS)), [0x37, 0x4b]);
        assert_eq!(on_the_wire(&Sum::<u16, Table<1>>::new(&crc::CRC_16_IBM_3740)), [0x29, 0xb1]);
        let turned = Sum::<u16, Table<16>>::ordered(&crc::CRC_16_IBM_3740, ByteOrder::Little);
        assert_eq!(on_the_wire(&turned), [0xb1, 0x29]);
    }

    #[test]
    fn odd_widths_take_whole_bytes() {
        assert_eq!(on_the_wire(&Sum::<u16>::new(&crc::CRC_15_CAN)), [0x05, 0x9e]);
        assert_eq!(on_the_wire(&Sum::<u8>::new(&crc::CRC_5_USB)), [0x19]);
        let darc = on_the_wire(&Sum::<u128>::new(&crc::CRC_82_DARC));
        assert_eq!(darc, 0x09ea83f625023801fd612u128.to_le_bytes()[..11]);
    }

    #[test]
    fn tables_change_nothing() {
        let small = on_the_wire(&Sum::<u32>::new(&crc::CRC_32_ISO_HDLC));
        assert_eq!(small, on_the_wire(&Sum::<u32, Table<1>>::new(&crc::CRC_32_ISO_HDLC)));
        assert_eq!(small, on_the_wire(&Sum::<u32, Table<16>>::new(&crc::CRC_32_ISO_HDLC)));
        assert_eq!(small, 0xcbf43926u32.to_le_bytes());
    }
}
