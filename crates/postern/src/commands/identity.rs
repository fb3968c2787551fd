//! `identity show`, `dns` and `rotate`: our own key, and how the world learns it.
//!
//! The private key never leaves its file; everything printed here is public. It works on the files, with a server running
//! and without: a running one is asked which domains are its own, and told to read its keys again.

use std::path::PathBuf;

use postern_net::door::{KeyPair, PublicKey};
use postern_proto::door::limits::PORT_DEFAULT;
use postern_proto::door::record::{DoorRecord, Mode};
use serde_json::{Value, json};

use super::peer::running;
use super::print;
use crate::args::{Identity, ServeArgs, SiteArgs};
use crate::config::{Config, is_publishable};
use crate::control::{Ask, hex};
use crate::exit::{Code, Failure};
use crate::serve::keys::KeyFiles;
use crate::serve::masters::Masters;
use crate::serve::trust::now_s;
use crate::serve::trust::pins::Pin;
use crate::serve::{make_data_dir, privileges};

/// `postern identity …`.
pub(crate) fn identity(action: Identity) -> Result<(), Failure> {
    match action {
        Identity::Show { site, json } => show(&Site::of(&site)?, json),
        Identity::Dns { site, json } => dns(&Site::of(&site)?, json),
        Identity::Rotate { secret: true, now, site, json, .. } => secret(&Site::of(&site)?, now, json),
        Identity::Rotate { finish: false, site, json, .. } => begin(&Site::of(&site)?, json),
        Identity::Rotate { finish: true, now, site, json, .. } => finish(&Site::of(&site)?, now, json),
    }
}

/// Who publishes, and where.
struct Site {
    /// Those that DNS can have records for.
    domains: Vec<String>,
    host: String,
    port: u16,
    data: PathBuf,
    files: KeyFiles,
}

impl Site {
    fn of(args: &SiteArgs) -> Result<Self, Failure> {
        let flags =
            ServeArgs { config: args.server.config.clone(), data: args.server.data.clone(), ..ServeArgs::default() };
        let config = Config::load(&flags)?;
        let data = &config.settings.general.data;
        make_data_dir(data, privileges::identity(&config.settings.run_as)?)?;
        let mut domains: Vec<String> = config.recipients.keys().cloned().collect();
        if let Some(mut client) = running(data)? {
            let told = client.ask(Ask::Domains)?["domains"].take();
            domains = serde_json::from_value(told).map_err(|error| Failure::new(Code::Software, error.to_string()))?;
        }
        if !args.domains.is_empty() {
            let domain = |text: &String| match Pin::parse(text) {
                Ok(Pin::Domain(domain)) if is_publishable(&domain) => Ok(domain),
                _ => Err(Failure::new(Code::Usage, format!("\"{text}\" is no domain that DNS can have records for"))),
            };
            domains = args.domains.iter().map(domain).collect::<Result<_, _>>()?;
        }
        domains.retain(|domain| is_publishable(domain));
        let host = match &args.host {
            Some(host) if !is_publishable(host) => {
                return Err(Failure::new(Code::Usage, format!("\"{host}\" is no name of a host")));
            }
            Some(host) => host.trim_end_matches('.').to_lowercase(),
            None => config.hostname.to_lowercase(),
        };
        let port = config.door.map_or(PORT_DEFAULT, |address| address.port());
        let port = if port == 0 { PORT_DEFAULT } else { port };
        Ok(Self { domains, host, port, data: data.clone(), files: KeyFiles::of(data) })
    }

    /// Has the server that runs here, if one does, use what the files say now; why it does not.
    fn tell_server(&self) -> Result<Option<String>, Failure> {
        let Some(mut client) = running(&self.data)? else { return Ok(None) };
        Ok(client.ask(Ask::OwnKeys).err().map(|failure| failure.what))
    }

    /// What stands in DNS when these keys are published.
    fn records(&self, keys: &[PublicKey]) -> Vec<Record> {
        let record = DoorRecord {
            host: Some(self.host.clone()),
            port: self.port,
            keys: keys.iter().map(|key| key.spki().to_vec()).collect(),
            mode: Mode::Prefer,
            max_age_s: MAX_AGE_S,
        };
        let tlsa = |name: String| {
            let of_key = move |key: &PublicKey| Record { name: name.clone(), kind: "TLSA", data: key.tlsa() };
            keys.iter().map(of_key)
        };
        let mut records = Vec::new();
        for domain in &self.domains {
            records.push(Record { name: format!("_postern.{domain}."), kind: "TXT", data: record.to_string() });
            records.extend(tlsa(format!("_smtp-client.{domain}.")));
        }
        records.extend(tlsa(format!("_{}._quic.{}.", self.port, self.host)));
        records
    }
}

/// One record.
struct Record {
    name: String,
    kind: &'static str,
    /// Of a TXT record its text, without quotes.
    data: String,
}

impl Record {
    /// As in a zone file. A string of a TXT record has 255 octets at most (RFC 1035 section 3.3).
    fn line(&self) -> String {
        let data = if self.kind == "TXT" {
            let strings = self.data.as_bytes().chunks(STRING_BYTES_MAX).map(String::from_utf8_lossy);
            strings.map(|string| format!("\"{string}\"")).collect::<Vec<_>>().join(" ")
        } else {
            self.data.clone()
        };
        format!("{} {TTL_S} IN {} {data}\n", self.name, self.kind)
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "type": self.kind, "ttl": TTL_S, "data": self.data })
    }
}

fn show(site: &Site, as_json: bool) -> Result<(), Failure> {
    let key = site.files.load()?;
    let next = site.files.load_next()?;
    if as_json {
        let next = next.as_ref().map(|(key, since_s)| {
            json!({ "public": key.public().to_string(), "file": site.files.next, "since": since_s,
                "ready": since_s + WAIT_S })
        });
        return print(&format!(
            "{}\n",
            json!({ "domains": site.domains, "host": site.host, "port": site.port,
                "public": key.public().to_string(), "sha256": hex(&key.public().sha256()),
                "file": site.files.current, "next": next })
        ));
    }
    let mut out = format!(
        "domains     {}\npostern at  {}:{} (UDP)\npublic key  {}\nSHA-256     {}\nprivate key {}\n",
        if site.domains.is_empty() {
            "none that DNS can have; see --domain".to_owned()
        } else {
            site.domains.join(", ")
        },
        site.host,
        site.port,
        key.public(),
        hex(&key.public().sha256()),
        site.files.current.display(),
    );
    if let Some((next, since_s)) = next {
        let left = left_s(since_s);
        let when = if left == 0 { "from now on".to_owned() } else { format!("in {}", hours(left)) };
        out.push_str(&format!(
            "next key    {}\n            `postern identity rotate --finish` {when}\n",
            next.public()
        ));
    }
    print(&out)
}

fn dns(site: &Site, as_json: bool) -> Result<(), Failure> {
    let keys = published(&site.files.load()?, site.files.load_next()?.map(|(key, _)| key).as_ref());
    let records = site.records(&keys);
    if as_json {
        let records: Vec<Value> = records.iter().map(Record::json).collect();
        return print(&format!("{}\n", json!({ "records": records, "keys": keys.len() })));
    }
    if site.domains.is_empty() {
        let what = "this server has no domain that DNS can have records for";
        return Err(
            Failure::new(Code::Data, what).cure("name the configuration with -c FILE, or domains with --domain D")
        );
    }
    let mut out = String::from(
        "; The TXT records are enough. TLSA records count in a zone that is signed (DNSSEC) and change nothing elsewhere.\n",
    );
    if keys.len() > 1 {
        out.push_str("; A roll-over is under way: both keys are in these records.\n");
    }
    out.extend(records.iter().map(Record::line));
    print(&out)
}

/// The first step: nothing but a file.
fn begin(site: &Site, as_json: bool) -> Result<(), Failure> {
    let current = site.files.load()?;
    let was_there = site.files.load_next()?.is_some();
    let next = site.files.make_next()?;
    let since_s = site.files.load_next()?.map_or_else(now_s, |(_, since_s)| since_s);
    if as_json {
        return print(&format!(
            "{}\n",
            json!({ "step": "publish", "current": current.public().to_string(), "next": next.public().to_string(),
                "ready": since_s + WAIT_S })
        ));
    }
    let left = hours(left_s(since_s));
    let begun = if was_there { "A roll-over is under way already" } else { "The next key is made" };
    print(&format!(
        "{begun}; the current one stays in use.\n\
         1. Publish what `postern identity dns` prints now: both keys are in it.\n\
         2. Tell those who have pinned you: postern peer add {} {}\n\
         3. Wait {left}, until no cache has the old records. Then: postern identity rotate --finish\n",
        site.domains.first().map_or("YOUR.DOMAIN", String::as_str),
        next.public(),
    ))
}

/// The second: the next key is the key.
fn finish(site: &Site, at_once: bool, as_json: bool) -> Result<(), Failure> {
    let Some((next, since_s)) = site.files.load_next()? else {
        let what = "there is no next key to go over to";
        return Err(Failure::new(Code::Data, what).cure("`postern identity rotate` makes one"));
    };
    let left = left_s(since_s);
    if left > 0 && !at_once {
        let what = format!("the next key is not published long enough: {} more", hours(left));
        let cure = "caches may still have records without it, and its peers would turn you away; \
                    if the old key is in other hands: postern identity rotate --finish --now";
        return Err(Failure::new(Code::Failed, what).cure(cure));
    }
    let before = site.files.load()?;
    site.files.finish()?;
    let untold = site.tell_server()?;
    if as_json {
        return print(&format!(
            "{}\n",
            json!({ "step": "finished", "current": next.public().to_string(), "old": before.public().to_string(),
                "restart": untold.is_some() })
        ));
    }
    let restart = restart(untold);
    print(&format!(
        "The next key is the key; the old one is kept as {}.\n{restart}\
         Then publish what `postern identity dns` prints now, and have those who have pinned you remove {}\n",
        site.files.old.display(),
        before.public(),
    ))
}

/// The secret of the gate, in one step.
fn secret(site: &Site, at_once: bool, as_json: bool) -> Result<(), Failure> {
    Masters::change(&site.data, at_once, now_s())?;
    let untold = site.tell_server()?;
    if as_json {
        return print(&format!("{}\n", json!({ "step": "secret", "void": at_once, "restart": untold.is_some() })));
    }
    let what = if at_once {
        "There is another secret. All tickets are void: peers come by cookie once, and get new ones."
    } else {
        "There is another secret; the one before is kept beside it until its last ticket has expired."
    };
    print(&format!("{what}\n{}", restart(untold)))
}

/// What to do when a server runs that could not be told.
fn restart(untold: Option<String>) -> String {
    untold.map_or_else(String::new, |why| format!("Start the server again: it goes on with what it has ({why}).\n"))
}

fn published(current: &KeyPair, next: Option<&KeyPair>) -> Vec<PublicKey> {
    [Some(current), next].into_iter().flatten().map(|key| key.public().clone()).collect()
}

fn left_s(since_s: u64) -> u64 {
    (since_s + WAIT_S).saturating_sub(now_s())
}

/// Rounded up.
fn hours(seconds: u64) -> String {
    match seconds.div_ceil(3600) {
        1 => "1 hour".to_owned(),
        hours => format!("{hours} hours"),
    }
}

/// Of the records: short enough to change them in an hour.
const TTL_S: u64 = 3600;
/// For so long others may hold on to the record.
const MAX_AGE_S: u64 = 86_400;
/// Until no cache has a record without the next key: who read it just before it was published may keep it for an hour, and
/// hold on to it for a day after that.
const WAIT_S: u64 = TTL_S + MAX_AGE_S;
/// RFC 1035 section 3.3.
const STRING_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests;
