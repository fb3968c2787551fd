//! Lines that are too long, octets that are no text, addresses that are no addresses, commands out of turn.

use super::client::Lost;
use super::stage::Stage;
use super::{Case, Judged, Verdict};

pub(super) const CASES: [Case; 5] = [
    Case {
        name: "long-lines",
        holds: "a command line beyond every limit is refused or ends the session; text lines beyond 998 do no harm",
        play: long_lines,
    },
    Case {
        name: "eight-bit-and-nul",
        holds: "no command with NUL or bare 8-bit octets is obeyed; as data they are answered",
        play: eight_bit,
    },
    Case {
        name: "addresses",
        holds: "what is no mailbox, or nobody's here, is not accepted as a recipient; nobody relays",
        play: addresses,
    },
    Case { name: "order", holds: "commands out of turn are refused", play: order },
    Case {
        name: "rset-noop",
        holds: "20,000 RSET and NOOP are answered or cut short, and others are served meanwhile",
        play: rset_noop,
    },
];

fn long_lines(stage: &mut Stage<'_>) -> Judged {
    let mut worst = Vec::new();
    let mut lenient = false;
    for bytes in [600, 2_000, 10_000, 1_000_000] {
        let mut client = stage.introduced_attacker()?;
        match client.ask(format!("MAIL FROM:<{}@probe.example>", "a".repeat(bytes))) {
            // RFC 5321 section 4.5.3.1 allows longer ones than its own limits.
            Ok(reply) if reply.code < 400 && bytes > LENIENT_BYTES => {
                return Ok((Verdict::Fail, format!("a path of {bytes} octets: {reply}")));
            }
            Ok(reply) => {
                lenient |= reply.code < 400;
                worst.push(format!("{bytes}: {}", reply.code));
            }
            Err(Lost::Closed) => worst.push(format!("{bytes}: closed")),
            Err(lost) => return Err(lost),
        }
    }
    let mut client = stage.introduced_attacker()?;
    client.begin_data("probe@probe.example", &stage.options.recipient)?;
    let reply = client.ask(format!("Subject: long\r\n\r\n{}\r\n.", "a".repeat(5_000)))?;
    worst.push(format!("text line of 5,000: {}", reply.code));
    Ok((if lenient { Verdict::Partial } else { Verdict::Pass }, worst.join(", ")))
}

fn eight_bit(stage: &mut Stage<'_>) -> Judged {
    let recipient = stage.options.recipient.as_bytes();
    let commands: [(&str, Vec<u8>); 4] = [
        ("NUL in MAIL", b"MAIL FROM:<a\0b@probe.example>".to_vec()),
        ("NUL behind NOOP", b"NOOP \0".to_vec()),
        ("8-bit in MAIL", b"MAIL FROM:<\xe9\xff@probe.example>".to_vec()),
        ("8-bit command", b"\xff\xfe\xfd".to_vec()),
    ];
    let mut obeyed = Vec::new();
    for (name, command) in commands {
        let mut client = stage.introduced_attacker()?;
        match client.ask(&command) {
            Ok(reply) if reply.code < 400 => obeyed.push(format!("{name}: {}", reply.code)),
            Ok(_) | Err(Lost::Closed) => {}
            Err(lost) => return Err(lost),
        }
    }
    let mut client = stage.introduced_attacker()?;
    let _ = client.ask("MAIL FROM:<probe@probe.example>")?;
    let mut command = b"RCPT TO:<".to_vec();
    command.extend_from_slice(recipient);
    command.extend_from_slice(b"\0.evil.example>");
    if let Ok(reply) = client.ask(&command)
        && reply.code < 400
    {
        obeyed.push(format!("NUL in RCPT: {}", reply.code));
    }
    let mut client = stage.introduced_attacker()?;
    client.begin_data("probe@probe.example", &stage.options.recipient)?;
    let reply = client.ask(b"Subject: \xff\xfe\r\n\r\na\0b \x80\r\n.")?;
    // A NUL in an argument that nobody reads does no harm; one in an address may end it for the next program.
    let verdict = match obeyed.iter().any(|what| !what.starts_with("NUL behind NOOP")) {
        true => Verdict::Fail,
        false if !obeyed.is_empty() => Verdict::Partial,
        false => Verdict::Pass,
    };
    obeyed.push(format!("as data: {}", reply.code));
    Ok((verdict, obeyed.join(", ")))
}

fn addresses(stage: &mut Stage<'_>) -> Judged {
    let domain = stage.domain().to_owned();
    let ann = stage.options.recipient.clone();
    let relay = [
        "<user@elsewhere.example>".to_owned(),
        format!("<user%elsewhere.example@{domain}.elsewhere.example>"),
        format!("<{ann}@elsewhere.example>"),
    ];
    let broken = [
        format!("<{ann}"),
        format!("<{ann}> <b@{domain}>"),
        format!("<{ann}>,<b@{domain}>"),
        format!("<a@@{domain}>"),
        format!("<a b@{domain}>"),
        format!("<a@{domain}\u{b}>"),
        format!("<\"a@{domain}>"),
        "<a@[300.1.1.1]>".to_owned(),
        format!("<a@{domain}..>"),
        "<@>".to_owned(),
        "<>".to_owned(),
        format!("<{ann}> NOSUCH=1"),
    ];
    let mut relayed = Vec::new();
    let mut accepted = Vec::new();
    let count = relay.len() + broken.len();
    for (list, path) in relay.iter().map(|path| (true, path)).chain(broken.iter().map(|path| (false, path))) {
        let mut client = stage.introduced_attacker()?;
        let mail = client.ask("MAIL FROM:<probe@probe.example>")?;
        if mail.code != 250 {
            return Err(Lost::Refused(mail.to_string()));
        }
        match client.ask(format!("RCPT TO:{path}")) {
            Ok(reply) if reply.code < 400 => {
                if list { &mut relayed } else { &mut accepted }.push(path.escape_debug().to_string());
            }
            Ok(_) | Err(Lost::Closed) => {}
            Err(lost) => return Err(lost),
        }
    }
    if !relayed.is_empty() {
        return Ok((Verdict::Fail, format!("relays to {}", relayed.join(" "))));
    }
    if !accepted.is_empty() {
        return Ok((Verdict::Partial, format!("{count} tried, relays to nobody; accepted {}", accepted.join(" "))));
    }
    Ok((Verdict::Pass, format!("{count} tried, none accepted")))
}

fn order(stage: &mut Stage<'_>) -> Judged {
    let recipient = stage.options.recipient.clone();
    let scripts: [&[&str]; 5] = [
        &["RCPT TO:<{}>"],
        &["DATA"],
        &["MAIL FROM:<a@probe.example>", "DATA"],
        &["MAIL FROM:<a@probe.example>", "MAIL FROM:<b@probe.example>"],
        &["MAIL FROM:<a@probe.example>", "RCPT TO:<{}>", "RSET", "DATA"],
    ];
    let mut wrong = Vec::new();
    for script in scripts {
        let mut client = stage.introduced_attacker()?;
        let mut last = 0;
        for line in script {
            last = client.ask(line.replace("{}", &recipient))?.code;
        }
        if last < 400 {
            wrong.push(format!("{}: {last}", script.join(", ")));
        }
    }
    Ok(match wrong.is_empty() {
        true => (Verdict::Pass, format!("{} orders refused", scripts.len())),
        false => (Verdict::Fail, wrong.join("; ")),
    })
}

fn rset_noop(stage: &mut Stage<'_>) -> Judged {
    let mut client = stage.introduced_attacker()?;
    let block = "NOOP\r\nRSET\r\n".repeat(50);
    let (mut answered, mut refused) = (0_u32, 0_u32);
    let rounds = if stage.options.quick { 20 } else { 200 };
    let mut ended = "";
    'rounds: for _ in 0..rounds {
        if client.say(&block).is_err() {
            ended = ", then cut short";
            break;
        }
        for _ in 0..100 {
            match client.reply() {
                Ok(reply) if reply.code < 400 => answered += 1,
                Ok(_) => refused += 1,
                Err(Lost::Closed) => {
                    ended = ", then cut short";
                    break 'rounds;
                }
                Err(lost) => return Err(lost),
            }
        }
    }
    Ok((Verdict::Pass, format!("{answered} answered, {refused} refused{ended}")))
}

/// Four times the longest command line of any extension: beyond it nothing bounds the buffer.
const LENIENT_BYTES: usize = 2_048;
