//! One server, several domains of its own: at the posterns of others each speaks for its own authors.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::harness::{PATIENCE, Server, Smtp, delivered};

/// A server with a postern for these domains; nobody answers its questions about DNS.
fn server(dir: &Path, hostname: &str, domains: &[&str]) -> Server {
    let recipients: String = domains.iter().map(|domain| format!("\"{domain}\" = \"any\"\n")).collect();
    let text = format!(
        "hostname = \"{hostname}\"\nmode = \"collect\"\n[dns]\nidentity = false\nresolver = \"127.0.0.1:9\"\n\
         [relay]\nlisten = \"127.0.0.1:0\"\nnext_hop = \"mx\"\n[recipients]\n{recipients}"
    );
    fs::write(dir.join("postern.toml"), text).expect("written");
    Server::start(dir, &["-c", "postern.toml", "--door", "127.0.0.1:0"])
}

fn key(server: &Server) -> String {
    let said = server.command(&["identity", "show", "--json", "-c", "postern.toml"]);
    let shown: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.err));
    shown["public"].as_str().expect("a key").to_owned()
}

fn submit(server: &Server, author: &str) {
    let mut relay = Smtp::connect(server.addr("relay")).expect("greeted");
    let mut say = |line: &str, code: &str| {
        let reply = relay.say(line).expect("answered");
        assert!(reply.starts_with(code), "{line}: {reply}");
    };
    say(&format!("MAIL FROM:<{author}>"), "250");
    say("RCPT TO:<bob@far.example>", "250");
    say("DATA", "354");
    say(&format!("From: {author}\r\nSubject: hello\r\n\r\nhello\r\n."), "250");
}

#[test]
fn authors_of_all_our_domains_go_by_a_friend_s_postern() {
    let (here, there) = (tempfile::tempdir().expect("scratch"), tempfile::tempdir().expect("scratch"));
    let ours = server(here.path(), "mx.one.example", &["one.example", "two.example", "localhost"]);
    let far = server(there.path(), "mx.far.example", &["far.example"]);
    let pin = |at: &Server, args: &[&str]| {
        let said = at.command(&[&["peer", "add"], args].concat());
        assert_eq!(said.code, 0, "{}", said.err);
    };
    for domain in ["one.example", "two.example"] {
        pin(&far, &[domain, &key(&ours)]);
    }
    pin(&ours, &["far.example", &key(&far), "--at", &far.addr("door").to_string()]);
    for author in ["ann@one.example", "ann@two.example", "eve@news.two.example"] {
        submit(&ours, author);
    }
    let until = Instant::now() + PATIENCE;
    while delivered(&there.path().join("postern-data/mail")).len() < 3 {
        assert!(Instant::now() < until, "not all came: {}", ours.status()["drain"]);
    }
    let door = &far.status()["door"];
    assert_eq!((&door["accepted"], &door["queued"], &door["use_mx"]), (&2.into(), &3.into(), &0.into()), "{door}");
    // Each has tickets of its own.
    assert!(here.path().join("postern-data/door/purses/two.example").is_dir());
}
