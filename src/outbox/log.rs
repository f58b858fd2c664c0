//! The segment log: records appended in groups, read back a segment at a time, removed by segment.
//!
//! Promise: a group whose [`Log::append`] returned `Ok` is read back whole after a power cut at any
//! later moment, until its segment is removed; what cannot be read costs itself only, is counted, and
//! never keeps the log from opening. Files are only ever appended to or removed, so a reader in another
//! process sees whole records at any time.
//!
//! How a group becomes safe: bytes written, file synced, and for a new file its folder synced; then
//! `Ok`. After an error nobody knows what the file holds (a sync that failed once says nothing when it
//! is repeated), so nothing is ever written behind it: the next group begins a new segment, whose
//! header says from which record number on the older one is void.
//! Not here: when to write, and what is dropped when there is no room ([`super::keeper`]).

use std::collections::VecDeque;
use std::io;

use super::disk::Disk;
use super::record::{HEADER_BYTES, Header, HeaderError, Record, scan};

/// A segment: the unit of reading and removing.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its place in the order, and its name.
    pub index: u64,
    /// Bytes of its file, or an upper bound.
    pub bytes: u64,
    /// Records in it, as far as known without reading it.
    pub records: u64,
    header: Header,
    /// Records from this number on were written, and again in the next segment.
    void_from: Option<u64>,
    damaged: bool,
}

/// Damage met so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes that belong to no record.
    pub bytes: u64,
    /// Files that were put aside whole, as `*.bad`.
    pub files: u64,
}

/// Files put aside that are kept for a person to look at.
const BAD_KEPT: usize = 4;

/// The log in one folder.
pub struct Log<D> {
    disk: D,
    session: u64,
    segment_bytes: u64,
    next_index: u64,
    next_number: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The newest segment takes more records.
    writing: bool,
    damage: Damage,
    written_bytes: u64,
    syncs: u64,
}

fn name(index: u64) -> String {
    format!("{index:016x}.seg")
}

fn index(name: &str) -> Option<u64> {
    let hex = name.strip_suffix(".seg").filter(|hex| hex.len() == 16)?;
    u64::from_str_radix(hex, 16).ok()
}

impl<D: Disk> Log<D> {
    /// Looks at what is there. `session` differs from every earlier one. Segments are closed when they
    /// reach `segment_bytes`. Changes nothing but names of broken files.
    pub fn open(mut disk: D, session: u64, segment_bytes: u64) -> io::Result<Self> {
        let mut files = disk.list()?;
        files.sort();
        let mut log = Self {
            disk,
            session,
            segment_bytes,
            next_index: 1,
            next_number: 1,
            segments: VecDeque::new(),
            writing: false,
            damage: Damage::default(),
            written_bytes: 0,
            syncs: 0,
        };
        let bad: Vec<&String> = files.iter().map(|(name, _)| name).filter(|n| n.ends_with(".bad")).collect();
        for name in &bad[..bad.len().saturating_sub(BAD_KEPT)] {
            // It is in nobody's way; the next start tries again.
            let _ = log.disk.remove(name);
        }
        for (name, bytes) in &files {
            if let Some(index) = index(name) {
                log.next_index = log.next_index.max(index.saturating_add(1));
                log.look_at(name, index, *bytes);
            }
        }
        for i in 1..log.segments.len() {
            let next = log.segments[i].header;
            let before = &mut log.segments[i - 1];
            if before.header.session == next.session {
                before.void_from = Some(next.first);
                before.records = next.first.saturating_sub(before.header.first);
            }
        }
        for i in 0..log.segments.len() {
            if log.segments[i].void_from.is_none() {
                // The last of its session: only its records say how many they are.
                log.segments[i].records = log.read_at(i).map_or(1, |records| records.len() as u64);
            }
        }
        Ok(log)
    }

    fn look_at(&mut self, name: &str, index: u64, bytes: u64) {
        let head = match self.disk.read(name, HEADER_BYTES as u64) {
            Ok(head) => head,
            Err(error) => {
                log::warn!("outbox: {name} cannot be read ({error}); it is left alone");
                return;
            }
        };
        match Header::decode(&head) {
            Ok(header) => self.segments.push_back(Segment {
                index,
                bytes,
                records: 0,
                header,
                void_from: None,
                damaged: false,
            }),
            Err(error @ HeaderError::Newer(_)) => {
                log::warn!("outbox: {name} ({bytes} bytes) is left alone: {error}");
            }
            // A power cut while the file was made: nothing in it was ever settled.
            Err(HeaderError::Broken) if head.iter().all(|byte| *byte == 0) && bytes <= head.len() as u64 => {
                let _ = self.disk.remove(name);
            }
            Err(error @ HeaderError::Broken) => {
                self.damage.files += 1;
                self.damage.bytes += bytes;
                log::warn!("outbox: {name} ({bytes} bytes) is put aside as {name}.bad: {error}");
                if let Err(error) = self.disk.rename(name, &format!("{name}.bad")) {
                    log::warn!("outbox: {name} keeps its name: {error}");
                }
            }
        }
    }

    /// Makes a group safe, all of it or (as far as is known) nothing. Returns the bytes written.
    pub fn append(&mut self, records: &[Record]) -> io::Result<u64> {
        let group: usize = records.iter().map(Record::bytes).sum();
        let full = |last: &Segment| last.records > 0 && last.bytes + group as u64 > self.segment_bytes;
        if self.segments.back().is_none_or(full) {
            self.writing = false;
        }
        let is_new = !self.writing;
        let mut bytes = Vec::with_capacity(group + HEADER_BYTES);
        if is_new {
            let header = Header { session: self.session, first: self.next_number };
            let index = self.next_index;
            self.next_index += 1;
            self.disk.create(&name(index))?;
            bytes.extend_from_slice(&header.encode());
            self.segments.push_back(Segment {
                index,
                bytes: 0,
                records: 0,
                header,
                void_from: None,
                damaged: false,
            });
        }
        for (number, record) in (self.next_number..).zip(records) {
            record.encode(self.session, number, &mut bytes);
        }
        let safe = self.make_safe(&bytes, is_new);
        let last = self.segments.back_mut().expect("one was pushed, or the last takes more");
        last.bytes += bytes.len() as u64;
        match safe {
            Ok(()) => {
                last.records += records.len() as u64;
                self.next_number += records.len() as u64;
                self.writing = true;
                Ok(bytes.len() as u64)
            }
            Err(error) => {
                last.void_from = Some(self.next_number);
                let (index, is_empty) = (last.index, last.records == 0);
                self.writing = false;
                if is_empty {
                    // Where this fails as well, the keeper reads it, finds nothing, and tries again.
                    let _ = self.remove(index);
                }
                Err(error)
            }
        }
    }

    fn make_safe(&mut self, bytes: &[u8], is_new: bool) -> io::Result<()> {
        self.disk.append(bytes)?;
        self.written_bytes += bytes.len() as u64;
        self.disk.sync()?;
        if is_new {
            self.disk.sync_folder()?;
        }
        self.syncs += 1;
        Ok(())
    }

    /// Oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Records of a segment, in the order in which they were written. Nothing is appended to it any
    /// more.
    pub fn read(&mut self, index: u64) -> io::Result<Vec<Record>> {
        let at = self.segments.iter().position(|segment| segment.index == index);
        let at = at.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        if at + 1 == self.segments.len() {
            self.writing = false;
        }
        self.read_at(at)
    }

    fn read_at(&mut self, at: usize) -> io::Result<Vec<Record>> {
        let segment = &mut self.segments[at];
        let name = name(segment.index);
        let scanned = scan(segment.header, &self.disk.read(&name, u64::MAX)?);
        if scanned.damaged_bytes > 0 && !segment.damaged {
            segment.damaged = true;
            self.damage.bytes += scanned.damaged_bytes;
            log::warn!(
                "outbox: {name}: {} bytes belong to no whole record and are passed over; {} record(s) are read",
                scanned.damaged_bytes,
                scanned.records.len()
            );
        }
        let valid = scanned
            .records
            .into_iter()
            .filter(|(number, _)| segment.void_from.is_none_or(|void_from| *number < void_from));
        Ok(valid.map(|(_, record)| record).collect())
    }

    /// Key and delivery of the frames of the newest records, about `at_most`, oldest first.
    pub fn newest_frames(&mut self, at_most: usize) -> Vec<(u128, u64)> {
        let mut segments: Vec<Vec<(u128, u64)>> = Vec::new();
        let mut count = 0;
        for at in (0..self.segments.len()).rev() {
            if count >= at_most {
                break;
            }
            // What cannot be read now is told when the backlog comes to it.
            let records = self.read_at(at).unwrap_or_default();
            count += records.len();
            segments.push(records.iter().filter(|r| r.key != 0).map(|r| (r.key, r.delivery)).collect());
        }
        segments.into_iter().rev().flatten().collect()
    }

    /// Removes a segment whose records are all settled or dropped; a damaged one is put aside.
    pub fn remove(&mut self, index: u64) -> io::Result<()> {
        let Some(at) = self.segments.iter().position(|segment| segment.index == index) else {
            return Ok(());
        };
        let name = name(index);
        // What a power cut left half-written is no damage worth keeping; its session has ended.
        if self.segments[at].damaged && self.segments[at].header.session != self.session {
            self.damage.files += 1;
            self.disk.rename(&name, &format!("{name}.bad"))?;
        } else {
            self.disk.remove(&name)?;
        }
        if at + 1 == self.segments.len() {
            self.writing = false;
        }
        self.segments.remove(at);
        Ok(())
    }

    /// Damage met so far.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// Bytes written, and groups made safe.
    pub fn written(&self) -> (u64, u64) {
        (self.written_bytes, self.syncs)
    }
}
