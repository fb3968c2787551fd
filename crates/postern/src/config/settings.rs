//! Every setting: the one definition from which the parser, `etc/postern.toml`, the help of the
//! flags and the manual are made. It decides nothing; `config::Config` is what the program uses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::definition::{Section, section};
use super::values::{
    Addresses, ClientAddressSetting, DnssecSetting, DoorSetting, LogFormat, LogLevel, ModeSetting, Network, OnSpam,
    RecipientsSetting, Size, Span, SteeringSetting,
};

section! {
    /// Postern: a mail front door that keeps real mail moving through a spam flood.
    /// Every key is optional; what stands here behind `#` is its default or an example.
    General, "", {
        /// Our name in the greeting, in EHLO and in Received fields; by default this machine's.
        hostname: Option<String> = example "\"mail.example.com\"";
        /// Directory for everything that must survive: spool, modes, certificate, control socket.
        /// A relative path starts where the server is started.
        data: PathBuf = default "\"postern-data\"";
        /// The mode of every domain that no command has set: auto, through, collect or hold.
        /// through: answered when filters and next hop have taken or refused the message.
        /// collect: answered when it is safe on disk; it leaves later. hold: leaves only by `drain`.
        /// auto: through in the calm, collect under pressure and while filter or next hop are away; see [auto].
        mode: ModeSetting = default "\"auto\"";
        /// Where mail goes: maildir:DIR, lmtp:HOST:PORT, lmtp:PATH, smtp:HOST:PORT or none.
        /// By default into a Maildir per recipient under DATA/mail. none keeps everything in the
        /// spool; a later start with another target delivers it.
        deliver: Option<String> = example "\"lmtp:/run/dovecot/lmtp\"";
        /// How an SMTP next hop learns who the client was: xclient, proxy or none.
        client_address: ClientAddressSetting = default "\"xclient\"";
        /// Accept an SMTP next hop that would see every message come from this machine.
        /// It would then skip its SPF checks and sign forged mail as your own.
        trust_loopback: bool = default "false";
        /// What parts a detail from a name: mail for ann+lists is for ann. Empty: nothing does.
        detail: String = default "\"+\"";
        /// Threads that serve connections; 0 is one per core.
        threads: usize = default "0";
    }
}

section! {
    /// The public door: mail from the world.
    Smtp, "smtp", {
        /// Address of the public door, or a list of them. Port 25 needs CAP_NET_BIND_SERVICE, socket activation or [run_as].
        listen: Addresses = default "[\"127.0.0.1:2525\"]";
        /// Largest message, as announced by SIZE. Larger ones get 552.
        size_max: Size = default "\"25 MiB\"";
        /// Recipients of one message; RFC 5321 4.5.3.1.8 asks for 100. More get 452 and come as another message.
        recipients_max: usize = default "100";
        /// Connections at once, over all threads. Costs about 4 KiB each when idle; more get 421.
        connections_max: usize = default "19000";
        /// Memory for messages on their way in, over all connections. Beyond its share a class waits, then gets 452.
        held_bytes_max: Size = default "\"256 MiB\"";
        /// Burnt at each connect of a stranger, in microseconds; for measurements only.
        admission_spin_us: u64 = hidden "0";
        /// Networks whose connections begin with a PROXY header (v1 or v2): load balancers.
        proxy_from: Vec<IpNet> = default "[]";
        /// Networks that may use XCLIENT to tell the real client.
        xclient_from: Vec<IpNet> = default "[]";
        /// How long an answer at the outcome may take; then the message is made durable and answered at the receipt.
        outcome_timeout: Span = default "\"30s\"";
        /// Silence after which a client is sent away (RFC 5321 4.5.3.2.7 asks for five minutes).
        command_timeout: Span = default "\"5m\"";
    }
}

section! {
    /// The postern: the authenticated door, QUIC over UDP, for servers that prove who they are. See docs/postern.md.
    Door, "door", {
        /// UDP address of the postern, or off. Without a configuration file 127.0.0.1:2526; with one, off until it is given.
        listen: Option<DoorSetting> = example "\"0.0.0.0:2526\"";
        /// The only domain that this server speaks for at the posterns of others; by default each of ours speaks for its authors.
        domain: Option<String> = example "\"example.com\"";
        /// Peers without a ticket that are let in a second. Each costs a handshake of 0.3 ms; under attack each network waits for its turn.
        strangers_per_second: u32 = default "50";
        /// Tells apart the servers that share a secret (DATA/door/master) and an address: each needs a number of its own.
        node: u8 = default "0";
        /// Burnt at each datagram, in nanoseconds; for measurements only.
        work_ns: u32 = hidden "0";
    }
}

section! {
    /// The read-only admin page. The address is accepted; this release prints admin=off.
    Admin, "admin", {
        /// HTTP address of the admin page, on loopback.
        listen: Option<SocketAddr> = example "\"127.0.0.1:8025\"";
    }
}

section! {
    /// STARTTLS. Without these a self-signed certificate is made in DATA/tls at the first start.
    Tls, "tls", {
        /// Certificate chain, PEM. Read again on SIGHUP.
        cert: Option<PathBuf> = example "\"/etc/postern/fullchain.pem\"";
        /// Its private key, PEM.
        key: Option<PathBuf> = example "\"/etc/postern/privkey.pem\"";
    }
}

section! {
    /// The relay listener: the mail of this machine's own MTA, on its way out.
    Relay, "relay", {
        /// Address of the relay listener; loopback only, because whoever reaches it may send anywhere.
        listen: Option<SocketAddr> = example "\"127.0.0.1:2587\"";
        /// Where its mail goes: mx (each domain's own servers), smtp:HOST:PORT, or any other target of `deliver`.
        next_hop: Option<String> = example "\"mx\"";
        /// Go by the postern of a domain that has one, before that. Needs [door].
        doors: bool = default "true";
    }
}

section! {
    /// What leaves.
    Drain, "drain", {
        /// Deliveries at once to one destination.
        concurrency: usize = default "20";
        /// Pause before the second attempt of a message; each further one doubles, with jitter.
        retry_first: Span = default "\"1m\"";
        /// Longest pause between two attempts of one message.
        retry_max: Span = default "\"4h\"";
        /// How long attempts go on before the message has failed for good.
        expiry: Span = default "\"5d\"";
        /// Mailboxes that a Maildir target may hold; mail for one more new name is deferred with 452.
        mailboxes_max: usize = default "10000";
    }
}

section! {
    /// When `auto` collects, and how much. Pressure over the whole server needs no setting.
    Auto, "auto", {
        /// What is collected must leave within this time at the rate that was measured; beyond that the lowest classes get 451.
        promised_delay: Span = default "\"4h\"";
        /// A domain collects when its next hop has been out of reach for so long …
        hop_down: Span = default "\"30s\"";
        /// … or its filter …
        filter_down: Span = default "\"10s\"";
        /// … or its senders would wait so long for the outcome.
        outcome_slow: Span = default "\"15s\"";
        /// How long it collects at least. Twice as long, up to 16 minutes, when it was calm for less than 10.
        storm_min: Span = default "\"1m\"";
        /// How long all must have been well before it ends.
        calm_after: Span = default "\"10s\"";
        /// Messages that may still be there then; more where more leave in two seconds.
        backlog_low: u64 = default "50";
        /// Known networks wait in accept queues of their own where the kernel can do that; off: in one line with all others.
        steering: SteeringSetting = default "\"auto\"";
        /// Whether it is pressure when something is scarce on the whole server, for tests only: they share their machine.
        pressure: bool = hidden "true";
    }
}

section! {
    /// The durable buffer in DATA/spool.
    Spool, "spool", {
        /// One file of the log. Changes hold for new files.
        segment_bytes: Size = default "\"16 MiB\"";
        /// Messages in the spool; beyond that new ones get 452. Costs about 300 octets of memory each.
        items_max: usize = default "1000000";
        /// Octets in the spool; beyond that new messages get 452.
        bytes_max: Size = default "\"64 GiB\"";
        /// Memory for messages that wait for their outcome; beyond that they are made durable at once.
        tentative_bytes_max: Size = default "\"64 MiB\"";
        /// Free space under which new messages get 452 …
        free_low: Size = default "\"256 MiB\"";
        /// … until there is this much again.
        free_high: Size = default "\"512 MiB\"";
        /// Milliseconds added to each flush, for measurements only.
        flush_delay_ms: u64 = hidden "0";
    }
}

section! {
    /// Log lines, to standard error.
    Log, "log", {
        /// text or json.
        format: LogFormat = default "\"text\"";
        /// error, warn, info, debug or trace.
        level: LogLevel = default "\"info\"";
    }
}

section! {
    /// Give up root after all addresses are open. Not needed under systemd or with CAP_NET_BIND_SERVICE.
    RunAs, "run_as", {
        /// User, by name or number.
        user: Option<String> = example "\"postern\"";
        /// Group, by name or number; by default the user's.
        group: Option<String> = example "\"postern\"";
    }
}

section! {
    /// Look-ups: by `check`, and of who a client is.
    Dns, "dns", {
        /// The resolver to ask; by default the system's.
        resolver: Option<SocketAddr> = example "\"127.0.0.1:53\"";
        /// Ask who a client is: SPF, the name of its address, the lists of [dnsbl]. Only in the calm or for few,
        /// never for the known, and nobody waits for the answer.
        identity: bool = default "true";
        /// Whether signatures in DNS are checked when the key of a peer of the postern is looked up: off, root (with the keys
        /// of the root that came with this release), or a file with DNSKEY records of a root of your own. With off only
        /// TXT records and pins prove a key. The resolver must hand on signatures; one that does not parks every peer.
        dnssec: DnssecSetting = default "\"off\"";
    }
}

section! {
    /// Who is let in first when not all can be. Learnt from mail that comes and goes, from `postern learn`
    /// and `postern report`; `postern why ADDRESS` explains it.
    Trust, "trust", {
        /// Judge and log "would have …", but turn nobody away for their class. For the first days.
        observe: bool = default "false";
        /// Addresses and networks that always come first. `postern peer add` adds more without a restart.
        pinned: Vec<Network> = default "[]";
        /// Domains whose mail comes first from the addresses that are proven theirs (SPF, or a confirmed name).
        pinned_domains: Vec<String> = default "[]";
        /// Forwarders and mailing lists: never blamed for what they pass on.
        forwarders: Vec<Network> = default "[]";
        /// Providers with many tenants behind shared addresses: a class of their own, judged by author.
        /// Added to those that are known from the start.
        providers: Vec<String> = default "[]";
        /// Unknown senders that may become known by good history alone, a day. The bound on what a patient
        /// spammer can buy; those whom you write to are not counted.
        promotions_a_day: u32 = default "50";
        /// How often the book is written, for tests only: what `kill -9` may cost.
        snapshot_every: Span = hidden "\"1m\"";
    }
}

section! {
    /// A content filter; write one table per filter. They are asked in the order of their names.
    Filter, "filter.rspamd", {
        /// milter:inet:HOST:PORT, milter:unix:PATH, rspamd:HOST:PORT, spamd:HOST:PORT or spamd:PATH.
        target as "use": Option<String> = example "\"rspamd:127.0.0.1:11333\"";
        /// How long it may take for one message; then it counts as absent, and the mail is collected until it is back.
        timeout: Span = default "\"20s\"";
        /// Messages that it judges at once.
        workers: usize = default "8";
        /// Spam whose sender has been told 250: mark (delivered with a header that says so) or quarantine.
        /// In the calm spam is refused in the session.
        on_spam: OnSpam = default "\"mark\"";
    }
}

section! {
    /// Mail set aside by a filter; `postern queue ls` shows it, `postern queue release ID` delivers it.
    Quarantine, "quarantine", {
        /// How long it is kept. What is removed then is logged, message by message.
        keep: Span = default "\"30d\"";
    }
}

section! {
    /// A DNS list of addresses (RFC 5782); write one table per zone. None is asked without one. A listing is
    /// evidence, never a verdict alone.
    Dnsbl, "dnsbl.\"dnsbl.example.org\"", {
        /// What a listing says: -100 to -1 against the address, 1 to 100 for it.
        weight: i8 = default "-50";
        /// Answers that count, as networks inside 127.0.0.0/8; all of them when there are none. Lists of good senders
        /// say the degree of trust there.
        codes: Vec<Network> = default "[]";
    }
}

section! {
    /// What differs for one domain; write one table per domain.
    Domain, "domain.\"example.org\"", {
        /// Its mode when no command has set one.
        mode: Option<ModeSetting> = example "\"collect\"";
        /// Where its mail goes.
        deliver: Option<String> = example "\"smtp:10.0.0.7:25\"";
        /// Whether its mail is judged by the filters of [filter.NAME]; it is, unless this says false.
        filter: Option<bool> = example "false";
    }
}

/// The whole file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Keys before the first table.
    pub(crate) general: General,
    /// `[smtp]`
    pub(crate) smtp: Smtp,
    /// `[door]`
    pub(crate) door: Door,
    /// `[admin]`
    pub(crate) admin: Admin,
    /// `[tls]`
    pub(crate) tls: Tls,
    /// `[relay]`
    pub(crate) relay: Relay,
    /// `[recipients]`
    pub(crate) recipients: Option<BTreeMap<String, RecipientsSetting>>,
    /// `[domain."…"]`
    pub(crate) domain: BTreeMap<String, Domain>,
    /// `[drain]`
    pub(crate) drain: Drain,
    /// `[auto]`
    pub(crate) auto: Auto,
    /// `[spool]`
    pub(crate) spool: Spool,
    /// `[log]`
    pub(crate) log: Log,
    /// `[run_as]`
    pub(crate) run_as: RunAs,
    /// `[dns]`
    pub(crate) dns: Dns,
    /// `[trust]`
    pub(crate) trust: Trust,
    /// `[filter.…]`
    pub(crate) filter: BTreeMap<String, Filter>,
    /// `[quarantine]`
    pub(crate) quarantine: Quarantine,
    /// `[dnsbl."…"]`
    pub(crate) dnsbl: BTreeMap<String, Dnsbl>,
}

/// `[recipients]` has domains for keys; this is what the sample says about it.
const RECIPIENTS: Section = Section {
    name: "recipients",
    about: &[
        " Domains that are ours, and which recipients exist there; others get 550 5.1.1 at RCPT.",
        " \"any\", { list = [\"ann\"] }, { file = \"…\" } (one name or address a line), { dir = \"…\" } (one",
        " entry per name, like /home) or { callout = true } (the next hop is asked). Files and directories",
        " are read again when they change. Without this table: localhost and example.com, any recipient.",
    ],
    keys: &[
        super::definition::Key {
            name: "\"example.com\"",
            about: &[" Domain = its recipients."],
            value: "{ list = [\"ann\", \"bob\"] }",
            is_default: false,
            hidden: false,
        },
        super::definition::Key {
            name: "\"example.net\"",
            about: &[],
            value: "{ dir = \"/home\" }",
            is_default: false,
            hidden: false,
        },
        super::definition::Key {
            name: "\"example.org\"",
            about: &[],
            value: "{ callout = true }",
            is_default: false,
            hidden: false,
        },
    ],
};

/// All tables in the order of the sample file.
pub(crate) const SECTIONS: [Section; 18] = [
    General::SECTION,
    Smtp::SECTION,
    RECIPIENTS,
    Domain::SECTION,
    Tls::SECTION,
    Relay::SECTION,
    Drain::SECTION,
    Auto::SECTION,
    Spool::SECTION,
    Log::SECTION,
    RunAs::SECTION,
    Dns::SECTION,
    Trust::SECTION,
    Filter::SECTION,
    Quarantine::SECTION,
    Dnsbl::SECTION,
    Door::SECTION,
    Admin::SECTION,
];

/// The definition of `key` in table `section`.
pub(crate) fn key(section: &str, key: &str) -> Option<&'static super::definition::Key> {
    SECTIONS
        .iter()
        .find(|known| known.name == section || known.family().is_some_and(|family| family_of(section) == Some(family)))
        .and_then(|known| known.keys.iter().find(|known| known.name == key))
}

fn family_of(section: &str) -> Option<&str> {
    section.split_once('.').map(|(family, _)| family)
}
