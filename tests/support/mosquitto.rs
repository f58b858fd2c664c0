//! Debian's mosquitto as a child process on a free loopback port, ended on drop.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{SOON, eventually, free_port};

/// How the broker is set up; the default lets everybody in and forgets everything at its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Users with passwords; empty: no login is asked for.
    pub(crate) users: Vec<(&'static str, &'static str)>,
    /// Sessions and messages survive a restart.
    pub(crate) persistent: bool,
    /// A second listener with TLS.
    pub(crate) tls: bool,
    /// The name in its certificate; none: `localhost`.
    pub(crate) certificate_for: Option<&'static str>,
    /// Its certificate has expired by now.
    pub(crate) expired: bool,
    /// It wants to see a certificate of its clients, signed by the same authority.
    pub(crate) wants_certificate: bool,
    /// Subscriptions are refused but for these filters.
    pub(crate) only_subscribe: Option<Vec<&'static str>>,
    /// It closes connections over packets that are larger.
    pub(crate) max_packet_size: Option<u32>,
    /// Client ids must start like this.
    pub(crate) client_id_prefix: Option<&'static str>,
}

/// A running broker.
pub(crate) struct Mosquitto {
    child: Option<Child>,
    folder: TempDir,
    setup: Setup,
    /// Plain MQTT on 127.0.0.1.
    pub(crate) port: u16,
    /// MQTT over TLS on localhost, where asked for.
    pub(crate) tls_port: u16,
}

impl Mosquitto {
    /// A broker as asked for, ready to take connections.
    pub(crate) fn start_with(setup: Setup) -> Self {
        let mut broker = Self::planned(setup);
        broker.resume();
        broker
    }

    /// Chooses ports and writes files; `resume` starts it.
    pub(crate) fn planned(setup: Setup) -> Self {
        let folder = TempDir::with_prefix("lineside-mosquitto-").expect("a temporary folder");
        if setup.tls {
            authority(folder.path());
            certify(folder.path(), "server", &setup);
            certify(folder.path(), "client", &Setup::default());
        }
        Self { child: None, folder, setup, port: free_port(), tls_port: free_port() }
    }

    /// Changes the setup; holds from the next `resume`. A certificate is made anew, by the same authority.
    pub(crate) fn change(&mut self, setup: Setup) {
        if setup.tls {
            certify(self.folder.path(), "server", &setup);
        }
        self.setup = setup;
    }

    /// Starts it again on the same ports.
    pub(crate) fn resume(&mut self) {
        let config = self.folder.path().join("mosquitto.conf");
        fs::write(&config, self.config()).expect("the temporary folder is writable");
        let child = Command::new(binary("mosquitto"))
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("mosquitto does not start: {error}\n  {INSTALL}"));
        self.child = Some(child);
        let up = eventually(SOON, || TcpStream::connect(("127.0.0.1", self.port)).ok());
        assert!(up.is_some(), "mosquitto does not listen on {}; its log:\n{}", self.port, self.log());
    }

    /// Ends it in order: a persistent one writes its store first.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        super::daemon::signal(child.id(), "TERM");
        if eventually(SOON, || child.try_wait().ok().flatten()).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `stop`, then `resume`.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.resume();
    }

    /// What it wrote about itself.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The certificate authority of the TLS listener.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate and its key for a client, signed by the same authority.
    pub(crate) fn client_certificate(&self) -> (PathBuf, PathBuf) {
        (self.folder.path().join("client.pem"), self.folder.path().join("client.key"))
    }

    fn config(&self) -> String {
        let folder = self.folder.path().display();
        let mut text = format!(
            "user root\nset_tcp_nodelay true\nlog_dest file {folder}/log\nlog_type all\n\
             max_queued_messages 0\nmax_inflight_messages 100\nautosave_interval 1\n\
             allow_anonymous {}\npersistence {}\npersistence_location {folder}/\n",
            self.setup.users.is_empty(),
            self.setup.persistent,
        );
        let mut line = |args: std::fmt::Arguments<'_>| writeln!(text, "{args}").expect("text takes text");
        if !self.setup.users.is_empty() {
            line(format_args!("password_file {}", self.passwords().display()));
        }
        if let Some(bytes) = self.setup.max_packet_size {
            line(format_args!("max_packet_size {bytes}"));
        }
        if let Some(prefix) = self.setup.client_id_prefix {
            line(format_args!("clientid_prefixes {prefix}"));
        }
        if let Some(filters) = &self.setup.only_subscribe {
            line(format_args!("plugin {}", dynamic_security_plugin().display()));
            line(format_args!("plugin_opt_config_file {}", self.subscription_rules(filters).display()));
        }
        line(format_args!("listener {} 127.0.0.1", self.port));
        if self.setup.tls {
            line(format_args!("listener {} 127.0.0.1", self.tls_port));
            line(format_args!(
                "cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n\
                 require_certificate {}",
                self.setup.wants_certificate
            ));
        }
        text
    }

    fn passwords(&self) -> PathBuf {
        let file = self.folder.path().join("passwords");
        fs::write(&file, "").expect("the temporary folder is writable");
        for (user, password) in &self.setup.users {
            run(Command::new(binary("mosquitto_passwd")).arg("-b").arg(&file).args([user, password]));
        }
        file
    }

    fn subscription_rules(&self, filters: &[&str]) -> PathBuf {
        let acls: Vec<serde_json::Value> = filters
            .iter()
            .map(|filter| {
                serde_json::json!({"acltype": "subscribePattern", "topic": filter, "priority": 0, "allow": true})
            })
            .collect();
        let rules = serde_json::json!({
            "defaultACLAccess": {
                "publishClientSend": true, "publishClientReceive": true, "subscribe": false, "unsubscribe": true
            },
            "clients": [],
            "groups": [{"groupname": "anyone", "clients": [], "roles": [{"rolename": "listed"}]}],
            "roles": [{"rolename": "listed", "acls": acls}],
            "anonymousGroup": "anyone"
        });
        let file = self.folder.path().join("dynamic-security.json");
        fs::write(&file, rules.to_string()).expect("the temporary folder is writable");
        file
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const INSTALL: &str = "install it with: apt-get install -y mosquitto";

/// Debian puts daemons into `/usr/sbin`, which is not on everybody's path.
fn binary(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; {INSTALL}"))
}

fn dynamic_security_plugin() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").expect("/usr/lib is readable").flatten();
    libraries
        .map(|entry| entry.path().join("mosquitto_dynamic_security.so"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("mosquitto_dynamic_security.so is not under /usr/lib; {INSTALL}"))
}

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

fn openssl(folder: &Path) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(folder);
    command
}

fn authority(folder: &Path) {
    run(openssl(folder)
        .args(["req", "-x509", "-days", "2", "-subj", "/CN=test authority"])
        .args(NEW_KEY)
        .args(["-keyout", "ca.key", "-out", "ca.pem"]));
}

/// `NAME.pem` and `NAME.key`.
fn certify(folder: &Path, name: &str, setup: &Setup) {
    let names = match setup.certificate_for {
        None => "DNS:localhost,IP:127.0.0.1".to_owned(),
        Some(other) => format!("DNS:{other}"),
    };
    fs::write(folder.join("names"), format!("subjectAltName={names}\n"))
        .expect("the temporary folder is writable");
    let file = |kind: &str| format!("{name}.{kind}");
    run(openssl(folder).args(["req", "-subj", "/CN=a test"]).args(NEW_KEY).args([
        "-keyout",
        &file("key"),
        "-out",
        &file("csr"),
    ]));
    // Zero days: valid until the second in which it is made.
    let days = if setup.expired { "0" } else { "2" };
    run(openssl(folder)
        .args(["x509", "-req", "-days", days, "-in", &file("csr"), "-CA", "ca.pem", "-CAkey", "ca.key"])
        .args(["-CAcreateserial", "-extfile", "names", "-out", &file("pem")]));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?} does not start: {error}; install it with: apt-get install -y mosquitto openssl")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
