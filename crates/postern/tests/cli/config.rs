//! The configuration file as its writer meets it, and the exit codes.

use std::fs;

use super::harness::postern;

fn check_refused(text: &str, code: i32, expected: &[&str]) {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("postern.toml"), text).expect("written");
    for args in [&["serve", "-c", "postern.toml"][..], &["check", "postern.toml"]] {
        let said = postern(dir.path(), args);
        assert_eq!(said.code, code, "{args:?}: {}{}", said.out, said.err);
        for part in expected {
            assert!(said.err.contains(part), "{args:?}: {}\nlacks {part}", said.err);
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_file_line_column_and_the_nearest_known_one() {
    check_refused(
        "[smtp]\nlisten = [\"127.0.0.1:0\"]\nsize_mx = \"1 MiB\"\n",
        78,
        &[
            "postern.toml:3:1:",
            "unknown key \"size_mx\" in [smtp]",
            "size_mx = \"1 MiB\"",
            "did you mean \"size_max\"?",
        ],
    );
}

#[test]
fn a_wrong_value_is_refused_with_its_place_and_an_example() {
    check_refused(
        "[spool]\nfree_low = \"lots\"\n",
        78,
        &["postern.toml:2:12:", "spool.free_low", "lots", "for example"],
    );
    check_refused("deliver = \"pigeon:loft\"\n", 78, &["postern.toml:1:11:", "pigeon:loft", "maildir:DIR"]);
}

#[test]
fn exit_codes_follow_sysexits() {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("file"), "").expect("written");
    let check = |args: &[&str], code: i32| {
        let said = postern(dir.path(), args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        assert!(code == 0 || !said.err.is_empty());
    };
    check(&["--help"], 0);
    check(&["--version"], 0);
    check(&["check", "--print-sample"], 0);
    check(&["servce"], 64);
    check(&["serve", "--smtp", "nowhere"], 64);
    check(&["serve", "--deliver", "pigeon:loft"], 64);
    check(&["serve", "--mode", "storm"], 64);
    check(&["serve", "--relay", "0.0.0.0:0"], 64);
    check(&["bench", "load", "--addr", "192.0.2.1:25"], 64);
    check(&["status"], 69);
    check(&["status", "--data", "nowhere"], 69);
    check(&["status", "-c", "missing.toml"], 78);
    check(&["serve", "-c", "missing.toml"], 78);
    check(&["serve", "--data", "file/data"], 73);
    check(&["man", "file/man"], 73);
}

#[test]
fn the_sample_is_the_committed_file_and_can_be_served() {
    let dir = tempfile::tempdir().expect("scratch");
    let said = postern(dir.path(), &["check", "--print-sample"]);
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/postern.toml");
    assert!(
        said.out == fs::read_to_string(committed).expect("committed"),
        "postern check --print-sample > etc/postern.toml"
    );
    fs::write(dir.path().join("postern.toml"), said.out).expect("written");
    let server = super::harness::Server::start(dir.path(), &["-c", "postern.toml"]);
    assert!(server.ready.starts_with("ready smtp="));
}
