//! Policies as text, and one fetched from an HTTPS server of this machine.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::{ReloadableCert, self_signed, server_config};

const POLICY: &str =
    "version: STSv1\r\nmode: enforce\r\nmx: MX.example.org\r\nmx: *.example.net\r\nmax_age: 604800\r\n";

#[test]
fn a_policy_is_read() {
    let policy = Policy::parse(POLICY).expect("a policy");
    assert_eq!((policy.mode, policy.max_age), (PolicyMode::Enforce, 604_800));
    for (host, named) in [
        ("mx.example.org", true),
        ("mx.EXAMPLE.org.", true),
        ("a.example.net", true),
        ("example.net", false),
        ("a.b.example.net", false),
        (".example.net", false),
        ("mx2.example.org", false),
    ] {
        assert_eq!(policy.names(host), named, "{host}");
    }
    let first_counts = Policy::parse("version: STSv1\nmode: none\nmode: enforce\nmax_age: 1\nnew_key: x\n");
    assert_eq!(first_counts.expect("a policy").mode, PolicyMode::None);
}

#[test]
fn what_is_no_policy_is_refused() {
    for text in [
        "",
        "<html>",
        "version: STSv2\nmode: none\nmax_age: 1\n",
        "version: STSv1\nmode: maybe\nmax_age: 1\nmx: a\n",
        "version: STSv1\nmode: enforce\nmax_age: soon\nmx: a\n",
        "version: STSv1\nmode: enforce\nmax_age: 1\n",
    ] {
        assert!(matches!(Policy::parse(text), Err(PolicyError::Malformed(_))), "{text:?}");
    }
}

/// Serves one request with `response`; the fetch trusts the server's certificate when told to.
async fn fetch_from(response: Vec<u8>, trusted: bool) -> Result<Policy, PolicyError> {
    let dir = tempfile::tempdir().expect("a directory");
    let files = self_signed(dir.path(), &["mta-sts.example.org".to_owned()]).expect("a certificate");
    let cert = ReloadableCert::load(files).expect("what was just made");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = Some(listener.local_addr().expect("an address"));
    let acceptor = TlsAcceptor::from(server_config(&cert));
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.expect("a request"));
        }
        assert!(request.starts_with(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n"));
        let _ = stream.write_all(&response).await;
        let _ = stream.shutdown().await;
    });
    let roots = if trusted { Roots::Only(cert.chain()) } else { Roots::Mozilla };
    let options = FetchOptions { address, roots, ..FetchOptions::default() };
    let fetched = fetch("example.org".to_owned(), options).await;
    server.await.expect("the server lives");
    fetched
}

fn response(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nLocation: https://x.example/\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn a_policy_is_fetched_from_a_server_that_verifies() {
    let policy = fetch_from(response("200 OK", POLICY), true).await.expect("a policy");
    assert!(policy.names("mx.example.org"));
    let unknown = fetch_from(response("200 OK", POLICY), false).await;
    assert!(matches!(unknown, Err(PolicyError::Fetch(_))), "{unknown:?}");
}

#[tokio::test]
async fn redirects_errors_and_floods_are_no_policy() {
    for answer in [
        response("302 Found", POLICY),
        response("404 Not Found", POLICY),
        response("204 No Content", ""),
        response("200 OK", &format!("{POLICY}{}", "x: y\r\n".repeat(20_000))),
    ] {
        let fetched = fetch_from(answer, true).await;
        assert!(matches!(fetched, Err(PolicyError::Fetch(_))), "{fetched:?}");
    }
}
