//! `check`: what would not work here is found before it is started.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use serde_json::Value;

use super::harness::postern;

/// A next hop that greets and answers EHLO with these extensions, for as long as the test runs.
fn next_hop(extensions: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("free");
    let addr = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut write = stream.try_clone().expect("cloned");
            let _ = write.write_all(b"220 hop.example ESMTP\r\n");
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let reply = match line.get(..4) {
                    Some(b"EHLO" | b"LHLO") => {
                        let lines: String = extensions.iter().map(|name| format!("250-{name}\r\n")).collect();
                        format!("{lines}250 hop.example\r\n")
                    }
                    Some(b"QUIT") => "221 bye\r\n".to_owned(),
                    _ => "500 what?\r\n".to_owned(),
                };
                let _ = write.write_all(reply.as_bytes());
            }
        }
    });
    addr
}

fn check(text: &str, code: i32, expected: &[&str]) {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("postern.toml"), format!("{text}\n[smtp]\nlisten = [\"127.0.0.1:0\"]\n"))
        .expect("written");
    let said = postern(dir.path(), &["check", "postern.toml"]);
    assert_eq!(said.code, code, "{}{}", said.out, said.err);
    for part in expected {
        assert!(said.out.contains(part), "{}\nlacks {part}", said.out);
    }
}

#[test]
fn what_would_run_is_printed() {
    let expected =
        ["would run as mail.example.com", "localhost: any recipient, auto -> maildir:", "ok     127.0.0.1:0 is free"];
    check("hostname = \"mail.example.com\"", 0, &expected);
}

#[test]
fn an_smtp_next_hop_that_would_see_only_loopback_is_refused_unless_told_otherwise() {
    let blind = next_hop(&["8BITMIME"]);
    let deliver = format!("deliver = \"smtp:{blind}\"");
    check(&deliver, 1, &["WRONG", "offers no XCLIENT", "smtpd_authorized_xclient_hosts", "trust_loopback = true"]);
    check(&format!("{deliver}\nclient_address = \"none\""), 1, &["WRONG", "sign forged mail"]);
    let told = format!("{deliver}\nclient_address = \"none\"\ntrust_loopback = true");
    check(&told, 0, &["sees every message come from us, as told"]);
    // XCLIENT is the default: without it the server delivers all the same when it is told to.
    let by_default = format!("{deliver}\ntrust_loopback = true");
    check(&by_default, 0, &["sees every message come from us, as told"]);
    let proxy = format!("{deliver}\nclient_address = \"proxy\"");
    check(&proxy, 1, &["does not take a PROXY header"]);
    let seeing = next_hop(&["8BITMIME", "XCLIENT NAME ADDR"]);
    check(&format!("deliver = \"smtp:{seeing}\""), 0, &["takes the client's address by XCLIENT"]);
    check(&format!("deliver = \"smtp:{seeing}\"\nclient_address = \"none\""), 1, &["it offers XCLIENT"]);
}

#[test]
fn a_next_hop_that_does_not_answer_is_wrong() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("free").local_addr().expect("bound");
    check(&format!("deliver = \"lmtp:{gone}\""), 1, &["WRONG", "does not answer as it should"]);
    check(&format!("deliver = \"lmtp:{}\"", next_hop(&["8BITMIME", "SMTPUTF8"])), 0, &["answers"]);
}

#[test]
fn any_recipient_in_front_of_a_next_hop_is_noted() {
    let hop = next_hop(&["8BITMIME", "XCLIENT NAME ADDR"]);
    check(&format!("deliver = \"smtp:{hop}\""), 0, &["note   any recipient", "example.com, localhost", "dead letter"]);
}

#[test]
fn missing_files_and_users_are_wrong() {
    check("[recipients]\n\"a.example\" = { file = \"/nowhere/names\" }", 1, &["WRONG", "/nowhere/names"]);
    check("[run_as]\nuser = \"nobody-here-of-that-name\"", 1, &["WRONG", "there is no user"]);
    check("[tls]\ncert = \"/nowhere/c\"\nkey = \"/nowhere/k\"", 1, &["WRONG", "/nowhere/c"]);
    check("data = \"/proc/nowhere\"", 1, &["WRONG", "data directory"]);
    check(&format!("data = \"{}\"", "x".repeat(100)), 1, &["WRONG", "at most 107"]);
    check("[domain.\"b.example\"]\nmode = \"hold\"", 0, &["not among the accepted domains"]);
}

const TLSA: u16 = 52;
const TXT: u16 = 16;

/// A resolver that answers with one record's data what `answer` knows, by lower-case name and type, and otherwise that
/// there is no such name.
fn resolver(answer: impl Fn(&str, u16) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("free");
    let addr = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((_, peer)) = socket.recv_from(&mut question) {
            // Header, then the one question: labels up to a zero, type, class.
            let (mut name, mut at) = (String::new(), 12);
            while question[at] != 0 {
                let label = &question[at + 1..=at + usize::from(question[at])];
                name += &format!("{}.", String::from_utf8_lossy(label).to_lowercase());
                at += 1 + label.len();
            }
            let kind = [question[at + 1], question[at + 2]];
            let data = answer(name.trim_end_matches('.'), u16::from_be_bytes(kind));
            let code = if data.is_some() { 0x80 } else { 0x83 };
            let mut reply = question[..2].to_vec();
            reply.extend_from_slice(&[0x81, code, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
            reply.extend_from_slice(&question[12..at + 5]);
            if let Some(data) = data {
                let length = u16::try_from(data.len()).expect("short").to_be_bytes();
                reply.extend_from_slice(&[0xc0, 12, kind[0], kind[1], 0, 1, 0, 0, 0, 60, length[0], length[1]]);
                reply.extend_from_slice(&data);
            }
            let _ = socket.send_to(&reply, peer);
        }
    });
    addr
}

/// A resolver that knows one TLSA record, of another certificate, whatever is asked.
fn resolver_with_tlsa() -> SocketAddr {
    resolver(|_, kind| (kind == TLSA).then(|| [&[3, 1, 1][..], &[7; 32]].concat()))
}

#[test]
fn a_certificate_that_published_tlsa_would_refuse_is_told_with_the_record_that_would_match() {
    let dir = tempfile::tempdir().expect("scratch");
    let config = format!(
        "hostname = \"mail.example.com\"\n[dns]\nresolver = \"{}\"\n[smtp]\nlisten = [\"127.0.0.1:0\"]\n",
        resolver_with_tlsa()
    );
    fs::write(dir.path().join("postern.toml"), config).expect("written");
    drop(super::harness::Server::spawn(dir.path(), &["-c", "postern.toml"]));
    let said = postern(dir.path(), &["check", "postern.toml"]);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    for part in ["would not deliver", "publish \"3 1 1 ", "self-signed"] {
        assert!(said.out.contains(part), "{}\nlacks {part}", said.out);
    }
}

/// A name server of a list: 127.0.0.2 below each zone of `lists` has an entry; `everything.example`
/// lists everybody, `closed.example` says that it answers nobody here.
fn resolver_with_lists() -> SocketAddr {
    resolver(|name, _| match name {
        name if name.contains("closed") => Some(vec![127, 255, 255, 254]),
        name if name.contains("everything") => Some(vec![127, 0, 0, 2]),
        name if name.contains("good") && name.starts_with('2') => Some(vec![127, 0, 0, 2]),
        _ => None,
    })
}

#[test]
fn a_list_is_asked_for_its_test_points() {
    let dns = format!("[dns]\nresolver = \"{}\"\n", resolver_with_lists());
    let zone = |name: &str| format!("{dns}[dnsbl.\"{name}\"]\n");
    check(&zone("good.example"), 0, &["ok     list good.example answers as RFC 5782 says"]);
    check(&zone("everything.example"), 1, &["WRONG  list everything.example", "lists everybody"]);
    check(&zone("closed.example"), 1, &["refuses to answer this resolver", "127.0.0.1:53"]);
    check(&zone("none.example"), 1, &["does not list its test address"]);
}

#[test]
fn a_filter_that_does_not_judge_is_wrong() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("free").local_addr().expect("bound");
    let text = format!("[filter.rspamd]\nuse = \"rspamd:{gone}\"\n");
    check(&text, 1, &["WRONG  filter rspamd", "cannot be reached", "collected unjudged"]);
}

#[test]
fn a_postern_whose_records_name_another_key_is_told_and_one_whose_own_stand_there_is_well() {
    let dir = tempfile::tempdir().expect("scratch");
    let at = |records: Value| {
        let records = records["records"].as_array().expect("some").clone();
        let server = resolver(move |name, kind| {
            let kind_name = if kind == TXT { "TXT" } else { "TLSA" };
            let is_it = |record: &&Value| record["name"] == format!("{name}.") && record["type"] == kind_name;
            let data = records.iter().find(is_it)?["data"].as_str()?;
            Some(match kind {
                TXT => data.as_bytes().chunks(255).flat_map(|part| [&[part.len() as u8][..], part].concat()).collect(),
                TLSA => [&[3, 1, 1][..], &hex(data.rsplit(' ').next()?)].concat(),
                _ => return None,
            })
        });
        let text = format!(
            "hostname = \"mx.ours.example\"\n[dns]\nresolver = \"{server}\"\n[smtp]\nlisten = \"127.0.0.1:0\"\n\
             [door]\nlisten = \"127.0.0.1:0\"\n[recipients]\n\"ours.example\" = \"any\"\n"
        );
        fs::write(dir.path().join("postern.toml"), text).expect("written");
    };
    let records = || {
        let said = postern(dir.path(), &["identity", "dns", "--json", "-c", "postern.toml"]);
        serde_json::from_str::<Value>(&said.out).unwrap_or_else(|_| panic!("{}", said.err))
    };
    let check = |expected: &[&str], unexpected: &str| {
        let said = postern(dir.path(), &["check", "postern.toml"]);
        for part in expected {
            assert!(said.out.contains(part), "lacks {part}:\n{}", said.out);
        }
        assert!(!said.out.contains(unexpected), "{}", said.out);
    };
    at(serde_json::json!({ "records": [] }));
    check(&["postern: its key will be made at the first start"], "WRONG  postern");
    let own = records();
    check(&["postern: none of its domains has a record in DNS"], "WRONG  postern");
    at(own.clone());
    check(&["ok     postern: 1 of 1 domains name our key in DNS"], "WRONG  postern");
    // The key is lost, and another one is made: what is published is of the old one.
    fs::remove_file(dir.path().join("postern-data/door/key")).expect("there");
    assert_ne!(records(), own);
    let wrong = [
        "WRONG  postern: _postern.ours.example: it names another key than ours",
        "WRONG  postern: the TLSA records at _2526._quic.mx.ours.example name another key",
        "WRONG  postern: the TLSA records at _smtp-client.ours.example name another key",
    ];
    check(&wrong, "domains name our key");
}

fn hex(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex");
    (0..digits.len()).step_by(2).map(digit).collect()
}
