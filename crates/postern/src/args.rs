//! The command line: the one definition behind parsing, help, completions and manual pages.
//!
//! Flags of `serve` that stand for a setting take their help from the setting. Names are a
//! contract: scripts rely on them.

mod buffer;
mod identity;
mod trust;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use postern_proto::mode::Mode;

use crate::commands::demo::DemoArgs;
use crate::commands::flood::FloodArgs;
pub(crate) use buffer::{Buffer, ExportArgs, ImportArgs, MailFormat};
pub(crate) use identity::{Identity, SiteArgs};
pub(crate) use trust::{LearnArgs, Peer, Verdict};

use crate::config::sample;
use crate::config::values::{DoorSetting, ModeSetting};

/// A mail front door that keeps real mail moving through a spam flood.
#[derive(Debug, Parser)]
#[command(
    name = "postern",
    version,
    max_term_width = 100,
    after_help = "Start with `postern serve`; it needs no configuration. Then `swaks --server 127.0.0.1:2525 --to ann@localhost` and look into ./postern-data/mail."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    #[command(
        long_about = "Run the server. Without a configuration it listens on 127.0.0.1:2525, takes mail for any recipient at localhost and example.com, and delivers it into Maildirs under ./postern-data/mail. When all addresses are open it prints one line, `ready smtp=… door=… admin=… relay=…`. SIGTERM finishes what is under way and stops within ten seconds; SIGHUP reads the configuration again.",
        after_help = "Example: postern serve --domain example.org --deliver lmtp:/run/dovecot/lmtp\nA flag beats the file given with -c."
    )]
    Serve(ServeArgs),
    /// Check a configuration and what surrounds it
    #[command(
        long_about = "Check a configuration and what surrounds it: the next hop and whether it would see the real client, the certificate against published TLSA and MTA-STS, the data directory, free space, addresses. Prints what would run. Exits with 0 when all is well, 1 when something would not work, 78 when the file itself is wrong.",
        after_help = "Example: postern check /etc/postern/postern.toml"
    )]
    Check(CheckArgs),
    /// Show how the server is doing
    #[command(
        long_about = "Show how the server is doing: doors, modes, spool, destinations. Dead letters (mail that was accepted, failed for good, and has no sender that we may tell) are shown first and loudly: look at them with `postern queue ls --dead`.",
        after_help = "Example: postern status --json | jq .spool"
    )]
    Status {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Watch how the server is doing
    #[command(
        long_about = "Watch how the server is doing: who is in by class, who is turned away, pressure and its cause, modes and why, what waits and when it will have left, filters and next hops, and the course of the last minutes. Asks once a second and changes nothing; a server that is away is waited for. Without a terminal it prints a line a second. Keys: q quits, p pauses, ? explains.",
        after_help = "Example: postern top; postern top --once | mail -s 'how it is' ann"
    )]
    Top {
        /// One frame as text, and no more
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Set or show when senders are answered
    #[command(
        long_about = "Set or show when senders are answered. through: when the next hop has taken or refused the message. collect: when it is safe on disk, delivery follows. hold: when it is safe on disk, and it leaves only by `drain` or when the mode changes. auto: no command is in force, the configured mode applies. Survives a restart. Without a word, shows the modes.",
        after_help = "Example: postern mode collect example.org"
    )]
    Mode {
        /// auto, through, collect or hold; nothing shows the modes
        mode: Option<ModeWord>,
        /// Only this domain
        domain: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Buffer all mail, let it flow again, or take the buffer out and in
    #[command(
        long_about = "Buffer all mail (on) or let it flow again (off). `on` is `mode hold`: everything is accepted to disk and nothing leaves, while you repair or switch what stands behind. `off` is `mode auto`: the buffer drains by itself. `export` and `import` hand the buffer to tools of your own and take it back.",
        after_help = "Example: postern buffer on example.org; …; postern buffer off example.org"
    )]
    Buffer {
        /// What to do
        #[command(subcommand)]
        action: Buffer,
    },
    /// Deliver what is buffered, at a rate if you wish
    #[command(
        long_about = "Deliver what is buffered: mail in `hold`, and mail that waits for its next attempt. The mode stays as it is: what arrives later is buffered again.",
        after_help = "Example: postern drain example.org --rate 5"
    )]
    Drain {
        /// Only this domain
        domain: Option<String>,
        /// Messages per second
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Look at and act on messages in the spool
    #[command(
        long_about = "Look at and act on messages in the spool, by the id that the sender was given in the 250 reply (`Queued as …`).",
        after_help = "Example: postern queue ls example.org; postern queue show 0G2K5ZC8T1Q7M"
    )]
    Queue {
        /// What to do
        #[command(subcommand)]
        action: Queue,
    },
    /// Learn whom this site knows, from mail logs, Maildirs and Sent folders
    #[command(
        long_about = "Learn whom this site knows, from what is there already: mail logs of Postfix and Exim, Maildirs and mbox files (who wrote, believed only as far as the Received field of our own host goes), Sent folders (whom you wrote to). What is long ago weighs less. Works with the server running, and without. With no source it reads /var/log/mail.log* and /var/log/exim4/mainlog*. A source may be read twice: what is known already does not count double as a correspondent.",
        after_help = "Example: postern learn -c /etc/postern/postern.toml --maildir /home --our-host mail.example.org\nCompressed logs: zcat /var/log/mail.log.*.gz | postern learn --log -"
    )]
    Learn(LearnArgs),
    /// Explain the class of an address, a domain or a message
    #[command(
        long_about = "Explain who an address or a domain is to this site, or what was known and decided about a message: its class with the reasons, what DNS and lists said when it came, what the filters found, where it is now.",
        after_help = "Example: postern why 192.0.2.7; postern why example.org; postern why 0G2K5ZC8T1Q7M"
    )]
    Why {
        /// Address, domain, mailbox, or the id of a message
        what: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Say that a message was spam, or was not
    #[command(
        long_about = "Say that a message was spam, or was not: your word weighs more than a filter's. Mail in the quarantine that was ham is delivered. When the message has left already, give the address it came from.",
        after_help = "Example: postern report ham 0G2K5ZC8T1Q7M; postern report spam 192.0.2.7"
    )]
    Report {
        /// spam or ham
        verdict: Verdict,
        /// Ids of messages, or addresses
        #[arg(required = true, value_name = "ID|ADDRESS")]
        what: Vec<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Pin who always comes first
    #[command(
        long_about = "Pin who always comes first, whatever the flood: an address, a network, or a domain (its mail from addresses that are proven its own). Survives a restart; works with the server running, and without.",
        after_help = "Example: postern peer add 192.0.2.0/28; postern peer add example.org; postern peer ls"
    )]
    Peer {
        /// What to do
        #[command(subcommand)]
        action: Peer,
    },
    /// Who this server is to other posterns: its key, and the records that publish it
    #[command(
        long_about = "Who this server is to other posterns: its key, the DNS records that publish it, and its replacement. Works with the server running, and without.",
        after_help = "Example: postern identity show; postern identity dns --domain example.org; postern identity rotate"
    )]
    Identity {
        /// What to do
        #[command(subcommand)]
        action: Identity,
    },
    /// Take all judgement out of the path (on), or put it back (off)
    #[command(
        long_about = "Take all judgement out of the path (on), or put it back (off): while it is on nobody is turned away or slowed for what they are, no filter is asked, and the public door is a plain queue in front of the next hop. Limits of memory, disk and connections stay. Survives a restart; `status` says it loudly. Without a word, shows whether it is on.",
        after_help = "Example: postern bypass on; …; postern bypass off"
    )]
    Bypass {
        /// on or off; nothing shows it
        switch: Option<Switch>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Measure what this machine can take
    #[command(
        long_about = "Measure what this machine can take: starts a server of its own in a temporary directory, on one core, and loads it from another; prints messages per second, CPU per message, messages per commit, memory per idle connection. Run it from a release build, on a quiet machine.",
        after_help = "Example: postern bench --quick"
    )]
    Bench(BenchArgs),
    /// Let crowds loose on a server of your own, or put it through the torture suite
    #[command(
        long_about = "Let crowds loose on a server of your own: hostile ones of many kinds, from up to 16 million addresses of 127/8, and friends beside them whose mail is timed. Or, with --suite, play each known attack that needs only SMTP and judge the server by it. Works against any SMTP server on loopback or inside a network namespace of your own; any other target is refused.",
        after_help = "Example: postern flood --target 127.0.0.1:2525 --hold 18000 --spam 200 --friends 50 --for 30s --html flood.html\nExample: postern flood --target 127.0.0.1:2525 --suite\nExample: postern flood --door 127.0.0.1:2526 --attack naive --rate 600000 --friends 4 --new-links 20 --key friend.pem --domain friend.example"
    )]
    Flood(Box<FloodArgs>),
    /// Play the night of 2007 in a minute, without and with Postern
    #[command(
        long_about = "Play the night of 2007 in a minute, without and with Postern, drawn live. Two servers as they were then, a process for each connection and the content filter inside the session; one of them stands behind Postern. To both come the same friends, the same honest strangers, and the same flood of silent bots, spam and backscatter, at the same time on this machine. Some of the friends have Postern at their own site: to the one server they write by port 25 as everybody does, to the other through its postern. Everything runs on loopback in a temporary directory and is gone afterwards. At the end it says what became of whose mail; the exit code is 0 only when 99 % of the known friends' mail and of that by the postern got through, none of the latter came by port 25, and nothing that was answered 250 is lost.",
        after_help = "Example: postern demo\nExample: postern demo --fast --plain --seed 7\nExample: postern demo --against 127.0.0.1:25 --to ann@localhost"
    )]
    Demo(DemoArgs),
    /// Print a completion script for a shell
    #[command(
        long_about = "Print a completion script for a shell, made from the same definition as this help.",
        after_help = "Example: postern completions bash > /etc/bash_completion.d/postern"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    #[command(
        long_about = "Write the manual pages into a directory: one per command, and postern.toml(5). They are made from the same definitions as this help.",
        after_help = "Example: postern man /usr/local/share/man"
    )]
    Man {
        /// Where to write; made when it is not there
        dir: PathBuf,
    },
}

/// Flags of `serve`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[arg(long, value_name = "DIR", help = sample::help("", "data"))]
    pub(crate) data: Option<PathBuf>,
    #[arg(long, value_name = "ADDR", help = sample::help("smtp", "listen"))]
    pub(crate) smtp: Option<SocketAddr>,
    #[arg(long, value_name = "ADDR|off", help = sample::help("door", "listen"))]
    pub(crate) door: Option<DoorSetting>,
    #[arg(long, value_name = "ADDR", help = sample::help("admin", "listen"))]
    pub(crate) admin: Option<SocketAddr>,
    #[arg(long, value_name = "ADDR", help = sample::help("relay", "listen"))]
    pub(crate) relay: Option<SocketAddr>,
    /// A domain that is ours, with any recipient unless the file says more; repeatable
    #[arg(long = "domain", value_name = "D")]
    pub(crate) domains: Vec<String>,
    #[arg(long, value_name = "M", help = sample::help("", "mode"), value_parser = configured_mode)]
    pub(crate) mode: Option<ModeSetting>,
    #[arg(long, value_name = "TARGET", help = sample::help("", "deliver"))]
    pub(crate) deliver: Option<String>,
    /// Milliseconds added to each flush of the spool, for measurements
    #[arg(long, value_name = "MS", hide = true)]
    pub(crate) flush_delay_ms: Option<u64>,
    /// Run everything on this core, for measurements
    #[arg(long, value_name = "CORE", hide = true)]
    pub(crate) pin: Option<usize>,
}

/// What `check` looks at.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file; without it, what `serve` runs with no configuration
    pub(crate) file: Option<PathBuf>,
    /// Print a commented file with every key, and do nothing else
    #[arg(long)]
    pub(crate) print_sample: bool,
}

/// Which running server a command speaks to.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// Data directory of the server
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file of the server, instead of --data
    #[arg(short = 'c', long = "config", value_name = "FILE", conflicts_with = "data")]
    pub(crate) config: Option<PathBuf>,
}

/// `postern queue …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// List messages, oldest id first
    #[command(
        long_about = "List messages, oldest id first, one line each: id, age, size, state, attempts, domain, sender, number of recipients, last error. States: ready, waiting (for its next attempt), leaving (being delivered), held, tentative (its sender still waits), DEAD.",
        after_help = "Example: postern queue ls example.org -n 20"
    )]
    Ls {
        /// Only this domain
        domain: Option<String>,
        /// Only dead letters
        #[arg(long)]
        dead: bool,
        /// At most this many lines
        #[arg(short = 'n', long, default_value_t = 1000)]
        limit: usize,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Show one message: envelope, facts of arrival, last error
    #[command(
        long_about = "Show one message: who sent it from where, to whom, how often delivery was tried and what was said last. With --body the message itself, byte for byte as it was received.",
        after_help = "Example: postern queue show 0G2K5ZC8T1Q7M --body > message.eml"
    )]
    Show {
        /// Its id
        id: String,
        /// The message itself, as received, and nothing else
        #[arg(long, conflicts_with = "json")]
        body: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Keep messages from leaving
    #[command(
        long_about = "Keep messages from leaving, whatever the mode, until they are released.",
        after_help = "Example: postern queue hold 0G2K5ZC8T1Q7M"
    )]
    Hold(QueueIds),
    /// Let held messages leave again
    #[command(
        long_about = "Let held messages leave again, as their domain's mode says.",
        after_help = "Example: postern queue release 0G2K5ZC8T1Q7M"
    )]
    Release(QueueIds),
    /// Delete messages for good; their senders are not told
    #[command(
        long_about = "Delete messages for good. They were answered 250 and their senders are not told: look first.",
        after_help = "Example: postern queue delete 0G2K5ZC8T1Q7M"
    )]
    Delete(QueueIds),
    /// Attempt delivery now
    #[command(
        long_about = "Attempt delivery now instead of at the next time planned.",
        after_help = "Example: postern queue retry 0G2K5ZC8T1Q7M"
    )]
    Retry(QueueIds),
}

/// Ids of messages.
#[derive(Debug, Args)]
pub(crate) struct QueueIds {
    /// Ids, as in the 250 reply and in `queue ls`
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `postern bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// One object for programs instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Rounds of each measurement, interleaved; the median and the minimum are printed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Messages in each round
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) messages: u32,
    /// Only the measurements whose name contains this
    #[arg(long, value_name = "WORD")]
    pub(crate) only: Option<String>,
    /// Two short rounds: a first impression
    #[arg(long)]
    pub(crate) quick: bool,
    /// Something else than the whole table
    #[command(subcommand)]
    pub(crate) action: Option<BenchAction>,
}

/// Parts of `postern bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchAction {
    /// Load one server on this machine and print one JSON object
    #[command(
        long_about = "Load one server on this machine and print one JSON object: messages, errors, seconds, latencies. For comparing servers side by side; it refuses any address that is not loopback.",
        after_help = "Example: postern bench load --addr 127.0.0.1:2525 --clients 50 --messages 10000"
    )]
    Load(LoadArgs),
    /// Play a plan from standard input: the measurements' own generator
    #[command(hide = true)]
    Play,
    /// Play a plan against a door from standard input: the measurements' own generator
    #[command(hide = true)]
    PlayDoor,
    /// Be stock quinn, to compare a door with
    #[command(hide = true)]
    Stock {
        /// Answer Retry to everybody
        #[arg(long)]
        retry: bool,
        /// Burn so many nanoseconds at each datagram
        #[arg(long, value_name = "NS", default_value_t = 0)]
        work_ns: u32,
    },
}

/// `postern bench load`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// The server; loopback only
    #[arg(long)]
    pub(crate) addr: SocketAddr,
    /// Connections at once, each in lockstep
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) clients: u32,
    /// Messages in all
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) messages: u32,
    /// Messages on one connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) per_connection: u32,
    /// Octets of each body
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=52_428_800))]
    pub(crate) size: u32,
    /// Recipient of every message
    #[arg(long, default_value = "ann@localhost")]
    pub(crate) recipient: String,
    /// STARTTLS on every connection
    #[arg(long)]
    pub(crate) starttls: bool,
    /// Core on which the load is made
    #[arg(long, value_name = "CORE")]
    pub(crate) pin: Option<usize>,
}

/// `auto` and the modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeWord {
    /// No command in force
    Auto,
    /// Answer at the outcome
    Through,
    /// Answer at the receipt, deliver later
    Collect,
    /// Answer at the receipt, keep
    Hold,
}

impl ModeWord {
    /// The command that is then in force.
    pub(crate) fn command(self) -> Option<Mode> {
        match self {
            Self::Auto => None,
            Self::Through => Some(Mode::Through),
            Self::Collect => Some(Mode::Collect),
            Self::Hold => Some(Mode::Hold),
        }
    }
}

/// As the key `mode` in the file.
fn configured_mode(word: &str) -> Result<ModeSetting, String> {
    word.parse()
}

/// `on` and `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Keep all mail
    On,
    /// Let it flow
    Off,
}

/// The definition, for completions and manual pages.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    /// Every command teaches: a paragraph and an example.
    fn check(command: &clap::Command) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
            let words = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
            assert!(words(sub.get_long_about()).len() > 30, "{} lacks a paragraph", sub.get_name());
            assert!(words(sub.get_after_help()).contains("Example: postern "), "{} lacks an example", sub.get_name());
            check(sub);
        }
    }

    #[test]
    fn every_command_has_a_paragraph_and_an_example() {
        check(&super::definition());
    }

    #[test]
    fn the_definition_is_consistent() {
        super::definition().debug_assert();
    }
}
