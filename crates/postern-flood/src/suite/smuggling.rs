//! SMTP smuggling: line ends round the dot that one server takes for the end of the message and the next does not.
//!
//! Behind the odd end stand the commands of a second message. A server that answers them has been smuggled into; one
//! that takes the whole as one message with the odd line ends inside has not, but may pass them on to one that will
//! be: that cannot be seen over SMTP and counts as partial.

use super::client::{Client, Lost};
use super::stage::Stage;
use super::{Case, Judged, Verdict};

pub(super) const CASES: [Case; 4] = [
    Case {
        name: "smuggling-data",
        holds: "only CRLF.CRLF ends DATA, however it is cut into segments; bare CR and LF are refused",
        play: data,
    },
    Case {
        name: "smuggling-bdat",
        holds: "nothing inside a BDAT chunk ends it; bare CR and LF are refused",
        play: bdat,
    },
    Case {
        name: "smuggling-too-big",
        holds: "a message beyond SIZE ends at CRLF.CRLF too, and at nothing else",
        play: too_big,
    },
    Case { name: "dots", holds: "a line that begins with a dot, or a dot at any cut, is data", play: dots },
];

const ENDS: [(&str, &[u8]); 3] = [("CR", b"\r"), ("LF", b"\n"), ("CRLF", b"\r\n")];

/// The nine mixes with their names; the last is the true end.
fn mixes() -> Vec<(String, Vec<u8>)> {
    let mut mixes = Vec::new();
    for (before_name, before) in ENDS {
        for (after_name, after) in ENDS {
            mixes.push((format!("{before_name}.{after_name}"), [before, b".", after].concat()));
        }
    }
    mixes
}

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    TakenAsData,
    Smuggled,
}

#[derive(Default)]
struct Tally {
    tries: usize,
    refused: usize,
    taken: Vec<String>,
    smuggled: Vec<String>,
}

impl Tally {
    fn add(&mut self, name: &str, fate: Fate) {
        self.tries += 1;
        let list = match fate {
            Fate::Refused => {
                self.refused += 1;
                return;
            }
            Fate::TakenAsData => &mut self.taken,
            Fate::Smuggled => &mut self.smuggled,
        };
        if list.last().is_none_or(|last| last != name) {
            list.push(name.to_owned());
        }
    }

    fn judge(self) -> (Verdict, String) {
        if !self.smuggled.is_empty() {
            return (
                Verdict::Fail,
                format!("what stands behind {} was answered as commands", self.smuggled.join(", ")),
            );
        }
        if !self.taken.is_empty() {
            let what = format!("{} tries, no second message; {} taken as data", self.tries, self.taken.join(", "));
            return (Verdict::Partial, what);
        }
        (Verdict::Pass, format!("{} tries, {} refused", self.tries, self.refused))
    }
}

fn data(stage: &mut Stage<'_>) -> Judged {
    let mut tally = Tally::default();
    for (name, mix) in mixes() {
        let truly_ends = mix == b"\r\n.\r\n";
        // Cut before the mix, at each octet inside it, and behind it; 0 is uncut.
        let cuts: Vec<usize> =
            if stage.options.quick { vec![0, mix.len() / 2 + 1] } else { (0..=mix.len() + 1).collect() };
        for cut in cuts {
            let fate = try_data(stage, &mix, cut)?;
            if truly_ends {
                if fate != Fate::Smuggled {
                    return Ok((Verdict::Fail, "CRLF.CRLF does not end the data: the probe sees nothing".to_owned()));
                }
                continue;
            }
            tally.add(&name, fate);
        }
    }
    Ok(tally.judge())
}

fn try_data(stage: &mut Stage<'_>, mix: &[u8], cut: usize) -> Result<Fate, Lost> {
    let mut client = stage.introduced_attacker()?;
    client.begin_data("probe@probe.example", &stage.options.recipient)?;
    let body = [b"Subject: first\r\n\r\nfirst".as_slice(), mix, &second(stage)].concat();
    let at = body.len() - second(stage).len() - mix.len();
    if cut > 0 {
        let at = at + cut - 1;
        say_in_two(&mut client, &body, at)?;
    } else {
        say_all(&mut client, &body)?;
    }
    Ok(fate(&mut client))
}

/// The commands of a second message, whose end is the true end of the first.
fn second(stage: &Stage<'_>) -> Vec<u8> {
    let recipient = &stage.options.recipient;
    format!(
        "MAIL FROM:<smuggled@probe.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\nSubject: second\r\n\r\nsecond\r\n.\r\n"
    )
    .into_bytes()
}

/// A server that has refused may close while we still speak.
fn say_all(client: &mut Client, octets: &[u8]) -> Result<(), Lost> {
    match client.say(octets) {
        Err(Lost::Silent) => Err(Lost::Silent),
        _ => Ok(()),
    }
}

fn say_in_two(client: &mut Client, octets: &[u8], at: usize) -> Result<(), Lost> {
    say_all(client, &octets[..at])?;
    client.let_it_be_read();
    say_all(client, &octets[at..])
}

/// One reply is for the one message; each further one, but the goodbye's, is for a smuggled command.
fn fate(client: &mut Client) -> Fate {
    let Ok(first) = client.reply() else { return Fate::Refused };
    // Asked for only when the first reply is there: a pipelined QUIT is an offence to some.
    let _ = client.say("QUIT\r\n");
    client.patience(std::time::Duration::from_secs(3));
    let mut rest = client.codes_to_the_end();
    while rest.last().is_some_and(|code| matches!(code, 221 | 421)) {
        rest.pop();
    }
    match (first.code, rest.len()) {
        (_, 1..) => Fate::Smuggled,
        (200..=299, 0) => Fate::TakenAsData,
        _ => Fate::Refused,
    }
}

fn bdat(stage: &mut Stage<'_>) -> Judged {
    if !stage.offers("CHUNKING") {
        return Ok((Verdict::Skip, "CHUNKING is not offered".to_owned()));
    }
    let mut tally = Tally::default();
    for (name, mix) in mixes() {
        let body = [b"Subject: first\r\n\r\nfirst".as_slice(), &mix, &second(stage)].concat();
        let at = body.len() - second(stage).len() - mix.len();
        let cuts: Vec<usize> = if stage.options.quick { vec![at + 1] } else { (at..=at + mix.len()).collect() };
        // In one chunk, and the mix torn between two.
        for cut in std::iter::once(0).chain(cuts) {
            let mut client = stage.introduced_attacker()?;
            for line in ["MAIL FROM:<probe@probe.example>".to_owned(), format!("RCPT TO:<{}>", stage.options.recipient)]
            {
                let reply = client.ask(line)?;
                if reply.code != 250 {
                    return Err(Lost::Refused(reply.to_string()));
                }
            }
            let mut chunk_refused = false;
            if cut > 0 {
                client.say([format!("BDAT {cut}\r\n").as_bytes(), &body[..cut]].concat())?;
                chunk_refused = client.reply()?.code >= 400;
            }
            let fate = if chunk_refused {
                Fate::Refused
            } else {
                client.say([format!("BDAT {} LAST\r\n", body.len() - cut).as_bytes(), &body[cut..]].concat())?;
                fate(&mut client)
            };
            if name == "CRLF.CRLF" && fate != Fate::TakenAsData {
                return Ok((Verdict::Fail, format!("CRLF.CRLF in a chunk is not data: {fate:?}")));
            }
            if name != "CRLF.CRLF" {
                tally.add(&name, fate);
            }
        }
    }
    Ok(tally.judge())
}

fn too_big(stage: &mut Stage<'_>) -> Judged {
    let size = match stage.size_max() {
        Some(size) if size <= TOO_BIG_MAX => size,
        Some(size) => return Ok((Verdict::Skip, format!("SIZE {size} is beyond what this suite sends"))),
        None => return Ok((Verdict::Skip, "no SIZE is offered".to_owned())),
    };
    let line = [b"x".repeat(70).as_slice(), b"\r\n"].concat();
    let block = line.repeat(1_000);
    let mut tally = Tally::default();
    for (name, mix) in
        mixes().into_iter().filter(|(name, _)| !stage.options.quick || name == "LF.LF" || name == "CRLF.CRLF")
    {
        let mut client = stage.introduced_attacker()?;
        client.begin_data("probe@probe.example", &stage.options.recipient)?;
        say_all(&mut client, b"Subject: big\r\n\r\n")?;
        // A tenth more: some count a line end as one octet.
        for _ in 0..=(size as usize + size as usize / 10) / block.len() {
            say_all(&mut client, &block)?;
        }
        say_all(&mut client, &[mix.as_slice(), &second(stage)].concat())?;
        client.patience(super::stage::PATIENCE);
        let first = client.reply();
        if matches!(first, Ok(ref reply) if reply.code < 400) {
            return Ok((Verdict::Fail, format!("{size} octets are offered, and more were taken")));
        }
        let _ = client.say("QUIT\r\n");
        client.patience(std::time::Duration::from_secs(3));
        let mut rest = client.codes_to_the_end();
        while rest.last().is_some_and(|code| matches!(code, 221 | 421)) {
            rest.pop();
        }
        if name == "CRLF.CRLF" {
            // The true end, and what follows are commands. A server that rather hangs up is safe as well.
            continue;
        }
        tally.add(&name, if rest.is_empty() { Fate::Refused } else { Fate::Smuggled });
    }
    Ok(tally.judge())
}

fn dots(stage: &mut Stage<'_>) -> Judged {
    // Dot-stuffed lines, a lone stuffed dot, dots at the very start and end.
    let body = b"Subject: dots\r\n\r\n..\r\n...x\r\n.. .\r\nx.\r\n..\r\n.\r\n";
    let cuts: Vec<usize> = if stage.options.quick { vec![19, body.len() - 2] } else { (1..body.len()).collect() };
    let count = cuts.len();
    for cut in cuts {
        let mut client = stage.introduced_attacker()?;
        client.begin_data("probe@probe.example", &stage.options.recipient)?;
        say_in_two(&mut client, body, cut)?;
        let reply = client.reply()?;
        if reply.code != 250 {
            return Ok((Verdict::Fail, format!("cut at octet {cut}: {reply}")));
        }
        let after = client.ask("NOOP")?;
        if after.code != 250 || client.unread() > 0 {
            return Ok((Verdict::Fail, format!("cut at octet {cut}: a reply too many")));
        }
        let _ = client.ask("QUIT");
    }
    Ok((Verdict::Pass, format!("{count} cuts, one message each")))
}

/// On loopback a second or two; nine times.
const TOO_BIG_MAX: u64 = 67_108_864;
