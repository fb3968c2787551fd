//! A look into encoded words (RFC 2047), without decoding them for anybody.
//!
//! Readers that decode before they parse take what is hidden in a word for syntax:
//! `=?utf-8?q?ann=40bank.example=3E?=` has shown wrong authors in more than one mail program. So a word
//! may hold no address, no bracket, no quote and no open comment, and anything that only looks like
//! a word is refused.

use super::AuthorFault;

/// A charset may only be one in which an octet below 128 means ASCII (or is part of a longer character, which is
/// then refused too often and never too seldom): not UTF-7 or UTF-16, which hide an at-sign.
const CHARSETS: &[&str] = &[
    "utf-8",
    "us-ascii",
    "ascii",
    "iso-8859-",
    "windows-125",
    "cp125",
    "koi8-",
    "gb2312",
    "gbk",
    "gb18030",
    "big5",
    "shift_jis",
    "euc-",
    "iso-2022-jp",
    "ks_c_5601-1987",
    "windows-874",
    "windows-31j",
    "tis-620",
];

/// Looks into all encoded words of a display name or comment.
pub(super) fn look_into(text: &str) -> Result<(), AuthorFault> {
    let mut rest = text;
    while let Some(at) = rest.find("=?") {
        rest = word(&rest[at + 2..]).ok_or(AuthorFault::EncodedWord)?;
    }
    Ok(())
}

/// Reads a word behind its `=?`; gives what follows it.
fn word(text: &str) -> Option<&str> {
    let (charset, text) = text.split_once('?')?;
    let (encoding, text) = text.split_once('?')?;
    let (coded, behind) = text.split_once("?=")?;
    // A language behind a star (RFC 2231 section 5).
    let charset = charset.split('*').next().unwrap_or("").to_ascii_lowercase();
    let is_known = CHARSETS.iter().any(|known| {
        if known.ends_with('-') || known.ends_with("125") { charset.starts_with(known) } else { charset == *known }
    });
    let mut look = Look { escapes: charset == "iso-2022-jp", open: 0 };
    let harmless = match encoding {
        "q" | "Q" => decode_q(coded, &mut look),
        "b" | "B" => decode_b(coded, &mut look),
        _ => false,
    };
    (is_known && harmless && look.open == 0).then_some(behind)
}

struct Look {
    /// Escape sequences belong to the charset.
    escapes: bool,
    /// Comments that are open.
    open: u32,
}

impl Look {
    /// One octet of the decoded text; false: it could be taken for syntax.
    fn take(&mut self, byte: u8) -> bool {
        match byte {
            b'@' | b'<' | b'>' | b'"' | b'\\' | 127 => false,
            27 => self.escapes,
            0..=31 => false,
            b'(' => {
                self.open += 1;
                true
            }
            b')' => {
                self.open = self.open.wrapping_sub(1);
                self.open != u32::MAX
            }
            _ => true,
        }
    }
}

fn decode_q(coded: &str, look: &mut Look) -> bool {
    let mut bytes = coded.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'_' => b' ',
            b'=' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return false,
            },
            33..=126 if byte != b'?' => byte,
            _ => return false,
        };
        if !look.take(decoded) {
            return false;
        }
    }
    true
}

/// Strict: whole groups, padding at the end only, no bits left over.
fn decode_b(coded: &str, look: &mut Look) -> bool {
    let body = coded.trim_end_matches('=');
    let padding = coded.len() - body.len();
    if !coded.len().is_multiple_of(4) || padding > 2 {
        return false;
    }
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in body.bytes() {
        let Some(six) = sextet(byte) else { return false };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            let octet = (bits >> held) as u8;
            bits &= (1 << held) - 1;
            if !look.take(octet) {
                return false;
            }
        }
    }
    bits == 0
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}
