//! The macros of each stage, as far as a stored message can tell them.
//!
//! Names and stages are those that filters expect from Sendmail and Postfix. What was not stored is
//! left out: an absent macro is known to filters, a made-up one misleads them.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Letter;
use crate::address::Address;

type Pairs<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// Stages as [`super::Negotiated::symbols`] counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connect = 0,
    Helo = 1,
    Mail = 2,
    Rcpt = 3,
    Data = 4,
    EndOfBody = 5,
    EndOfHeader = 6,
}

/// What is told at a stage, when the filter does not say what it wants. `recipient` is for [`Stage::Rcpt`].
pub(super) fn usual<'a>(letter: &Letter<'a>, stage: Stage, recipient: Option<&Address>) -> Pairs<'a> {
    match stage {
        Stage::Connect => connect(letter),
        Stage::Helo => tls(letter),
        Stage::Mail => [("i", Cow::Borrowed(letter.id))].into_iter().chain(mail(letter)).chain(tls(letter)).collect(),
        Stage::Rcpt => {
            [("i", Cow::Borrowed(letter.id))].into_iter().chain(recipient.map(rcpt).unwrap_or_default()).collect()
        }
        Stage::Data | Stage::EndOfBody | Stage::EndOfHeader => Vec::from([("i", Cow::Borrowed(letter.id))]),
    }
}

/// Of all that can be told, what the filter wants, as named in `names` (parted by blanks or commas, with or without
/// braces).
pub(super) fn wanted<'a>(letter: &Letter<'a>, names: &[u8], recipient: Option<&Address>) -> Pairs<'a> {
    let bare = |name: &[u8]| name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name).to_vec();
    let names: Vec<Vec<u8>> =
        names.split(|octet| matches!(octet, b' ' | b',')).filter(|name| !name.is_empty()).map(bare).collect();
    let mut known = connect(letter);
    known.extend(tls(letter));
    known.push(("i", Cow::Borrowed(letter.id)));
    known.extend(mail(letter));
    known.extend(recipient.map(rcpt).unwrap_or_default());
    known.retain(|(name, _)| names.contains(&bare(name.as_bytes())));
    known
}

/// The client's name where it is confirmed or was told to us, else its address in brackets.
pub(super) fn client_name(letter: &Letter<'_>) -> Cow<'static, str> {
    let name = letter.meta.checks.name.as_ref().or(letter.meta.arrival.peer_name.as_ref());
    Cow::Owned(name.cloned().unwrap_or_else(|| bracketed(letter)))
}

fn bracketed(letter: &Letter<'_>) -> alloc::string::String {
    match letter.meta.arrival.peer.ip().to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

fn connect<'a>(letter: &Letter<'a>) -> Pairs<'a> {
    let arrival = &letter.meta.arrival;
    let (name, bracketed) = (client_name(letter), bracketed(letter));
    let sender = if *name == *bracketed { bracketed } else { format!("{name} {bracketed}") };
    let mut pairs = Vec::from([
        ("j", Cow::Borrowed(letter.hostname)),
        ("{daemon_name}", Cow::Borrowed("Postern")),
        ("{daemon_addr}", Cow::Owned(arrival.local.ip().to_canonical().to_string())),
        ("{daemon_port}", Cow::Owned(arrival.local.port().to_string())),
        ("v", Cow::Borrowed(concat!("Postern ", env!("CARGO_PKG_VERSION")))),
        ("_", Cow::Owned(sender)),
        ("{client_addr}", Cow::Owned(arrival.peer.ip().to_canonical().to_string())),
        ("{client_port}", Cow::Owned(arrival.peer.port().to_string())),
        ("{client_name}", name),
    ]);
    if let Some(name) = &letter.meta.checks.name {
        pairs.push(("{client_ptr}", Cow::Borrowed(name)));
        pairs.push(("{client_resolve}", Cow::Borrowed("OK")));
    }
    pairs
}

fn tls<'a>(letter: &Letter<'a>) -> Pairs<'a> {
    let facts = letter.meta.arrival.tls.as_ref();
    facts
        .map(|tls| {
            Vec::from([
                ("{tls_version}", Cow::Borrowed(tls.version.as_str())),
                ("{cipher}", Cow::Borrowed(tls.cipher.as_str())),
            ])
        })
        .unwrap_or_default()
}

fn mail<'a>(letter: &Letter<'a>) -> Pairs<'a> {
    let sender = letter.meta.sender.as_ref();
    let host = sender.map_or("", |sender| &*sender.domain);
    Vec::from([
        ("{mail_mailer}", Cow::Borrowed("smtp")),
        ("{mail_host}", Cow::Borrowed(host)),
        ("{mail_addr}", Cow::Owned(sender.map(ToString::to_string).unwrap_or_default())),
    ])
}

fn rcpt(recipient: &Address) -> Pairs<'static> {
    Vec::from([
        ("{rcpt_mailer}", Cow::Borrowed("smtp")),
        ("{rcpt_host}", Cow::Owned(recipient.domain.to_string())),
        ("{rcpt_addr}", Cow::Owned(recipient.to_string())),
    ])
}
