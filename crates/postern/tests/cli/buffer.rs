//! The buffer goes out to files and comes back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::harness::{Server, delivered, id_in, postern};

/// Bodies with all that is hard to keep in an mbox; one larger than the log takes inline.
fn bodies() -> Vec<Vec<u8>> {
    let mut large = b"Subject: large\r\n\r\n".to_vec();
    large.extend(b"From here to there, and >From there\r\n".repeat(6_000));
    vec![
        b"Subject: plain\r\n\r\nhello\r\n".to_vec(),
        b"Subject: from\r\n\r\nFrom me\r\n>From you\r\n\r\nFrom all\r\n\r\n\r\n".to_vec(),
        b"X-Postern-Id: forged\r\n\r\nX-Postern-Id: 0000000000000\r\n".to_vec(),
        large,
    ]
}

/// A server in `hold` with these messages; by id.
fn filled(dir: &Path) -> (Server, BTreeMap<String, Vec<u8>>) {
    let server = Server::start(dir, &["--mode", "hold", "--domain", "a.example", "--domain", "b.example"]);
    let mut sent = BTreeMap::new();
    for body in bodies() {
        let reply = server.smtp().send("ann@a.example", &body).expect("answered");
        sent.insert(id_in(&reply).unwrap_or_else(|| panic!("{reply}")), body);
    }
    let other = server.smtp().send("ann@b.example", b"Subject: other\r\n\r\nx\r\n").expect("answered");
    assert!(id_in(&other).is_some(), "{other}");
    (server, sent)
}

fn check_said(server: &Server, args: &[&str], expected: &str) {
    let said = server.command(args);
    assert!(said.code == 0 && said.out.contains(expected), "{args:?}: {} {}", said.out, said.err);
}

fn check_bodies(server: &Server, expected: &BTreeMap<String, Vec<u8>>) {
    let mut control = server.control();
    for (id, body) in expected {
        let found = control.body(id).unwrap_or_else(|| panic!("{id} is not there"));
        assert!(found == *body, "{id}: {:?}", String::from_utf8_lossy(&found[..found.len().min(200)]));
    }
}

/// Out with `--remove`, back, the same bytes under the same ids, and safe from `kill -9`.
fn check_round_trip(format: &str) {
    let dir = tempfile::tempdir().expect("scratch");
    let (mut server, sent) = filled(dir.path());
    check_said(&server, &["buffer", "export", "A.example", "--format", format, "out", "--remove"], "4 are deleted");
    assert_eq!(server.status()["spool"]["items"], 1, "that of the other domain stays");
    let again = server.command(&["buffer", "export", "a.example", "--format", format, "out"]);
    assert!(again.code == 73 && again.err.contains("there already"), "{}", again.err);
    check_said(&server, &["buffer", "import", "--format", format, "out"], "4 of 4");
    check_bodies(&server, &sent);
    check_said(&server, &["buffer", "import", "--format", format, "out"], "4 were there already");
    server.kill();
    let server = Server::start(dir.path(), &["--domain", "a.example", "--domain", "b.example"]);
    server.command(&["buffer", "off"]);
    server.wait_until_drained();
    assert_eq!(delivered(&dir.path().join("postern-data/mail")).len(), 5);
}

#[test]
fn a_buffer_comes_back_from_an_mbox_byte_for_byte_under_the_same_ids() {
    check_round_trip("mbox");
}

#[test]
fn a_buffer_comes_back_from_a_maildir_byte_for_byte_under_the_same_ids() {
    check_round_trip("maildir");
}

#[test]
fn an_export_without_remove_is_a_copy() {
    let dir = tempfile::tempdir().expect("scratch");
    let (server, sent) = filled(dir.path());
    check_said(&server, &["buffer", "export", "a.example", "--format", "mbox", "out"], "4 messages of a.example");
    check_bodies(&server, &sent);
    let rows = server.command(&["queue", "ls", "a.example", "--json"]).out;
    assert!(!rows.contains("\"held\":true"), "{rows}");
    let sidecar = fs::read_to_string(dir.path().join("out.postern.jsonl")).expect("written");
    assert_eq!(sidecar.lines().count(), 4);
    assert!(sidecar.contains("\"sender\":\"sender@client.example\"") && sidecar.contains("ann@a.example"), "{sidecar}");
}

#[test]
fn what_a_tool_has_marked_or_removed_comes_back_marked_or_not_at_all() {
    let dir = tempfile::tempdir().expect("scratch");
    let (server, sent) = filled(dir.path());
    check_said(&server, &["buffer", "export", "a.example", "--format", "mbox", "out", "--remove"], "4 are deleted");
    let mbox = fs::read_to_string(dir.path().join("out")).expect("written");
    let mut entries: Vec<String> = mbox.split_inclusive("\n\nFrom sender@").map(str::to_owned).collect();
    assert_eq!(entries.len(), 4, "{mbox}");
    entries[0] = entries[0].replacen("X-Postern-Id:", "X-Spam-Flag: YES\nX-Postern-Id:", 1);
    let dropped = entries.pop().expect("the last one");
    let last = entries.last_mut().expect("three");
    last.truncate(last.len() - "From sender@".len());
    assert!(dropped.contains("X-Postern-Id"));
    fs::write(dir.path().join("out"), entries.concat()).expect("written");
    check_said(&server, &["buffer", "import", "--format", "mbox", "out", "--judged"], "3 of 4");
    let (first, body) = sent.iter().next().expect("the oldest");
    let expected = [b"X-Spam-Flag: YES\r\n".as_slice(), body].concat();
    check_bodies(&server, &BTreeMap::from([(first.clone(), expected)]));
    let shown = server.command(&["queue", "show", first]).out;
    assert!(shown.contains("judged      yes"), "{shown}");
    let left = sent.keys().last().expect("the youngest");
    assert_eq!(server.command(&["queue", "show", left]).code, 65);
}

#[test]
fn an_import_without_its_second_file_says_what_is_missing() {
    let dir = tempfile::tempdir().expect("scratch");
    let server = Server::start(dir.path(), &[]);
    fs::write(dir.path().join("out"), "From a@b Thu Jan  1 00:00:00 1970\n\nx\n\n").expect("written");
    let said = server.command(&["buffer", "import", "--format", "mbox", "out"]);
    assert!(said.code != 0 && said.err.contains("out.postern.jsonl"), "{}", said.err);
    let said = postern(dir.path(), &["buffer", "export", "not a domain", "--format", "mbox", "x"]);
    assert_eq!(said.code, 64, "{}", said.err);
}
