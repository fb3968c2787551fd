//! A next hop for tests: plays written conversations on a real socket of this machine.

use std::net::SocketAddr;
use std::path::Path;

use postern_proto::proxy;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::client::Target;
use crate::tls::{ReloadableCert, self_signed, server_config};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A hop that serves one connection per script and then ends.
pub(crate) struct Hop {
    pub(crate) target: Target,
    served: JoinHandle<Vec<Heard>>,
}

/// What a connection brought, beside the commands that its script expected.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) proxied: Option<proxy::Header>,
    pub(crate) bodies: Vec<Vec<u8>>,
    pub(crate) wrong: Option<String>,
}

/// Lines of a script: `S: reply`, `C: command expected`, `BODY` (read to the dot), `TLS`
/// (handshake), `PROXY` (header expected), `CLOSE` (expect the end), `DEAF` (take anything up to the
/// end). A script ends by closing.
pub(crate) async fn tcp(scripts: &[&'static str]) -> Hop {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let scripts = scripts.to_vec();
    let served = tokio::spawn(async move {
        let mut heard = Vec::new();
        for script in scripts {
            let (stream, _) = listener.accept().await.expect("a connection");
            heard.push(play(Box::new(stream), script).await);
        }
        heard
    });
    Hop { target: target(addr), served }
}

pub(crate) async fn unix(path: &Path, script: &'static str) -> Hop {
    let listener = UnixListener::bind(path).expect("a socket");
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        vec![play(Box::new(stream), script).await]
    });
    Hop { target: Target::Unix(path.into()), served }
}

pub(crate) fn target(addr: SocketAddr) -> Target {
    Target::Tcp { host: addr.ip().to_string(), port: addr.port() }
}

/// A certificate of our own, in a directory that goes with the test.
pub(crate) fn certificate() -> (tempfile::TempDir, ReloadableCert) {
    let dir = tempfile::tempdir().expect("a directory");
    let files = self_signed(dir.path(), &["hop.example".to_owned()]).expect("a certificate");
    let cert = ReloadableCert::load(files).expect("what was just made");
    (dir, cert)
}

impl Hop {
    /// Waits for the end; fails the test when a conversation went another way.
    pub(crate) async fn heard(self) -> Vec<Heard> {
        let heard = self.served.await.expect("the hop lives");
        for heard in &heard {
            assert_eq!(heard.wrong, None);
        }
        heard
    }
}

async fn play(stream: Box<dyn Stream>, script: &'static str) -> Heard {
    let mut heard = Heard::default();
    let mut stream = BufReader::new(stream);
    for step in script.lines().map(str::trim).filter(|step| !step.is_empty()) {
        let result = if let Some(reply) = step.strip_prefix("S: ") {
            stream.write_all(format!("{reply}\r\n").as_bytes()).await
        } else if let Some(command) = step.strip_prefix("C: ") {
            let mut line = String::new();
            let read = stream.read_line(&mut line).await;
            if line != format!("{command}\r\n") {
                heard.wrong = Some(format!("expected {command:?}, heard {line:?}"));
                return heard;
            }
            read.map(|_| ())
        } else {
            match step {
                "BODY" => read_body(&mut stream, &mut heard).await,
                "PROXY" => read_proxy(&mut stream, &mut heard).await,
                "DEAF" => tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(|_| ()),
                "CLOSE" => match stream.read(&mut [0; 1]).await {
                    Ok(1) => Err(std::io::Error::other("the client went on")),
                    _ => Ok(()),
                },
                "TLS" => {
                    let (_dir, cert) = certificate();
                    let tls = TlsAcceptor::from(server_config(&cert)).accept(stream.into_inner()).await;
                    match tls {
                        Ok(tls) => {
                            stream = BufReader::new(Box::new(tls));
                            Ok(())
                        }
                        Err(error) => {
                            heard.wrong = Some(error.to_string());
                            return heard;
                        }
                    }
                }
                _ => unreachable!("no such step: {step}"),
            }
        };
        if let Err(error) = result {
            heard.wrong = Some(format!("{step}: {error}"));
            return heard;
        }
    }
    let _ = stream.shutdown().await;
    heard
}

async fn read_body(stream: &mut BufReader<Box<dyn Stream>>, heard: &mut Heard) -> std::io::Result<()> {
    let mut body = Vec::new();
    while !(body == b".\r\n" || body.ends_with(b"\r\n.\r\n")) {
        if stream.read_until(b'\n', &mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    heard.bodies.push(body);
    Ok(())
}

async fn read_proxy(stream: &mut BufReader<Box<dyn Stream>>, heard: &mut Heard) -> std::io::Result<()> {
    let mut header = Vec::new();
    loop {
        header.push(stream.read_u8().await?);
        if let Some((_, proxied)) = proxy::parse(&header).map_err(std::io::Error::other)? {
            heard.proxied = Some(proxied);
            return Ok(());
        }
    }
}
