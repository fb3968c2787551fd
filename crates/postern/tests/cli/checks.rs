//! `check`: what would not work here is found before it is started.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};

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

/// A resolver that knows one TLSA record, of another certificate, whatever is asked; TXT is empty.
fn resolver_with_tlsa() -> SocketAddr {
    const TLSA: [u8; 2] = [0, 52];
    let socket = UdpSocket::bind("127.0.0.1:0").expect("free");
    let addr = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut question) {
            // Header, then the one question: labels up to a zero, type, class.
            let labels = question[12..length].iter().position(|byte| *byte == 0).unwrap_or(0);
            let end = 12 + labels + 5;
            let answers = u8::from(question[end - 4..end - 2] == TLSA);
            let mut reply = question[..2].to_vec();
            reply.extend_from_slice(&[0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0]);
            reply.extend_from_slice(&question[12..end]);
            if answers == 1 {
                reply.extend_from_slice(&[0xc0, 12, 0, 52, 0, 1, 0, 0, 0, 60, 0, 35, 3, 1, 1]);
                reply.extend_from_slice(&[7; 32]);
            }
            let _ = socket.send_to(&reply, peer);
        }
    });
    addr
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
    let socket = UdpSocket::bind("127.0.0.1:0").expect("free");
    let addr = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut question) {
            let labels = question[12..length].iter().position(|byte| *byte == 0).unwrap_or(0);
            let end = 12 + labels + 5;
            let name = String::from_utf8_lossy(&question[13..12 + labels]).to_lowercase();
            let answer = match name.as_str() {
                name if name.contains("closed") => Some([127, 255, 255, 254]),
                name if name.contains("everything") => Some([127, 0, 0, 2]),
                name if name.contains("good") && name.starts_with('2') => Some([127, 0, 0, 2]),
                _ => None,
            };
            let mut reply = question[..2].to_vec();
            let code = if answer.is_some() { 0x80 } else { 0x83 };
            reply.extend_from_slice(&[0x81, code, 0, 1, 0, u8::from(answer.is_some()), 0, 0, 0, 0]);
            reply.extend_from_slice(&question[12..end]);
            if let Some(address) = answer {
                reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                reply.extend_from_slice(&address);
            }
            let _ = socket.send_to(&reply, peer);
        }
    });
    addr
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
