//! Asks SpamAssassin's spamd (SPAMC/1.5, `SYMBOLS`) for a score and the names of the tests that matched.
//!
//! Of the protocol's commands this one lets the message stay where it is: the answer is a line of names. What
//! SpamAssassin would have written into the header is written here from it.

use postern_proto::judgement::HeaderChange;
use tokio::io::AsyncWriteExt;

use super::stream::{Source, Stream, broken, connect, read_all};
use super::{FilterError, Finding, Subject, Verdict, hundredths, one_line};
use crate::client::Target;

/// What spamc sends at most unless told otherwise (500 KiB): SpamAssassin's patterns run over the whole text, and
/// megabytes take it minutes. A larger message is not sent.
const MESSAGE_BYTES_MAX: u64 = 500 * 1024;
/// A line of names of tests, and five lines before it.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const PIECE_BYTES: usize = 64 * 1024;

pub(super) async fn judge(target: &Target, hostname: &str, subject: &Subject<'_>) -> Result<Finding, FilterError> {
    let source = Source::new(subject.body)?;
    let sender = subject.meta.sender.as_ref().map(ToString::to_string).unwrap_or_default();
    // SpamAssassin learns the envelope's sender from this field, as written by a delivery agent.
    let mut head = format!("Return-Path: <{sender}>\r\n{}", received_spf(subject, hostname)).into_bytes();
    head.extend_from_slice(subject.received);
    let len = head.len() as u64 + source.len();
    if len > MESSAGE_BYTES_MAX {
        return Ok(super::too_big("spamd", len, MESSAGE_BYTES_MAX));
    }
    let mut stream = connect(target).await?;
    let request = format!("SYMBOLS SPAMC/1.5\r\nContent-length: {len}\r\n\r\n");
    let sent = send(&mut *stream, &[request.as_bytes(), &head], &source).await;
    let broken_at = match sent {
        // It may have said why before it closed.
        Err(FilterError::Unreachable(why)) => Some(why),
        sent => sent.map(|()| None)?,
    };
    match (read_all(&mut *stream, ANSWER_BYTES_MAX).await, broken_at) {
        (Ok(answer), Some(why)) if answer.is_empty() => Err(FilterError::Unreachable(why)),
        (Ok(answer), _) if answer.is_empty() => Err(FilterError::Unreachable("it hung up".to_owned())),
        (Ok(answer), _) => read(&answer),
        (Err(error), _) => Err(error),
    }
}

async fn send(stream: &mut dyn Stream, head: &[&[u8]], source: &Source<'_>) -> Result<(), FilterError> {
    for piece in head {
        stream.write_all(piece).await.map_err(broken)?;
    }
    let mut at = 0;
    loop {
        let piece = source.piece(at, PIECE_BYTES).await?;
        if piece.is_empty() {
            return stream.shutdown().await.map_err(broken);
        }
        stream.write_all(&piece).await.map_err(broken)?;
        at += piece.len() as u64;
    }
}

/// What SPF said when the message came (RFC 7208 section 9.1). Above our Received field SpamAssassin takes it for what
/// it is, and asks DNS no more: an hour later the answer may be another, and so may be its speed.
fn received_spf(subject: &Subject<'_>, hostname: &str) -> String {
    let meta = subject.meta;
    let of_sender =
        |domain: &str| meta.sender.as_ref().is_some_and(|sender| sender.domain.eq_ignore_ascii_case(domain));
    // What was checked for another sender says nothing of this one.
    let Some(spf) = meta.checks.spf.as_ref().filter(|spf| spf.of_helo || of_sender(&spf.domain)) else {
        return String::new();
    };
    let quoted = |text: &str| {
        let sound = text.chars().filter(|c| !c.is_control());
        sound.flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect::<String>()
    };
    format!(
        "Received-SPF: {result} ({hostname}: at its arrival) client-ip={ip};\r\n\tenvelope-from=\"{sender}\"; \
         helo=\"{helo}\";\r\n\tidentity={identity}; receiver={hostname}\r\n",
        result = spf.result.as_str(),
        ip = meta.arrival.peer.ip().to_canonical(),
        sender = quoted(&meta.sender.as_ref().map(ToString::to_string).unwrap_or_default()),
        helo = quoted(&meta.arrival.helo),
        identity = if spf.of_helo { "helo" } else { "mailfrom" },
    )
}

fn read(answer: &[u8]) -> Result<Finding, FilterError> {
    let wrong = |what: &str| FilterError::Protocol(format!("its answer {what}"));
    let text = String::from_utf8_lossy(answer);
    let (head, names) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let mut status = lines.next().unwrap_or_default().splitn(3, ' ');
    let (protocol, code, words) = (status.next(), status.next(), status.next().unwrap_or_default());
    if !protocol.is_some_and(|protocol| protocol.starts_with("SPAMD/")) {
        return Err(wrong("is not spamd's"));
    }
    match code.and_then(|code| code.parse().ok()) {
        Some(OK) => {}
        Some(TIMEOUT) => return Err(FilterError::TimedOut),
        Some(code) => return Err(wrong(&format!("is {code}: {}", one_line(words)))),
        None => return Err(wrong("has no code")),
    }
    let spam = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("Spam"));
    let (is_spam, score, required) =
        spam.and_then(|(_, value)| judged(value)).ok_or_else(|| wrong("does not say whether it is spam"))?;
    let names: Vec<&str> = names.split([',', '\r', '\n']).map(str::trim).filter(|name| !name.is_empty()).collect();
    let mut finding = Finding::new(if is_spam { Verdict::Mark } else { Verdict::Accept });
    finding.score_hundredths = Some(hundredths(score));
    finding.reason =
        Some(one_line(format!("{score:.1}/{required:.1}: {}", names.join(", ")).trim_end_matches([' ', ':'])));
    finding.headers = vec![status_field(is_spam, score, required, &names)];
    Ok(finding)
}

/// ` True ; 1000.0 / 5.0`
fn judged(value: &str) -> Option<(bool, f64, f64)> {
    let (word, numbers) = value.split_once(';')?;
    let is_spam = match word.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" => true,
        "false" | "no" => false,
        _ => return None,
    };
    let (score, required) = numbers.split_once('/')?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    Some((is_spam, number(score)?, number(required)?))
}

/// What SpamAssassin would have written. That the field is not there yet is for whoever applies it: anybody could have
/// sent one.
fn status_field(is_spam: bool, score: f64, required: f64, names: &[&str]) -> HeaderChange {
    let mut value = format!("{}, score={score:.1} required={required:.1}", if is_spam { "Yes" } else { "No" });
    for (n, name) in names.iter().filter(|name| is_test_name(name)).take(NAMES_MAX).enumerate() {
        value.push_str(if n == 0 { "\r\n\ttests=" } else { ",\r\n\t" });
        value.push_str(name);
    }
    HeaderChange::Insert { at: 0, name: "X-Spam-Status".to_owned(), value }
}

fn is_test_name(name: &str) -> bool {
    name.len() <= 100 && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
}

/// Tests named in the header; a message that matches more has other things to show.
const NAMES_MAX: usize = 100;
/// `EX_OK` and `EX_TIMEOUT` of the protocol.
const OK: u32 = 0;
const TIMEOUT: u32 = 79;

#[cfg(test)]
mod tests;
