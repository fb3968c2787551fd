//! The kinds of values that settings have beyond TOML's own: sizes, spans of time, routes' words,
//! and the recipients of a domain. Each says in its error what would have been right.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use postern_proto::mode::Mode;
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// A number of octets: `1048576` or `"1 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A span of time: `"250ms"`, `"30s"`, `"5m"`, `"4h"`, `"5d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// One address, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses(pub(crate) Vec<SocketAddr>);

/// A network, `192.0.2.0/24`, or one address, which is the smallest of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(pub(crate) IpNet);

/// A configured mode; `None` is `auto`: the weather decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModeSetting(pub(crate) Option<Mode>);

/// What makes an answer of DNS secure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DnssecSetting {
    /// `"off"`
    Off,
    /// `"root"`: the keys of the root that came with the program.
    Root,
    /// A file with DNSKEY records of the root.
    File(PathBuf),
}

/// Which recipients of a domain exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecipientsSetting {
    /// `"any"`: every local part.
    Any,
    /// `{ list = ["ann", "bob"] }`
    List(Vec<String>),
    /// `{ file = "…" }`: one name or address a line.
    File(PathBuf),
    /// `{ dir = "…" }`: one entry per name, like a Maildir root or /home.
    Dir(PathBuf),
    /// `{ callout = true }`: the next hop is asked.
    Callout,
}

/// How the next hop learns the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAddressSetting {
    /// Not at all: it sees us as the client.
    None,
    /// XCLIENT, Postfix's extension.
    Xclient,
    /// A PROXY protocol header, version 2.
    Proxy,
}

/// What becomes of mail that a filter calls spam when its sender has been told 250.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnSpam {
    /// Delivered, with a header that says so.
    Mark,
    /// Kept aside for [quarantine] keep, visible.
    Quarantine,
}

/// Whether the known have accept queues of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SteeringSetting {
    /// Where the kernel can do it.
    Auto,
    /// Never.
    Off,
}

/// Where the postern listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorSetting {
    /// Nowhere.
    Off,
    /// UDP.
    At(SocketAddr),
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// From which severity on lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// Only what needs the operator.
    Error,
    /// And what he should know.
    Warn,
    /// And each message.
    Info,
    /// And each connection.
    Debug,
    /// Everything.
    Trace,
}

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().ok()?;
        let unit: u64 = match text[digits..].trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        number.checked_mul(unit).map(Self)
    }

    /// As `usize`, which on every machine that runs this holds a `u64`.
    pub(crate) fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*unit);
                write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..digits].parse().ok()?;
        let millis = match text[digits..].trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(millis).map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl Visitor<'_> for Sizes {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, such as 65536 or \"64 KiB\" (B, KiB, MiB, GiB, TiB, kB, MB, GB)")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
                u64::try_from(number).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Size, E> {
                Ok(Size(number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Sizes)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Spans;
        impl Visitor<'_> for Spans {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time with its unit, such as \"30s\" or \"4h\" (ms, s, m, h, d)")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Spans)
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Addresses;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with its port, such as \"0.0.0.0:25\" or \"[::]:25\", or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Addresses, E> {
                let addr = text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(Addresses(vec![addr]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Addresses, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(Addresses)
            }
        }
        deserializer.deserialize_any(List)
    }
}

impl FromStr for Network {
    type Err = String;

    /// Bits behind the prefix are dropped: `192.0.2.7/24` is `192.0.2.0/24`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |_| format!("\"{text}\" is no address and no network: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32");
        let network = match text.parse::<IpAddr>() {
            Ok(addr) => IpNet::from(addr),
            Err(_) => text.parse::<IpNet>().map_err(wrong)?,
        };
        Ok(Self(network.trunc()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl FromStr for DnssecSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "root" => Ok(Self::Root),
            file if file.contains('/') => Ok(Self::File(file.into())),
            other => Err(format!("\"{other}\" is neither off nor root nor the path of a file (with a /)")),
        }
    }
}

impl<'de> Deserialize<'de> for DnssecSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl FromStr for DoorSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("\"{text}\" is no address with a port: write 0.0.0.0:2526, [::]:2526 or off");
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At).map_err(wrong) }
    }
}

impl<'de> Deserialize<'de> for DoorSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl FromStr for ModeSetting {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self(None)),
            word => {
                let unknown = |_| format!("unknown mode \"{word}\": auto, through, collect or hold");
                word.parse().map(|mode| Self(Some(mode))).map_err(unknown)
            }
        }
    }
}

impl fmt::Display for ModeSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.map_or("auto", Mode::as_str))
    }
}

impl<'de> Deserialize<'de> for ModeSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for RecipientsSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RecipientsVisitor)
    }
}

struct RecipientsVisitor;

impl<'de> Visitor<'de> for RecipientsVisitor {
    type Value = RecipientsSetting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "\"any\", { list = [\"ann\"] }, { file = \"/etc/postern/names\" }, { dir = \"/home\" } or { callout = true }",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RecipientsSetting, E> {
        if text == "any" {
            return Ok(RecipientsSetting::Any);
        }
        Err(E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RecipientsSetting, A::Error> {
        const KEYS: &[&str] = &["list", "file", "dir", "callout"];
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            let setting = match key.as_str() {
                "list" => RecipientsSetting::List(map.next_value()?),
                "file" => RecipientsSetting::File(map.next_value()?),
                "dir" => RecipientsSetting::Dir(map.next_value()?),
                "callout" if map.next_value()? => RecipientsSetting::Callout,
                "callout" => RecipientsSetting::Any,
                unknown => return Err(de::Error::unknown_field(unknown, KEYS)),
            };
            if found.replace(setting).is_some() {
                return Err(de::Error::custom("a domain has one source of recipients: list, file, dir or callout"));
            }
        }
        found.ok_or_else(|| de::Error::invalid_length(0, &self))
    }
}

#[cfg(test)]
mod tests;
