//! The pump between a socket and `postern_proto::client`.
//!
//! Owns connecting (TCP, Unix socket, TLS when offered), the PROXY header, and moving octets both
//! ways. No rule of mail lives here: which command follows which reply, and what a reply means, the
//! machine in `postern-proto` says. Called by the drain and by callouts.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_proto::address::Address;
use postern_proto::client::ClientOptions;
pub use postern_proto::client::{Capabilities, Deadlines, Failure, Phase, Protocol, RecipientResult};
use postern_proto::envelope::{Arrival, DsnRequest, Recipient};
use postern_proto::proxy;
use rustls::ClientConfig;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

/// Where a next hop listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A name or an address (IPv6 without brackets), and a port.
    Tcp {
        /// Looked up by the system's resolver at each connect.
        host: String,
        /// In host order.
        port: u16,
    },
    /// A socket file.
    Unix(PathBuf),
}

/// How the next hop is told who the client really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ClientAddress {
    /// Not at all: it sees us.
    #[default]
    None,
    /// By XCLIENT before each message. Where it is not offered nothing is delivered:
    /// [`Failure::XclientNotOffered`].
    Xclient,
    /// By a PROXY header, version 2, once per connection; such a connection serves one client.
    ProxyV2,
}

/// How to connect; one for all next hops.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Our name for EHLO.
    pub helo: String,
    /// Waits of the dialogue.
    pub deadlines: Deadlines,
    /// Until the connection stands, for each address tried. Default 30 s, as Postfix does.
    pub connect_timeout: Duration,
    /// For STARTTLS when offered; `None` never starts TLS. See [`crate::tls::client_config`].
    pub tls: Option<Arc<ClientConfig>>,
}

/// What is asked of TLS with a mail server.
#[derive(Clone, Debug)]
pub enum TlsWanted {
    /// Opportunistic, as [`Connector::connect`] does it.
    WhenOffered,
    /// A server that this configuration verifies, or no mail.
    Authenticated(Arc<ClientConfig>),
}

/// The octets of a message. Line ends are CRLF; transparency (dots) is added on the way out.
#[derive(Clone, Debug)]
pub enum OutgoingBody<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// A file and how many of its octets, from its start, read in pieces of 64 KiB. The position of
    /// the file is neither used nor moved.
    File(Arc<File>, u64),
    /// The same file without its first octets, which [`Outgoing::header_prefix`] has in another form.
    Rest {
        /// As in [`Self::File`].
        file: Arc<File>,
        /// Octets left out.
        from: u64,
        /// Octets of the whole file.
        len: u64,
    },
}

/// A message to hand over.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Told to the next hop by XCLIENT; with PROXY it was told at the connect.
    pub arrival: &'a Arrival,
    /// The reverse-path; `None` is `<>`.
    pub sender: Option<&'a Address>,
    /// At least one; results come in this order.
    pub recipients: &'a [Recipient],
    /// `BODY=8BITMIME` where offered.
    pub eight_bit: bool,
    /// Needs SMTPUTF8; every recipient is refused with 5.6.7 where it is not offered.
    pub smtputf8: bool,
    /// Passed on where DSN is offered.
    pub dsn: &'a DsnRequest,
    /// Goes before the body: `Received:` and the like, each line ending in CRLF.
    pub header_prefix: &'a [u8],
    /// The message as stored.
    pub body: OutgoingBody<'a>,
}

/// A send that ended the connection.
#[derive(Clone, Debug)]
pub struct SendError {
    /// What happened.
    pub failure: Failure,
    /// Results that were already certain, in the order of [`Outgoing::recipients`].
    pub decided: Vec<Option<RecipientResult>>,
}

mod pump;

pub use pump::Connection;

impl Connector {
    /// The deadlines of RFC 5321, opportunistic TLS.
    pub fn new(helo: impl Into<String>) -> Self {
        Self {
            helo: helo.into(),
            deadlines: Deadlines::default(),
            connect_timeout: CONNECT_TIMEOUT,
            tls: Some(crate::tls::client_config()),
        }
    }

    /// Connects, says EHLO (or LHLO), goes through STARTTLS when offered, and waits for orders.
    /// `arrival` is needed for [`ClientAddress::ProxyV2`] only; without it the PROXY header says
    /// `LOCAL`.
    ///
    /// TLS is opportunistic: no certificate is verified, and a failed handshake is followed by one
    /// connect without TLS, as Postfix does at level "may". Against an active attacker this protects
    /// nothing; verified TLS towards a next hop is for a route of its own.
    ///
    /// # Errors
    /// [`Failure`] says what happened and, in its phase, when.
    pub async fn connect(
        &self,
        target: &Target,
        protocol: Protocol,
        client_address: ClientAddress,
        arrival: Option<&Arrival>,
    ) -> Result<Connection, Failure> {
        match self.connect_once(target, protocol, client_address, arrival, self.tls.as_ref()).await {
            Err(Failure::Tls(why)) => {
                tracing::info!(?target, why, "TLS with the next hop failed, going on without");
                self.connect_once(target, protocol, client_address, arrival, None).await
            }
            result => result,
        }
    }

    /// Connects to one address of a mail server called `name`, and goes through STARTTLS as is wanted. No client
    /// is told: this is for mail of our own.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::Tls`] when a wanted certificate did not come.
    pub async fn connect_to(&self, name: &str, address: SocketAddr, wanted: &TlsWanted) -> Result<Connection, Failure> {
        let target = Target::Tcp { host: address.ip().to_string(), port: address.port() };
        let once = |tls| self.connect_named(&target, name, Protocol::Smtp, ClientAddress::None, None, tls);
        match wanted {
            TlsWanted::Authenticated(config) => {
                let connection = once(Some(config)).await?;
                if connection.tls().is_none() {
                    return Err(Failure::Tls(format!("{name} offers no STARTTLS, and only a proven server will do")));
                }
                Ok(connection)
            }
            TlsWanted::WhenOffered => match once(self.tls.as_ref()).await {
                Err(Failure::Tls(why)) => {
                    tracing::info!(name, %address, why, "TLS with a mail server failed, going on without");
                    once(None).await
                }
                result => result,
            },
        }
    }

    async fn connect_once(
        &self,
        target: &Target,
        protocol: Protocol,
        client_address: ClientAddress,
        arrival: Option<&Arrival>,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Connection, Failure> {
        let name = match target {
            Target::Tcp { host, .. } => host.as_str(),
            Target::Unix(_) => "localhost",
        };
        self.connect_named(target, name, protocol, client_address, arrival, tls).await
    }

    async fn connect_named(
        &self,
        target: &Target,
        name: &str,
        protocol: Protocol,
        client_address: ClientAddress,
        arrival: Option<&Arrival>,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Connection, Failure> {
        let stream = self.open(target).await?;
        let mut header = Vec::new();
        match (client_address, arrival) {
            (ClientAddress::ProxyV2, Some(arrival)) => proxy::write_v2(arrival.peer, arrival.local, &mut header),
            (ClientAddress::ProxyV2, None) => proxy::write_v2_local(&mut header),
            (ClientAddress::None | ClientAddress::Xclient, _) => {}
        }
        let options =
            ClientOptions { protocol, helo: self.helo.clone(), starttls: tls.is_some(), deadlines: self.deadlines };
        let mut connection = Connection::new(stream, options, header, client_address, arrival);
        connection.greet(tls, name).await?;
        Ok(connection)
    }

    async fn open(&self, target: &Target) -> Result<Box<dyn pump::Stream>, Failure> {
        match target {
            Target::Unix(path) => match timeout(self.connect_timeout, UnixStream::connect(path)).await {
                Ok(Ok(stream)) => Ok(Box::new(stream)),
                Ok(Err(error)) => Err(Failure::Connect(format!("{}: {error}", path.display()))),
                Err(_) => Err(Failure::Timeout(Phase::Connect)),
            },
            Target::Tcp { host, port } => self.open_tcp(host, *port).await,
        }
    }

    /// Tries the addresses of `host` in order; the last error is the one told.
    async fn open_tcp(&self, host: &str, port: u16) -> Result<Box<dyn pump::Stream>, Failure> {
        let lookup = timeout(self.connect_timeout, lookup_host((host, port))).await;
        let addresses = lookup
            .map_err(|_| Failure::Connect(format!("{host}: the name could not be looked up in time")))?
            .map_err(|error| Failure::Connect(format!("{host}: {error}")))?;
        let mut failure = Failure::Connect(format!("{host}: the name has no address"));
        for address in addresses.take(ADDRESSES_MAX) {
            match timeout(self.connect_timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Replies are awaited at every step; a delayed ACK would cost 40 ms each.
                    let _ = stream.set_nodelay(true);
                    return Ok(Box::new(stream));
                }
                Ok(Err(error)) => failure = Failure::Connect(format!("{address}: {error}")),
                Err(_) => failure = Failure::Timeout(Phase::Connect),
            }
        }
        Err(failure)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for SendError {}

/// As Postfix does (`smtp_connect_timeout`): long enough for one lost SYN and its repetitions.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Of one name; with the timeout above it bounds a connect to 2 minutes.
const ADDRESSES_MAX: usize = 4;

#[cfg(test)]
mod tests;
