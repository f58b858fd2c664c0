//! SHA-256, as a card writes it.

use ring::digest::{SHA256, digest};

/// How many bytes a digest has.
pub(super) const BYTES: usize = 32;

/// The digest itself.
pub(super) fn sha256(bytes: &[u8]) -> [u8; BYTES] {
    let mut sum = [0; BYTES];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

/// The digest as 64 hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_standards_example_has_its_digest() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::hex(b"abc"), expected);
    }
}
