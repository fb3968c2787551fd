//! Our key and those of others: `identity` and `peer add DOMAIN KEY`, with a server and without.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{Said, Server, postern};

/// For commands; a server is given [`SERVER`], which opens no door on a fixed port.
const CONFIG: &str = "hostname = \"mx.ours.example\"\n[smtp]\nlisten = \"127.0.0.1:0\"\n[dns]\nidentity = false\n\
                      [door]\nlisten = \"127.0.0.1:2599\"\n\
                      [recipients]\n\"ours.example\" = \"any\"\n\"too.example\" = \"any\"\n\"localhost\" = \"any\"\n";

const SERVER: &str = "[smtp]\nlisten = \"127.0.0.1:0\"\n[dns]\nidentity = false\n\
                      [recipients]\n\"ours.example\" = \"any\"\n\"too.example\" = \"any\"\n\"localhost\" = \"any\"\n";

fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("c.toml"), CONFIG).expect("written");
    fs::write(dir.path().join("s.toml"), SERVER).expect("written");
    fs::create_dir(dir.path().join("postern-data")).expect("made");
    dir
}

fn run(dir: &Path, args: &[&str]) -> Said {
    let said = postern(dir, args);
    assert_eq!(said.code, 0, "{args:?}: {}{}", said.out, said.err);
    said
}

fn value(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&run(dir, args).out).expect("JSON")
}

/// The key in use.
fn public(dir: &Path) -> String {
    value(dir, &["identity", "show", "--json", "-c", "c.toml"])["public"].as_str().expect("a key").to_owned()
}

/// The data of all records of one type at one name.
fn published(dir: &Path, kind: &str, name: &str) -> Vec<String> {
    let told = value(dir, &["identity", "dns", "--json", "-c", "c.toml"]);
    let records = told["records"].as_array().expect("records").iter();
    let records = records.filter(|record| record["type"] == kind && record["name"] == name);
    records.map(|record| record["data"].as_str().expect("text").to_owned()).collect()
}

fn wait_is_over(dir: &Path) {
    let next = File::options().write(true).open(dir.join("postern-data/door/key.next")).expect("a next key");
    next.set_modified(SystemTime::now() - Duration::from_secs(26 * 3600)).expect("set");
}

#[test]
fn the_key_is_made_once_for_the_server_alone_and_shown_without_its_private_half() {
    let dir = site();
    let shown = run(dir.path(), &["identity", "show", "-c", "c.toml"]).out;
    let key = public(dir.path());
    assert!(key.starts_with("MCowBQYDK2VwAyEA") && key.len() == 60, "{key}");
    for part in [key.as_str(), "ours.example, too.example", "mx.ours.example:2599", "postern-data/door/key"] {
        assert!(shown.contains(part), "{shown} lacks {part}");
    }
    assert!(!shown.contains("localhost"), "{shown}");
    let file = dir.path().join("postern-data/door/key");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let private = fs::read_to_string(&file).expect("readable");
    let secret = private.lines().find(|line| !line.starts_with('-')).expect("a line of base64");
    assert!(!shown.contains(secret));
}

#[test]
fn keys_are_shown_and_pinned_on_a_machine_where_no_server_ever_ran() {
    let (dir, friend) = (site(), site());
    fs::remove_dir(dir.path().join("postern-data")).expect("empty");
    let key = public(friend.path());
    let mode = |path: &str| fs::metadata(dir.path().join(path)).expect(path).permissions().mode() & 0o777;
    for (data, first) in [
        ("a/shown", vec!["identity", "show", "--data", "a/shown"]),
        ("postern-data", vec!["peer", "add", "friend.example", &key, "-c", "c.toml"]),
        ("c/pin", vec!["peer", "add", "192.0.2.7", "--data", "c/pin"]),
    ] {
        // What is not there is not made by a look, or by taking something out of it.
        run(dir.path(), &["peer", "ls", "--data", data]);
        assert_eq!(postern(dir.path(), &["peer", "rm", "friend.example", "--data", data]).code, 65);
        assert!(!dir.path().join(data).exists(), "{data}");
        run(dir.path(), &first);
        assert_eq!(mode(data), 0o700, "{data}");
    }
    assert_eq!((mode("a/shown/door"), mode("a/shown/door/key")), (0o700, 0o600));
    assert_eq!((mode("postern-data/door"), mode("postern-data/door/peers")), (0o700, 0o600));
    let shown = value(dir.path(), &["identity", "show", "--json", "--data", "a/shown"])["public"].clone();
    // And the server that comes then has them.
    let server = Server::spawn(dir.path(), &["-c", "s.toml"]);
    let listed = server.command(&["peer", "ls"]).out;
    assert!(listed.contains(&key), "{listed}");
    let again = value(dir.path(), &["identity", "show", "--json", "--data", "a/shown"])["public"].clone();
    assert_eq!(again, shown, "made once");
    fs::write(dir.path().join("file"), "").expect("written");
    let nowhere = postern(dir.path(), &["identity", "show", "--data", "file/data"]);
    assert!(nowhere.code == 73 && nowhere.err.contains("--data"), "{}: {}", nowhere.code, nowhere.err);
}

#[test]
fn the_records_are_ready_to_paste_for_every_domain() {
    let dir = site();
    let key = public(dir.path());
    let zone = run(dir.path(), &["identity", "dns", "-c", "c.toml"]).out;
    let text = format!("\"v=postern1; host=mx.ours.example; port=2599; key={key}; mode=prefer; max_age=86400\"");
    for domain in ["ours.example", "too.example"] {
        assert!(zone.contains(&format!("_postern.{domain}. 3600 IN TXT {text}\n")), "{zone}");
        assert!(zone.contains(&format!("_smtp-client.{domain}. 3600 IN TLSA 3 1 1 ")), "{zone}");
    }
    assert_eq!(zone.matches("_2599._quic.mx.ours.example. 3600 IN TLSA 3 1 1 ").count(), 1, "{zone}");
    assert_eq!(published(dir.path(), "TLSA", "_2599._quic.mx.ours.example.").len(), 1);
    let other =
        run(dir.path(), &["identity", "dns", "--data", "postern-data", "--domain", "New.Example", "--host", "a.b"]);
    assert!(
        other.out.contains("_postern.new.example. 3600 IN TXT \"v=postern1; host=a.b; port=2526;"),
        "{}",
        other.out
    );
    assert_eq!(postern(dir.path(), &["identity", "dns", "-c", "c.toml", "--domain", "192.0.2.1"]).code, 64);
}

#[test]
fn a_roll_over_publishes_both_keys_waits_and_keeps_the_old_one() {
    let dir = site();
    let old = public(dir.path());
    let none = postern(dir.path(), &["identity", "rotate", "--finish", "-c", "c.toml"]);
    assert!(none.code == 65 && none.err.contains("identity rotate"), "{}", none.err);
    let begun = run(dir.path(), &["identity", "rotate", "-c", "c.toml"]).out;
    assert!(begun.contains("identity dns") && begun.contains("25 hours"), "{begun}");
    assert_eq!(public(dir.path()), old, "nothing but a file has changed");
    let text = published(dir.path(), "TXT", "_postern.ours.example.").concat();
    assert!(text.contains(&old) && text.matches("key=").count() == 2, "{text}");
    assert_eq!(published(dir.path(), "TLSA", "_smtp-client.too.example.").len(), 2);

    let early = postern(dir.path(), &["identity", "rotate", "--finish", "-c", "c.toml"]);
    assert!(early.code == 1 && early.err.contains("25 hours more") && early.err.contains("--now"), "{}", early.err);
    assert_eq!(public(dir.path()), old);
    wait_is_over(dir.path());
    let again = run(dir.path(), &["identity", "rotate", "-c", "c.toml"]).out;
    assert!(again.contains("under way already"), "{again}");
    let done = value(dir.path(), &["identity", "rotate", "--finish", "--json", "-c", "c.toml"]);
    assert_eq!((done["old"].as_str(), done["restart"].as_bool()), (Some(old.as_str()), Some(false)));
    assert_eq!(done["current"].as_str(), Some(public(dir.path()).as_str()));
    assert_ne!(public(dir.path()), old);
    let text = published(dir.path(), "TXT", "_postern.ours.example.").concat();
    assert!(!text.contains(&old) && text.matches("key=").count() == 1, "{text}");
    assert!(dir.path().join("postern-data/door/key.old").exists());
}

#[test]
fn a_stolen_key_is_replaced_at_once() {
    let dir = site();
    let old = public(dir.path());
    run(dir.path(), &["identity", "rotate", "-c", "c.toml"]);
    run(dir.path(), &["identity", "rotate", "--finish", "--now", "-c", "c.toml"]);
    assert_ne!(public(dir.path()), old);
}

#[test]
fn a_running_server_says_which_domains_are_its_own() {
    let dir = site();
    let server = Server::spawn(dir.path(), &["-c", "s.toml"]);
    // Only the directory is told: the domains are not in any file that the command reads.
    let shown = value(dir.path(), &["identity", "show", "--json", "--data", "postern-data"]);
    assert_eq!(shown["domains"], serde_json::json!(["ours.example", "too.example"]));
    server.command(&["identity", "rotate", "--data", "postern-data"]);
    let done = run(dir.path(), &["identity", "rotate", "--finish", "--now", "--data", "postern-data"]).out;
    assert!(!done.contains("Start the server again"), "no postern, no key in use: {done}");
}

#[test]
fn a_peer_with_its_key_is_kept_by_a_running_server_and_without_one() {
    let (dir, friend) = (site(), site());
    let key = public(friend.path());
    let mut server = Server::spawn(dir.path(), &["-c", "s.toml"]);
    let add = ["peer", "add", "Friend.Example", &key, "--at", "mx.friend.example:2526"];
    assert_eq!(server.command(&add).code, 0);
    let listed = server.command(&["peer", "ls"]).out;
    let line = listed.lines().find(|line| line.starts_with("friend.example")).expect("listed");
    assert!(line.contains("postern at mx.friend.example:2526") && line.contains(&key), "{line}");
    server.kill();

    run(friend.path(), &["identity", "rotate", "-c", "c.toml"]);
    let next = value(friend.path(), &["identity", "show", "--json", "-c", "c.toml"])["next"]["public"].clone();
    let next = next.as_str().expect("a key");
    run(dir.path(), &["peer", "add", "friend.example", next, "--enforce"]);
    let server = Server::spawn(dir.path(), &["-c", "s.toml"]);
    let pins: Value = serde_json::from_str(&server.command(&["peer", "ls", "--json"]).out).expect("JSON");
    assert_eq!(pins["door"]["friend.example"]["keys"], serde_json::json!([key, next]));
    assert_eq!(pins["door"]["friend.example"]["enforce"], true);
    assert!(server.command(&["peer", "ls"]).out.contains("postern at mx.friend.example:2526, enforced, key "));

    assert_eq!(server.command(&["peer", "rm", "friend.example", &key]).code, 0);
    assert_eq!(server.command(&["peer", "rm", "friend.example", &key]).code, 65);
    // A pin for port 25 beside it: both go.
    assert_eq!(server.command(&["peer", "add", "friend.example"]).code, 0);
    assert_eq!(server.command(&["peer", "rm", "friend.example"]).code, 0);
    assert_eq!(server.command(&["peer", "ls"]).out, "nothing is pinned\n");
    assert_eq!(server.command(&["peer", "rm", "friend.example"]).code, 65);
    for wrong in [["peer", "add", "192.0.2.7", &key], ["peer", "add", "localhost", &key]] {
        assert_eq!(server.command(&wrong).code, 64, "{wrong:?}");
    }
    let nowhere = server.command(&["peer", "add", "friend.example", &key, "--at", "mx.friend.example"]);
    assert!(nowhere.code == 64 && nowhere.err.contains("HOST:PORT"), "{}", nowhere.err);
}

#[test]
fn a_server_does_not_start_with_pinned_peers_that_it_cannot_read() {
    let dir = site();
    fs::create_dir(dir.path().join("postern-data/door")).expect("made");
    fs::write(dir.path().join("postern-data/door/peers"), "{\"version\":9,\"peers\":{}}").expect("written");
    let said = postern(dir.path(), &["serve", "-c", "s.toml"]);
    assert!(said.code == 65 && said.err.contains("later release"), "{}: {}", said.code, said.err);
}
