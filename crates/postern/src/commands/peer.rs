//! `peer add`, `rm`, `ls` and `bypass`: what the operator decides over the book's head.

use std::path::Path;

use serde_json::{Value, json};

use super::print;
use crate::args::{Peer, ServerArgs, Switch};
use crate::config::data_dir;
use crate::control::Ask;
use crate::control::client::Client;
use crate::exit::{Code, Failure};
use crate::serve::bypass::Bypass;
use crate::serve::trust::pins::{Pin, PinFile};

/// `postern peer …`.
pub(crate) fn peer(action: Peer) -> Result<(), Failure> {
    match action {
        Peer::Add { what, key: Some(_), .. } => {
            let text =
                format!("{what} with a key would be a peer of the postern, which this release does not have yet");
            Err(Failure::new(Code::Usage, text).cure(format!(
                "for port 25: postern peer add {what} (its mail comes first from addresses proven its own)"
            )))
        }
        Peer::Add { what, key: None, server } => change(&what, true, &server),
        Peer::Rm { what, server } => change(&what, false, &server),
        Peer::Ls { json, server } => {
            let data = data_dir(server.data.as_deref(), server.config.as_deref())?;
            let pins = match running(&data)? {
                Some(mut client) => client.ask(Ask::Pin { change: None })?,
                None => offline(&data)?,
            };
            print(&if json { format!("{pins}\n") } else { listed(&pins) })
        }
    }
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
            return Err(Failure::new(Code::Data, format!("{what} was not pinned")).cure("`postern peer ls` shows all"));
        }
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
    Ok(json!({ "added": { "networks": pins.networks, "domains": pins.domains } }))
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
