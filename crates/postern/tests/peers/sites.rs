//! Two sites, each with its own Postfix behind Postern, on a network of their own with a signed DNS: what they find out
//! about each other they find there, and the wire between them can be cut.
//!
//! Alpha is host 1, beta host 2, the name servers are host 3. Needs root (network namespaces).

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use postern_net::door::Purse;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::netns::Network;
use crate::harness::postern::Postern;
use crate::harness::postfix::{self, Postfix, Setup};
use crate::harness::senders::{SWAKS, swaks};
use crate::harness::zones::{KEYGEN, NSD, SIGN, Signed, UNBOUND, Zone, Zones};
use crate::harness::{Guard, Owner, Peers, Scratch, maildir, wait_for, wait_within};
use crate::{awkward_message, postern};

/// The port of every postern here.
const DOOR: u16 = 2526;
/// The relay listener; each host has its own loopback.
const RELAY: u16 = 2587;
const DNS_HOST: u8 = 3;
/// A link that goes dead is noticed, and given up, after deadlines of its own.
pub(super) const LONG: Duration = Duration::from_secs(240);

/// A host with a Postfix that sends all mail through Postern, and has the mailboxes of the domain.
pub(super) struct Site {
    host: u8,
    domain: &'static str,
    mailbox: PathBuf,
    postfix: Postfix,
    postern: Postern,
}

/// Both sites and what they stand on. Dropped in this order: servers before their network.
pub(super) struct World {
    pub(super) alpha: Site,
    pub(super) beta: Site,
    _name_servers: Vec<Guard>,
    _zones: Zones,
    pub(super) network: Network,
}

/// A site before its server starts: DNS must have its key first.
struct Plan {
    host: u8,
    domain: &'static str,
    user: &'static str,
    postfix: Postfix,
    scratch: Scratch,
    config: PathBuf,
}

impl Plan {
    fn make(peers: &Peers, network: &Network, host: u8, domain: &'static str, user: &'static str) -> Self {
        let hostname = format!("mail.{domain}");
        let main = vec![
            format!("relayhost = [127.0.0.1]:{RELAY}"),
            "smtpd_authorized_xclient_hosts = 127.0.0.0/8".to_owned(),
            // What is put off must come back within the patience of a test.
            "minimal_backoff_time = 5s".to_owned(),
            "maximal_backoff_time = 10s".to_owned(),
            "queue_run_delay = 5s".to_owned(),
        ];
        let setup = Setup { hostname: &hostname, domain, mailboxes: &[user], main, core: None };
        let postfix = network.on(host, || Postfix::start(peers, &setup));
        let scratch = Scratch::new("site");
        // As a package makes it; `identity` makes the key in it before the first start.
        scratch.dir("data", Owner::Caller);
        let (address, dns) = (Network::address(host), Network::address(DNS_HOST));
        let dir = scratch.path().display();
        let text = format!(
            "hostname = \"{hostname}\"\ndata = \"{dir}/data\"\ndeliver = \"smtp:127.0.0.1:{next_hop}\"\n\
             [smtp]\nlisten = \"{address}:25\"\n[door]\nlisten = \"{address}:{DOOR}\"\n\
             [relay]\nlisten = \"127.0.0.1:{RELAY}\"\nnext_hop = \"mx\"\n\
             [dns]\nresolver = \"{dns}:53\"\ndnssec = \"{dir}/anchor\"\n\
             [recipients]\n\"{domain}\" = \"any\"\n[drain]\nretry_first = \"2s\"\n",
            next_hop = postfix.port,
        );
        let config = scratch.file("postern.toml", text);
        Self { host, domain, user, postfix, scratch, config }
    }

    /// The domain as its administrator publishes it: with what `identity dns` prints, and no more about the postern.
    fn zone(&self) -> Zone {
        let identity = |what: &str| {
            let mut command = Command::new(postern());
            let output = command.args(["identity", what, "-c"]).arg(&self.config).output().expect("the program starts");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert!(output.status.success(), "{what}: {}{}", text(&output.stdout), text(&output.stderr));
            text(&output.stdout)
        };
        identity("show");
        let records = format!("@ MX 10 mail\nmail A {}\n{}", Network::address(self.host), identity("dns"));
        Zone { name: self.domain.to_owned(), records, signed: Signed::Nsec }
    }

    fn start(self, network: &Network, zones: &Zones) -> Site {
        let Self { host, domain, user, postfix, scratch, config } = self;
        std::fs::copy(zones.anchor(), scratch.path().join("anchor")).expect("the anchor was written");
        let postern = network.on(host, || Postern::start_as_configured(postern(), scratch, &config));
        let mailbox = postfix.mailbox(user);
        Site { host, domain, mailbox, postfix, postern }
    }
}

impl World {
    /// Everything up; `None` where the peers are missing.
    fn start() -> Option<Self> {
        Self::start_with(3, |_, _, _| ()).map(|(world, ())| world)
    }

    /// The same on a network with so many hosts, after `publish` has changed the zones (alpha's, beta's), or added some, and
    /// started what it needs for them.
    pub(super) fn start_with<T>(
        hosts: u8,
        publish: impl FnOnce(&Peers, &Network, &mut Vec<Zone>) -> T,
    ) -> Option<(Self, T)> {
        let peers = Peers::need(&[&[SWAKS, NSD, UNBOUND, KEYGEN, SIGN], &postfix::NEEDS[..]].concat())?;
        let network = Network::new(hosts);
        let alpha = Plan::make(&peers, &network, 1, "alpha.example", "ann");
        let beta = Plan::make(&peers, &network, 2, "beta.example", "bob");
        let at = |port: u16| SocketAddr::from((Network::address(DNS_HOST), port));
        let (authority, resolver) = (at(5353), at(53));
        let mut published = vec![alpha.zone(), beta.zone()];
        let more = publish(&peers, &network, &mut published);
        let zones = Zones::write(&peers, authority, &published);
        let name_servers = network.on(DNS_HOST, || {
            let servers =
                vec![zones.start_nsd(&peers, authority), zones.start_unbound(&peers, resolver, authority, true)];
            for server in [authority, resolver] {
                wait_for("the name servers", || TcpStream::connect(server).ok());
            }
            servers
        });
        let (alpha, beta) = (alpha.start(&network, &zones), beta.start(&network, &zones));
        Some((Self { alpha, beta, _name_servers: name_servers, _zones: zones, network }, more))
    }

    /// A user of `site` hands mail to the Postfix there.
    pub(super) fn send(&self, site: &Site, from: &str, to: &str, message: &[u8]) {
        let peers = Peers::need(&[SWAKS]).expect("it was there a moment ago");
        let talk = self.network.on(site.host, || swaks(&peers, site.postfix.port, from, &[to], message, &[]));
        assert!(talk.taken, "{}", talk.text);
    }

    /// The mail at `site` as soon as `count` messages are there; in no order.
    pub(super) fn arrived(&self, site: &Site, count: usize) -> Vec<Vec<u8>> {
        let what = format!("{count} messages at {}", site.domain);
        let found = wait_within(LONG, &what, || {
            let found = maildir::messages(&site.mailbox);
            (found.len() >= count).then_some(found)
        });
        assert_eq!(found.len(), count, "once each");
        found
    }
}

impl Site {
    fn status(&self) -> Value {
        wait_for("status", || self.postern.status(postern()))
    }

    /// A counter of mail that left.
    pub(super) fn outbound(&self, name: &str) -> u64 {
        counter(&self.status(), &format!("/drain/outbound/{name}"))
    }

    /// A counter of the postern here.
    pub(super) fn door(&self, name: &str) -> u64 {
        counter(&self.status(), &format!("/door/{name}"))
    }

    /// Connections to port 25.
    pub(super) fn port_25(&self) -> u64 {
        counter(&self.status(), &format!("/doors/smtp {}:25/accepted", Network::address(self.host)))
    }

    /// What waits is tried now.
    pub(super) fn retry_all(&self) {
        for line in self.postern.command(postern(), &["queue", "ls", "--json"]).lines() {
            let item: Value = serde_json::from_str(line).expect("a line for each message");
            let id = item["id"].as_str().expect("each has an id");
            // It may have left meanwhile.
            let _ = Command::new(postern()).args(["queue", "retry", id, "--data"]).arg(self.postern.data()).output();
        }
    }

    /// Another process on the same data, as if its silences had begun `earlier`.
    pub(super) fn restart_later(&mut self, network: &Network, earlier: Duration) {
        let host = self.host;
        let purse = self.postern.data().join("door/purse");
        let postern = &mut self.postern;
        network.on(host, || {
            postern.restart_after_meanwhile(Signal::TERM, || age(&purse, earlier));
        });
    }
}

fn age(purse: &std::path::Path, earlier: Duration) {
    let purse = Purse::open(purse).expect("the purse of a server that has ended");
    for domain in purse.domains() {
        let Some(mut memory) = purse.memory(&domain) else { continue };
        memory.silent_since_s = memory.silent_since_s.map(|since| since - earlier.as_secs());
        purse.set_memory(&domain, Some(memory)).expect("a writable purse");
    }
}

fn counter(status: &Value, path: &str) -> u64 {
    status.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {status:#}"))
}

/// A message that is easily damaged, from this author; `mark` tells it from others.
pub(super) fn message_of(author: &str, mark: &str) -> Vec<u8> {
    let old = awkward_message();
    let first = old.windows(2).position(|pair| pair == b"\r\n").expect("a first line") + 2;
    assert!(old.starts_with(b"From: "));
    let mut message = format!("From: Someone <{author}>\r\nX-Mark: {mark}\r\n").into_bytes();
    message.extend_from_slice(&old[first..]);
    message
}

/// Every one of `sent` is among `stored`, byte for byte; the trace fields of each, in the order of `sent`.
pub(super) fn same(stored: &[Vec<u8>], sent: &[(&str, Vec<u8>)]) -> Vec<String> {
    let find = |mark: &str| {
        let line = format!("X-Mark: {mark}");
        let of_mark = |stored: &&Vec<u8>| stored.windows(line.len()).any(|part| part == line.as_bytes());
        stored.iter().find(of_mark).unwrap_or_else(|| panic!("no message {mark}"))
    };
    sent.iter().map(|(mark, message)| maildir::assert_same(find(mark), message)).collect()
}

#[test]
fn two_sites_deliver_both_ways_through_the_postern_with_postfix_on_either_side() {
    let Some(world) = World::start() else { return };
    let World { alpha, beta, .. } = &world;
    for (from, author, to, recipient) in
        [(alpha, "ann@alpha.example", beta, "bob@beta.example"), (beta, "bob@beta.example", alpha, "ann@alpha.example")]
    {
        let message = message_of(author, "there");
        world.send(from, author, recipient, &message);
        let trace = same(&world.arrived(to, 1), &[("there", message)]).remove(0);
        let (first, last) = (format!("by mail.{} (Postern)", from.domain), format!("by mail.{} (Postern)", to.domain));
        let place = |host: &str| trace.find(host).unwrap_or_else(|| panic!("no {host:?} in\n{trace}"));
        assert!(place(&last) < place(&first), "{trace}");
        let address = Network::address(from.host);
        assert!(trace.contains(&format!("from mail.{} ([{address}])", from.domain)), "{trace}");
        wait_for("the sender to know", || (from.outbound("by_postern") == 1).then_some(()));
        assert_eq!((from.outbound("by_mx"), from.outbound("silent"), from.outbound("use_mx")), (0, 0, 0));
        assert_eq!((to.door("accepted"), to.door("delivered") + to.door("queued")), (1, 1), "{:#}", to.status());
        assert!(to.door("tickets") > 0, "it may come again in a flood");
    }
    assert_eq!((alpha.port_25(), beta.port_25()), (0, 0), "nobody needed port 25");
    let proven = counter(&beta.status(), "/keys/proven");
    assert_eq!((proven, counter(&beta.status(), "/keys/pinned_peers")), (1, 0), "by DNS alone");
}

#[test]
fn when_udp_is_cut_mail_goes_by_port_25_after_the_window_and_nothing_is_lost() {
    let Some(mut world) = World::start() else { return };
    let mut sent: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut send = |world: &World, mark: &'static str| {
        let message = message_of("ann@alpha.example", mark);
        world.send(&world.alpha, "ann@alpha.example", "bob@beta.example", &message);
        sent.push((mark, message));
        sent.clone()
    };
    let before = send(&world, "before");
    same(&world.arrived(&world.beta, 1), &before);
    wait_for("the sender to know", || (world.alpha.outbound("by_postern") == 1).then_some(()));

    // Beta's door is silenced, with a link to it open.
    world.network.cut_udp(world.beta.host, DOOR);
    let during = send(&world, "during");
    wait_within(LONG, "the silence to be noticed", || {
        (world.alpha.outbound("silent") > 0 && world.alpha.outbound("waits") > 0).then_some(())
    });
    assert_eq!((world.alpha.outbound("by_mx"), world.beta.port_25()), (0, 0), "it waits for the door first");
    world.arrived(&world.beta, 1);

    world.alpha.restart_later(&world.network, Duration::from_secs(15 * 60));
    world.alpha.retry_all();
    same(&world.arrived(&world.beta, 2), &during);
    wait_for("the sender to know", || (world.alpha.outbound("by_mx") == 1).then_some(()));
    assert_eq!((world.alpha.outbound("downgrades"), world.alpha.outbound("by_postern")), (1, 0));
    assert!(world.beta.port_25() > 0);

    // Back again: a new process tries the door at once.
    world.network.mend_udp(world.beta.host, DOOR);
    world.alpha.restart_later(&world.network, Duration::ZERO);
    let all = send(&world, "after");
    same(&world.arrived(&world.beta, 3), &all);
    wait_for("the sender to know", || (world.alpha.outbound("by_postern") == 1).then_some(()));
    assert_eq!((world.alpha.outbound("by_mx"), world.alpha.outbound("downgrades")), (0, 0));
    let spool = |site: &Site| counter(&site.status(), "/spool/items") + counter(&site.status(), "/spool/dead");
    wait_for("empty spools", || (spool(&world.alpha) + spool(&world.beta) == 0).then_some(()));
    assert_eq!(counter(&world.alpha.status(), "/drain/reports"), 0);
}

#[test]
fn a_sender_that_is_not_the_author_goes_by_port_25() {
    let Some(world) = World::start() else { return };
    let message = message_of("news@third.example", "third");
    world.send(&world.alpha, "news@third.example", "bob@beta.example", &message);
    same(&world.arrived(&world.beta, 1), &[("third", message)]);
    wait_for("the sender to know", || (world.alpha.outbound("by_mx") == 1).then_some(()));
    assert_eq!((world.alpha.outbound("by_postern"), world.beta.door("begun")), (0, 0), "it need not even knock");
    assert!(world.beta.port_25() > 0);
}
