//! `mode` and `drain`; `buffer on` and `off` are modes too.

use serde_json::Value;

use super::{connect, print};
use crate::args::{ModeWord, ServerArgs};
use crate::control::Ask;
use crate::exit::{Code, Failure};

/// `postern mode [WORD] [DOMAIN]`.
pub(crate) fn set_mode(word: Option<ModeWord>, domain: Option<String>, server: &ServerArgs) -> Result<(), Failure> {
    let mut client = connect(server)?;
    let modes = match word {
        Some(word) => client.ask(Ask::SetMode { domain, mode: word.command() })?,
        None => client.ask(Ask::Status)?["modes"].take(),
    };
    print(&(shown(&modes) + &note(&modes)))
}

/// `postern drain [DOMAIN] [--rate N]`.
pub(crate) fn drain(domain: Option<String>, rate: Option<u32>, server: &ServerArgs) -> Result<(), Failure> {
    if let Some(domain) = domain.as_deref().filter(|domain| !postern_proto::address::is_domain_or_literal(domain)) {
        return Err(Failure::new(Code::Usage, format!("\"{domain}\" is not a domain")));
    }
    let answer = connect(server)?.ask(Ask::Drain { domain: domain.clone(), rate })?;
    let count = |name: &str| answer[name].as_u64().unwrap_or(0);
    let of = domain.map_or_else(String::new, |domain| format!(" of {domain}"));
    let (at_rate, anyway) = match rate {
        Some(_) => (count("at_rate"), count("anyway")),
        None => (count("at_rate") + count("anyway"), 0),
    };
    let at = rate.map_or_else(String::new, |rate| format!(" at {rate} a second"));
    let free = match anyway {
        0 => String::new(),
        n => format!("{n} more leave at once: no mode holds them, so the rate is not for them\n"),
    };
    let what = format!("{at_rate} messages{of} may leave{at}; `postern status` shows them go\n");
    print(&format!("{what}{free}{}", note(&answer)))
}

/// What the server says beside its answer, as a line.
fn note(answer: &Value) -> String {
    answer["note"].as_str().map_or_else(String::new, |note| format!("note: {note}\n"))
}

/// The modes as lines.
pub(super) fn shown(modes: &Value) -> String {
    let mut out = format!("all domains: {}\n", one(modes));
    for (domain, mode) in modes["domains"].as_object().into_iter().flatten() {
        out.push_str(&format!("{domain}: {}\n", one(mode)));
    }
    out
}

fn one(mode: &Value) -> String {
    let name = mode["mode"].as_str().unwrap_or("unknown");
    match (mode["auto"] == true, mode["why"].as_str()) {
        (false, _) => name.to_owned(),
        (true, Some(why)) if name != "through" => format!("auto ({name}: {why})"),
        (true, _) => format!("auto ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn auto_says_what_it_means() {
        let modes =
            json!({ "mode": "through", "auto": true, "domains": { "a.example": { "mode": "hold", "auto": false } } });
        assert_eq!(super::shown(&modes), "all domains: auto (through)\na.example: hold\n");
        let stormy = json!({ "mode": "collect", "auto": true, "why": "pressure: connections" });
        assert_eq!(super::shown(&stormy), "all domains: auto (collect: pressure: connections)\n");
    }
}
