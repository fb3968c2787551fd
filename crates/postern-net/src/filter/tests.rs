//! Names of filters, and what is the same for all kinds.

use std::net::SocketAddr;

use postern_proto::checks::Checks;
use postern_proto::envelope::{Arrival, DsnRequest, Via};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;

#[track_caller]
fn check(text: &str, expected: Option<Kind>) {
    let parsed = Kind::parse(text);
    assert_eq!(parsed.as_ref().ok(), expected.as_ref(), "{text}");
    if let Ok(kind) = parsed {
        assert_eq!(Kind::parse(&kind.to_string()), Ok(kind), "{text} comes back from its own words");
    }
}

fn tcp(host: &str, port: u16) -> Target {
    Target::Tcp { host: host.to_owned(), port }
}

#[test]
fn a_filter_is_named_by_its_kind_and_place() {
    check("milter:inet:localhost:8891", Some(Kind::Milter { target: tcp("localhost", 8891) }));
    check("milter:inet:[::1]:8891", Some(Kind::Milter { target: tcp("::1", 8891) }));
    check("milter:unix:/run/m.sock", Some(Kind::Milter { target: Target::Unix("/run/m.sock".into()) }));
    check("rspamd:127.0.0.1:11333", Some(Kind::Rspamd { target: tcp("127.0.0.1", 11333) }));
    check("rspamd:/run/rspamd.sock", Some(Kind::Rspamd { target: Target::Unix("/run/rspamd.sock".into()) }));
    check("spamd:mail.example:783", Some(Kind::Spamd { target: tcp("mail.example", 783) }));
    check("spamd:/run/spamd.sock", Some(Kind::Spamd { target: Target::Unix("/run/spamd.sock".into()) }));
}

#[test]
fn what_names_no_filter_is_refused() {
    for text in [
        "",
        "milter",
        "milter:",
        "milter:8891",
        "milter:inet:8891",
        "milter:inet:host:0",
        "milter:inet:host:65536",
        "milter:unix:relative",
        "milter:inet:::1:25",
        "rspamd:",
        "rspamd:host",
        "spamd:host:",
        "clamav:host:3310",
    ] {
        check(text, None);
    }
}

#[test]
fn a_score_is_kept_in_hundredths_and_never_wraps() {
    for (score, expected) in
        [(0.0, 0), (6.3, 630), (-2.5, -250), (1000.0, 100_000), (1e300, i32::MAX), (f64::NAN, 0), (-1e300, i32::MIN)]
    {
        assert_eq!(hundredths(score), expected, "{score}");
    }
}

/// A filter that takes one connection, reads a little, says `answer` and hangs up; with `silent` it stays.
async fn canned(answer: Vec<u8>, silent: bool) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(&answer).await;
        if silent {
            std::future::pending::<()>().await;
        }
    });
    tcp("127.0.0.1", port)
}

fn kinds(target: &Target) -> [Kind; 3] {
    let target = || target.clone();
    [Kind::Milter { target: target() }, Kind::Rspamd { target: target() }, Kind::Spamd { target: target() }]
}

async fn ask(kind: Kind, timeout: Duration, body: Content<'_>) -> Result<Finding, FilterError> {
    let meta = meta();
    let subject = Subject { meta: &meta, id: "17", received: b"Received: here\r\n", body };
    judge(&Filter { name: "test".to_owned(), kind, timeout }, "mx.example.com", &subject).await
}

const MESSAGE: Content<'static> = Content::Bytes(b"Subject: x\r\n\r\nwords\r\n");
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_filter_that_hangs_up_at_once_is_unreachable() {
    for n in 0..3 {
        let target = canned(Vec::new(), false).await;
        let found = ask(kinds(&target)[n].clone(), PATIENCE, MESSAGE).await;
        assert!(matches!(found, Err(FilterError::Unreachable(_))), "{n}: {found:?}");
    }
}

#[tokio::test]
async fn a_filter_that_is_not_there_is_unreachable() {
    for kind in kinds(&Target::Unix("/nonexistent/filter.sock".into())) {
        let found = ask(kind.clone(), PATIENCE, MESSAGE).await;
        assert!(matches!(found, Err(FilterError::Unreachable(_))), "{kind}: {found:?}");
    }
}

#[tokio::test]
async fn a_filter_that_says_nothing_is_given_up_in_time() {
    for n in 0..3 {
        let target = canned(Vec::new(), true).await;
        let found = ask(kinds(&target)[n].clone(), Duration::from_millis(50), MESSAGE).await;
        assert_eq!(found, Err(FilterError::TimedOut), "{n}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_an_error_and_not_kept() {
    let endless = vec![b'x'; 4 * 1024 * 1024];
    let http = [b"HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n".to_vec(), endless.clone()].concat();
    let spamd = [b"SPAMD/1.1 0 EX_OK\r\n".to_vec(), endless.clone()].concat();
    for (n, answer) in [endless, http, spamd].into_iter().enumerate() {
        let target = canned(answer, true).await;
        let found = ask(kinds(&target)[n].clone(), PATIENCE, MESSAGE).await;
        assert!(matches!(found, Err(FilterError::Protocol(_))), "{n}: {found:?}");
    }
}

#[tokio::test]
async fn a_filter_may_listen_on_a_socket_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("spamd.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.expect("a question");
        let expected = b"SYMBOLS SPAMC/1.5\r\nContent-length: 54\r\n\r\n\
                         Return-Path: <>\r\nReceived: here\r\nSubject: x\r\n\r\nwords\r\n";
        assert_eq!(String::from_utf8_lossy(&question), String::from_utf8_lossy(expected));
        stream.write_all(b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 7 / 5\r\n\r\nONE").await.expect("a listener");
    });
    let found = ask(Kind::Spamd { target: Target::Unix(path) }, PATIENCE, MESSAGE).await.expect("a finding");
    assert_eq!((found.verdict, found.score_hundredths), (Verdict::Mark, Some(700)));
}

#[tokio::test]
async fn what_rspamd_says_beside_200_is_an_error() {
    let answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nlate".to_vec();
    let target = canned(answer, false).await;
    let found = ask(Kind::Rspamd { target }, PATIENCE, MESSAGE).await;
    assert_eq!(found, Err(FilterError::Protocol("HTTP 503: late".to_owned())));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_nobody_elses_fault() {
    let file = tempfile::tempfile().expect("a file");
    for n in 0..3 {
        let target = canned(Vec::new(), true).await;
        let found = ask(kinds(&target)[n].clone(), PATIENCE, Content::File(&file, 1000)).await;
        assert!(matches!(found, Err(FilterError::Content(_))), "{n}: {found:?}");
    }
}

fn meta() -> Meta {
    let peer = SocketAddr::from(([192, 0, 2, 7], 4000));
    Meta {
        arrival: Arrival {
            at_unix_ms: 0,
            peer,
            peer_name: None,
            local: peer,
            by: "mx.example.com".to_owned(),
            helo: "client.example.net".to_owned(),
            esmtp: true,
            tls: None,
            via: Via::Public,
        },
        sender: None,
        recipients: Vec::new(),
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        size: 21,
        judged: false,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Checks::default(),
        judgement: None,
    }
}

#[test]
fn what_is_too_big_is_let_through_and_not_found_good() {
    let finding = too_big("spamd", 512_001, 512_000);
    assert_eq!((finding.verdict, finding.unasked), (Verdict::Accept, true));
    assert!(!Finding::new(Verdict::Accept).unasked);
}
