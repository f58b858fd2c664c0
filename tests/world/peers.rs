//! The peers themselves, before anything is held against them: brokers refuse what they should
//! refuse, and the tests' models mean what the tests say they mean.

use rumqttc::QoS::{AtLeastOnce, AtMostOnce};

use crate::support::client::Client;
use crate::support::models::{bright, bright_grey, brittle, lookup, means, slow, total, weigh};
use crate::support::mosquitto::{Mosquitto, Setup};
use crate::support::site::work_folder;
use crate::support::{SOON, oracle, shipped_models};

#[test]
fn onnxruntime_gives_the_golden_answers_of_the_tests_own_models() {
    let models = [weigh(), bright(), bright_grey(), means(), total(), brittle(), lookup(), slow(20)];
    let folder = work_folder(&models);
    for model in &models {
        oracle::agrees_with_golden(&folder.path().join("models").join(model.name));
    }
}

#[test]
fn onnxruntime_gives_the_golden_answers_of_the_shipped_models() {
    let mut models = 0;
    for entry in std::fs::read_dir(shipped_models()).expect("the project ships models").flatten() {
        if entry.path().join("model.toml").is_file() {
            oracle::agrees_with_golden(&entry.path());
            models += 1;
        }
    }
    assert!(models > 0, "no model folder in {}", shipped_models().display());
}

#[test]
fn a_persistent_broker_keeps_its_messages_over_a_restart_on_the_same_port() {
    let mut broker = Mosquitto::start_with(Setup { persistent: true, ..Setup::default() });
    let mut client = Client::connect(broker.port, "a");
    assert!(client.subscribe("t/#", AtLeastOnce));
    client.publish("t/1", AtLeastOnce, "before");
    client.flush();
    client.wait_for("t/1", SOON, |message| message.payload == b"before");
    broker.restart();
    let mut other = Client::connect(broker.port, "b");
    // The client subscribes again as soon as it is back.
    let back = crate::support::eventually(SOON, || {
        other.publish("t/2", AtMostOnce, "after");
        client
            .wait_until("t/2", std::time::Duration::from_millis(200), |heard| !heard.is_empty())
            .then_some(())
    });
    assert!(back.is_some(), "{}", broker.log());
}

#[test]
fn a_broker_with_users_lets_only_them_in() {
    let broker = Mosquitto::start_with(Setup { users: vec![("press", "right")], ..Setup::default() });
    let client = Client::connect_as(broker.port, "a", Some(("press", "right")));
    assert!(client.subscribe("t", AtLeastOnce));
    let stranger = std::panic::catch_unwind(|| {
        let mut options = rumqttc::MqttOptions::new("b", "127.0.0.1", broker.port);
        options.set_credentials("press", "wrong");
        let (_client, mut connection) = rumqttc::Client::new(options, 1);
        connection.iter().next().unwrap().is_err()
    });
    assert!(stranger.unwrap(), "{}", broker.log());
}

#[test]
fn a_broker_with_rules_refuses_other_subscriptions() {
    let setup = Setup { only_subscribe: Some(vec!["lineside/#"]), ..Setup::default() };
    let broker = Mosquitto::start_with(setup);
    let client = Client::connect(broker.port, "a");
    assert!(client.subscribe("lineside/#", AtLeastOnce), "{}", broker.log());
    assert!(!client.subscribe("s/frame", AtLeastOnce), "{}", broker.log());
}

#[test]
fn a_broker_with_a_client_id_rule_refuses_other_ids() {
    let setup = Setup { client_id_prefix: Some("accepted-"), ..Setup::default() };
    let broker = Mosquitto::start_with(setup);
    let _client = Client::connect(broker.port, "accepted-1");
    let (_stranger, mut connection) =
        rumqttc::Client::new(rumqttc::MqttOptions::new("stranger", "127.0.0.1", broker.port), 1);
    assert!(connection.iter().next().unwrap().is_err(), "{}", broker.log());
}

#[test]
fn a_broker_with_tls_shows_a_certificate_that_its_authority_signed() {
    let broker = Mosquitto::start_with(Setup { tls: true, ..Setup::default() });
    let output = std::process::Command::new("openssl")
        .args(["s_client", "-brief", "-verify_return_error", "-verify_hostname", "localhost"])
        .arg("-CAfile")
        .arg(broker.ca_file())
        .args(["-connect", &format!("127.0.0.1:{}", broker.tls_port)])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("Verification: OK"), "{said}\n{}", broker.log());
}
