//! `peer add`, `rm`, `ls` and `bypass`: what the operator decides over the book's head.

use std::path::Path;

use serde_json::{Value, json};

use super::print;
use crate::args::{Peer, ServeArgs, ServerArgs, Switch};
use crate::config::{Config, data_dir};
use crate::control::Ask;
use crate::control::client::Client;
use crate::exit::{Code, Failure};
use crate::serve::bypass::Bypass;
use crate::serve::make_data_dir;
use crate::serve::peers::{PeerChange, PeerFile};
use crate::serve::privileges;
use crate::serve::trust::now_s;
use crate::serve::trust::pins::{Pin, PinFile};

/// `postern peer …`.
pub(crate) fn peer(action: Peer) -> Result<(), Failure> {
    match action {
        Peer::Add { what, key: Some(key), at, enforce, server } => {
            door(PeerChange { domain: what.clone(), key: Some(key), at, enforce, add: true }, &server)?;
            print(&format!("{what} is a peer of the postern: whoever holds that key is {what}\n"))
        }
        Peer::Add { what, key: None, server, .. } => change(&what, true, &server),
        Peer::Rm { what, key: Some(key), server } => {
            if !door(
                PeerChange { domain: what.clone(), key: Some(key), at: None, enforce: false, add: false },
                &server,
            )? {
                return Err(not_pinned(&format!("that key of {what}")));
            }
            print(&format!("that key of {what} is no longer pinned\n"))
        }
        Peer::Rm { what, key: None, server } => remove(&what, &server),
        Peer::Ls { json, server } => {
            let data = data_dir(server.data.as_deref(), server.config.as_deref())?;
            let pins = match running(&data)? {
                Some(mut client) => {
                    let mut pins = client.ask(Ask::Pin { change: None })?;
                    pins["door"] = client.ask(Ask::Peer { change: None })?["door"].take();
                    pins
                }
                None => offline(&data)?,
            };
            print(&if json { format!("{pins}\n") } else { listed(&pins) })
        }
    }
}

/// Keys of a domain, when it has some, and its pin for port 25, when it has one.
fn remove(what: &str, server: &ServerArgs) -> Result<(), Failure> {
    let whole = PeerChange { domain: what.to_owned(), key: None, at: None, enforce: false, add: false };
    // An address has no keys.
    let had_keys = whole.clone().checked().is_ok() && door(whole, server)?;
    match change(what, false, server) {
        Err(failure) if had_keys && failure.code == Code::Data => {
            print(&format!("{what} is no longer a peer of the postern\n"))
        }
        other => other,
    }
}

/// Changes a peer of the postern; false when nothing changed.
fn door(change: PeerChange, server: &ServerArgs) -> Result<bool, Failure> {
    let change = change.checked().map_err(|what| Failure::new(Code::Usage, what))?;
    let data = data_dir(server.data.as_deref(), server.config.as_deref())?;
    if let Some(mut client) = running(&data)? {
        return Ok(client.ask(Ask::Peer { change: Some(change) })?["changed"] == true);
    }
    let failed = |error: std::io::Error| Failure::io(Code::Io, PeerFile::path(&data).display(), &error);
    let mut file = PeerFile::load(&data).map_err(failed)?;
    let changed = file.change(&change, now_s()).map_err(|what| Failure::new(Code::Failed, what))?;
    if changed {
        make_data(&data, server)?;
        file.save(&data).map_err(failed)?;
    }
    Ok(changed)
}

/// Before the first start of a server there is no directory yet: it is made as that will make it.
fn make_data(data: &Path, server: &ServerArgs) -> Result<(), Failure> {
    if data.is_dir() {
        return Ok(());
    }
    let flags = ServeArgs { config: server.config.clone(), data: server.data.clone(), ..ServeArgs::default() };
    make_data_dir(data, privileges::identity(&Config::load(&flags)?.settings.run_as)?)
}

fn not_pinned(what: &str) -> Failure {
    Failure::new(Code::Data, format!("{what} was not pinned")).cure("`postern peer ls` shows all")
}

fn change(what: &str, add: bool, server: &ServerArgs) -> Result<(), Failure> {
    let pin = Pin::parse(what).map_err(|error| Failure::new(Code::Usage, error))?;
    let data = data_dir(server.data.as_deref(), server.config.as_deref())?;
    if let Some(mut client) = running(&data)? {
        client.ask(Ask::Pin { change: Some((what.to_owned(), add)) })?;
    } else {
        let file = data.join("pins");
        let failed = |error: std::io::Error| Failure::io(Code::Io, file.display(), &error);
        let mut pins = PinFile::load(&data).map_err(failed)?;
        let changed = pins.change(pin, add).map_err(|error| Failure::new(Code::Failed, error))?;
        if !changed && !add {
            return Err(not_pinned(what));
        }
        make_data(&data, server)?;
        pins.save(&data).map_err(failed)?;
    }
    print(&format!("{what} {}\n", if add { "is pinned: it always comes first" } else { "is no longer pinned" }))
}

/// The server, when one runs there.
pub(super) fn running(data: &Path) -> Result<Option<Client>, Failure> {
    match Client::connect(data) {
        Ok(client) => Ok(Some(client)),
        Err(failure) if failure.code == Code::Unavailable && !crate::control::socket_path(data).exists() => Ok(None),
        // A socket that nobody listens on is left by `kill -9`.
        Err(failure) if failure.what.starts_with("no server is running") => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn offline(data: &Path) -> Result<Value, Failure> {
    let pins = PinFile::load(data).map_err(|error| Failure::io(Code::Io, data.join("pins").display(), &error))?;
    let peers = PeerFile::load(data).map_err(|error| Failure::io(Code::Io, PeerFile::path(data).display(), &error))?;
    Ok(json!({ "added": { "networks": pins.networks, "domains": pins.domains }, "door": peers.show() }))
}

fn listed(pins: &Value) -> String {
    let mut out = String::new();
    for (from, words) in [("configured", "from the configuration"), ("added", "by `peer add`")] {
        for kind in ["networks", "domains"] {
            for pin in pins[from][kind].as_array().into_iter().flatten().filter_map(Value::as_str) {
                out.push_str(&format!("{pin:<40} {words}\n"));
            }
        }
    }
    for (domain, peer) in pins["door"].as_object().into_iter().flatten() {
        let at = peer["at"].as_str().map_or_else(String::new, |at| format!(" at {at}"));
        let mode = if peer["enforce"] == true { ", enforced" } else { "" };
        for key in peer["keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            out.push_str(&format!("{domain:<40} postern{at}{mode}, key {key}\n"));
        }
    }
    if out.is_empty() { "nothing is pinned\n".to_owned() } else { out }
}

/// `postern bypass [on|off]`. Works without a server too: the next one starts as said.
pub(crate) fn bypass(switch: Option<Switch>, server: &ServerArgs) -> Result<(), Failure> {
    let data = data_dir(server.data.as_deref(), server.config.as_deref())?;
    let on = switch.map(|switch| switch == Switch::On);
    let is_on = if let Some(mut client) = running(&data)? {
        client.ask(Ask::Bypass { on })?["on"] == true
    } else {
        let bypass = Bypass::load(&data);
        if let Some(on) = on {
            bypass.set(on).map_err(|error| Failure::io(Code::Io, data.join("bypass").display(), &error))?;
        }
        bypass.is_on()
    };
    print(if is_on {
        "bypass is ON: nobody is judged and no filter is asked; `postern bypass off` ends it\n"
    } else {
        "bypass is off: judgement is in the path\n"
    })
}
