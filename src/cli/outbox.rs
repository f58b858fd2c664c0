//! `lineside outbox`: what lies on disk and waits for the broker, for the operator.
//!
//! Promise: `list` and `export` only read, so they may be used beside a running daemon; `drop` is
//! refused while one runs. Predictions that wait in the daemon's memory are not seen here; its `stats`
//! count them.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::run::read_config;
use super::{Exit, Failure};
use crate::config::Qos;
use crate::outbox::disk::{Disk, Folder};
use crate::outbox::log::Log;
use crate::outbox::record::Record;
use crate::outbox::{Kind, Place, PlaceError};

/// Show, copy out or drop the predictions that wait on disk for the broker
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// One line a prediction, oldest first; also beside a running daemon
    List(Where),
    /// One JSON object a prediction, with its payload, to standard output; also beside a running daemon
    Export(Where),
    /// Forget all that is on disk; refused while a daemon runs
    Drop {
        #[command(flatten)]
        place: Where,
        /// Do it: the frames of these predictions are acknowledged, nobody sends them again
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Where {
    /// Configuration; default: lineside.toml here, else /etc/lineside/lineside.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder itself, instead of a configuration
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    path: Option<PathBuf>,
    /// One JSON object for a machine
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        Verb::List(place) => list(&place),
        Verb::Export(place) => export(&place),
        Verb::Drop { place, yes } => drop_all(&place, yes),
    }
}

impl Where {
    fn folder(&self) -> Result<PathBuf, Failure> {
        match &self.path {
            Some(path) => Ok(path.clone()),
            None => read_config(self.config.clone()).map(|config| config.outbox.path),
        }
    }
}

fn failed(folder: &Path, source: io::Error) -> Failure {
    Failure::new(Exit::IoErr, PlaceError::Unusable { path: folder.into(), source })
}

/// Every record on disk, with how many bytes could not be read as one.
fn read<D: Disk>(mut log: Log<D>) -> io::Result<(Vec<Record>, u64)> {
    let indices: Vec<u64> = log.segments().map(|segment| segment.index).collect();
    let mut records = Vec::new();
    for index in indices {
        match log.read(index) {
            // The daemon has settled and removed it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            read => records.extend(read?),
        }
    }
    Ok((records, log.damage().bytes))
}

fn look(folder: &Path) -> Result<(Vec<Record>, u64), Failure> {
    if !folder.is_dir() {
        // No prediction has ever waited here, unless the path is wrong.
        let error = format!("there is no folder {}; set [outbox] path or --path", folder.display());
        return Err(Failure::new(Exit::IoErr, error));
    }
    Log::open(Folder::looked_at(folder), 0, 0).and_then(read).map_err(|error| failed(folder, error))
}

/// Whoever closes the pipe early has read enough.
fn unless_closed(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(Exit::IoErr, error)),
        _ => Ok(()),
    }
}

fn list(place: &Where) -> Result<(), Failure> {
    let folder = place.folder()?;
    let (records, damaged_bytes) = look(&folder)?;
    let holder = Place::holder(&folder);
    let mut out = BufWriter::new(io::stdout().lock());
    if place.json {
        let said = json!({
            "path": folder.display().to_string(),
            "in_use_by": holder,
            "damaged_bytes": damaged_bytes,
            "predictions": records.iter().map(described).collect::<Vec<_>>(),
        });
        return unless_closed(writeln!(out, "{said}"));
    }
    let lines = records.iter().try_for_each(|record| {
        writeln!(
            out,
            "{}  {}  {}  {} bytes{}",
            record.at,
            record.pipeline,
            record.topic,
            record.payload.len(),
            match record.kind {
                Kind::Prediction => "",
                Kind::Error => "  error",
                Kind::Reply => "  reply",
            }
        )
    });
    let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
    unless_closed(lines.and_then(|()| {
        writeln!(out, "{}: {} prediction(s), {bytes} bytes", folder.display(), records.len())?;
        if damaged_bytes > 0 {
            writeln!(out, "{damaged_bytes} bytes belong to no whole prediction")?;
        }
        holder.iter().try_for_each(|holder| writeln!(out, "in use by {holder}"))
    }))
}

fn described(record: &Record) -> Value {
    json!({
        "at": record.at.to_string(),
        "pipeline": &*record.pipeline,
        "topic": &*record.topic,
        "kind": match record.kind {
            Kind::Prediction => "prediction",
            Kind::Error => "error",
            Kind::Reply => "reply",
        },
        "qos": u8::from(record.qos == Qos::AtLeastOnce),
        "retain": record.retain,
        "bytes": record.payload.len(),
    })
}

fn export(place: &Where) -> Result<(), Failure> {
    let folder = place.folder()?;
    let (records, _) = look(&folder)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let written = records.iter().try_for_each(|record| {
        let mut said = described(record);
        // Predictions are JSON; whatever is not stays readable as text.
        said["payload"] = serde_json::from_slice(&record.payload)
            .unwrap_or_else(|_| String::from_utf8_lossy(&record.payload).into());
        writeln!(out, "{said}")
    });
    unless_closed(written.and_then(|()| out.flush()))
}

fn drop_all(place: &Where, yes: bool) -> Result<(), Failure> {
    let folder = place.folder()?;
    let (records, _) = look(&folder)?;
    if !yes {
        let words = format!(
            "{} prediction(s) would be dropped from {}; nobody sends them again: say --yes, after `outbox export`",
            records.len(),
            folder.display()
        );
        return Err(Failure::new(Exit::Usage, words));
    }
    let place_taken = Place::take(&folder).map_err(|error| {
        let exit = if matches!(error, PlaceError::InUse { .. }) { Exit::Unavailable } else { Exit::IoErr };
        Failure::new(exit, error)
    })?;
    let mut log = Log::open(Folder::new(place_taken), 0, 0).map_err(|error| failed(&folder, error))?;
    let indices: Vec<u64> = log.segments().map(|segment| segment.index).collect();
    for index in indices {
        log.remove(index).map_err(|error| failed(&folder, error))?;
    }
    let dropped = records.len();
    let mut out = io::stdout().lock();
    unless_closed(if place.json {
        writeln!(out, "{}", json!({"path": folder.display().to_string(), "dropped": dropped}))
    } else {
        writeln!(out, "{}: {dropped} prediction(s) dropped", folder.display())
    })
}
