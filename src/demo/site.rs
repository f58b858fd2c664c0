//! Where the demo's daemon lives: a folder of its own below the system's temporary one, with the two
//! models that are built into this binary.
//!
//! Promise: the folder is new, is this process's own, and is removed at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Complaints, Config};

/// The configuration as a person would write it.
pub const CONFIG: &str = include_str!("demo.toml");

macro_rules! files {
    ($($path:literal)*) => {
        &[$(($path, include_bytes!(concat!("../../models/", $path)))),*]
    };
}

/// Files of the demo's models, as in the source tree.
const FILES: &[(&str, &[u8])] = files![
    "machine-failure/model.toml"
    "machine-failure/model.onnx"
    "machine-failure/golden/doubtful/input-0.npy"
    "machine-failure/golden/doubtful/output-0.npy"
    "machine-failure/golden/failure/input-0.npy"
    "machine-failure/golden/failure/output-0.npy"
    "machine-failure/golden/missing-reading/input-0.npy"
    "machine-failure/golden/missing-reading/output-0.npy"
    "machine-failure/golden/ok/input-0.npy"
    "machine-failure/golden/ok/output-0.npy"
    "part-inspection/model.toml"
    "part-inspection/model.onnx"
    "part-inspection/golden/missing-hole/input-0.npy"
    "part-inspection/golden/missing-hole/output-0.npy"
    "part-inspection/golden/ok/input-0.npy"
    "part-inspection/golden/ok/output-0.npy"
    "part-inspection/golden/scratch/input-0.npy"
    "part-inspection/golden/scratch/output-0.npy"
];

/// Why the folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// No room, no rights.
    #[error("cannot write {}; the demo unpacks its models into the temporary folder (TMPDIR)", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration built into this binary does not suit it.
    #[error("the demo's own configuration is wrong")]
    Config(#[from] Complaints),
}

/// The folder; removed on drop.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
}

impl Site {
    /// Unpacks the models.
    pub fn unpack() -> Result<Self, SiteError> {
        let site = Self::create(&std::env::temp_dir())?;
        for (path, bytes) in FILES {
            let path = site.folder.join("models").join(path);
            let folder = path.parent().unwrap_or(&site.folder);
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&path, bytes))
                .map_err(|source| SiteError::Write { path, source })?;
        }
        Ok(site)
    }

    /// A folder that was not there before: nobody else's files are used or removed.
    fn create(below: &Path) -> Result<Self, SiteError> {
        let id = std::process::id();
        let mut attempt = 0;
        loop {
            let folder = below.join(format!("lineside-demo-{id}-{attempt}"));
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Self { folder }),
                // Left by a process of the same id that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
                Err(source) => return Err(SiteError::Write { path: folder, source }),
            }
        }
    }

    /// [`CONFIG`] with the broker's port and the sensor's filled in, as meant.
    pub fn config(&self, broker_port: u16, sensor_port: &str) -> Result<Config, SiteError> {
        let world = |name: &str| match name {
            "DEMO_BROKER_PORT" => Some(broker_port.to_string()),
            "DEMO_SENSOR_PORT" => Some(sensor_port.to_owned()),
            _ => None,
        };
        Ok(Config::parse(CONFIG, &self.folder.join("demo.toml"), &world)?)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What cannot be removed stays in the temporary folder, which is what that is for.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WhenFull;
    use crate::demo::judge::{Stream, WINDOW};
    use std::collections::BTreeSet;

    fn below(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                below(&entry.path(), &name, found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn the_whole_model_folders_are_built_in() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let built_in: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        let mut wanted = BTreeSet::new();
        for model in ["machine-failure", "part-inspection"] {
            below(&models.join(model), model, &mut wanted);
        }
        wanted.retain(|path| [".toml", ".onnx", ".npy"].iter().any(|ending| path.ends_with(ending)));
        assert_eq!(built_in, wanted);
    }

    #[test]
    fn a_site_is_there_whole_and_then_gone() {
        let site = Site::unpack().unwrap();
        let folder = site.folder.clone();
        let other = Site::unpack().unwrap();
        assert_ne!(folder, other.folder);
        for (path, bytes) in FILES {
            assert_eq!(fs::read(folder.join("models").join(path)).unwrap(), *bytes, "{path}");
        }
        drop(site);
        assert!(!folder.exists() && other.folder.exists());
    }

    #[test]
    fn the_config_has_a_pipeline_for_each_stream_and_loses_nothing() {
        let site = Site::create(&std::env::temp_dir()).unwrap();
        let config = site.config(4711, "/dev/pts/4712").unwrap();
        assert_eq!(config.broker.port, 4711);
        assert_eq!(config.models, site.folder.join("models"));
        assert_eq!(config.pipelines.len(), Stream::ALL.len());
        for (pipeline, stream) in config.pipelines.iter().zip(Stream::ALL) {
            assert_eq!(pipeline.name, stream.name());
            assert_eq!(pipeline.source.when_full, WhenFull::Block);
            assert!(pipeline.source.queue_frames.get() > WINDOW);
        }
        assert_eq!(config.pipelines[0].source.kind.place(), "camera/{part}/frame");
        assert_eq!(config.pipelines[1].source.kind.place(), "/dev/pts/4712");
    }
}
