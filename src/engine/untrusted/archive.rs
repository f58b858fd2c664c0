//! An NNEF archive, looked at before tract reads it: gzip, tar, tensors' headers, the text's nesting.
//!
//! tract has had faults here that a file could reach (CVE-2026-55093, CVE-2026-55832, fixed in 0.23.2);
//! what it is given has been measured first. Formats: RFC 1952, POSIX ustar, NNEF 1.0.5 §5.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Read;
use std::path::Component;

use super::graph::MAX_ELEMENTS;

/// Bytes that an archive may unpack to.
const MAX_BYTES: u64 = 1 << 30;
/// Deflate cannot do better than 1 : 1032; weights do not come near. Small archives are not asked.
const MAX_RATIO: u64 = 200;
const FREE_BYTES: u64 = 16 << 20;
const MAX_ENTRIES: usize = 100_000;
/// Archives inside archives: loop bodies inside loop bodies.
const MAX_DEPTH: usize = 4;
const MAX_TEXT_BYTES: usize = 64 << 20;
/// Brackets inside brackets of the text; the engine's parser recurses into them.
const MAX_NESTING: usize = 64;
/// An NNEF tensor's header.
const HEADER_BYTES: usize = 128;

/// The plain archive, once it has been looked at.
pub(in crate::engine) fn look(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let plain =
        if bytes.starts_with(&[0x1f, 0x8b]) { Cow::Owned(unpacked(bytes)?) } else { Cow::Borrowed(bytes) };
    entries(&plain, 0)?;
    Ok(plain)
}

fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let most = MAX_BYTES.min(FREE_BYTES.max(bytes.len() as u64 * MAX_RATIO));
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .take(most + 1)
        .read_to_end(&mut plain)
        .map_err(|error| format!("its gzip stream is broken ({error})"))?;
    if plain.len() as u64 > most {
        return Err(format!("its {} bytes unpack to more than {most}", bytes.len()));
    }
    Ok(plain)
}

fn entries(archive: &[u8], depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("archives nest deeper than {MAX_DEPTH}"));
    }
    let broken = |error: std::io::Error| format!("its tar archive is broken ({error})");
    let mut names = HashSet::new();
    let mut has_graph = false;
    for entry in tar::Archive::new(archive).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| "an entry of its archive has a name that is not UTF-8 text".to_owned())?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        if !entry.header().entry_type().is_file() {
            return Err(format!("the archive's entry {name:?} is no plain file (a link, or sparse)"));
        }
        let inside = std::path::Path::new(&name)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside || name.contains('\\') {
            return Err(format!("the archive's entry {name:?} leads outside of the archive"));
        }
        if !names.insert(name.clone()) {
            return Err(format!("two entries of the archive are called {name:?}"));
        }
        if names.len() > MAX_ENTRIES {
            return Err(format!("the archive has more than {MAX_ENTRIES} entries"));
        }
        let size = entry.size();
        if size > archive.len() as u64 {
            return Err(format!(
                "the archive's entry {name:?} claims {size} bytes; the archive has {}",
                archive.len()
            ));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(broken)?;
        if content.len() as u64 != size {
            return Err(format!("the archive's entry {name:?} breaks off"));
        }
        let file = name.rsplit('/').next().unwrap_or_default();
        match file {
            "graph.nnef" | "graph.quant" => {
                has_graph |= file == "graph.nnef";
                text(&name, &content)?;
            }
            file if file.ends_with(".dat") => tensor(&name, &content)?,
            file if file.ends_with(".nnef.tar") => entries(&content, depth + 1)?,
            _ => return Err(format!("the archive's entry {name:?} is nothing that a model has")),
        }
    }
    if has_graph { Ok(()) } else { Err("the archive holds no graph.nnef".to_owned()) }
}

fn text(name: &str, content: &[u8]) -> Result<(), String> {
    if content.len() > MAX_TEXT_BYTES {
        return Err(format!("{name} has {} bytes; at most {MAX_TEXT_BYTES} are read", content.len()));
    }
    std::str::from_utf8(content).map_err(|_| format!("{name} is not UTF-8 text"))?;
    let mut nesting = 0_usize;
    for byte in content {
        match byte {
            b'(' | b'[' | b'{' => nesting += 1,
            b')' | b']' | b'}' => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        if nesting > MAX_NESTING {
            return Err(format!("{name}: brackets nest deeper than {MAX_NESTING}"));
        }
    }
    // Signs in a row recurse as brackets do.
    if content.split(|byte| !b"-!+ ".contains(byte)).any(|run| run.len() > 1000) {
        return Err(format!("{name}: more than 1000 signs in a row"));
    }
    Ok(())
}

/// The header's claims, which the engine allocates by.
fn tensor(name: &str, content: &[u8]) -> Result<(), String> {
    let broken = |why: String| format!("the archive's tensor {name:?}: {why}");
    let Some((header, data)) = content.split_at_checked(HEADER_BYTES) else {
        return Err(broken(format!("{} bytes are no tensor", content.len())));
    };
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[..2] != [0x4e, 0xef] {
        return Err(broken("it does not begin as one".to_owned()));
    }
    let (claimed_bytes, rank) = (u64::from(word(4)), word(8) as usize);
    if rank > 8 {
        return Err(broken(format!("{rank} axes")));
    }
    let lengths: Vec<u64> = (0..rank).map(|axis| u64::from(word(12 + 4 * axis))).collect();
    let elements = lengths.iter().try_fold(1_u64, |all, length| all.checked_mul(*length));
    let elements = elements.filter(|elements| *elements <= MAX_ELEMENTS).ok_or_else(|| {
        broken(format!("it claims the shape {lengths:?}; at most {MAX_ELEMENTS} elements are taken"))
    })?;
    let bits = u64::from(word(44));
    let (item, vendor) =
        (u16::from_le_bytes([header[48], header[49]]), u16::from_le_bytes([header[50], header[51]]));
    // tract's own text type: each string has its length in front.
    if (vendor, item) == (u16::from_be_bytes(*b"TR"), 0x1000) {
        return match elements <= data.len() as u64 / 4 {
            true => Ok(()),
            false => Err(broken(format!("it claims {elements} strings in {} bytes", data.len()))),
        };
    }
    if vendor != 0 {
        return Err(broken(format!(
            "its elements are of a kind ({vendor:#x}, {item:#x}) that compile does not write"
        )));
    }
    let wanted = if bits == 1 { elements.div_ceil(8) } else { elements * bits / 8 };
    if ![1, 8, 16, 32, 64].contains(&bits) || wanted != claimed_bytes || wanted != data.len() as u64 {
        return Err(broken(format!(
            "its shape {lengths:?} at {bits} bits wants {wanted} bytes, its header says {claimed_bytes}, {} follow",
            data.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            // Written straight into the field: the builder itself refuses `..`.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    const GRAPH: (&str, &[u8]) = ("graph.nnef", b"version 1.0;\ngraph g(x) -> (y) { y = relu(x); }\n");

    fn dat(lengths: &[u32], bits: u32, claimed: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0_u8; HEADER_BYTES];
        bytes[..3].copy_from_slice(&[0x4e, 0xef, 1]);
        bytes[4..8].copy_from_slice(&claimed.to_le_bytes());
        bytes[8..12].copy_from_slice(&(lengths.len() as u32).to_le_bytes());
        for (axis, length) in lengths.iter().enumerate() {
            bytes[12 + 4 * axis..16 + 4 * axis].copy_from_slice(&length.to_le_bytes());
        }
        bytes[44..48].copy_from_slice(&bits.to_le_bytes());
        bytes.extend(data);
        bytes
    }

    fn told(entries: &[(&str, &[u8])]) -> String {
        look(&archive(entries)).map_or_else(|why| why, |_| "well".to_owned())
    }

    #[test]
    fn a_gzip_bomb_stops_at_its_bound() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..64 {
            encoder.write_all(&vec![0; 1 << 20]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 100_000);
        let why = look(&bomb).unwrap_err();
        assert!(why.contains("unpack to more than 16777216"), "{why}");
        assert!(look(&bomb[..bomb.len() / 2]).is_err());
    }

    #[test]
    fn entries_outside_twice_or_of_no_use_are_refused_by_name() {
        assert_eq!(told(&[GRAPH]), "well");
        for name in ["../graph.nnef", "/etc/passwd.dat", "a/../../b.dat", "a\\b.dat"] {
            assert!(told(&[GRAPH, (name, b"")]).contains("leads outside"), "{name}");
        }
        assert!(told(&[GRAPH, GRAPH]).contains("two entries"));
        assert!(told(&[GRAPH, ("run.sh", b"x")]).contains("nothing that a model has"));
        assert!(told(&[("w.dat", &dat(&[1], 32, 4, &[0; 4]))]).contains("no graph.nnef"));
    }

    #[test]
    fn a_link_is_no_file() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "w.dat", "/etc/passwd").unwrap();
        let why = look(&tar.into_inner().unwrap()).unwrap_err();
        assert!(why.contains("no plain file"), "{why}");
    }

    #[test]
    fn a_tensor_that_claims_more_than_it_has_is_refused() {
        let of = |dat: Vec<u8>| told(&[GRAPH, ("w.dat", &dat)]);
        assert_eq!(of(dat(&[2], 32, 8, &[0; 8])), "well");
        assert!(of(dat(&[1_000_000, 1_000_000], 32, 0, &[])).contains("claims the shape [1000000, 1000000]"));
        assert!(of(dat(&[2], 32, 8, &[0; 4])).contains("4 follow"));
        assert!(of(dat(&[2], u32::MAX, 8, &[0; 8])).contains("bits"));
        assert!(of(vec![0; 10]).contains("no tensor"));
    }

    #[test]
    fn brackets_without_end_are_refused_before_the_parser_meets_them() {
        let deep = format!("version 1.0; graph g(x) -> (y) {{ y = {}x; }}", "(".repeat(100_000));
        assert!(told(&[("graph.nnef", deep.as_bytes())]).contains("nest deeper than 64"));
        let signs = format!("version 1.0; graph g(x) -> (y) {{ y = {}x; }}", "-".repeat(100_000));
        assert!(told(&[("graph.nnef", signs.as_bytes())]).contains("signs in a row"));
    }

    #[test]
    fn an_archive_that_breaks_off_is_told_so() {
        let whole = archive(&[GRAPH, ("w.dat", &dat(&[200], 32, 800, &[0; 800]))]);
        for end in [100, 512, 600, 1100, 1600] {
            assert!(look(&whole[..end]).is_err(), "{end}");
        }
    }
}
