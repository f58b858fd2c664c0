//! `lineside check`: the config, the cards it names, their models and golden cases; all complaints at
//! once.
//!
//! Promise: whatever `run` would refuse at boot is told here, without connecting to anything.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Exit, Failure};
use crate::base::words::{in_words, mib};
use crate::config::{
    Board, Card, Complaint, Config, ConfigError, Format, SourceKind, ThisMachine, World, agree,
};
use crate::daemon::boot::{self, Verified, VerifyError};
use crate::daemon::ceiling::Ceiling;
use crate::engine::{self, ModelError};
use crate::mqtt::tls::{self, TlsError};
use crate::outbox::place;

/// Tell every mistake in a configuration, its models and their golden cases
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration; default: lineside.toml here, else /etc/lineside/lineside.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Suppose this board instead of the configuration's: its workers, its memory, its ports
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// One JSON object for a machine: {ok, complaints: [{file, line, column, message}],
    /// warnings: […], memory_ceiling_bytes, memory: {needed_bytes, most_bytes, budget_bytes, fits}}
    #[arg(long)]
    json: bool,
}

/// The config that a verb without `-c` means: `lineside.toml` here, else the system's.
pub fn default_config() -> PathBuf {
    let here = PathBuf::from("lineside.toml");
    let system = PathBuf::from("/etc/lineside/lineside.toml");
    if !here.exists() && system.exists() { system } else { here }
}

/// Runs the verb.
pub fn run(args: Args) -> Result<(), Failure> {
    let path = args.config.unwrap_or_else(default_config);
    let mut complaints = Vec::new();
    let folder = path.parent().unwrap_or(Path::new(""));
    if let Some(board) = &args.board {
        // A slip on the command line is not one in the file.
        Board::beside(folder, board, &ThisMachine).map_err(|why| Failure::new(Exit::Usage, why))?;
    }
    let world = OnBoard(args.board.as_deref());
    let config = match Config::read_in(&path, &world) {
        Ok(config) => Some(config),
        Err(ConfigError::Wrong(wrong)) => {
            complaints = wrong.0;
            None
        }
        Err(error @ ConfigError::Read { .. }) if !args.json => return Err(Failure::new(Exit::Config, error)),
        Err(error @ ConfigError::Read { .. }) => {
            let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
            let message = format!("{error}{cause}");
            complaints.push(Complaint { file: path.clone(), line: 1, column: 1, message });
            None
        }
    };
    // The places of keys come from the text; if the file has gone meanwhile, its first line must do.
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some(config) = &config {
        complaints.extend(certificates(config, &text));
        complaints.extend(outbox_folder(config, &text));
        // A port that this machine has need not stand in its board's file.
        let is_there = |port: &str| args.board.is_none() && Path::new(port).exists();
        complaints.extend(ports_of_other_boards(config, &text, is_there));
    }
    // What `run` would compute with; a supposed board's kernels may not exist on this machine.
    if let (None, Some(config)) = (&args.board, &config)
        && let Some(kernels) = config.device.board.kernels
    {
        engine::kernels::prefer(kernels);
    }
    let models = models(config.as_ref(), &path, &text, &world, &mut complaints);
    let ceiling = config.as_ref().map(|config| ceiling(config, &models));
    if let (Some(config), Some(ceiling)) = (&config, &ceiling) {
        complaints.extend(too_big(config, ceiling, &text));
    }
    let sized = config.as_ref().zip(ceiling.as_ref());
    let warnings = warnings(sized, &models);
    let said = match &config {
        _ if args.json => {
            let most = ceiling.as_ref().map(Ceiling::bytes);
            let memory = sized.map(|(config, ceiling)| memory(config, ceiling));
            let said = json!({
                "ok": complaints.is_empty(), "complaints": listed(&complaints), "warnings": warnings,
                "memory_ceiling_bytes": most, "memory": memory,
            });
            format!("{said}\n")
        }
        Some(config) if complaints.is_empty() => {
            let warnings: String = warnings.iter().map(|words| format!("  warning   {words}\n")).collect();
            summary(config, &models, ceiling.as_ref()) + &warnings
        }
        _ => complaints.iter().map(|complaint| format!("{complaint}\n")).collect(),
    };
    // Whoever closes the pipe early has read enough; the exit code still holds.
    let _ = std::io::stdout().write_all(said.as_bytes());
    match complaints.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Config, format!("{}: 1 complaint", path.display()))),
        n => Err(Failure::new(Exit::Config, format!("{}: {n} complaints", path.display()))),
    }
}

fn listed(complaints: &[Complaint]) -> Vec<serde_json::Value> {
    let object = |complaint: &Complaint| {
        json!({
            "file": complaint.file.display().to_string(),
            "line": complaint.line,
            "column": complaint.column,
            "message": complaint.message,
        })
    };
    complaints.iter().map(object).collect()
}

/// This machine, supposed to be a board: what it has of its own is not that board's.
struct OnBoard<'b>(Option<&'b str>);

impl World for OnBoard<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        ThisMachine.variable(name)
    }

    fn host_name(&self) -> Option<String> {
        ThisMachine.host_name()
    }

    fn board(&self) -> Option<&str> {
        self.0
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        ThisMachine.read(path)
    }
}

/// What the text says about memory, for a machine. `fits` is null where the board has no budget.
fn memory(config: &Config, ceiling: &Ceiling) -> serde_json::Value {
    let budget = config.device.board.memory_budget_bytes;
    json!({
        "needed_bytes": ceiling.needed_bytes(),
        "most_bytes": ceiling.bytes(),
        "budget_bytes": budget,
        "fits": budget.map(|_| beyond_budget(config, ceiling).is_none()),
    })
}

/// Models that the board cannot work with, however empty the queues are.
fn too_big(config: &Config, ceiling: &Ceiling, text: &str) -> Option<Complaint> {
    let board = &config.device.board;
    let budget = board.memory_budget_bytes.filter(|budget| ceiling.needed_bytes() > *budget)?;
    let message = format!(
        "needs {} for the program, models and sessions alone, and the board {} has a budget of {}; take a smaller \
         model, fewer [runtime] workers, or a larger board",
        mib(ceiling.needed_bytes()),
        board.name,
        mib(budget)
    );
    Some(agree::at_key(&config.file, text, &["device", "board"], message))
}

/// Ports that the board does not have, but for those that are there all the same.
fn ports_of_other_boards(config: &Config, text: &str, is_there: impl Fn(&str) -> bool) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (index, pipeline) in config.pipelines.iter().enumerate() {
        let read = match &pipeline.source.kind {
            SourceKind::Serial(serial) => Some(("source", &serial.port)),
            SourceKind::Mqtt { .. } => None,
        };
        let written = pipeline.write_back.as_ref().map(|write_back| ("write_back", &write_back.port));
        let written = written.filter(|(_, port)| read.is_none_or(|(_, read)| read != *port));
        for (table, port) in [read, written].into_iter().flatten() {
            if let Some(message) = config.device.board.lacks_port(port).filter(|_| !is_there(port)) {
                complaints.push(agree::at(&config.file, text, index, &[table, "port"], message));
            }
        }
    }
    complaints
}

/// What models could be read and verified, by folder.
#[derive(Default)]
struct Models {
    cards: BTreeMap<PathBuf, Card>,
    verified: BTreeMap<PathBuf, Verified>,
}

/// What holds nobody up and somebody should know of the models.
fn warnings(sized: Option<(&Config, &Ceiling)>, models: &Models) -> Vec<String> {
    let memory = sized.and_then(|(config, ceiling)| beyond_budget(config, ceiling));
    let of = |verified: &Verified| {
        let name = verified.card.name.clone();
        verified.warnings().into_iter().map(move |words| format!("model {name}: {words}"))
    };
    memory.into_iter().chain(models.verified.values().flat_map(of)).collect()
}

/// More than the board grants, in the worst moment.
fn beyond_budget(config: &Config, ceiling: &Ceiling) -> Option<String> {
    let board = &config.device.board;
    let budget = board.memory_budget_bytes.filter(|budget| ceiling.bytes() > *budget)?;
    Some(format!(
        "memory: at most {} MiB are more than the {} MiB of board {}: lower {}",
        ceiling.bytes().div_ceil(1 << 20),
        budget >> 20,
        board.name,
        what_to_lower(config)
    ))
}

/// The most memory that `run` would take.
fn ceiling(config: &Config, models: &Models) -> Ceiling {
    let named = config.pipelines.iter().map(|pipeline| pipeline.model.as_str());
    let verified = named.filter_map(|name| Some((name, models.verified.get(&config.models.join(name))?)));
    Ceiling::of(config, &verified.collect())
}

/// Cards and models. What is wrong with them, with their models, and between a model and its pipeline
/// joins the complaints; so it does when the config itself is wrong (`config` is `None`).
fn models(
    config: Option<&Config>,
    file: &Path,
    text: &str,
    world: &dyn World,
    complaints: &mut Vec<Complaint>,
) -> Models {
    let Models { mut cards, mut verified } = Models::default();
    let pipelines = match config {
        Some(config) => config.pipelines.iter().cloned().map(Some).collect(),
        None => Config::pipelines_in(text, file, world),
    };
    let mut refused: Vec<PathBuf> = Vec::new();
    for (index, folder) in agree::model_folders(text, file, world) {
        if refused.contains(&folder) {
            continue;
        }
        if !cards.contains_key(&folder) {
            if !folder.is_dir() {
                let parent = folder.parent().unwrap_or(Path::new(""));
                let message = format!("there is no model folder {}; {}", folder.display(), remedy(parent));
                complaints.push(agree::at(file, text, index, &["model"], message));
                refused.push(folder);
                continue;
            }
            match Card::read(&folder) {
                Ok(card) => {
                    match check_model(&card) {
                        Ok(model) => _ = verified.insert(folder.clone(), model),
                        Err(complaint) => complaints.push(complaint),
                    }
                    cards.insert(folder.clone(), card);
                }
                Err(wrong) => {
                    complaints.extend(wrong.0);
                    refused.push(folder);
                    continue;
                }
            }
        }
        if let Some(Some(pipeline)) = pipelines.get(index) {
            let disagree = agree::complaints(file, text, index, pipeline, &cards[&folder]);
            // What the graph itself contradicts is only looked at where config and card agree.
            if disagree.is_empty()
                && let Some(config) = config
                && let Some(verified) = verified.get(&folder)
                && let Err(words) = boot::pipeline(config, index, verified)
            {
                let message = format!("model {}: {words}", verified.card.name);
                complaints.push(agree::at(file, text, index, &["model"], message));
            }
            complaints.extend(disagree);
        }
    }
    Models { cards, verified }
}

/// What to do about a model that is not there: the folders that are.
fn remedy(models: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(models) else {
        return format!("the model path {} cannot be read; set [models] path", models.display());
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("model.toml").is_file())
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    match names.len() {
        0 => format!("{} holds no model; copy one there, or set [models] path", models.display()),
        1..=20 => format!("{} has {}", models.display(), names.join(", ")),
        n => format!("{} has {n} others", models.display()),
    }
}

/// Certificates that cannot be opened or used: `run` would fail to connect, again and again.
fn certificates(config: &Config, text: &str) -> Vec<Complaint> {
    let Some(tls) = &config.broker.tls else { return Vec::new() };
    let identity = tls.identity.as_ref();
    let files = [
        ("ca_file", tls.ca_file.as_ref()),
        ("cert_file", identity.map(|(cert, _)| cert)),
        ("key_file", identity.map(|(_, key)| key)),
    ];
    let wrong = |(key, path): (&str, Option<&PathBuf>)| {
        let path = path?;
        let error = std::fs::read(path).err()?;
        let message = format!("{key} {} cannot be read: {error}", path.display());
        Some(agree::at_key(&config.file, text, &["broker", key], message))
    };
    let unreadable: Vec<Complaint> = files.into_iter().filter_map(wrong).collect();
    let unusable = if unreadable.is_empty() { tls::look(tls).err() } else { None };
    let unusable = unusable.map(|error| {
        let key = match &error {
            TlsError::Pem { path, .. } => files.iter().find(|(_, file)| *file == Some(path)),
            TlsError::NoAuthorities { .. } => files.first(),
            _ => files.get(1),
        };
        let key = key.map_or("url", |(key, _)| key);
        agree::at_key(&config.file, text, &["broker", key], in_words(&error))
    });
    unreadable.into_iter().chain(unusable).collect()
}

/// An outbox folder that `run` would refuse, or could not write to.
fn outbox_folder(config: &Config, text: &str) -> Option<Complaint> {
    let error = place::usable(&config.outbox.path).err()?;
    Some(agree::at_key(&config.file, text, &["outbox", "path"], in_words(&error)))
}

/// The model behind a card, or what is wrong with it: its bytes, its graph, its golden cases on this
/// device.
fn check_model(card: &Card) -> Result<Verified, Complaint> {
    let verified = boot::verify(card.clone());
    // The daemon runs one batch size; here is the time to look at the others as well.
    let verified = verified.and_then(|verified| {
        boot::verify_batches(card)?;
        Ok(verified)
    });
    verified.map_err(|error| {
        let file = card.folder.join("model.toml");
        let key: &[&str] = match &error {
            VerifyError::Card(_) => &[],
            VerifyError::Model(ModelError::Digest { .. }) => &["graph", "sha256"],
            VerifyError::Model(ModelError::Golden { .. } | ModelError::GoldenFile { .. }) => &["golden"],
            VerifyError::Model(_) | VerifyError::Mismatch(_) => &["graph"],
        };
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        agree::at_key(&file, &text, key, in_words(&error))
    })
}

/// What was understood, for people.
fn summary(config: &Config, models: &Models, ceiling: Option<&Ceiling>) -> String {
    let broker = &config.broker;
    let scheme = if broker.tls.is_some() { "mqtts" } else { "mqtt" };
    // An IPv6 address is only one behind brackets.
    let host = if broker.host.contains(':') { format!("[{}]", broker.host) } else { broker.host.clone() };
    let login = broker.login.as_ref().map_or(String::new(), |(user, _)| format!(" as {user}"));
    let mut lines = vec![
        format!("{}: all well", config.file.display()),
        format!(
            "  device    {} on {}, {} worker(s)",
            config.device.id, config.device.board.name, config.runtime.workers
        ),
        format!("  broker    {scheme}://{host}:{}{login}", broker.port),
        format!("  outbox    {}, at most {} bytes", config.outbox.path.display(), config.outbox.max_bytes),
    ];
    if let Some(listen) = config.http {
        lines.push(format!("  http      {listen}"));
    }
    for pipeline in &config.pipelines {
        let place = pipeline.source.kind.place();
        lines.push(format!(
            "  pipeline  {}: {place} → {} → {}",
            pipeline.name, pipeline.model, pipeline.publish.topic
        ));
    }
    for card in models.cards.values() {
        lines.push(format!("  model     {} {}: {}", card.name, card.version, card.summary));
    }
    if let Some(ceiling) = ceiling {
        lines.push(format!("  memory    {ceiling}"));
    }
    lines.join("\n") + "\n"
}

/// Keys that bound what a daemon takes. A picture of `max_pixels` is most of it wherever one is decoded.
fn what_to_lower(config: &Config) -> &'static str {
    if config.pipelines.iter().any(|pipeline| pipeline.decode.format == Format::Image) {
        "[decode] max_pixels, [runtime] workers, queue_bytes, max_payload_bytes or memory_bytes"
    } else {
        "queue_bytes, max_payload_bytes or memory_bytes"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[device]\nid = \"d\"\n[broker]\nurl = \"mqtt://[::1]\"\n[[pipeline]]\nname = \"p\"\n\
        model = \"m\"\nsource = { kind = \"mqtt\", topic = \"in\" }\ndecode = { format = \"json\" }\n";

    /// A folder with this config and, if any, this card of the model `m`; what `check` makes of it.
    fn check(config: &str, card: Option<&str>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("l.toml");
        std::fs::write(&file, config).unwrap();
        if let Some(card) = card {
            let model = folder.path().join("models/m");
            std::fs::create_dir_all(&model).unwrap();
            std::fs::write(model.join("model.toml"), card).unwrap();
        }
        let read = Config::read(&file);
        let mut complaints = Vec::new();
        models(read.as_ref().ok(), &file, config, &ThisMachine, &mut complaints);
        if let Ok(config) = &read {
            complaints.extend(certificates(config, &std::fs::read_to_string(&file).unwrap()));
        }
        let here = format!("{}/", folder.path().display());
        complaints.iter().map(|complaint| complaint.to_string().replace(&here, "")).collect()
    }

    #[test]
    fn a_model_that_is_not_there_is_told_at_the_pipeline_that_names_it() {
        let found = check(CONFIG, None);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("l.toml:7:9: there is no model folder models/m;"), "{found:?}");
        let twice =
            format!("{CONFIG}{}", &CONFIG[CONFIG.find("[[pipeline]]").unwrap()..].replace("\"p\"", "\"q\""));
        assert_eq!(check(&twice, None).len(), 1, "one folder, one complaint");
    }

    #[test]
    fn a_card_is_checked_even_when_the_config_is_wrong_as_well() {
        let card = "schema = \"lineside.card/1\"\nname = \"x\"\n";
        let right = check(CONFIG, Some(card));
        assert!(right.len() > 5, "{right:?}");
        assert!(right.iter().all(|complaint| complaint.starts_with("models/m/model.toml:")), "{right:?}");
        assert_eq!(check(&CONFIG.replace("[::1]", ""), Some(card)), right);
    }

    #[test]
    fn how_a_pipeline_fits_its_model_is_told_beside_the_mistakes_of_the_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let card = std::fs::read_to_string(root.join("models/surface-pitting/model.toml")).unwrap();
        let card = card.replace("surface-pitting", "m");
        let told = |found: Vec<String>| found.iter().any(|words| words.contains("looks at pictures"));
        assert!(told(check(CONFIG, Some(&card))));
        assert!(told(check(&CONFIG.replace("[broker]\n", "[broker]\nbord = 1\n"), Some(&card))));
    }

    #[test]
    fn a_certificate_that_cannot_be_opened_is_told() {
        let config = CONFIG.replace("mqtt://[::1]\"", "mqtts://b\"\nca_file = \"none.pem\"");
        let found = check(&config, None);
        assert!(found[1].starts_with("l.toml:5:11: ca_file none.pem cannot be read"), "{found:?}");
    }

    #[test]
    fn certificates_and_keys_that_are_none_are_told_at_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let junk = "-----BEGIN CERTIFICATE-----\nnot base64 %\n-----END CERTIFICATE-----\n";
        let (junk, empty, key) = (file("junk.pem", junk), file("empty.pem", ""), file("key.pem", ""));
        let with = |lines: &str| {
            check(&CONFIG.replace("mqtt://[::1]\"", &format!("mqtts://b\"\n{lines}")), None).join("\n")
        };
        let found = with(&format!("ca_file = \"{junk}\""));
        assert!(found.contains("l.toml:5:11: cannot use") && found.contains("as PEM"), "{found}");
        let found = with(&format!("ca_file = \"{empty}\""));
        assert!(found.contains("l.toml:5:11: no certificate authority found"), "{found}");
        let found = with(&format!("cert_file = \"{empty}\"\nkey_file = \"{key}\""));
        assert!(found.contains("l.toml:6:12: cannot use") && found.contains("as PEM"), "{found}");
    }

    #[test]
    fn a_port_that_the_board_lacks_is_told_at_its_key_unless_it_is_there() {
        let config = CONFIG.replace("id = \"d\"", "id = \"d\"\nboard = \"raspberry-pi-4\"").replace(
            "{ kind = \"mqtt\", topic = \"in\" }",
            "{ kind = \"serial\", port = \"/dev/ttyS1\", framing = \"line\" }",
        ) + "write_back = { as = \"line\", port = \"/dev/ttymxc0\", text = \"{verdict}\" }\n";
        let read = Config::parse(&config, Path::new("l.toml"), &|_: &str| None).unwrap();
        let found: Vec<String> =
            ports_of_other_boards(&read, &config, |_| false).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("l.toml:9:36: the board raspberry-pi-4 has no /dev/ttyS1"), "{found:?}");
        assert!(found[0].contains("did you mean /dev/ttyS0?"), "{found:?}");
        assert!(found[1].contains("no /dev/ttymxc0"), "{found:?}");
        assert!(ports_of_other_boards(&read, &config, |_| true).is_empty());
        let other = config.replace("raspberry-pi-4", "generic");
        let read = Config::parse(&other, Path::new("l.toml"), &|_: &str| None).unwrap();
        assert!(ports_of_other_boards(&read, &other, |_| false).is_empty());
    }

    #[test]
    fn memory_beyond_the_budget_is_told_to_machines_and_pictures_by_their_key() {
        let zero = CONFIG.replace("id = \"d\"", "id = \"d\"\nboard = \"raspberry-pi-zero\"");
        let read = |text: &str| Config::parse(text, Path::new("l.toml"), &|_: &str| None).unwrap();
        let with = |config: &Config, bytes| {
            let ceiling = Ceiling { parts: vec![("program", 48 << 20), ("queues", bytes)], unknown: vec![] };
            (memory(config, &ceiling), warnings(Some((config, &ceiling)), &Models::default()).concat())
        };
        let config = read(&zero);
        let (json, text) = with(&config, 145 << 20);
        assert_eq!(json["fits"], false);
        assert_eq!(
            (&json["needed_bytes"], &json["most_bytes"], &json["budget_bytes"]),
            (&json!(48 << 20), &json!(193 << 20), &json!(192 << 20))
        );
        assert!(text.contains("more than the 192 MiB") && !text.contains("max_pixels"), "{text}");
        let (json, text) = with(&config, 144 << 20);
        assert_eq!((&json["fits"], text.as_str()), (&json!(true), ""));
        let (_, text) = with(&read(&zero.replace("\"json\"", "\"image\"")), 145 << 20);
        assert!(text.contains("lower [decode] max_pixels"), "{text}");
        let generic = CONFIG.replace("id = \"d\"", "id = \"d\"\nboard = \"generic\"");
        assert_eq!(with(&read(&generic), 1 << 40).0["fits"], serde_json::Value::Null);
    }

    #[test]
    fn what_the_package_brings_fits_every_board() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = include_str!("../../deploy/lineside.toml");
        let text = text.replace("/usr/share/lineside/models", &root.join("models").display().to_string());
        for name in Board::names() {
            let text = text
                .replace("#id =", "id =")
                .replace("#board = \"raspberry-pi-4\"", &format!("board = {name:?}"));
            let file = Path::new("l.toml");
            let config = Config::parse(&text, file, &|_: &str| None).unwrap();
            assert_eq!(config.device.board.name, name);
            let mut complaints = Vec::new();
            let models = models(Some(&config), file, &text, &ThisMachine, &mut complaints);
            let ceiling = ceiling(&config, &models);
            assert_eq!(complaints, []);
            assert_eq!(warnings(Some((&config, &ceiling)), &models), [""; 0], "{name}");
        }
    }

    #[test]
    fn the_summary_writes_addresses_as_they_are_dialled() {
        let config = Config::parse(CONFIG, Path::new("l.toml"), &|_: &str| None).unwrap();
        let text = summary(&config, &Models::default(), None);
        assert!(text.contains("mqtt://[::1]:1883"), "{text}");
        assert!(text.contains("p: in → m → lineside/{device}/{pipeline}/result"), "{text}");
    }
}
