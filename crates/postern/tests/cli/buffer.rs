//! The buffer goes out to files and comes back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::harness::{PATIENCE, Server, delivered, id_in, postern};

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

fn wait_for(done: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "it does not happen");
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
    check_said(&server, &["buffer", "import", "--format", format, "out"], "4 were taken by an earlier import");
    fs::remove_file(dir.path().join("out.postern.done")).expect("written");
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

#[test]
fn what_was_delivered_since_an_import_is_not_taken_again_by_the_next_one() {
    let dir = tempfile::tempdir().expect("scratch");
    let (server, _) = filled(dir.path());
    check_said(&server, &["buffer", "export", "a.example", "--format", "mbox", "out", "--remove"], "4 are deleted");
    check_said(&server, &["buffer", "import", "--format", "mbox", "out"], "4 of 4");
    server.command(&["mode", "collect"]);
    server.wait_until_drained();
    check_said(&server, &["buffer", "import", "--format", "mbox", "out"], "0 of 4");
    server.wait_until_drained();
    assert_eq!(delivered(&dir.path().join("postern-data/mail")).len(), 5);
}

#[test]
fn a_copy_is_imported_only_when_asked_for_again() {
    let dir = tempfile::tempdir().expect("scratch");
    let (server, _) = filled(dir.path());
    check_said(&server, &["buffer", "export", "a.example", "--format", "maildir", "out"], "4 messages of a.example");
    let said = server.command(&["buffer", "import", "--format", "maildir", "out"]);
    assert!(said.code == 65 && said.err.contains("--again"), "{}", said.err);
    check_said(&server, &["buffer", "import", "--format", "maildir", "out", "--again"], "4 were there already");
}

#[test]
fn an_export_that_fails_holds_nothing_and_leaves_no_half_behind() {
    let dir = tempfile::tempdir().expect("scratch");
    let (server, sent) = filled(dir.path());
    let held = sent.keys().next().expect("the oldest");
    assert_eq!(server.command(&["queue", "hold", held]).code, 0);
    // 32 KiB a file, as a full disk would have it; the signal that goes with it is ignored.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" buffer export a.example --format mbox out --remove";
    let args = ["-c", script, env!("CARGO_BIN_EXE_postern")];
    let said = Command::new("sh").args(args).current_dir(dir.path()).output().expect("runs");
    assert!(!said.status.success(), "{said:?}");
    assert_eq!(server.status()["spool"]["held"], 1, "only that of the operator: {said:?}");
    assert!(!dir.path().join("out").exists() && !dir.path().join("out.postern.jsonl").exists());
    check_bodies(&server, &sent);
    check_said(&server, &["buffer", "export", "a.example", "--format", "mbox", "out", "--remove"], "4 are deleted");
    check_said(&server, &["buffer", "import", "--format", "mbox", "out"], "4 of 4");
    assert_eq!(server.status()["spool"]["held"], 1, "it comes back held");
    server.command(&["mode", "collect"]);
    wait_for(|| server.status()["spool"]["items"] == 1);
    assert!(server.control().body(held).is_some());
}

#[test]
fn what_is_being_delivered_is_not_exported_even_if_it_was_held_meanwhile() {
    let dir = tempfile::tempdir().expect("scratch");
    // Takes the connection and never says a word: the message is under way for as long as the test lasts.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bound");
    let to = silent.local_addr().expect("bound").port();
    let to = format!("smtp:127.0.0.1:{to}");
    let server = Server::start(dir.path(), &["--mode", "hold", "--domain", "a.example", "--deliver", &to]);
    let id = id_in(&server.smtp().send("ann@a.example", &bodies()[0]).expect("answered")).expect("an id");
    server.command(&["mode", "collect"]);
    let _under_way = silent.accept().expect("the drain");
    assert_eq!(server.command(&["queue", "hold", &id]).code, 0);
    let said = server.command(&["buffer", "export", "a.example", "--format", "mbox", "out", "--remove"]);
    assert!(said.code == 0 && said.out.starts_with("0 messages"), "{} {}", said.out, said.err);
    assert!(server.control().body(&id).is_some());
}

/// A next hop that knows nobody; for one test it may run as long as the process.
fn refuses_everybody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut read = BufReader::new(stream);
            let mut reply = "220 here\r\n";
            let mut line = String::new();
            while read.get_mut().write_all(reply.as_bytes()).is_ok() {
                line.clear();
                if !read.read_line(&mut line).is_ok_and(|octets| octets > 0) {
                    break;
                }
                reply = if line.starts_with("RCPT") { "550 5.1.1 nobody\r\n" } else { "250 ok\r\n" };
            }
        }
    });
    format!("lmtp:127.0.0.1:{port}")
}

#[test]
fn a_large_message_that_ended_comes_back_under_a_new_id_while_another_carries_its_body() {
    let dir = tempfile::tempdir().expect("scratch");
    let to = refuses_everybody();
    let server = Server::start(dir.path(), &["--mode", "hold", "--domain", "a.example", "--deliver", &to]);
    let large = &bodies()[3];
    let mut smtp = server.smtp();
    // A bounce: nobody can be told that it could not be delivered, so it becomes a dead letter.
    smtp.say("MAIL FROM:<>").expect("answered");
    let reply = smtp.send("ann@a.example", large).expect("answered");
    let id = id_in(&reply).unwrap_or_else(|| panic!("{reply}"));
    check_said(&server, &["buffer", "export", "a.example", "--format", "mbox", "out"], "1 messages");
    server.command(&["mode", "collect"]);
    wait_for(|| server.control().body(&id).is_none());
    server.command(&["mode", "hold"]);
    let rows = server.command(&["queue", "ls", "--dead", "--json"]).out;
    let row: serde_json::Value = serde_json::from_str(rows.lines().next().expect("the dead letter")).expect("JSON");
    let dead = row["id"].as_str().map(str::to_owned).unwrap_or_else(|| panic!("{rows}"));
    assert_ne!(dead, id);
    let mbox = fs::read_to_string(dir.path().join("out")).expect("written");
    fs::write(dir.path().join("out"), mbox.replace("From here", "From HERE")).expect("written");
    check_said(&server, &["buffer", "import", "--format", "mbox", "out", "--again"], "1 of them have a new id");
    check_bodies(&server, &BTreeMap::from([(dead.clone(), large.clone())]));
    let listed = server.command(&["queue", "ls", "a.example"]).out;
    let new = listed.split_whitespace().find(|word| word.len() == 13 && **word != *dead).expect("the imported one");
    assert_eq!(server.command(&["queue", "delete", new]).code, 0);
    check_bodies(&server, &BTreeMap::from([(dead, large.clone())]));
}
