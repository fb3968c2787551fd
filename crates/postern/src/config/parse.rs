//! Text to [`Settings`]: every fault with its line, column, key and cure.
//!
//! Unknown keys are looked for first, against the definition, because a misspelt key is the most
//! frequent fault and the nearest known one the most useful answer. Then serde reads the values.

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer, ValueDeserializer};

use super::definition::Key;
use super::settings::{self, SECTIONS, Settings};

/// A fault in a configuration file, as it is printed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The file as it was named.
    pub(crate) file: String,
    /// From 1; 0 when the fault is in no line.
    pub(crate) line: usize,
    /// From 1.
    pub(crate) column: usize,
    /// What is wrong, with the key and the value.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) cure: String,
    /// The line itself.
    pub(crate) text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            let file = if self.file.is_empty() { String::new() } else { format!("{}: ", self.file) };
            return write!(f, "{file}{}\n  {}", self.what, self.cure);
        }
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)?;
        writeln!(f, "  {:>4} | {}", self.line, self.text)?;
        writeln!(f, "       | {:>width$}", "^", width = self.column)?;
        write!(f, "  {}", self.cure)
    }
}

impl std::error::Error for Fault {}

/// A text and where its keys are; kept to place what later checks find.
#[derive(Debug, Default)]
pub(crate) struct Source {
    file: String,
    text: String,
    /// `smtp.listen` and the span of its value.
    spans: Vec<(String, Range<usize>)>,
}

impl Source {
    /// A fault at `span` of the text.
    fn fault_at(&self, span: Option<Range<usize>>, what: String, cure: String) -> Fault {
        let (line, column, text) = match span {
            Some(span) => position(&self.text, span.start),
            None => (0, 0, String::new()),
        };
        Fault { file: self.file.clone(), line, column, what, cure, text }
    }

    /// A fault of the value of `path`, for example `relay.listen`.
    pub(crate) fn fault(&self, path: &str, what: impl Into<String>, cure: impl Into<String>) -> Fault {
        let span = self.spans.iter().find(|(known, _)| known == path).map(|(_, span)| span.clone());
        let what = what.into();
        let what = if span.is_none() || path.is_empty() { what } else { format!("{path}: {what}") };
        self.fault_at(span, what, cure.into())
    }
}

/// Reads the text of `file`.
///
/// # Errors
/// The first [`Fault`].
pub(crate) fn parse(file: &str, text: &str) -> Result<(Settings, Source), Box<Fault>> {
    let mut source = Source { file: file.to_owned(), text: text.to_owned(), spans: Vec::new() };
    let table = DeTable::parse(text).map_err(|error| {
        let what = error.message().replace('\n', "; ");
        source.fault_at(error.span(), what, "the file is TOML: key = value, strings in double quotes".into())
    })?;
    collect_spans("", table.get_ref(), &mut source.spans);
    unknown_key(&source, table.get_ref())?;
    let settings = read(&source, table)?;
    Ok((settings, source))
}

fn read(source: &Source, table: Spanned<DeTable<'_>>) -> Result<Settings, Box<Fault>> {
    let span = table.span();
    let mut settings = Settings::default();
    let mut general = DeTable::new();
    for (key, value) in table.into_inner() {
        let name = key.get_ref().clone();
        match name.as_ref() {
            "smtp" => settings.smtp = section(source, value)?,
            "door" => settings.door = section(source, value)?,
            "admin" => settings.admin = section(source, value)?,
            "tls" => settings.tls = section(source, value)?,
            "relay" => settings.relay = section(source, value)?,
            "recipients" => settings.recipients = Some(section(source, value)?),
            "domain" => settings.domain = section(source, value)?,
            "drain" => settings.drain = section(source, value)?,
            "auto" => settings.auto = section(source, value)?,
            "spool" => settings.spool = section(source, value)?,
            "log" => settings.log = section(source, value)?,
            "run_as" => settings.run_as = section(source, value)?,
            "dns" => settings.dns = section(source, value)?,
            "trust" => settings.trust = section(source, value)?,
            "filter" => settings.filter = section(source, value)?,
            "quarantine" => settings.quarantine = section(source, value)?,
            "dnsbl" => settings.dnsbl = section(source, value)?,
            _ => {
                general.insert(key, value);
            }
        }
    }
    let general = serde::Deserialize::deserialize(Deserializer::from(Spanned::new(span, general)));
    settings.general = general.map_err(|error| value_fault(source, &error))?;
    Ok(settings)
}

fn section<T: DeserializeOwned>(source: &Source, value: Spanned<DeValue<'_>>) -> Result<T, Box<Fault>> {
    T::deserialize(ValueDeserializer::from(value)).map_err(|error| value_fault(source, &error))
}

/// serde's words, the key they are about, and an example from the definition.
fn value_fault(source: &Source, error: &toml::de::Error) -> Box<Fault> {
    let span = error.span();
    let path = span.as_ref().and_then(|span| {
        let around = source.spans.iter().filter(|(_, known)| known.start <= span.start && span.end <= known.end);
        around.min_by_key(|(_, known)| known.len()).map(|(path, _)| path.clone())
    });
    let message = error.message().trim_end_matches('\n').replace('\n', "; ");
    let (what, cure) = match &path {
        Some(path) => (format!("{path}: {message}"), cure_for(path)),
        None => (message, "see `postern check --print-sample` for every key with its form".into()),
    };
    Box::new(source.fault_at(span, what, cure))
}

fn cure_for(path: &str) -> String {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    match settings::key(section, name) {
        Some(Key { name, value, .. }) => format!("for example: {name} = {value}"),
        None if section == "recipients" || path == "recipients" => {
            "for example: \"example.com\" = \"any\"  (or { list = […] }, { file = \"…\" }, { dir = \"…\" }, { callout = true })".into()
        }
        None => "see `postern check --print-sample` for every key with its form".into(),
    }
}

fn collect_spans(prefix: &str, table: &DeTable<'_>, spans: &mut Vec<(String, Range<usize>)>) {
    for (key, value) in table.iter() {
        let path = join(prefix, key.get_ref());
        match value.get_ref() {
            // A table's own span is its header only; its keys speak for themselves.
            DeValue::Table(inner) if !prefix.starts_with("recipients") => {
                spans.push((path.clone(), value.span()));
                collect_spans(&path, inner, spans);
            }
            _ => spans.push((path, value.span())),
        }
    }
}

fn join(prefix: &str, key: &str) -> String {
    match (prefix.is_empty(), key.contains('.')) {
        (true, _) => key.to_owned(),
        (false, false) => format!("{prefix}.{key}"),
        (false, true) => format!("{prefix}.\"{key}\""),
    }
}

/// The first key that the definition does not have.
fn unknown_key(source: &Source, root: &DeTable<'_>) -> Result<(), Box<Fault>> {
    let tables: Vec<&str> = SECTIONS.iter().map(|s| s.name.split('.').next().unwrap_or("")).collect();
    for (key, value) in root.iter() {
        let name: &str = key.get_ref();
        match value.get_ref() {
            DeValue::Table(inner) if SECTIONS.iter().any(|section| section.family() == Some(name)) => {
                for (one, table) in inner.iter() {
                    if let DeValue::Table(table) = table.get_ref() {
                        unknown_in(source, &format!("{name}."), &format!("[{}]", join(name, one.get_ref())), table)?;
                    }
                }
            }
            DeValue::Table(_) if name == "recipients" => {}
            DeValue::Table(inner) if tables.contains(&name) && !name.is_empty() => {
                unknown_in(source, name, &format!("[{name}]"), inner)?;
            }
            DeValue::Table(_) => {
                let cure = nearest(name, tables.iter().copied().filter(|t| !t.is_empty())).map_or_else(
                    || format!("known tables: {}", tables[1..].join(", ")),
                    |known| format!("did you mean [{known}]?"),
                );
                return Err(Box::new(source.fault_at(Some(key.span()), format!("unknown table [{name}]"), cure)));
            }
            _ if tables.contains(&name) => {
                let what = format!("\"{name}\" is a table, not a value");
                return Err(Box::new(source.fault_at(
                    Some(key.span()),
                    what,
                    format!("write [{name}] and its keys below it"),
                )));
            }
            _ => unknown_one(source, "", "before the first table", key)?,
        }
    }
    Ok(())
}

fn unknown_in(source: &Source, section: &str, place: &str, table: &DeTable<'_>) -> Result<(), Box<Fault>> {
    table.iter().try_for_each(|(key, _)| unknown_one(source, section, &format!("in {place}"), key))
}

fn unknown_one(source: &Source, section: &str, place: &str, key: &Spanned<DeString<'_>>) -> Result<(), Box<Fault>> {
    let name: &str = key.get_ref();
    let here = SECTIONS.iter().find(|s| s.name == section || (!section.is_empty() && s.name.starts_with(section)));
    let here = here.map_or(&[][..], |section| section.keys);
    if here.iter().any(|known| known.name == name) {
        return Ok(());
    }
    let elsewhere = SECTIONS.iter().find(|s| s.name != section && s.keys.iter().any(|known| known.name == name));
    let shown = here.iter().filter(|known| !known.hidden).map(|known| known.name);
    let cure = match (nearest(name, shown.clone()), elsewhere) {
        (Some(known), _) => format!("did you mean \"{known}\"?"),
        (None, Some(other)) if other.name.is_empty() => format!("\"{name}\" stands before the first table"),
        (None, Some(other)) => format!("\"{name}\" belongs in [{}]", other.name),
        (None, None) => format!("known here: {}", shown.collect::<Vec<_>>().join(", ")),
    };
    Err(Box::new(source.fault_at(Some(key.span()), format!("unknown key \"{name}\" {place}"), cure)))
}

/// The known word that `word` most likely was meant to be.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(likeness, _)| *likeness >= NEAREST_LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn position(text: &str, offset: usize) -> (usize, usize, String) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or("").to_owned();
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1, line)
}

/// Under this two words have little in common; tried on the misspellings of the tests.
const NEAREST_LIKENESS_MIN: f64 = 0.8;

#[cfg(test)]
mod tests;
