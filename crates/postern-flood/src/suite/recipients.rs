//! Dictionaries of recipients, reports as ammunition, mail from nobody.

use std::time::{Duration, Instant};

use super::client::{Client, Lost};
use super::stage::Stage;
use super::{Case, Judged, Verdict};

pub(super) const CASES: [Case; 3] = [
    Case {
        name: "dictionary",
        holds: "above a rate one source hears the same about known and unknown recipients, in the same time",
        play: dictionary,
    },
    Case {
        name: "notify-success",
        holds: "strangers are not offered NOTIFY=SUCCESS: a report would go to whomever they name",
        play: notify_success,
    },
    Case {
        name: "null-sender",
        holds: "a report (MAIL FROM:<>) is taken for whom we know and refused in the session for whom we do not",
        play: null_sender,
    },
];

fn dictionary(stage: &mut Stage<'_>) -> Judged {
    let Some(unknown) = stage.options.unknown.clone() else {
        return Ok((Verdict::Skip, "needs a server that checks recipients, and --unknown".to_owned()));
    };
    let domain = stage.domain().to_owned();
    let known = stage.options.recipient.clone();
    let mut client = stage.introduced_attacker()?;
    let _ = client.ask("MAIL FROM:<probe@probe.example>")?;
    let mut tried = 0;
    for n in 0..DICTIONARY {
        match client.ask(format!("RCPT TO:<{unknown}{n}@{domain}>")) {
            Ok(reply) if reply.code == 421 => break,
            Ok(_) => tried += 1,
            Err(Lost::Closed) => break,
            Err(lost) => return Err(lost),
        }
    }
    // What the same source hears now.
    let Ok((codes, times)) = compare(&mut client, &known, &format!("{unknown}@{domain}")) else {
        let measured = format!("sent away after {tried} unknown recipients; it may come back at once");
        return Ok((Verdict::Partial, measured));
    };
    let measured = format!(
        "after {tried} unknown: known {} in {:.2} ms, unknown {} in {:.2} ms",
        codes[0], times[0], codes[1], times[1]
    );
    let same_time = (times[0] - times[1]).abs() <= TIMING_MS + times[0].min(times[1]) / 2.0;
    let verdict = match (codes[0] == codes[1], same_time) {
        (true, true) => Verdict::Pass,
        (true, false) => Verdict::Partial,
        (false, _) => Verdict::Fail,
    };
    Ok((verdict, measured))
}

/// Codes and median times, asked in turns.
fn compare(client: &mut Client, known: &str, unknown: &str) -> Result<([u16; 2], [f64; 2]), Lost> {
    let mut codes = [0; 2];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..10 {
        for (n, recipient) in [known, unknown].into_iter().enumerate() {
            let started = Instant::now();
            let reply = client.ask(format!("RCPT TO:<{recipient}>"))?;
            if reply.code == 421 {
                return Err(Lost::Closed);
            }
            codes[n] = reply.code;
            times[n].push(started.elapsed());
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    Ok((codes, times.map(median)))
}

fn notify_success(stage: &mut Stage<'_>) -> Judged {
    let offered = stage.offers("DSN");
    let mut client = stage.introduced_attacker()?;
    let _ = client.ask("MAIL FROM:<victim@elsewhere.example>")?;
    let reply = client.ask(format!("RCPT TO:<{}> NOTIFY=SUCCESS", stage.options.recipient))?;
    let word = if offered { "offered" } else { "not offered" };
    let verdict = match (offered, reply.code < 400) {
        (false, false) => Verdict::Pass,
        // Taken though not offered: whether a report follows cannot be seen from here.
        (false, true) => Verdict::Partial,
        (true, taken) => {
            if taken {
                Verdict::Fail
            } else {
                Verdict::Partial
            }
        }
    };
    Ok((verdict, format!("DSN {word}; NOTIFY=SUCCESS: {}", reply.code)))
}

fn null_sender(stage: &mut Stage<'_>) -> Judged {
    let mut client = stage.introduced_attacker()?;
    let mail = client.ask("MAIL FROM:<>")?;
    let known = client.ask(format!("RCPT TO:<{}>", stage.options.recipient))?;
    if mail.code != 250 || known.code >= 400 {
        return Ok((Verdict::Partial, format!("reports are refused to all: {mail}, {known}")));
    }
    let Some(unknown) = stage.options.unknown.clone() else {
        return Ok((Verdict::Pass, format!("taken for a known recipient: {}", known.code)));
    };
    let reply = client.ask(format!("RCPT TO:<{unknown}@{}>", stage.domain()))?;
    let verdict = if reply.code >= 400 { Verdict::Pass } else { Verdict::Fail };
    Ok((verdict, format!("known: {}, unknown: {}", known.code, reply.code)))
}

/// Beyond any honest mistake, and few enough for a server that slows down.
const DICTIONARY: usize = 100;

/// What two medians of ten may differ by on a busy machine.
const TIMING_MS: f64 = 3.0;
