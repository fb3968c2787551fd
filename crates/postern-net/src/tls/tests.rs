//! Certificates on disk, and handshakes between both configurations.

use std::os::unix::fs::PermissionsExt;

use rustls::{ClientConnection, ServerConnection};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::hop::certificate;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file").permissions().mode() & 0o777
}

/// The certificate that a client is shown, and the facts on both sides.
async fn handshake(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> (Vec<u8>, TlsFacts, TlsFacts) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("any.example").expect("a name");
    let (client, server) =
        tokio::join!(TlsConnector::from(client).connect(name, near), TlsAcceptor::from(server).accept(far));
    let (client, server) = (client.expect("client"), server.expect("server"));
    let (client, server): (&ClientConnection, &ServerConnection) = (client.get_ref().1, server.get_ref().1);
    let shown = client.peer_certificates().expect("a certificate")[0].to_vec();
    (shown, facts(client).expect("facts"), facts(server).expect("facts"))
}

#[tokio::test]
async fn both_sides_tell_the_same_facts() {
    let (_dir, cert) = certificate();
    let (shown, client, server) = handshake(server_config(&cert), client_config()).await;
    assert_eq!(shown, cert.chain()[0]);
    assert_eq!(client, server);
    assert_eq!((client.version.as_str(), client.cipher.get(..6)), ("TLSv1.3", Some("TLS13_")));
}

#[tokio::test]
async fn tls_1_2_is_still_spoken() {
    let (_dir, cert) = certificate();
    let provider = Arc::new(ring::default_provider());
    let verifier = Unverified { algorithms: provider.signature_verification_algorithms };
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let (_, client, _) = handshake(server_config(&cert), Arc::new(old)).await;
    assert_eq!(client.version, "TLSv1.2");
    assert!(client.cipher.starts_with("TLS_ECDHE_"), "{client:?}");
}

#[tokio::test]
async fn a_reload_replaces_the_certificate_and_a_broken_file_does_not() {
    let (_dir, cert) = certificate();
    let config = server_config(&cert);
    let first = cert.chain();
    let (_other_dir, other) = certificate();
    fs::copy(&other.files().cert, &cert.files().cert).expect("copied");
    let error = cert.reload().expect_err("not a pair");
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
    assert_eq!(cert.chain(), first);
    fs::copy(&other.files().key, &cert.files().key).expect("copied");
    cert.reload().expect("a pair again");
    let (shown, _, _) = handshake(Arc::clone(&config), client_config()).await;
    assert_eq!(shown, other.chain()[0]);
    fs::write(&cert.files().cert, "junk").expect("written");
    assert!(cert.reload().is_err());
    let (shown, _, _) = handshake(config, client_config()).await;
    assert_eq!(shown, other.chain()[0], "the old one stays in use");
}

#[test]
fn errors_name_the_file_and_the_cure() {
    let (_dir, cert) = certificate();
    let files = cert.files().clone();
    let load = |files: &CertificateFiles| ReloadableCert::load(files.clone()).expect_err("broken").to_string();
    let swapped = CertificateFiles { cert: files.key.clone(), key: files.key.clone() };
    assert!(load(&swapped).contains("key.pem: no usable certificate (none found)"), "{}", load(&swapped));
    let keyless = CertificateFiles { cert: files.cert.clone(), key: files.cert.clone() };
    assert!(load(&keyless).contains("cert.pem: no usable private key"), "{}", load(&keyless));
    let missing = CertificateFiles { cert: files.cert.with_file_name("no.pem"), key: files.key };
    assert!(load(&missing).contains("no.pem: ") && load(&missing).contains("may read"), "{}", load(&missing));
}

#[test]
fn a_certificate_of_our_own_is_made_once_and_its_key_is_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let tls = dir.path().join("tls");
    let names = ["mx.example.org".to_owned()];
    let files = self_signed(&tls, &names).expect("made");
    assert_eq!((mode(&tls), mode(&files.key)), (0o700, 0o600));
    let first = fs::read(&files.cert).expect("readable");
    self_signed(&tls, &names).expect("kept");
    assert_eq!(fs::read(&files.cert).expect("readable"), first);
    fs::remove_file(&files.cert).expect("removed");
    self_signed(&tls, &names).expect("made anew");
    ReloadableCert::load(files).expect("a pair");
}
