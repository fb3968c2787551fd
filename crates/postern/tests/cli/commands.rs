//! The commands against a running server.

use super::harness::{BODY, Server, delivered, id_in, postern};

fn held_server(dir: &std::path::Path) -> (Server, String) {
    let server = Server::start(dir, &["--mode", "hold"]);
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    let id = id_in(&reply).unwrap_or_else(|| panic!("{reply}"));
    (server, id)
}

fn check_said(server: &Server, args: &[&str], expected: &[&str]) -> String {
    let said = server.command(args);
    assert_eq!(said.code, 0, "{args:?}: {}", said.err);
    for part in expected {
        assert!(said.out.contains(part), "{args:?}: {}\nlacks {part}", said.out);
    }
    said.out
}

#[test]
fn modes_are_set_shown_and_survive_kill_9() {
    let dir = tempfile::tempdir().expect("scratch");
    let mut server = Server::start(dir.path(), &[]);
    check_said(&server, &["mode"], &["all domains: auto (through)"]);
    check_said(&server, &["buffer", "on", "Example.com"], &["all domains: auto (through)", "example.com: hold"]);
    check_said(&server, &["mode", "collect"], &["all domains: collect"]);
    check_said(&server, &["mode", "auto", "example.com"], &["all domains: collect", "example.com: auto (through)"]);
    server.kill();
    let server = Server::start(dir.path(), &[]);
    check_said(&server, &["mode"], &["all domains: collect", "example.com: auto (through)"]);
    assert_eq!(server.status()["modes"]["mode"], "collect");
    check_said(&server, &["buffer", "off"], &["all domains: auto (through)"]);
    let said = server.command(&["mode", "hold", "not a domain"]);
    assert_eq!(said.code, 64, "{}", said.err);
}

#[test]
fn buffered_mail_stays_until_the_buffer_is_switched_off() {
    let dir = tempfile::tempdir().expect("scratch");
    let server = Server::start(dir.path(), &[]);
    check_said(&server, &["buffer", "on"], &["all domains: hold"]);
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250 2.0.0 Queued as "), "{reply}");
    check_said(&server, &["status"], &["hold", "1 messages", "messages per commit"]);
    assert!(delivered(&dir.path().join("postern-data/mail")).is_empty());
    check_said(&server, &["buffer", "off"], &["auto (through)"]);
    server.wait_until_drained();
    assert_eq!(delivered(&dir.path().join("postern-data/mail")).len(), 1);
}

#[test]
fn drain_lets_out_what_is_held_and_the_mode_stays() {
    let dir = tempfile::tempdir().expect("scratch");
    let (server, _) = held_server(dir.path());
    check_said(&server, &["drain", "localhost", "--rate", "50"], &["1 messages of localhost", "50 a second"]);
    server.wait_until_drained();
    assert_eq!(delivered(&dir.path().join("postern-data/mail")).len(), 1);
    check_said(&server, &["mode"], &["hold"]);
    assert_eq!(server.command(&["drain", "--rate", "0"]).code, 64);
}

#[test]
fn a_domain_that_is_not_ours_is_obeyed_and_named() {
    let dir = tempfile::tempdir().expect("scratch");
    let server = Server::start(dir.path(), &[]);
    let note = "note: exmaple.com is not among our domains (relay mail may still have it); did you mean example.com?";
    check_said(&server, &["buffer", "on", "exmaple.com"], &["exmaple.com: hold", note]);
    check_said(&server, &["mode", "collect", "Exmaple.com"], &["exmaple.com: collect", note]);
    check_said(&server, &["drain", "exmaple.com"], &["0 messages of exmaple.com", note]);
    let ours = check_said(&server, &["buffer", "on", "example.com"], &["example.com: hold"]);
    assert!(!ours.contains("note:"), "{ours}");
}

#[test]
fn queue_commands_list_show_hold_release_retry_and_delete() {
    let dir = tempfile::tempdir().expect("scratch");
    let (server, id) = held_server(dir.path());
    let line = check_said(&server, &["queue", "ls"], &[&id, "localhost", "sender@client.example", "1 recipients"]);
    assert_eq!(line.lines().count(), 1);
    assert_eq!(check_said(&server, &["queue", "ls", "example.com"], &[]), "");
    assert_eq!(check_said(&server, &["queue", "ls", "--dead"], &[]), "");
    check_said(&server, &["queue", "ls", "localhost", "--json"], &["\"recipients\":1"]);
    let facts = [
        "ann@localhost",
        "sender@client.example",
        "client.example",
        "public door",
        "attempts    0",
        "tls         none",
    ];
    check_said(&server, &["queue", "show", &id], &facts);
    assert_eq!(check_said(&server, &["queue", "show", &id.to_lowercase(), "--body"], &[]).as_bytes(), BODY);
    check_said(&server, &["queue", "hold", &id], &[]);
    check_said(&server, &["queue", "show", &id], &["state       held"]);
    check_said(&server, &["queue", "release", &id], &[]);
    check_said(&server, &["queue", "show", &id], &["state       ready"]);
    check_said(&server, &["queue", "retry", &id], &[]);
    check_said(&server, &["queue", "delete", &id], &[]);
    let said = server.command(&["queue", "delete", &id]);
    assert_eq!(said.code, 65, "{}", said.err);
    assert!(said.err.contains("not in the spool"), "{}", said.err);
    assert_eq!(server.command(&["queue", "show", "nonsense"]).code, 65);
    assert_eq!(server.status()["spool"]["items"], 0);
}

#[test]
fn a_list_longer_than_a_page_is_complete() {
    let dir = tempfile::tempdir().expect("scratch");
    let server = Server::start(dir.path(), &["--deliver", "none"]);
    let mut smtp = server.smtp();
    let ids: Vec<String> =
        (0..1100).map(|_| id_in(&smtp.send("ann@localhost", BODY).expect("answered")).expect("queued")).collect();
    let out = check_said(&server, &["queue", "ls", "-n", "5000"], &[]);
    assert_eq!(out.lines().count(), ids.len());
    assert!(ids.iter().all(|id| out.contains(id)));
    assert_eq!(check_said(&server, &["queue", "ls", "-n", "7"], &[]).lines().count(), 7);
}

#[test]
fn a_command_without_a_server_says_how_to_start_one() {
    let dir = tempfile::tempdir().expect("scratch");
    for args in [&["status"][..], &["mode", "hold"], &["buffer", "on"], &["drain"], &["queue", "ls"]] {
        let said = postern(dir.path(), args);
        assert_eq!(said.code, 69, "{args:?}: {}", said.err);
        assert!(said.err.contains("postern serve") && said.err.contains("--data"), "{}", said.err);
    }
}

#[test]
fn the_control_socket_is_for_its_owner_only_and_survives_nonsense() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("scratch");
    let server = Server::start(dir.path(), &[]);
    let mode = std::fs::metadata(dir.path().join("postern-data/control.sock")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut control = server.control();
    assert_eq!(control.ask("nonsense")["error"]["code"], 64);
    assert_eq!(control.ask(r#"{"v":99,"ask":"status"}"#)["error"]["code"], 70);
    assert_eq!(control.ask(r#"{"v":1,"ask":"reload"}"#)["ok"]["needs_restart"], serde_json::json!([]));
    assert_eq!(control.ask(r#"{"v":1,"ask":"status"}"#)["ok"]["listeners"]["door"], "off");
}

#[test]
fn completions_and_manual_pages_come_from_the_same_definition() {
    let dir = tempfile::tempdir().expect("scratch");
    for shell in ["bash", "zsh", "fish"] {
        let said = postern(dir.path(), &["completions", shell]);
        assert!(said.code == 0 && said.out.contains("buffer"), "{shell}");
    }
    assert_eq!(postern(dir.path(), &["man", "man"]).code, 0);
    for page in ["postern.1", "postern-serve.1", "postern-queue-ls.1", "postern.toml.5"] {
        let text = std::fs::read_to_string(dir.path().join("man").join(page)).expect(page);
        assert!(text.contains(".SH"), "{page}");
    }
}

#[test]
fn bench_load_sends_what_it_says_to_a_loopback_server_and_counts() {
    let dir = tempfile::tempdir().expect("scratch");
    let server = Server::start(dir.path(), &["--deliver", "none"]);
    let addr = server.addr("smtp").to_string();
    let args = ["bench", "load", "--addr", &addr, "--clients", "3", "--messages", "30", "--per-connection", "4"];
    for starttls in [&[][..], &["--starttls"]] {
        let said = server.command(&[&args[..], starttls].concat());
        assert_eq!(said.code, 0, "{}", said.err);
        let report: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        assert_eq!((&report["messages"], &report["errors"]), (&30.into(), &0.into()), "{report}");
    }
    assert_eq!(server.status()["spool"]["items"], 60);
    let door = &server.status()["doors"][format!("smtp {addr}")];
    assert!(door["tls"].as_u64().is_some_and(|tls| tls >= 8), "{door}");
    assert_eq!(server.command(&["bench", "--only", "nonsense"]).code, 64);
}
