//! What is said of bytes on a wire: which end of a number comes first, and which CRC guards a frame.
//!
//! The catalogue of CRCs is Greg Cook's (reveng.sourceforge.io/crc-catalogue), as the `crc` crate
//! carries it. Not here: how a checksum is used (`stage::decode::framing`).

use core::fmt;

use crc::Algorithm;

/// Which end of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// The high byte.
    Big,
    /// The low byte.
    Little,
}

/// An algorithm of the catalogue, by the width of the number that holds it.
#[derive(Clone, Copy)]
pub enum CrcAlgorithm {
    /// Up to 8 bits.
    U8(&'static Algorithm<u8>),
    /// Up to 16 bits.
    U16(&'static Algorithm<u16>),
    /// Up to 32 bits.
    U32(&'static Algorithm<u32>),
    /// Up to 64 bits.
    U64(&'static Algorithm<u64>),
    /// Up to 82 bits.
    U128(&'static Algorithm<u128>),
}

macro_rules! catalogue {
    ($($width:ident $constant:ident $name:literal;)*) => {
        /// Names of the catalogue, narrow ones first.
        pub const CRC_NAMES: &[&str] = &[$($name),*];

        fn algorithm(index: usize) -> CrcAlgorithm {
            const ALL: &[CrcAlgorithm] = &[$(CrcAlgorithm::$width(&crc::$constant)),*];
            ALL[index]
        }
    };
}

catalogue! {
    U8 CRC_3_GSM "CRC-3/GSM";
    U8 CRC_3_ROHC "CRC-3/ROHC";
    U8 CRC_4_G_704 "CRC-4/G-704";
    U8 CRC_4_INTERLAKEN "CRC-4/INTERLAKEN";
    U8 CRC_5_EPC_C1G2 "CRC-5/EPC-C1G2";
    U8 CRC_5_G_704 "CRC-5/G-704";
    U8 CRC_5_USB "CRC-5/USB";
    U8 CRC_6_CDMA2000_A "CRC-6/CDMA2000-A";
    U8 CRC_6_CDMA2000_B "CRC-6/CDMA2000-B";
    U8 CRC_6_DARC "CRC-6/DARC";
    U8 CRC_6_G_704 "CRC-6/G-704";
    U8 CRC_6_GSM "CRC-6/GSM";
    U8 CRC_7_MMC "CRC-7/MMC";
    U8 CRC_7_ROHC "CRC-7/ROHC";
    U8 CRC_7_UMTS "CRC-7/UMTS";
    U8 CRC_8_AUTOSAR "CRC-8/AUTOSAR";
    U8 CRC_8_BLUETOOTH "CRC-8/BLUETOOTH";
    U8 CRC_8_CDMA2000 "CRC-8/CDMA2000";
    U8 CRC_8_DARC "CRC-8/DARC";
    U8 CRC_8_DVB_S2 "CRC-8/DVB-S2";
    U8 CRC_8_GSM_A "CRC-8/GSM-A";
    U8 CRC_8_GSM_B "CRC-8/GSM-B";
    U8 CRC_8_HITAG "CRC-8/HITAG";
    U8 CRC_8_I_432_1 "CRC-8/I-432-1";
    U8 CRC_8_I_CODE "CRC-8/I-CODE";
    U8 CRC_8_LTE "CRC-8/LTE";
    U8 CRC_8_MAXIM_DOW "CRC-8/MAXIM-DOW";
    U8 CRC_8_MIFARE_MAD "CRC-8/MIFARE-MAD";
    U8 CRC_8_NRSC_5 "CRC-8/NRSC-5";
    U8 CRC_8_OPENSAFETY "CRC-8/OPENSAFETY";
    U8 CRC_8_ROHC "CRC-8/ROHC";
    U8 CRC_8_SAE_J1850 "CRC-8/SAE-J1850";
    U8 CRC_8_SMBUS "CRC-8/SMBUS";
    U8 CRC_8_TECH_3250 "CRC-8/TECH-3250";
    U8 CRC_8_WCDMA "CRC-8/WCDMA";
    U16 CRC_10_ATM "CRC-10/ATM";
    U16 CRC_10_CDMA2000 "CRC-10/CDMA2000";
    U16 CRC_10_GSM "CRC-10/GSM";
    U16 CRC_11_FLEXRAY "CRC-11/FLEXRAY";
    U16 CRC_11_UMTS "CRC-11/UMTS";
    U16 CRC_12_CDMA2000 "CRC-12/CDMA2000";
    U16 CRC_12_DECT "CRC-12/DECT";
    U16 CRC_12_GSM "CRC-12/GSM";
    U16 CRC_12_UMTS "CRC-12/UMTS";
    U16 CRC_13_BBC "CRC-13/BBC";
    U16 CRC_14_DARC "CRC-14/DARC";
    U16 CRC_14_GSM "CRC-14/GSM";
    U16 CRC_15_CAN "CRC-15/CAN";
    U16 CRC_15_MPT1327 "CRC-15/MPT1327";
    U16 CRC_16_ARC "CRC-16/ARC";
    U16 CRC_16_CDMA2000 "CRC-16/CDMA2000";
    U16 CRC_16_CMS "CRC-16/CMS";
    U16 CRC_16_DDS_110 "CRC-16/DDS-110";
    U16 CRC_16_DECT_R "CRC-16/DECT-R";
    U16 CRC_16_DECT_X "CRC-16/DECT-X";
    U16 CRC_16_DNP "CRC-16/DNP";
    U16 CRC_16_EN_13757 "CRC-16/EN-13757";
    U16 CRC_16_GENIBUS "CRC-16/GENIBUS";
    U16 CRC_16_GSM "CRC-16/GSM";
    U16 CRC_16_IBM_3740 "CRC-16/IBM-3740";
    U16 CRC_16_IBM_SDLC "CRC-16/IBM-SDLC";
    U16 CRC_16_ISO_IEC_14443_3_A "CRC-16/ISO-IEC-14443-3-A";
    U16 CRC_16_KERMIT "CRC-16/KERMIT";
    U16 CRC_16_LJ1200 "CRC-16/LJ1200";
    U16 CRC_16_M17 "CRC-16/M17";
    U16 CRC_16_MAXIM_DOW "CRC-16/MAXIM-DOW";
    U16 CRC_16_MCRF4XX "CRC-16/MCRF4XX";
    U16 CRC_16_MODBUS "CRC-16/MODBUS";
    U16 CRC_16_NRSC_5 "CRC-16/NRSC-5";
    U16 CRC_16_OPENSAFETY_A "CRC-16/OPENSAFETY-A";
    U16 CRC_16_OPENSAFETY_B "CRC-16/OPENSAFETY-B";
    U16 CRC_16_PROFIBUS "CRC-16/PROFIBUS";
    U16 CRC_16_RIELLO "CRC-16/RIELLO";
    U16 CRC_16_SPI_FUJITSU "CRC-16/SPI-FUJITSU";
    U16 CRC_16_T10_DIF "CRC-16/T10-DIF";
    U16 CRC_16_TELEDISK "CRC-16/TELEDISK";
    U16 CRC_16_TMS37157 "CRC-16/TMS37157";
    U16 CRC_16_UMTS "CRC-16/UMTS";
    U16 CRC_16_USB "CRC-16/USB";
    U16 CRC_16_XMODEM "CRC-16/XMODEM";
    U32 CRC_17_CAN_FD "CRC-17/CAN-FD";
    U32 CRC_21_CAN_FD "CRC-21/CAN-FD";
    U32 CRC_24_BLE "CRC-24/BLE";
    U32 CRC_24_FLEXRAY_A "CRC-24/FLEXRAY-A";
    U32 CRC_24_FLEXRAY_B "CRC-24/FLEXRAY-B";
    U32 CRC_24_INTERLAKEN "CRC-24/INTERLAKEN";
    U32 CRC_24_LTE_A "CRC-24/LTE-A";
    U32 CRC_24_LTE_B "CRC-24/LTE-B";
    U32 CRC_24_OPENPGP "CRC-24/OPENPGP";
    U32 CRC_24_OS_9 "CRC-24/OS-9";
    U32 CRC_30_CDMA "CRC-30/CDMA";
    U32 CRC_31_PHILIPS "CRC-31/PHILIPS";
    U32 CRC_32_AIXM "CRC-32/AIXM";
    U32 CRC_32_AUTOSAR "CRC-32/AUTOSAR";
    U32 CRC_32_BASE91_D "CRC-32/BASE91-D";
    U32 CRC_32_BZIP2 "CRC-32/BZIP2";
    U32 CRC_32_CD_ROM_EDC "CRC-32/CD-ROM-EDC";
    U32 CRC_32_CKSUM "CRC-32/CKSUM";
    U32 CRC_32_ISCSI "CRC-32/ISCSI";
    U32 CRC_32_ISO_HDLC "CRC-32/ISO-HDLC";
    U32 CRC_32_JAMCRC "CRC-32/JAMCRC";
    U32 CRC_32_MEF "CRC-32/MEF";
    U32 CRC_32_MPEG_2 "CRC-32/MPEG-2";
    U32 CRC_32_XFER "CRC-32/XFER";
    U64 CRC_40_GSM "CRC-40/GSM";
    U64 CRC_64_ECMA_182 "CRC-64/ECMA-182";
    U64 CRC_64_GO_ISO "CRC-64/GO-ISO";
    U64 CRC_64_MS "CRC-64/MS";
    U64 CRC_64_NVME "CRC-64/NVME";
    U64 CRC_64_REDIS "CRC-64/REDIS";
    U64 CRC_64_WE "CRC-64/WE";
    U64 CRC_64_XZ "CRC-64/XZ";
    U128 CRC_82_DARC "CRC-82/DARC";
}

/// A CRC of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CrcName(usize);

impl CrcName {
    /// By the catalogue's name, in any case and with any signs between its parts: `CRC-16/IBM-3740`,
    /// `crc16_ibm_3740`.
    pub fn parse(text: &str) -> Option<CrcName> {
        fn plain(text: &str) -> impl Iterator<Item = char> {
            text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase())
        }
        CRC_NAMES.iter().position(|name| plain(name).eq(plain(text))).map(CrcName)
    }

    /// The name in the catalogue.
    pub fn as_str(self) -> &'static str {
        CRC_NAMES[self.0]
    }

    /// Bytes that it takes on the wire.
    pub fn bytes(self) -> usize {
        let bits = match self.algorithm() {
            CrcAlgorithm::U8(algorithm) => algorithm.width,
            CrcAlgorithm::U16(algorithm) => algorithm.width,
            CrcAlgorithm::U32(algorithm) => algorithm.width,
            CrcAlgorithm::U64(algorithm) => algorithm.width,
            CrcAlgorithm::U128(algorithm) => algorithm.width,
        };
        usize::from(bits).div_ceil(8)
    }

    /// What it computes.
    pub fn algorithm(self) -> CrcAlgorithm {
        algorithm(self.0)
    }
}

impl fmt::Debug for CrcName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_the_spellings_that_people_use() {
        for text in ["crc16_ibm_3740", "CRC-16/IBM-3740", "crc-16-ibm-3740", "CRC_16_IBM_3740"] {
            assert_eq!(CrcName::parse(text).unwrap().as_str(), "CRC-16/IBM-3740", "{text}");
        }
        assert_eq!(CrcName::parse("crc16"), None);
        for name in CRC_NAMES {
            assert_eq!(CrcName::parse(name).unwrap().as_str(), *name, "two names look alike");
        }
    }
}
