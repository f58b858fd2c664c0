//! What the outbox asks of a disk, and the folder that gives it.
//!
//! Promise: nothing is safe before [`Disk::sync`] (a file's bytes) and [`Disk::sync_folder`] (its name)
//! have returned; that is all that [`super::log`] relies on. The tests have a disk of their own that
//! remembers each write and plays every state in which a power cut may leave it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::place::Place;
use crate::flow::fail::{self, Point};

/// A folder of append-only files.
pub trait Disk: Send {
    /// Names and sizes of its files.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;
    /// The first bytes of a file, at most so many.
    fn read(&mut self, name: &str, at_most: u64) -> io::Result<Vec<u8>>;
    /// Makes a file that is not there yet; [`Disk::append`] and [`Disk::sync`] are about it from now on.
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Writes at its end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Its bytes are safe.
    fn sync(&mut self) -> io::Result<()>;
    /// The names in the folder are safe: those made, those changed, those removed.
    fn sync_folder(&mut self) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file another name.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
}

/// A folder of the operating system, held for as long as this is.
pub struct Folder {
    path: PathBuf,
    writing: Option<File>,
    /// `None`: only looked at.
    place: Option<Place>,
}

impl Folder {
    /// A folder of ours; what is doubtful about it is told.
    pub fn new(place: Place) -> Self {
        place.doubts().iter().for_each(|doubt| log::warn!("{doubt}"));
        Self { path: place.path().to_owned(), writing: None, place: Some(place) }
    }

    /// A folder that may be another process's: nothing in it is changed.
    pub fn looked_at(path: &Path) -> Self {
        Self { path: path.to_owned(), writing: None, place: None }
    }

    fn ours(&self) -> io::Result<()> {
        self.place.as_ref().map(|_| ()).ok_or_else(|| io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn writing(&mut self) -> io::Result<&mut File> {
        self.writing.as_mut().ok_or_else(|| io::Error::other("no file has been created"))
    }
}

impl Disk for Folder {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                found.push((name, metadata.len()));
            }
        }
        Ok(found)
    }

    fn read(&mut self, name: &str, at_most: u64) -> io::Result<Vec<u8>> {
        fail::may_fail(Point::SegmentRead)?;
        let mut bytes = Vec::new();
        File::open(self.path.join(name))?.take(at_most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        fail::may_fail(Point::SegmentCreate)?;
        self.ours()?;
        self.writing = None;
        self.writing = Some(OpenOptions::new().append(true).create_new(true).open(self.path.join(name))?);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        fail::may_fail(Point::RecordsWrite)?;
        self.writing()?.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        fail::may_fail(Point::RecordsSync)?;
        self.writing()?.sync_data()
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fail::may_fail(Point::SegmentRemove)?;
        self.ours()?;
        fs::remove_file(self.path.join(name))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.ours()?;
        fs::rename(self.path.join(from), self.path.join(to))
    }
}
