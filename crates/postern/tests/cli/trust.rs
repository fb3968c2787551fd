//! Learning, explaining, pinning, reporting and the bypass, against the real binary.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::harness::{BODY, PATIENCE, Server, delivered, id_in, postern};

/// A log as Postfix writes it: Ann wrote to Bob, and Bob's server answered.
fn postfix_log() -> String {
    let lines = [
        "postfix/submission/smtpd[311]: 4TQx1k0vZ9z2: client=dsl.isp.example[198.51.100.9], sasl_method=PLAIN, sasl_username=ann",
        "postfix/qmgr[99]: 4TQx1k0vZ9z2: from=<ann@ours.example>, size=1024, nrcpt=1 (queue active)",
        "postfix/smtp[313]: 4TQx1k0vZ9z2: to=<bob@friend.example>, relay=mx.friend.example[192.0.2.7]:25, delay=1, dsn=2.0.0, status=sent (250 2.0.0 OK)",
        "postfix/qmgr[99]: 4TQx1k0vZ9z2: removed",
        "postfix/smtpd[320]: 5ABCDEF: client=mx.friend.example[192.0.2.7]",
        "postfix/qmgr[99]: 5ABCDEF: from=<bob@friend.example>, size=900, nrcpt=1 (queue active)",
        "postfix/lmtp[321]: 5ABCDEF: to=<ann@ours.example>, relay=dovecot[private/lmtp], dsn=2.0.0, status=sent (250 2.0.0 Saved)",
        "postfix/qmgr[99]: 5ABCDEF: removed",
    ];
    let day = "2026-11-20T09:58:01.000000+00:00 mx";
    lines.map(|line| format!("{day} {line}\n")).concat()
}

/// The same in Exim's words, with others in it.
fn exim_log() -> String {
    "2026-11-19 09:58:01 1tDkVz-0000Ab-Cd <= ann@ours.example H=(laptop) [198.51.100.9] P=esmtpsa A=plain:ann S=900\n\
     2026-11-19 09:58:02 1tDkVz-0000Ab-Cd => carl@other.example R=dnslookup T=remote_smtp H=mx.other.example [192.0.2.8]\n\
     2026-11-19 09:58:02 1tDkVz-0000Ab-Cd Completed\n\
     2026-11-19 10:00:01 1tDkXx-0000Ab-Cd <= carl@other.example H=mx.other.example [192.0.2.8] P=esmtps S=700\n\
     2026-11-19 10:00:02 1tDkXx-0000Ab-Cd => ann <ann@ours.example> R=local_user T=maildir_home\n"
        .to_owned()
}

fn learn(dir: &Path, args: &[&str]) -> String {
    let said = postern(dir, &[&["learn", "--domain", "ours.example"], args].concat());
    assert_eq!(said.code, 0, "{args:?}: {}", said.err);
    said.out
}

fn why(server: &Server, what: &str) -> Value {
    let said = server.command(&["why", "--json", what]);
    assert_eq!(said.code, 0, "{what}: {}", said.err);
    serde_json::from_str(&said.out).expect("JSON")
}

fn class_of(server: &Server, what: &str) -> String {
    why(server, what)["now"]["class"].as_str().expect("a class").to_owned()
}

#[test]
fn whom_a_mail_log_shows_to_be_a_correspondent_is_known_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("mail.log"), postfix_log()).expect("written");
    fs::write(dir.path().join("mainlog"), exim_log()).expect("written");
    let mut server = Server::start(dir.path(), &[]);
    assert_eq!(class_of(&server, "192.0.2.7"), "new");
    let out = learn(dir.path(), &["--log", "mail.log", "--log", "mainlog"]);
    assert!(out.contains("2 addresses in 2 domains were written to"), "{out}");
    assert!(out.contains("the running server has learnt it"), "{out}");
    for known in ["192.0.2.7", "192.0.2.8"] {
        let shown = why(&server, known);
        assert_eq!(shown["now"]["class"], "known", "{shown}");
        assert!(shown["now"]["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{shown}");
    }
    assert_eq!(class_of(&server, "192.0.2.9"), "new");
    server.signal("-TERM");
    assert!(server.wait().success());
    let server = Server::start(dir.path(), &[]);
    assert_eq!(class_of(&server, "192.0.2.7"), "known");
}

#[test]
fn what_was_in_the_last_snapshot_survives_kill_9() {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("mail.log"), postfix_log()).expect("written");
    drop(Server::start(dir.path(), &[]));
    let out = learn(dir.path(), &["--log", "mail.log"]);
    assert!(out.contains("no server is running"), "{out}");
    let mut server = Server::start(dir.path(), &[]);
    assert_eq!(class_of(&server, "192.0.2.7"), "known");
    server.kill();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(class_of(&server, "192.0.2.7"), "known");
}

#[test]
fn a_dry_run_learns_nothing_and_a_compressed_log_is_told_how_to_be_read() {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("mail.log"), postfix_log()).expect("written");
    let server = Server::start(dir.path(), &[]);
    let out = learn(dir.path(), &["--log", "mail.log", "--dry-run"]);
    assert!(out.contains("1 addresses in 1 domains") && out.contains("nothing was learnt"), "{out}");
    assert_eq!(class_of(&server, "192.0.2.7"), "new");
    fs::write(dir.path().join("mail.log.2.gz"), b"\x1f\x8b").expect("written");
    let said = postern(dir.path(), &["learn", "--log", "mail.log.2.gz"]);
    assert!(said.code == 65 && said.err.contains("zcat mail.log.2.gz | postern learn --log -"), "{}", said.err);
}

#[test]
fn a_sent_folder_and_the_answers_in_a_maildir_make_a_correspondent() {
    let dir = tempfile::tempdir().expect("scratch");
    let maildir = dir.path().join("home/ann/Maildir");
    for folder in ["cur", "new", ".Sent/cur", ".Sent/new"] {
        fs::create_dir_all(maildir.join(folder)).expect("made");
    }
    let sent = "From: ann@ours.example\nTo: Bob <bob@friend.example>\nDate: Fri, 20 Nov 2026 08:00:00 +0000\n\nhello\n";
    fs::write(maildir.join(".Sent/cur/1.a:2,S"), sent).expect("written");
    let answer = "Return-Path: <bob@friend.example>\n\
                  Received: from x (mail.friend.example [192.0.2.7])\n\tby mx.ours.example (Postfix) with ESMTP id 4TQ;\n\tFri, 20 Nov 2026 09:00:00 +0000\n\
                  From: bob@friend.example\nTo: ann@ours.example\nDate: Fri, 20 Nov 2026 09:00:00 +0000\n\nhello\n";
    fs::write(maildir.join("cur/2.a:2,S"), answer).expect("written");
    fs::write(maildir.join("cur/3.a:2,"), answer.replace("192.0.2.7", "192.0.2.99")).expect("written");
    let server = Server::start(dir.path(), &[]);
    let out = learn(dir.path(), &["--maildir", "home", "--our-host", "mx.ours.example"]);
    assert!(out.contains("1 addresses in 1 domains were written to"), "{out}");
    assert_eq!(class_of(&server, "192.0.2.7"), "known");
    assert_eq!(class_of(&server, "192.0.2.99"), "new", "nobody has read that one");
}

#[test]
fn an_mbox_of_sent_letters_and_one_of_kept_ones_say_the_same() {
    let dir = tempfile::tempdir().expect("scratch");
    let sent = "From ann Fri Nov 20 08:00:00 2026\nFrom: ann@ours.example\nTo: bob@friend.example\n\
                Date: Fri, 20 Nov 2026 08:00:00 +0000\n\nhello\n>From the hills\n\n\
                From ann Fri Nov 20 08:01:00 2026\nFrom: ann@ours.example\nTo: carl@other.example\n\nhello\n\n";
    let kept = "From bob Fri Nov 20 09:00:00 2026\nReturn-Path: <bob@friend.example>\n\
                Received: from x (mail.friend.example [192.0.2.7])\n\tby mx.ours.example (Postfix) with ESMTP id 4TQ;\n\
                \tFri, 20 Nov 2026 09:00:00 +0000\nFrom: bob@friend.example\n\nFrom: forged@body.example\n\n";
    fs::write(dir.path().join("sent.mbox"), sent).expect("written");
    fs::write(dir.path().join("kept.mbox"), kept).expect("written");
    let server = Server::start(dir.path(), &[]);
    let args = ["--sent", "sent.mbox", "--mbox", "kept.mbox", "--our-host", "mx.ours.example"];
    let out = learn(dir.path(), &args);
    assert!(out.contains("2 addresses in 2 domains") && out.contains("3 messages read"), "{out}");
    assert_eq!(class_of(&server, "192.0.2.7"), "known");
}

#[test]
fn a_damaged_book_is_put_aside_and_the_server_starts_without_it() {
    let dir = tempfile::tempdir().expect("scratch");
    drop(Server::start(dir.path(), &[]));
    let data = dir.path().join("postern-data");
    fs::write(data.join("trust"), b"this is no book").expect("written");
    let server = Server::start(dir.path(), &[]);
    server.wait_for_log("the trust book cannot be read");
    assert_eq!(fs::read(data.join("trust.damaged")).expect("kept"), b"this is no book");
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250 "), "{reply}");
}

#[test]
fn a_pin_comes_first_at_once_survives_kill_9_and_goes_again() {
    let dir = tempfile::tempdir().expect("scratch");
    let mut server = Server::start(dir.path(), &[]);
    assert_eq!(server.command(&["peer", "add", "192.0.2.0/28"]).code, 0);
    assert_eq!(server.command(&["peer", "add", "Friend.example"]).code, 0);
    assert_eq!(class_of(&server, "192.0.2.7"), "pinned");
    let listed = server.command(&["peer", "ls"]).out;
    assert!(listed.contains("192.0.2.0/28") && listed.contains("friend.example"), "{listed}");
    server.kill();
    let offline = postern(dir.path(), &["peer", "add", "2001:db8::7"]);
    assert_eq!(offline.code, 0, "{}", offline.err);
    let server = Server::start(dir.path(), &[]);
    assert_eq!(
        (class_of(&server, "192.0.2.7").as_str(), class_of(&server, "2001:db8::7").as_str()),
        ("pinned", "pinned")
    );
    assert_eq!(server.command(&["peer", "rm", "192.0.2.0/28"]).code, 0);
    assert_eq!(class_of(&server, "192.0.2.7"), "new");
    assert_eq!(server.command(&["peer", "rm", "192.0.2.0/28"]).code, 65);
    assert_eq!(server.command(&["peer", "add", "a b"]).code, 64);
    let no_key = server.command(&["peer", "add", "friend.example", "KEY"]);
    assert!(no_key.code == 64 && no_key.err.contains("identity show"), "{}", no_key.err);
}

#[test]
fn a_message_is_explained_and_a_report_counts_against_its_client() {
    let dir = tempfile::tempdir().expect("scratch");
    let config = "[smtp]\nlisten = \"127.0.0.1:0\"\nxclient_from = [\"127.0.0.0/8\"]\n[dns]\nidentity = false\n";
    fs::write(dir.path().join("c.toml"), config).expect("written");
    let server = Server::spawn(dir.path(), &["-c", "c.toml", "--mode", "hold"]);
    let mut smtp = server.smtp();
    let reply = smtp.say("XCLIENT ADDR=192.0.2.66").expect("answered");
    assert!(reply.starts_with("220 "), "{reply}");
    smtp.say("EHLO bot.example").expect("answered");
    let id = id_in(&smtp.send("ann@localhost", BODY).expect("answered")).expect("an id");
    let shown = server.command(&["why", &id]);
    for part in
        ["held", "192.0.2.66", "bot.example", "its class then: new", "no filter has judged it", "192.0.2.66 is new"]
    {
        assert!(
            shown.out.contains(part) || part == "held" && shown.out.contains("buffered"),
            "{}\nlacks {part}",
            shown.out
        );
    }
    for _ in 0..3 {
        assert_eq!(server.command(&["report", "spam", &id]).code, 0);
    }
    assert_eq!(class_of(&server, "192.0.2.66"), "suspect");
    assert_eq!(server.command(&["report", "ham", "192.0.2.9"]).code, 0);
    let gone = server.command(&["report", "spam", "0G2K5ZC8T1Q7M"]);
    assert!(gone.code != 0 && gone.err.contains("the log has the address"), "{}", gone.err);
    assert_eq!(server.command(&["why", "no such thing"]).code, 64);
}

#[test]
fn mail_of_a_correspondent_is_stored_with_its_class_and_a_stranger_s_with_another() {
    let dir = tempfile::tempdir().expect("scratch");
    let config = "[smtp]\nlisten = \"127.0.0.1:0\"\nxclient_from = [\"127.0.0.0/8\"]\n[dns]\nidentity = false\n";
    fs::write(dir.path().join("c.toml"), config).expect("written");
    fs::write(dir.path().join("mail.log"), postfix_log()).expect("written");
    let server = Server::spawn(dir.path(), &["-c", "c.toml", "--mode", "hold"]);
    learn(dir.path(), &["--log", "mail.log"]);
    for (client, class) in [("192.0.2.7", "known"), ("192.0.2.99", "new")] {
        let mut smtp = server.smtp();
        smtp.say(&format!("XCLIENT ADDR={client}")).expect("answered");
        smtp.say("EHLO client.example").expect("answered");
        let id = id_in(&smtp.send("ann@localhost", BODY).expect("answered")).expect("an id");
        assert_eq!(why(&server, &id)["class_at_arrival"], class, "{client}");
    }
}

#[test]
fn a_changed_configuration_takes_pins_and_observing_without_a_restart() {
    let dir = tempfile::tempdir().expect("scratch");
    let config = |more: &str| {
        let text = format!("[smtp]\nlisten = \"127.0.0.1:0\"\n[trust]\n{more}");
        fs::write(dir.path().join("c.toml"), text).expect("written");
    };
    config("");
    let server = Server::spawn(dir.path(), &["-c", "c.toml"]);
    assert_eq!(class_of(&server, "192.0.2.7"), "new");
    config("pinned = [\"192.0.2.7\"]\nobserve = true\n");
    assert_eq!(server.control().ask(r#"{"v":1,"ask":"reload"}"#)["ok"]["needs_restart"], json!([]));
    assert_eq!(class_of(&server, "192.0.2.7"), "pinned");
    assert_eq!(server.status()["trust"]["observe"], json!(true));
    let stays = server.command(&["peer", "rm", "192.0.2.7"]);
    assert_eq!(stays.code, 65, "that one is the configuration's: {}", stays.out);
}

#[test]
fn the_bypass_is_shown_loudly_and_survives_a_restart() {
    let dir = tempfile::tempdir().expect("scratch");
    let mut server = Server::start(dir.path(), &[]);
    assert!(server.command(&["bypass"]).out.contains("off"));
    assert!(server.command(&["bypass", "on"]).out.contains("ON"));
    assert!(server.command(&["status"]).out.contains("!!! BYPASS IS ON"));
    server.kill();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.status()["bypass"], json!(true));
    assert_eq!(server.command(&["bypass", "off"]).code, 0);
    assert_eq!(server.status()["bypass"], json!(false));
}

/// What a client that has guessed at 24 names is told about a name that is there.
fn told_after_guessing(observe: bool) -> (String, Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("scratch");
    let config = format!(
        "[smtp]\nlisten = \"127.0.0.1:0\"\nxclient_from = [\"127.0.0.0/8\"]\n[dns]\nidentity = false\n\
         [recipients]\n\"a.example\" = {{ list = [\"ann\"] }}\n[trust]\nobserve = {observe}\n"
    );
    fs::write(dir.path().join("c.toml"), config).expect("written");
    let server = Server::spawn(dir.path(), &["-c", "c.toml"]);
    let mut told = String::new();
    for session in 0..4 {
        let mut smtp = server.smtp();
        smtp.say("XCLIENT ADDR=192.0.2.66").expect("answered");
        smtp.say("EHLO bot.example").expect("answered");
        smtp.say("MAIL FROM:<a@b.example>").expect("answered");
        for guess in 0..if session < 3 { 8 } else { 0 } {
            smtp.say(&format!("RCPT TO:<guess{guess}@a.example>")).expect("answered");
        }
        if session == 3 {
            told = smtp.say("RCPT TO:<ann@a.example>").expect("answered");
        }
    }
    (told, server, dir)
}

#[test]
fn observing_only_says_what_would_have_been_done() {
    let (told, server, _dir) = told_after_guessing(true);
    assert!(told.starts_with("250 "), "{told}");
    server.wait_for_log("would have deferred");
    let (told, _server, _dir) = told_after_guessing(false);
    assert!(told.starts_with("45"), "{told}");
}

#[test]
fn observing_is_said_loudly() {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("c.toml"), "[smtp]\nlisten = \"127.0.0.1:0\"\n[trust]\nobserve = true\n")
        .expect("written");
    let server = Server::spawn(dir.path(), &["-c", "c.toml"]);
    assert!(server.command(&["status"]).out.contains("!!! OBSERVING ONLY"));
}

/// Answers as rspamd's HTTP interface does, always with this action; counts who asks.
fn rspamd_saying(action: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free");
    let addr = listener.local_addr().expect("bound");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut write = stream.try_clone().expect("cloned");
            let mut read = BufReader::new(stream);
            let (mut line, mut octets) = (String::new(), 0);
            while read.read_line(&mut line).is_ok_and(|n| n > 2) {
                let (name, value) = line.split_once(':').unwrap_or_default();
                octets = if name.eq_ignore_ascii_case("content-length") {
                    value.trim().parse().unwrap_or(0)
                } else {
                    octets
                };
                line.clear();
            }
            if octets == 0 {
                continue;
            }
            let _ = read.read_exact(&mut vec![0; octets]);
            count.fetch_add(1, Ordering::SeqCst);
            let body = format!(r#"{{"action":"{action}","score":20.0,"required_score":15.0,"symbols":{{}}}}"#);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = write.write_all((head + &body).as_bytes());
        }
    });
    (addr, asked)
}

#[test]
fn no_filter_is_asked_while_the_bypass_is_on() {
    let dir = tempfile::tempdir().expect("scratch");
    let (rspamd, asked) = rspamd_saying("no action");
    let text = format!(
        "[smtp]\nlisten = \"127.0.0.1:0\"\n[filter.rspamd]\nuse = \"rspamd:{rspamd}\"\n[dns]\nidentity = false\n"
    );
    fs::write(dir.path().join("c.toml"), text).expect("written");
    let server = Server::spawn(dir.path(), &["-c", "c.toml", "--mode", "through"]);
    let send = |expected: usize| {
        let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
        assert!(reply.starts_with("250 "), "{reply}");
        server.wait_until_drained();
        assert_eq!(asked.load(Ordering::SeqCst), expected);
    };
    send(1);
    assert_eq!(server.command(&["bypass", "on"]).code, 0);
    send(1);
    assert_eq!(server.command(&["bypass", "off"]).code, 0);
    send(2);
}

#[test]
fn ham_in_the_quarantine_is_delivered_when_it_is_reported() {
    let dir = tempfile::tempdir().expect("scratch");
    let (rspamd, _) = rspamd_saying("reject");
    let text = format!(
        "[smtp]\nlisten = \"127.0.0.1:0\"\n[dns]\nidentity = false\n\
         [filter.rspamd]\nuse = \"rspamd:{rspamd}\"\non_spam = \"quarantine\"\n"
    );
    fs::write(dir.path().join("c.toml"), text).expect("written");
    let server = Server::spawn(dir.path(), &["-c", "c.toml", "--mode", "collect"]);
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
    let until = Instant::now() + PATIENCE;
    let row = loop {
        let rows = server.command(&["queue", "ls", "--json"]).out;
        if rows.contains("\"quarantine\"") {
            break serde_json::from_str::<Value>(rows.trim()).expect("one row");
        }
        assert!(Instant::now() < until, "not in the quarantine: {rows}");
    };
    let id = row["id"].as_str().expect("an id");
    let shown = server.command(&["why", id]).out;
    assert!(shown.contains("in the quarantine") && shown.contains("by rspamd, score 20.00"), "{shown}");
    let said = server.command(&["report", "ham", id]);
    assert!(said.code == 0 && said.out.contains("leaves the quarantine"), "{}{}", said.out, said.err);
    server.wait_until_drained();
    let mail = delivered(&dir.path().join("postern-data/mail"));
    assert_eq!(mail.len(), 1);
    assert!(!String::from_utf8_lossy(&mail[0]).contains("X-Spam-Flag: YES"));
}
