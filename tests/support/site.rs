//! A place of work: a broker, a folder with models and configuration, a client that hears everything.

use std::fs;
use std::path::{Path, PathBuf};

use rumqttc::QoS;
use serde_json::Value;
use tempfile::TempDir;

use super::SOON;
use super::client::{Client, Message};
use super::daemon::Daemon;
use super::models::Model;
use super::mosquitto::{Mosquitto, Setup};

/// The device's name in every test.
pub(crate) const DEVICE: &str = "press-07";
/// Where it says that it is there.
pub(crate) const AVAILABILITY: &str = "lineside/press-07/availability";
/// Where its counters are.
pub(crate) const STATS: &str = "lineside/press-07/stats";

/// Broker, folder and client.
pub(crate) struct Site {
    /// Hears `lineside/#` from the start. Dropped before the broker that it talks to.
    pub(crate) client: Client,
    /// The broker.
    pub(crate) broker: Mosquitto,
    /// Configuration, models, outbox.
    pub(crate) folder: TempDir,
    _recent: Recent,
}

/// Where the site's daemons remember recent frames: in memory, as in the field, and gone with the site.
struct Recent(PathBuf);

impl Drop for Recent {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Site {
    /// With a broker that lets everybody in, and these models.
    pub(crate) fn new(models: &[Model]) -> Self {
        Self::with(Setup::default(), models)
    }

    /// With a broker of one's choice.
    pub(crate) fn with(setup: Setup, models: &[Model]) -> Self {
        let broker = Mosquitto::start_with(setup);
        let client = Client::connect(broker.port, "test");
        assert!(client.subscribe("lineside/#", QoS::AtLeastOnce), "the test may subscribe");
        let folder = work_folder(models);
        let recent = super::daemon::runtime_directory(folder.path());
        fs::create_dir_all(&recent).expect("/dev/shm takes a folder");
        Self { client, broker, folder, _recent: Recent(recent) }
    }

    /// Path of the models.
    pub(crate) fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// Writes the configuration: the usual head, then `rest`.
    pub(crate) fn configure(&self, rest: &str) -> PathBuf {
        let url = format!("url = \"mqtt://127.0.0.1:{}\"", self.broker.port);
        write_config(self.folder.path(), &url, &self.models(), rest)
    }

    /// Configures, starts and waits until the daemon says `online`.
    pub(crate) fn run(&self, rest: &str) -> Daemon {
        self.start(&self.configure(rest))
    }

    /// Starts on a configuration that is there and waits until the daemon says `online`.
    pub(crate) fn start(&self, config: &Path) -> Daemon {
        let heard = self.client.heard(AVAILABILITY).len();
        let daemon = Daemon::spawn(config);
        let online = self.client.wait_until(AVAILABILITY, SOON, |messages| {
            messages[heard..].iter().any(|message| message.payload == b"online")
        });
        assert!(online, "not online; the daemon's log:\n{}", daemon.log());
        daemon
    }

    /// What the daemon says of a pipeline, as soon as `accept` takes it.
    pub(crate) fn stats(&self, pipeline: &str, accept: impl Fn(&Value) -> bool) -> Value {
        let message = self.client.wait_for(STATS, SOON, |message| {
            pipeline_stats(message, pipeline).is_some_and(|stats| accept(&stats))
        });
        pipeline_stats(&message, pipeline).expect("it was accepted a moment ago")
    }
}

fn pipeline_stats(message: &Message, pipeline: &str) -> Option<Value> {
    match &message.json()["pipelines"] {
        Value::Array(all) => all.iter().find(|stats| stats["name"] == pipeline).cloned(),
        Value::Object(all) => all.get(pipeline).cloned(),
        _ => None,
    }
}

/// A folder with these models under `models/`.
pub(crate) fn work_folder(models: &[Model]) -> TempDir {
    let folder = TempDir::with_prefix("lineside-test-").expect("a temporary folder");
    fs::create_dir(folder.path().join("models")).expect("the temporary folder is writable");
    for model in models {
        model.write(&folder.path().join("models"));
    }
    folder
}

/// Writes `line.toml`: device, broker, outbox, models and short periods, then `rest`.
pub(crate) fn write_config(folder: &Path, broker: &str, models: &Path, rest: &str) -> PathBuf {
    let text = format!(
        "[device]\nid = \"{DEVICE}\"\n\n[broker]\n{broker}\n\n[outbox]\npath = \"{}\"\n\n[models]\npath = \"{}\"\n\n\
         [runtime]\nstats_secs = 1\nshutdown_secs = 5\n\n{rest}\n",
        folder.join("outbox").display(),
        models.display(),
    );
    let file = folder.join("line.toml");
    fs::write(&file, text).expect("the temporary folder is writable");
    file
}

/// A pipeline that loses nothing by overload: `[[pipeline]]` with source, decode and publish.
pub(crate) fn pipeline(name: &str, model: &str, topic: &str, format: &str) -> String {
    format!(
        "[[pipeline]]\nname = \"{name}\"\nmodel = \"{model}\"\n\
         [pipeline.source]\nkind = \"mqtt\"\ntopic = \"{topic}\"\nqos = 1\nqueue_frames = 64\nwhen_full = \"block\"\n\
         [pipeline.decode]\nformat = \"{format}\"\n\
         [pipeline.publish]\ntopic = \"lineside/{{device}}/{{pipeline}}/result\"\nqos = 1\n\n"
    )
}

/// The same for JSON frames that carry their own id in `id`.
pub(crate) fn pipeline_with_ids(name: &str, model: &str, topic: &str) -> String {
    pipeline(name, model, topic, "json").replace("format = \"json\"", "format = \"json\"\nid_field = \"id\"")
}

/// Where a pipeline's predictions go.
pub(crate) fn result(pipeline: &str) -> String {
    format!("lineside/{DEVICE}/{pipeline}/result")
}

/// Where a pipeline's refused frames are reported.
pub(crate) fn error(pipeline: &str) -> String {
    format!("lineside/{DEVICE}/{pipeline}/error")
}

/// A regression target's value in a prediction.
pub(crate) fn value(prediction: &Value, target: &str) -> f64 {
    let value = prediction["values"][target]["value"].as_f64();
    value.unwrap_or_else(|| panic!("no value of {target} in {prediction}"))
}
