//! TLS with mosquitto's listeners and certificates made by openssl: what does not fit is said in words
//! that tell what to mend, and a renewed file needs no restart.

use std::path::PathBuf;

use rumqttc::QoS::AtLeastOnce;

use crate::support::SOON;
use crate::support::daemon::Daemon;
use crate::support::models::weigh;
use crate::support::mosquitto::Setup;
use crate::support::site::{AVAILABILITY, Site, pipeline, result, write_config};

fn site(setup: Setup) -> Site {
    Site::with(Setup { tls: true, ..setup }, &[weigh()])
}

/// The usual configuration over TLS; `more` are further lines of `[broker]`.
fn configure(site: &Site, more: &str) -> PathBuf {
    let ca_file = site.broker.ca_file();
    let broker = format!(
        "url = \"mqtts://localhost:{}\"\nca_file = \"{}\"\n{more}",
        site.broker.tls_port,
        ca_file.display()
    );
    write_config(site.folder.path(), &broker, &site.models(), &pipeline("scale", "weigh", "s/frame", "json"))
}

fn answers(site: &mut Site) {
    site.client.publish("s/frame", AtLeastOnce, "[1,2,3]");
    site.client.wait_for(&result("scale"), SOON, |_| true);
}

fn wait_online(site: &Site, daemon: &Daemon) {
    let online = site.client.wait_until(AVAILABILITY, SOON, |messages| {
        messages.last().is_some_and(|message| message.payload == b"online")
    });
    assert!(online, "{}", daemon.log());
}

#[test]
fn another_name_is_said_with_both_names_and_server_name_mends_it() {
    let mut site = site(Setup { certificate_for: Some("line.example"), ..Setup::default() });
    let daemon = Daemon::spawn(&configure(&site, ""));
    daemon.wait_log(&["is for", "line.example", "not for \"localhost\"", "server_name"], SOON);
    drop(daemon);
    let _daemon = site.start(&configure(&site, "server_name = \"line.example\""));
    answers(&mut site);
}

#[test]
fn an_expired_certificate_is_said_with_its_date_and_a_renewed_one_needs_no_restart() {
    let mut site = site(Setup { expired: true, ..Setup::default() });
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let daemon = Daemon::spawn(&configure(&site, ""));
    daemon.wait_log(&["certificate has expired on 20", "clock says 20"], SOON);
    site.broker.change(Setup { tls: true, ..Setup::default() });
    site.broker.restart();
    wait_online(&site, &daemon);
    answers(&mut site);
}

#[test]
fn an_authority_that_is_not_trusted_is_said_and_a_changed_file_is_read_at_the_next_attempt() {
    let mut site = site(Setup::default());
    let stranger = Site::with(Setup { tls: true, ..Setup::default() }, &[]);
    let ours = site.folder.path().join("authority.pem");
    std::fs::copy(stranger.broker.ca_file(), &ours).unwrap();
    let config = configure(&site, "");
    let text = std::fs::read_to_string(&config).unwrap();
    let theirs = site.broker.ca_file();
    std::fs::write(&config, text.replace(&theirs.display().to_string(), &ours.display().to_string()))
        .unwrap();
    let daemon = Daemon::spawn(&config);
    daemon.wait_log(&["signed by nobody that we trust", "ca_file"], SOON);
    std::fs::copy(theirs, &ours).unwrap();
    wait_online(&site, &daemon);
    answers(&mut site);
}

#[test]
fn a_broker_that_wants_to_see_a_certificate_is_told_from_one_that_refuses_it() {
    let mut site = site(Setup { wants_certificate: true, ..Setup::default() });
    let daemon = Daemon::spawn(&configure(&site, ""));
    daemon.wait_log(&["wants to see a certificate of ours", "cert_file"], SOON);
    drop(daemon);
    let (certificate, key) = site.broker.client_certificate();
    let mutual = format!("cert_file = \"{}\"\nkey_file = \"{}\"", certificate.display(), key.display());
    let _daemon = site.start(&configure(&site, &mutual));
    answers(&mut site);
}

#[test]
fn a_port_without_tls_is_said() {
    let site = site(Setup::default());
    let config = configure(&site, "");
    let text = std::fs::read_to_string(&config).unwrap();
    let [tls, plain] = [site.broker.tls_port, site.broker.port].map(|port| format!("localhost:{port}"));
    std::fs::write(&config, text.replace(&tls, &plain)).unwrap();
    Daemon::spawn(&config).wait_log(&["TLS", "intake connection"], SOON);
}

#[test]
fn a_password_is_in_no_log_however_much_is_logged() {
    const PASSWORD: &str = "geheim-6fd1c0";
    let setup = Setup { users: vec![("press", PASSWORD), ("test", "test")], ..Setup::default() };
    let broker = crate::support::mosquitto::Mosquitto::start_with(setup);
    let folder = crate::support::site::work_folder(&[weigh()]);
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    for given in
        [format!("password_file = \"{}\"", file.display()), "password = \"${THE_PASSWORD}\"".to_owned()]
    {
        let lines = format!("url = \"mqtt://127.0.0.1:{}\"\nusername = \"press\"\n{given}", broker.port);
        let models = folder.path().join("models");
        let config =
            write_config(folder.path(), &lines, &models, &pipeline("scale", "weigh", "s/frame", "json"));
        let environment = [("LINESIDE_LOG", "trace"), ("THE_PASSWORD", PASSWORD)];
        let mut daemon = Daemon::spawn_with(&config, &environment);
        daemon.wait_log(&["taking frames"], SOON);
        assert_eq!(daemon.stop(SOON), Some(0));
        assert!(daemon.log().len() > 500, "it does log:\n{}", daemon.log());
        assert!(!daemon.log().contains(PASSWORD), "{}", daemon.log());
    }
}
