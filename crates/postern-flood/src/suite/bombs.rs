//! Messages made to burst whoever parses them: headers, lines, parts without end.

use std::time::{Duration, Instant};

use super::client::{Lost, Reply};
use super::stage::Stage;
use super::{Case, Judged, Verdict};

pub(super) const CASES: [Case; 4] = [
    Case {
        name: "header-bomb",
        holds: "100,000 header fields are answered within five seconds, and a header without end is refused",
        play: headers,
    },
    Case { name: "line-bomb", holds: "a text line of 8 MB is answered within five seconds, and refused", play: line },
    Case {
        name: "mime-bomb",
        holds: "10,000 nested parts are answered within five seconds: nobody parses them at the door",
        play: mime,
    },
    Case { name: "command-bomb", holds: "a command line without end is cut short", play: command },
];

fn headers(stage: &mut Stage<'_>) -> Judged {
    let fields: String = (0..100_000).map(|n| format!("X-{n}: a\r\n")).collect();
    let (reply, took) = send(stage, &[fields.as_bytes(), b"\r\nbody\r\n"])?;
    judge("100,000 fields", reply, took, true)
}

fn line(stage: &mut Stage<'_>) -> Judged {
    let (reply, took) = send(stage, &[b"Subject: line\r\n\r\n", &b"a".repeat(8_000_000), b"\r\n"])?;
    judge("8 MB without a line end", reply, took, false)
}

fn mime(stage: &mut Stage<'_>) -> Judged {
    let mut body = String::from("MIME-Version: 1.0\r\n");
    for n in 0..10_000 {
        body.push_str(&format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"));
    }
    body.push_str("\r\nend\r\n");
    let (reply, took) = send(stage, &[body.as_bytes()])?;
    judge("10,000 nested parts", reply, took, true)
}

/// Sends a message; the reply and how long behind its end it came.
fn send(stage: &mut Stage<'_>, pieces: &[&[u8]]) -> Result<(Option<Reply>, Duration), Lost> {
    let mut client = stage.introduced_attacker()?;
    client.begin_data("probe@probe.example", &stage.options.recipient)?;
    for piece in pieces.iter().chain(&[b".\r\n".as_slice()]) {
        if client.say(piece) == Err(Lost::Silent) {
            return Err(Lost::Silent);
        }
    }
    let started = Instant::now();
    match client.reply() {
        Ok(reply) => Ok((Some(reply), started.elapsed())),
        // Hanging up is an answer to a bomb.
        Err(Lost::Closed) => Ok((None, started.elapsed())),
        Err(lost) => Err(lost),
    }
}

/// `may_take`: as octets that nobody looks into, it is an ordinary message.
fn judge(what: &str, reply: Option<Reply>, took: Duration, may_take: bool) -> Judged {
    let code = reply.map_or("closed".to_owned(), |reply| reply.code.to_string());
    let taken = code.starts_with('2');
    let verdict = match (took <= ANSWER_WITHIN, taken) {
        (false, _) => Verdict::Fail,
        (true, true) if !may_take => Verdict::Partial,
        (true, _) => Verdict::Pass,
    };
    Ok((verdict, format!("{what}: {code} after {:.0} ms", took.as_secs_f64() * 1e3)))
}

fn command(stage: &mut Stage<'_>) -> Judged {
    let mut client = stage.introduced_attacker()?;
    let block = [b'A'; 65_536];
    let mut sent = 0;
    client.patience(Duration::from_millis(1));
    while sent < COMMAND_BYTES {
        if client.say(block).is_err() {
            return Ok((Verdict::Pass, format!("cut short after {sent} octets at most")));
        }
        sent += block.len();
        // Replies are read as they come: a server that answers each 512 octets is not blocked by us.
        while let Ok(reply) = client.reply() {
            if reply.code == 421 || reply.code >= 500 {
                return Ok((Verdict::Pass, format!("{} within {sent} octets", reply.code)));
            }
        }
    }
    client.patience(super::stage::PATIENCE);
    let reply = client.ask("")?;
    // All of it was swallowed, in a bounded buffer or not: from here that looks the same.
    let verdict = if reply.code >= 500 { Verdict::Partial } else { Verdict::Fail };
    Ok((verdict, format!("{} after {} octets, at the line's end", reply.code, sent)))
}

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// More than any command needs, less than any machine feels.
const COMMAND_BYTES: usize = 16_777_216;
