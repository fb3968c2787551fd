//! Plays `tests/dialogs/*.smtp` against the daemon, over TCP and with a real STARTTLS: in lockstep, and all at once where
//! TLS does not stand in the way. Mail is read back from the Maildirs it was delivered to. One daemon serves all dialogs
//! of the same options. `@only pure` dialogs need a clock or a fault that no daemon lends; only those are left out.

#[path = "../../../tests/dialogs/script.rs"]
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use script::{Dialog, MailCheck, Options, Wire};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError, SignatureScheme, StreamOwned,
};

#[test]
fn every_dialog_holds_against_the_daemon() {
    let mut groups: BTreeMap<Options, Vec<Dialog>> = BTreeMap::new();
    let mut count = 0;
    for dialog in Dialog::all().into_iter().filter(|dialog| !dialog.options.pure_only) {
        // STARTTLS is always offered: there is always a certificate.
        let options = Options { tls: true, split_all: false, whole_packets: false, ..dialog.options.clone() };
        groups.entry(options).or_default().push(dialog);
        count += 1;
    }
    let mut failures = Vec::new();
    for (options, dialogs) in &groups {
        let daemon = Daemon::start(options);
        for dialog in dialogs {
            let mut packings = dialog.packings(true).into_iter();
            let result = packings.try_for_each(|packing| dialog.play(&mut daemon.connect(), packing));
            failures.extend(result.err());
        }
    }
    assert!(failures.is_empty(), "{} of {count} dialogs failed:\n\n{}", failures.len(), failures.join("\n"));
    assert!(std::env::var_os("DIALOG").is_some() || count >= 120, "only {count} dialogs found");
    println!("{count} dialogs, {} daemons", groups.len());
}

/// A running server with a directory of its own.
struct Daemon {
    process: Child,
    directory: tempfile::TempDir,
    address: SocketAddr,
}

impl Daemon {
    fn start(options: &Options) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("postern.toml");
        fs::write(&file, config(options, directory.path())).expect("written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_postern"))
            .arg("serve")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let mut ready = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut ready).expect("it speaks");
        let word = if options.relay { "relay=" } else { "smtp=" };
        let address = ready.split_whitespace().find_map(|part| part.strip_prefix(word)?.parse().ok());
        let Some(address) = address else {
            _ = process.kill();
            panic!("not ready: {ready:?} with\n{}", fs::read_to_string(file).expect("readable"));
        };
        Self { process, directory, address }
    }

    fn connect(&self) -> Tcp {
        let stream = TcpStream::connect(self.address).expect("the door is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let seen = self.letters().into_iter().map(|letter| letter.id).collect();
        Tcp { stream: Some(Stream::Plain(stream)), said: Vec::new(), mail: self.directory.path().join("mail"), seen }
    }

    fn letters(&self) -> Vec<Letter> {
        letters(&self.directory.path().join("mail"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// No answer of a dialog takes this long on a machine that works.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(options: &Options, directory: &Path) -> String {
    let mail = directory.join("mail");
    let mut text = format!(
        "hostname = \"mx.example.com\"\ndata = {:?}\ndeliver = \"maildir:{}\"\nthreads = 1\n",
        directory.join("data"),
        mail.display()
    );
    text.push_str("[log]\nlevel = \"error\"\n[smtp]\nlisten = [\"127.0.0.1:0\"]\n");
    if let Some(size) = options.size_max {
        _ = writeln!(text, "size_max = {size}");
    }
    if options.xclient {
        text.push_str("xclient_from = [\"127.0.0.0/8\"]\n");
    }
    if options.proxy {
        text.push_str("proxy_from = [\"127.0.0.0/8\"]\n");
    }
    // 260 dialogs of breaking rules make their address suspect, and what then becomes of it is another test's business;
    // likewise whoever PROXY or XCLIENT says it is.
    text.push_str("[trust]\npinned = [\"0.0.0.0/0\", \"::/0\"]\n");
    if options.relay {
        _ = write!(text, "[relay]\nlisten = \"127.0.0.1:0\"\nnext_hop = \"maildir:{}\"\n", mail.display());
    }
    text.push_str("[recipients]\n");
    for domain in ["example.com", "example.org"] {
        let known = options.unknown.iter().any(|address| address.ends_with(domain));
        let names = if known { "{ list = [\"bob\", \"carol\", \"dave\"] }" } else { "\"any\"" };
        _ = writeln!(text, "\"{domain}\" = {names}");
    }
    for (domain, mode) in &options.modes {
        _ = write!(text, "[domain.\"{domain}\"]\nmode = \"{mode}\"\n");
    }
    text
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A client's end of a connection.
struct Tcp {
    /// `None` once the server has closed or the conversation is over.
    stream: Option<Stream>,
    said: Vec<u8>,
    mail: PathBuf,
    /// Messages delivered before this conversation, or named in it.
    seen: BTreeSet<String>,
}

impl Tcp {
    /// Reads once; false at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = match &mut self.stream {
            None => return false,
            Some(Stream::Plain(stream)) => stream.read(&mut buffer),
            Some(Stream::Tls(stream)) => stream.read(&mut buffer),
        };
        match read {
            Ok(n) if n > 0 => {
                self.said.extend_from_slice(&buffer[..n]);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            // Closed with or without ceremony.
            Ok(_) | Err(_) => self.stream = None,
        }
        false
    }

    fn whole_reply(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        let mut rest = self.said.as_slice();
        loop {
            let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
            lines.push(String::from_utf8_lossy(&rest[..end]).into_owned());
            let more = rest.get(3) == Some(&b'-');
            rest = &rest[end + 2..];
            if !more {
                self.said = rest.to_vec();
                return Some(lines);
            }
        }
    }
}

impl Wire for Tcp {
    fn send(&mut self, packet: &[u8]) {
        // A server that has closed does not read; what it said before is still to be heard.
        _ = match &mut self.stream {
            None => Ok(()),
            Some(Stream::Plain(stream)) => stream.write_all(packet),
            Some(Stream::Tls(stream)) => stream.write_all(packet).and_then(|()| stream.flush()),
        };
    }

    fn reply(&mut self) -> Option<Vec<String>> {
        loop {
            if let Some(lines) = self.whole_reply() {
                return Some(lines);
            }
            if !self.read() {
                return None;
            }
        }
    }

    fn unasked(&mut self) -> Option<Vec<String>> {
        match &mut self.stream {
            None => {}
            Some(Stream::Plain(stream)) => _ = stream.shutdown(Shutdown::Write),
            Some(Stream::Tls(stream)) => {
                stream.conn.send_close_notify();
                _ = stream.flush();
                _ = stream.sock.shutdown(Shutdown::Write);
            }
        }
        while self.read() {}
        let said = self.whole_reply();
        said.or_else(|| self.stream.is_some().then(|| vec!["and nothing: not closed when the client was gone".into()]))
    }

    fn tls(&mut self) {
        let Some(Stream::Plain(socket)) = self.stream.take() else { panic!("no plain connection") };
        assert!(self.said.is_empty(), "said in the clear behind the reply to STARTTLS: {:?}", self.said);
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate))
            .with_no_client_auth();
        let name = ServerName::try_from("mx.example.com").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = StreamOwned::new(connection, socket);
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        self.stream = Some(Stream::Tls(Box::new(stream)));
    }

    fn closed(&mut self) -> bool {
        while self.read() {}
        self.stream.is_none() && self.said.is_empty()
    }

    fn wait(&mut self, _: Duration) {
        panic!("a dialog that waits is `@only pure`");
    }

    fn mail(&mut self, expected: &MailCheck) -> Result<(), String> {
        // In `collect` it leaves a moment after the reply.
        let deadline = Instant::now() + PATIENCE;
        let letters = loop {
            let mut letters = letters(&self.mail);
            letters.retain(|letter| !self.seen.contains(&letter.id));
            // Ids grow with time, so the first is the oldest; all copies of one message have the same.
            let first = letters.iter().map(|letter| letter.id.clone()).min();
            letters.retain(|letter| Some(&letter.id) == first.as_ref());
            if !letters.is_empty() && letters.len() >= expected.to.len() {
                break letters;
            }
            if Instant::now() > deadline {
                return Err(format!("{} copies delivered, expected {:?}", letters.len(), expected.to));
            }
            std::thread::yield_now();
        };
        self.seen.insert(letters[0].id.clone());
        let mut to: Vec<String> = letters.iter().map(|letter| letter.to.clone()).collect();
        to.sort_unstable();
        let mut expected = expected.clone();
        expected.to.sort_unstable();
        letters.iter().try_for_each(|letter| expected.check(&letter.body, &letter.from, &to, letter.peer))
    }

    fn nothing_left(&mut self) -> Result<(), String> {
        let letters = letters(&self.mail).into_iter().filter(|letter| !self.seen.contains(&letter.id));
        match letters.count() {
            0 => Ok(()),
            left => Err(format!("{left} copies delivered that nobody named")),
        }
    }
}

/// One file of a Maildir.
struct Letter {
    id: String,
    from: String,
    to: String,
    peer: IpAddr,
    body: Vec<u8>,
}

fn letters(mail: &Path) -> Vec<Letter> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().map(|entry| entry.expect("readable").path());
    let mailboxes = list(mail).collect::<Vec<_>>();
    mailboxes.iter().flat_map(|mailbox| list(&mailbox.join("new"))).filter_map(|path| letter(&path)).collect()
}

/// Final delivery adds Return-Path, Delivered-To and Received in front; the rest is what the client sent. `None` for a
/// report that the daemon itself made (`NOTIFY=SUCCESS` asks for one): no client sent that.
fn letter(path: &Path) -> Option<Letter> {
    let bytes = fs::read(path).expect("readable");
    let mut rest = bytes.as_slice();
    let mut field = |name: &str| {
        let mut text = String::new();
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            let starts = line.starts_with(name);
            if !(starts && text.is_empty() || line.starts_with('\t') && !text.is_empty()) {
                break;
            }
            text.push_str(line.strip_prefix(name).unwrap_or(&line));
            rest = &rest[end + 2..];
        }
        assert!(!text.is_empty(), "{}: no {name} in {}", path.display(), bytes.escape_ascii());
        text.trim().to_owned()
    };
    let (from, to, received) = (field("Return-Path:"), field("Delivered-To:"), field("Received:"));
    let between = |start: &str, end: char| {
        let tail =
            received.split_once(start).map(|(_, tail)| tail).unwrap_or_else(|| panic!("no {start} in {received}"));
        tail.split(end).next().unwrap_or_default().to_owned()
    };
    if received.starts_with("by ") {
        return None;
    }
    let peer = between("[", ']');
    Some(Letter {
        id: between("\tid ", '\t').trim().trim_end_matches(';').to_owned(),
        from: if from == "<>" { from } else { from.trim_matches(['<', '>']).to_owned() },
        to,
        peer: peer.trim_start_matches("IPv6:").parse().expect("an address"),
        body: rest.to_vec(),
    })
}

/// The certificate is self-signed; whose it is does not matter here.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
