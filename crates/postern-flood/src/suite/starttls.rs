//! Octets behind STARTTLS: what a man in the middle puts into the clear must not be heard inside.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::client::{Client, Lost};
use super::stage::{PATIENCE, Stage};
use super::{Case, Judged, Verdict};

pub(super) const CASES: [Case; 2] = [
    Case {
        name: "starttls-injection",
        holds: "commands pipelined behind STARTTLS in the clear are never answered inside TLS",
        play: injection,
    },
    Case { name: "starttls-forgets", holds: "the envelope begun in the clear is forgotten inside TLS", play: forgets },
];

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn injection(stage: &mut Stage<'_>) -> Judged {
    if !stage.offers("STARTTLS") {
        return Ok((Verdict::Skip, "STARTTLS is not offered".to_owned()));
    }
    let mut client = stage.introduced_attacker()?;
    client.say("STARTTLS\r\nEHLO injected.example\r\nNOOP\r\n")?;
    let reply = client.reply()?;
    if reply.code != 220 {
        return Ok((Verdict::Pass, format!("refused: {reply}")));
    }
    if client.unread() > 0 {
        return Ok((Verdict::Fail, "answered in the clear behind the 220".to_owned()));
    }
    let Ok(mut inside) = handshake(client) else {
        return Ok((Verdict::Pass, "no handshake after that".to_owned()));
    };
    // Whoever heard the injected commands answers them now, unasked.
    let _ = inside.stream.sock.set_read_timeout(Some(Duration::from_millis(500)));
    let mut unasked = [0; 512];
    if let Ok(taken @ 1..) = inside.stream.read(&mut unasked) {
        let text = String::from_utf8_lossy(&unasked[..taken]).trim().to_owned();
        return Ok((Verdict::Fail, format!("answered inside TLS: {text}")));
    }
    let _ = inside.stream.sock.set_read_timeout(Some(PATIENCE));
    let noop = inside.ask("NOOP")?;
    Ok((Verdict::Pass, format!("discarded; the first reply inside is to what was said inside: {noop}")))
}

fn forgets(stage: &mut Stage<'_>) -> Judged {
    if !stage.offers("STARTTLS") {
        return Ok((Verdict::Skip, "STARTTLS is not offered".to_owned()));
    }
    let mut client = stage.introduced_attacker()?;
    let mail = client.ask("MAIL FROM:<clear@probe.example>")?;
    let start = client.ask("STARTTLS")?;
    if mail.code != 250 || start.code != 220 {
        return Ok((Verdict::Pass, format!("refused in the middle of a transaction: {start}")));
    }
    let mut inside = handshake(client)?;
    inside.hello()?;
    let rcpt = inside.ask(format!("RCPT TO:<{}>", stage.options.recipient))?;
    let verdict = if rcpt.code >= 500 { Verdict::Pass } else { Verdict::Fail };
    Ok((verdict, format!("RCPT without MAIL inside: {rcpt}")))
}

fn handshake(client: Client) -> Result<Client<Tls>, Lost> {
    let trouble = |what: String| Lost::Trouble(what);
    let name = ServerName::try_from("localhost").map_err(|error| trouble(error.to_string()))?;
    let session =
        ClientConnection::new(postern_net::tls::client_config(), name).map_err(|error| trouble(error.to_string()))?;
    let mut tls = StreamOwned::new(session, client.stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).map_err(|error| trouble(error.to_string()))?;
    }
    Ok(Client::over(tls))
}
