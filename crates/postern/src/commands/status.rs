//! `status`: the server's snapshot as a table, what needs the operator first and loudly.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use super::{connect, modes, print};
use crate::args::ServerArgs;
use crate::config::values::Size;
use crate::control::Ask;
use crate::exit::Failure;

/// `postern status [--json]`.
pub(crate) fn status(json: bool, server: &ServerArgs) -> Result<(), Failure> {
    let status = connect(server)?.ask(Ask::Status)?;
    let text = if json { format!("{status}\n") } else { table(&status) };
    print(&text)
}

fn table(status: &Value) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_alarms(&mut out, status).and_then(|()| write_table(&mut out, status));
    out
}

/// What is wrong and wants a person.
fn write_alarms(out: &mut String, status: &Value) -> std::fmt::Result {
    if status["bypass"] == true {
        writeln!(out, "!!! BYPASS IS ON: nobody is judged, no filter is asked. `postern bypass off` ends it.")?;
    }
    if status["trust"]["observe"] == true {
        writeln!(out, "!!! OBSERVING ONLY: the log says what would have been done ([trust] observe = true).")?;
    }
    let spool = &status["spool"];
    if let Some(dead) = spool["dead"].as_u64().filter(|dead| *dead > 0) {
        writeln!(out, "!!! {dead} DEAD LETTERS: accepted, failed for good, and no sender that may be told.")?;
        writeln!(out, "!!! Look: postern queue ls --dead    Then: postern queue retry ID, or postern queue delete ID")?;
    }
    if let Some(unreadable) = spool["unreadable"].as_u64().filter(|unreadable| *unreadable > 0) {
        writeln!(
            out,
            "!!! {unreadable} MESSAGES CANNOT BE READ from the disk, and the log cannot shrink behind them."
        )?;
        writeln!(out, "!!! The log names them. Save what can be saved, then: postern queue delete ID")?;
    }
    if let Some(failed) = spool["failed"].as_str() {
        writeln!(out, "!!! THE SPOOL'S DISK FAILED: {failed}")?;
        writeln!(
            out,
            "!!! Nothing new is accepted. What was answered 250 before is kept. Repair the disk, then restart."
        )?;
    }
    if spool["refusing"] == true {
        let free = Size(spool["free_bytes"].as_u64().unwrap_or(0));
        writeln!(out, "!!! THE DISK IS NEARLY FULL ({free} free): senders are told 452 and try again later.")?;
    }
    if let Some(damaged) = spool["damaged"].as_u64().filter(|damaged| *damaged > 0) {
        writeln!(out, "!!! {damaged} items could not be read back and are held.")?;
    }
    let doors = status["doors"].as_object().into_iter().flatten().filter_map(|(_, door)| door["panics"].as_u64());
    let panics = doors.sum::<u64>() + status["drain"]["panics"].as_u64().unwrap_or(0);
    if panics > 0 {
        writeln!(out, "!!! {panics} sessions or deliveries ended in a fault of this program: please report the log.")?;
    }
    if out.is_empty() { Ok(()) } else { writeln!(out) }
}

fn write_table(out: &mut String, status: &Value) -> std::fmt::Result {
    let up = Duration::from_secs(number(&status["uptime_seconds"]));
    writeln!(out, "postern {}, pid {}, up {}", word(&status["version"]), status["pid"], age(up))?;
    let listeners = &status["listeners"];
    writeln!(out, "listening    smtp {}, relay {}", addresses(&listeners["smtp"]), addresses(&listeners["relay"]))?;
    for steering in status["steering"].as_array().into_iter().flatten() {
        write_steering(out, steering)?;
    }
    for (name, door) in status["doors"].as_object().into_iter().flatten() {
        writeln!(
            out,
            "{name:<12} {} connections open, {} so far; {} messages queued, {} delivered, {} refused; {} turned away, {} timeouts",
            number(&door["open"]),
            number(&door["accepted"]),
            number(&door["queued"]),
            number(&door["delivered"]),
            number(&door["refused"]),
            number(&door["turned_away"]),
            number(&door["timeouts"]),
        )?;
    }
    for (line, head) in
        modes::shown(&status["modes"]).lines().zip(std::iter::once("modes").chain(std::iter::repeat("")))
    {
        writeln!(out, "{head:<12} {line}")?;
    }
    write_weather(out, &status["weather"])?;
    let spool = &status["spool"];
    writeln!(
        out,
        "spool        {} messages, {} ({} held, {} dead, {} on their way), {} free",
        number(&spool["items"]),
        Size(number(&spool["bytes"])),
        number(&spool["held"]),
        number(&spool["dead"]),
        number(&spool["leaving"]),
        Size(number(&spool["free_bytes"])),
    )?;
    writeln!(
        out,
        "             {} made durable in {} commits, {} messages per commit",
        number(&spool["messages_committed"]),
        number(&spool["commits"]),
        spool["messages_per_commit"],
    )?;
    write_trust(out, &status["trust"])?;
    write_drain(out, &status["drain"])
}

/// What the trust book has heard, and who is over it.
fn write_trust(out: &mut String, trust: &Value) -> std::fmt::Result {
    let dropped = trust["evidence_dropped"].as_u64().filter(|dropped| *dropped > 0);
    let dropped = dropped.map_or_else(String::new, |dropped| format!(", {dropped} more had no room"));
    let (heard, pinned) = (number(&trust["evidence"]), number(&trust["pinned"]));
    writeln!(out, "trust        {heard} observations{dropped}; {pinned} networks and domains are pinned")
}

/// How scarce things are, what waits, and when it will have left.
fn write_weather(out: &mut String, weather: &Value) -> std::fmt::Result {
    let Some(level) = weather["level"].as_str() else { return Ok(()) };
    let cause = weather["cause"].as_str().map_or_else(String::new, |cause| format!(": {cause}"));
    writeln!(out, "pressure     {level}{cause}")?;
    let waiting = number(&weather["waiting"]);
    if waiting > 0 {
        let rate = number(&weather["leaves_per_1000_seconds"]);
        let how = if weather["leaves_measured"] == true { "measured" } else { "assumed" };
        let (whole, tenths) = (rate / 1000, rate % 1000 / 100);
        writeln!(out, "waiting      {waiting} messages, {}; {whole}.{tenths} a second ({how})", drained(weather))?;
    }
    for domain in weather["domains"].as_array().into_iter().flatten() {
        let collects = domain["weather"] == "collect";
        let why = if collects { format!("collect: {}; ", word(&domain["why"])) } else { String::new() };
        let waiting = number(&domain["waiting"]);
        writeln!(out, "  {}: {why}{waiting} messages, {}", word(&domain["domain"]), drained(domain))?;
    }
    Ok(())
}

fn drained(of: &Value) -> String {
    match of["drained_in_seconds"].as_u64() {
        Some(seconds) => format!("drained in {}", age(Duration::from_secs(seconds))),
        None => "nothing leaves just now".to_owned(),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Whether the known have accept queues of their own at this address.
fn write_steering(out: &mut String, steering: &Value) -> std::fmt::Result {
    let address = word(&steering["address"]);
    let why = steering["why"].as_str();
    if steering["active"] != true {
        return writeln!(out, "steering     off at {address}: {}", why.unwrap_or("unknown"));
    }
    let (networks, left_out) = (&steering["networks"], &steering["left_out"]);
    write!(
        out,
        "steering     on at {address}: {networks} known networks have queues of their own, {left_out} had no room"
    )?;
    why.map_or(Ok(()), |why| write!(out, "; not up to date: {why}"))?;
    writeln!(out)
}

fn write_drain(out: &mut String, drain: &Value) -> std::fmt::Result {
    writeln!(
        out,
        "drain        {} delivered, {} deferred, {} refused, {} reports; {} under way",
        number(&drain["delivered"]),
        number(&drain["deferred"]),
        number(&drain["refused"]),
        number(&drain["reports"]),
        number(&drain["running"]),
    )?;
    if let Some(releasing) = drain["releasing"].as_u64().filter(|releasing| *releasing > 0) {
        writeln!(out, "             a `drain` is under way: {releasing} messages still to be released")?;
    }
    if let Some(quarantined) = drain["quarantined"].as_u64().filter(|quarantined| *quarantined > 0) {
        writeln!(
            out,
            "quarantine   {quarantined} messages: `postern queue ls` shows them, `queue release ID` delivers"
        )?;
    }
    for filter in drain["filters"].as_array().into_iter().flatten() {
        writeln!(
            out,
            "  filter {}: {}, {} judged, {} marked, {} quarantined, {} rejected, {} failed; {} ms each",
            word(&filter["name"]),
            if filter["up"] == true { "up" } else { "AWAY" },
            number(&filter["judged"]),
            number(&filter["marked"]),
            number(&filter["quarantined"]),
            number(&filter["rejected"]),
            number(&filter["failed"]),
            number(&filter["latency_ms"]),
        )?;
        if let Some(error) = filter["last_error"].as_str() {
            writeln!(out, "    last error: {error}")?;
        }
    }
    for destination in drain["destinations"].as_array().into_iter().flatten() {
        let name = word(&destination["name"]);
        let retry = destination["retry_in_ms"].as_u64().map(Duration::from_millis);
        let retry = retry.map_or_else(String::new, |wait| format!(", next try in {}", age(wait)));
        writeln!(
            out,
            "  {name}: {}{retry}, {} delivered",
            word(&destination["state"]),
            number(&destination["delivered"])
        )?;
        if let Some(error) = destination["last_error"].as_str() {
            writeln!(out, "    last error: {error}")?;
        }
    }
    Ok(())
}

fn addresses(value: &Value) -> String {
    let all: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if all.is_empty() { "off".to_owned() } else { all.join(", ") }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// A span of time in its two largest units.
pub(super) fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dead_letters_a_failed_disk_and_a_full_one_come_first_and_loudly() {
        let status = json!({ "spool": { "dead": 2, "failed": "I/O error", "refusing": true, "free_bytes": 1048576 } });
        let table = table(&status);
        assert!(table.starts_with("!!! 2 DEAD LETTERS"), "{table}");
        assert!(table.contains("!!! THE SPOOL'S DISK FAILED: I/O error"), "{table}");
        assert!(table.contains("NEARLY FULL (1.0 MiB free)"), "{table}");
        assert!(!super::table(&json!({})).contains("!!!"));
    }

    #[test]
    fn a_drain_under_way_is_shown_until_it_is_done() {
        let shown = |releasing: u64| table(&json!({ "drain": { "releasing": releasing } }));
        assert!(shown(7).contains("a `drain` is under way: 7 messages still to be released"), "{}", shown(7));
        assert!(!shown(0).contains("under way:"), "{}", shown(0));
    }

    #[test]
    fn what_waits_is_shown_with_when_it_will_have_left_and_why_its_domain_collects() {
        let domain = |name: &str, weather: &str| {
            json!({ "domain": name, "weather": weather, "why": "its filter has been out of reach for 40 s",
                "waiting": 900, "drained_in_seconds": 90 })
        };
        let weather = json!({
            "level": "busy", "cause": "slow disk", "waiting": 1800, "drained_in_seconds": 180,
            "leaves_per_1000_seconds": 10_050, "leaves_measured": true,
            "domains": [domain("a.example", "collect"), domain("b.example", "through")],
        });
        let table = table(&json!({ "weather": weather }));
        for line in [
            "pressure     busy: slow disk",
            "waiting      1800 messages, drained in 3m0s; 10.0 a second (measured)",
            "  a.example: collect: its filter has been out of reach for 40 s; 900 messages, drained in 1m30s",
            "  b.example: 900 messages, drained in 1m30s",
        ] {
            assert!(table.lines().any(|shown| shown == line), "{line}\n{table}");
        }
    }

    #[test]
    fn evidence_that_had_no_room_is_counted() {
        let shown = table(&json!({ "trust": { "evidence": 7, "evidence_dropped": 2, "pinned": 1 } }));
        assert!(shown.contains("7 observations, 2 more had no room; 1 networks"), "{shown}");
    }

    #[test]
    fn a_span_is_shown_in_its_two_largest_units() {
        assert_eq!(age(Duration::from_secs(59)), "59s");
        assert_eq!(age(Duration::from_secs(3_725)), "1h2m");
        assert_eq!(age(Duration::from_secs(90_000)), "1d1h");
    }
}
