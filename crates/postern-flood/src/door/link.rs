//! One connection to a door, as a client makes it: cookie, handshake, IDENT, mail streams.
//!
//! Owns what goes over the wire for those who behave, and the parts that others misuse. Every wait is the caller's to bound.
//! It keeps no statistics: callers time what they await.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use postern_proto::door::limits::{CID_BYTES, HELLO_BYTES_MIN, NONCE_BYTES};
use postern_proto::door::{Challenge, CloseCode, Frame, FrameReader, PeerClass, hello, token_of};
use quinn::rustls::ClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, EndpointConfig, RecvStream, Runtime, SendStream, TokioRuntime};

use super::hooked::Hooked;
use super::tap::{Tap, TapAt};
use super::tickets::Pocket;
use super::tls::{self, NO_NAME};
use super::unix_s;

/// Why a connection or a message came to nothing.
#[derive(Debug)]
pub(super) enum LinkError {
    /// No handshake, or the connection broke.
    Lost(ConnectionError),
    /// The door does not want us now.
    Parked,
    /// An SMTP reply of 4xx or 5xx.
    Refused(u16),
    /// The system, or the other side, said something that is no sense.
    Odd(String),
}

impl LinkError {
    /// For counting: a handful of words.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::Lost(ConnectionError::ApplicationClosed(close)) => {
                format!("closed by the door, code {}", close.error_code)
            }
            Self::Lost(ConnectionError::ConnectionClosed(close)) => format!("closed by QUIC, {}", close.error_code),
            Self::Lost(ConnectionError::TimedOut) => "QUIC heard nothing".to_owned(),
            Self::Lost(ConnectionError::Reset) => "reset".to_owned(),
            Self::Lost(ConnectionError::LocallyClosed) => "closed by us".to_owned(),
            Self::Lost(other) => other.to_string(),
            Self::Parked => "parked".to_owned(),
            Self::Refused(code) => format!("reply {code}"),
            Self::Odd(what) => what.clone(),
        }
    }

    /// The door said no, after the handshake, for want of a proof of whose the key is: an honest stranger of a test
    /// has none.
    pub(super) fn is_unproven(&self) -> bool {
        matches!(self, Self::Lost(ConnectionError::ApplicationClosed(close))
            if close.error_code.into_inner() == CloseCode::NoProof as u64)
    }
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error)
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Odd(error.to_string())
    }
}

impl From<quinn::WriteError> for LinkError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::ConnectionLost(lost) => Self::Lost(lost),
            other => Self::Odd(other.to_string()),
        }
    }
}

impl From<quinn::ReadError> for LinkError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::ConnectionLost(lost) => Self::Lost(lost),
            other => Self::Odd(other.to_string()),
        }
    }
}

/// A client's endpoint at an address of ours, with a tap on its wire when there is somebody to read it.
pub(super) fn endpoint(from: IpAddr, tap: Option<&Tap>) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind((from, 0))?;
    let runtime = Arc::new(TokioRuntime);
    let mut config = EndpointConfig::default();
    config.grease_quic_bit(false).supported_versions(vec![1]);
    let socket = runtime.wrap_udp_socket(socket)?;
    match tap {
        None => Endpoint::new_with_abstract_socket(config, None, socket, runtime),
        Some(tap) => {
            let from = socket.local_addr()?.ip();
            let tapped = Arc::new(Hooked::new(socket, TapAt { from, tap: tap.clone() }));
            Endpoint::new_with_abstract_socket(config, None, tapped, runtime)
        }
    }
}

/// Asks for a cookie until it comes.
///
/// # Errors
/// No socket; the caller bounds the time.
pub(super) async fn ask_for_cookie(target: SocketAddr, from: IpAddr) -> io::Result<Challenge> {
    let socket = tokio::net::UdpSocket::bind((from, 0)).await?;
    let mut nonce = [0; NONCE_BYTES];
    fastrand::fill(&mut nonce);
    let mut question = [0; HELLO_BYTES_MIN];
    hello(nonce, &mut question);
    let mut wait = Duration::from_millis(250);
    let mut answer = [0; 128];
    loop {
        socket.send_to(&question, target).await?;
        let heard = tokio::time::timeout(wait, async {
            loop {
                // A refused port is told by the next call: nobody is there yet.
                let Ok((length, _)) = socket.recv_from(&mut answer).await else { continue };
                if let Some(challenge) = Challenge::parse(&answer[..length], nonce) {
                    return challenge;
                }
            }
        });
        match heard.await {
            Ok(challenge) => return Ok(challenge),
            Err(_) => wait = (wait * 2).min(Duration::from_secs(2)),
        }
    }
}

/// What a connection is let in by.
pub(super) enum Pass {
    None,
    Cookie(Challenge),
    Ticket(super::tickets::Pocketed),
}

impl Pass {
    /// A connection id, and the token that goes with it.
    fn token(&self) -> ([u8; CID_BYTES], Option<Vec<u8>>) {
        let mut dcid = [0; CID_BYTES];
        fastrand::fill(&mut dcid);
        let token = match self {
            Self::None => None,
            Self::Cookie(challenge) => Some(challenge.token().to_vec()),
            Self::Ticket(grant) => Some(token_of(&grant.ticket, &grant.key, &dcid, unix_s()).to_vec()),
        };
        (dcid, token)
    }
}

/// The handshake.
///
/// # Errors
/// [`LinkError::Lost`].
pub(super) async fn handshake(
    endpoint: &Endpoint,
    target: SocketAddr,
    tls: &Arc<ClientConfig>,
    pass: &Pass,
) -> Result<Connection, LinkError> {
    let (dcid, token) = pass.token();
    let connecting = endpoint
        .connect_with(tls::attempt(tls, dcid, token), target, NO_NAME)
        .map_err(|error| LinkError::Odd(error.to_string()))?;
    Ok(connecting.await?)
}

/// Says who we are; what the door grants. Tickets that come later are pocketed as long as the connection lives.
///
/// # Errors
/// Parked, closed with a code, or no sense.
pub(super) async fn identify(
    connection: &Connection,
    domain: &str,
    tickets: Option<Pocket>,
) -> Result<PeerClass, LinkError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let mut frame = Vec::new();
    Frame::Ident { domain: domain.to_owned(), owner: None, vouches: Vec::new() }.encode(&mut frame);
    send.write_all(&frame).await?;
    let mut frames = FrameReader::default();
    let class = loop {
        match next_frame(&mut receive, &mut frames).await {
            Ok(Frame::Accept { class, .. }) => break class,
            Ok(Frame::Park { .. }) => return Err(LinkError::Parked),
            Ok(_) => {}
            // A door that closes says why in the close itself, which may come a packet later.
            Err(error) => match tokio::time::timeout(CLOSE_WAIT, connection.closed()).await {
                Ok(closed) => return Err(LinkError::Lost(closed)),
                Err(_) => return Err(error),
            },
        }
    };
    let listen = async move {
        // The door may take the end of this stream for the end of the connection.
        let _kept_open = send;
        while let Ok(frame) = next_frame(&mut receive, &mut frames).await {
            if let (Frame::Ticket { ticket, key, expires_s }, Some(tickets)) = (frame, &tickets) {
                tickets.put(ticket, key, expires_s);
            }
        }
    };
    tokio::spawn(listen);
    Ok(class)
}

async fn next_frame(receive: &mut RecvStream, frames: &mut FrameReader) -> Result<Frame, LinkError> {
    loop {
        match frames.next() {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(error) => return Err(LinkError::Odd(format!("{error:?}"))),
        }
        let Some(chunk) = receive.read_chunk(4_096, true).await? else {
            return Err(LinkError::Odd("the control stream ended".to_owned()));
        };
        frames.push(&chunk.bytes);
    }
}

/// How long the reason of an end is waited for.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// A mail stream: an SMTP session that lasts as long as it is needed.
pub(super) struct MailStream {
    send: SendStream,
    receive: RecvStream,
    greeted: bool,
    input: Vec<u8>,
}

impl MailStream {
    pub(super) async fn open(connection: &Connection) -> Result<Self, LinkError> {
        let (send, receive) = connection.open_bi().await?;
        Ok(Self { send, receive, greeted: false, input: Vec::new() })
    }

    /// One message in one flight and one round trip.
    ///
    /// # Errors
    /// The first reply that was no 2xx; the connection broke.
    pub(super) async fn deliver(&mut self, letter: &Letter<'_>) -> Result<(), LinkError> {
        let mut flight = String::new();
        if !self.greeted {
            flight = format!("EHLO mail.{}\r\n", letter.domain);
        }
        flight.push_str(&format!(
            "MAIL FROM:<friend@{}>\r\nRCPT TO:<{}>\r\nBDAT {} LAST\r\n",
            letter.domain,
            letter.recipient,
            letter.text.len()
        ));
        let mut flight = flight.into_bytes();
        flight.extend_from_slice(letter.text);
        let replies = if self.greeted { 3 } else { 4 };
        self.greeted = true;
        self.send.write_all(&flight).await?;
        let mut refused = None;
        for _ in 0..replies {
            let code = self.reply().await?;
            if code >= 400 && refused.is_none() {
                refused = Some(code);
            }
        }
        refused.map_or(Ok(()), |code| Err(LinkError::Refused(code)))
    }

    /// The code of a whole reply.
    async fn reply(&mut self) -> Result<u16, LinkError> {
        loop {
            while let Some(end) = self.input.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                if line.get(3) != Some(&b'-') {
                    let code = line.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
                    return code.ok_or_else(|| LinkError::Odd("no SMTP reply".to_owned()));
                }
            }
            if self.input.len() > crate::limits::REPLY_LINE_BYTES_MAX {
                return Err(LinkError::Odd("an endless reply".to_owned()));
            }
            let Some(chunk) = self.receive.read_chunk(4_096, true).await? else {
                return Err(LinkError::Odd("the mail stream ended".to_owned()));
            };
            self.input.extend_from_slice(&chunk.bytes);
        }
    }
}

/// A message on its way.
pub(super) struct Letter<'a> {
    pub(super) domain: &'a str,
    pub(super) recipient: &'a str,
    pub(super) text: &'a [u8],
}

/// A whole message of so many octets.
pub(super) fn letter_text(domain: &str, recipient: &str, octets: u32) -> Vec<u8> {
    let mut text = format!(
        "From: friend@{domain}\r\nTo: {recipient}\r\nSubject: flood\r\nDate: Mon, 30 Nov 2026 00:00:00 +0000\r\n\r\n"
    )
    .into_bytes();
    const LINE: &[u8] = b"A message of a friend, in lines of seventy octets, until it is as long.\r\n";
    while text.len() < octets as usize {
        text.extend_from_slice(LINE);
    }
    text.truncate((octets as usize).max(LINE.len() * 2));
    let end = text.len() - 2;
    text[end..].copy_from_slice(b"\r\n");
    text
}
