//! What is found out, from answers of the tests' own; policies from a real HTTPS server.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::tests::{Book, records};
use super::*;
use crate::published::Roots;
use crate::tls::{ReloadableCert, self_signed, server_config};

fn record(usage: u8) -> Tlsa {
    Tlsa { usage, selector: 1, matching: 1, data: vec![7; 32] }
}

/// Nothing can be fetched from there.
fn nowhere() -> Policies {
    let address = Some("127.0.0.1:1".parse().expect("an address"));
    Policies::new(FetchOptions { address, ..FetchOptions::default() })
}

#[tokio::test]
async fn tlsa_records_count_behind_a_signed_mx_or_of_the_domain_itself() {
    let tlsa = HashMap::from([
        ("mx.far.example", vec![record(3), record(1)]),
        ("plain.far.example", vec![record(3)]),
        ("none.far.example", vec![record(0)]),
        ("far.example", vec![record(2)]),
    ]);
    let check = async |mx: &str, signed: bool, hosts: &[&str], proven: &[&str]| {
        let book = Book {
            mx: HashMap::from([("far.example".to_owned(), records(mx))]),
            signed: if signed { vec!["far.example"] } else { Vec::new() },
            tlsa: tlsa.clone(),
            ..Book::default()
        };
        let names: Arc<dyn Names> = Arc::new(book);
        let expected = Expected { domain: "far.example".into(), ..Expected::default() };
        let found = proven_by(&names, &nowhere(), expected).await;
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all
        };
        assert_eq!(sorted(found.hosts), hosts, "{mx}, signed: {signed}");
        assert!(found.tlsa.iter().all(|(_, records)| records.len() == 1), "those that can be used: {:?}", found.tlsa);
        assert_eq!(sorted(found.tlsa.into_iter().map(|(host, _)| host).collect()), proven, "{mx}, signed: {signed}");
    };
    check("1 mx.far.example", true, &["mx.far.example"], &["mx.far.example"]).await;
    check("1 mx.far.example", false, &[], &[]).await;
    // An unsigned record, one that is not for mail, a question that fails: the first two hosts are signed all the same.
    let mixed = "1 plain.far.example, 2 none.far.example, 3 fail.far.example";
    check(mixed, true, &["none.far.example", "plain.far.example"], &[]).await;
    check("1 mx.far.example, 2 far.example", false, &["far.example"], &["far.example"]).await;
    check("", false, &["far.example"], &["far.example"]).await;
    check("1 .", true, &[], &[]).await;
}

#[tokio::test]
async fn of_the_hosts_in_mx_records_those_count_that_an_enforced_policy_names() {
    let mx = HashMap::from([("far.example".to_owned(), records("1 a.mx.example, 2 evil.example"))]);
    for (mode, hosts) in [("enforce", vec!["a.mx.example".to_owned()]), ("testing", Vec::new())] {
        let site = Site::start(mode).await;
        let book = Book { mx: mx.clone(), sts_id: Mutex::new(Some("1")), ..Book::default() };
        let names: Arc<dyn Names> = Arc::new(book);
        let expected = Expected { domain: "far.example".into(), ..Expected::default() };
        assert_eq!(proven_by(&names, &site.policies, expected).await.hosts, hosts, "{mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_fetched_once_for_each_id_and_stands_until_it_is_too_old() {
    let site = Site::start("enforce").await;
    let book = Book { sts_id: Mutex::new(None), ..Book::default() };
    let check = async |id: Option<&'static str>, found: bool, fetches: usize| {
        *book.sts_id.lock().expect("no panic") = id;
        let policy = site.policies.of(&book, "far.example").await;
        assert_eq!((policy.is_some(), site.fetches()), (found, fetches), "{id:?}");
    };
    check(None, false, 0).await;
    check(Some("1"), true, 1).await;
    check(Some("1"), true, 1).await;
    // The record is taken away; then there is another, and the server has nothing for it.
    check(None, true, 1).await;
    site.is_down.store(1, Ordering::SeqCst);
    check(Some("2"), true, 2).await;
    check(Some("2"), true, 2).await;
    tokio::time::advance(FAILED).await;
    check(Some("2"), true, 3).await;
    tokio::time::advance(Duration::from_secs(MAX_AGE)).await;
    check(None, false, 3).await;
    check(Some("2"), false, 4).await;
    check(Some("2"), false, 4).await;
    site.is_down.store(0, Ordering::SeqCst);
    tokio::time::advance(FAILED).await;
    check(Some("2"), true, 5).await;
}

/// `mta-sts.far.example`, as far as a test can have it.
struct Site {
    policies: Policies,
    fetches: Arc<AtomicUsize>,
    is_down: Arc<AtomicUsize>,
}

const MAX_AGE: u64 = 604_800;

impl Site {
    async fn start(mode: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let files = self_signed(dir.path(), &["mta-sts.far.example".to_owned()]).expect("a certificate");
        let cert = ReloadableCert::load(files).expect("what was just made");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = Some(listener.local_addr().expect("an address"));
        let acceptor = TlsAcceptor::from(server_config(&cert));
        let (fetches, is_down) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, down) = (Arc::clone(&fetches), Arc::clone(&is_down));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.expect("a request"));
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let status = if down.load(Ordering::SeqCst) == 0 { "200 OK" } else { "404 Not Found" };
                let body = format!("version: STSv1\nmode: {mode}\nmax_age: {MAX_AGE}\nmx: *.mx.example\n");
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let options = FetchOptions { address, roots: Roots::Only(cert.chain()), ..FetchOptions::default() };
        Self { policies: Policies::new(options), fetches, is_down }
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}
