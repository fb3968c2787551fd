//! We ourselves are restarted in the middle of a flood, politely and by `kill -9`: who is who, and which mode holds, is as
//! before, at once; and no message is lost or doubled.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use super::account::{Account, copies};
use super::traffic::Post;
use super::{
    BOTS, FILLERS, KNOWN, NEW, SUSPECT, config, in_mode, mode, one_of, taken, teach, wait_for_taken, wait_until_empty,
    wait_until_through, while_flooded,
};
use crate::harness::filters::{FilterDaemon, Which};
use crate::harness::postern::Postern;
use crate::harness::{Peers, wait_for};
use crate::postern;

/// What a restart must not change.
#[derive(Debug, PartialEq, Eq)]
struct Picture {
    /// Address or domain, class and reasons.
    classes: Vec<(String, String, Value)>,
    /// Of two domains.
    modes: [String; 2],
    steering: Vec<bool>,
}

fn picture(server: &Postern) -> Picture {
    let mut whom: Vec<String> = FILLERS
        .flat_map(|n| [KNOWN, SUSPECT, NEW].map(|network| one_of(network, n).to_string()))
        .chain(["127.13.0.9", "127.11.0.1", "friend30.example", "nobody.example"].map(str::to_owned))
        .collect();
    whom.sort_unstable();
    let class = |what: String| {
        let said = server.command(postern(), &["why", "--json", &what]);
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let class = said["now"]["class"].as_str().expect("a class").to_owned();
        (what, class, said["now"]["reasons"].clone())
    };
    let status = server.status(postern()).expect("it answers");
    let steering = status["steering"].as_array().into_iter().flatten();
    Picture {
        classes: whom.into_iter().map(class).collect(),
        modes: ["example.com", "held.example"].map(|domain| mode(&status, domain).0),
        steering: steering.map(|one| one["active"] == true && one["networks"].as_u64() > Some(0)).collect(),
    }
}

/// The book on disk is younger than what it was taught.
fn wait_for_snapshot(server: &Postern) {
    let now = SystemTime::now();
    let written = || std::fs::metadata(server.data().join("trust")).and_then(|meta| meta.modified()).ok();
    // Two of them: the first may have been copied before.
    for _ in 0..2 {
        let last = written().unwrap_or(now).max(now);
        wait_for("a snapshot of the trust book", || written().filter(|at| *at > last));
    }
}

#[test]
fn classes_and_modes_survive_sigterm_and_kill_9_in_mid_flood_and_no_mail_is_lost() {
    let Some(peers) = Peers::need(Which::Rspamd.needs()) else { return };
    let mut filter = FilterDaemon::start(&peers, Which::Rspamd);
    let mut server = Postern::start_with_config(postern(), &config("maildir:{dir}/mail", &filter, "2s"), &[]);
    teach(&server);
    server.command(postern(), &["peer", "add", "127.13.0.0/16"]);
    server.command(postern(), &["mode", "hold", "held.example"]);
    let post = Post::new(server.port);
    let before = while_flooded(&post, Duration::from_millis(200), || {
        wait_for_taken(&post, 16);
        filter.kill();
        wait_for("the domain to collect", || in_mode(&server, "collect"));
        wait_for_taken(&post, 16);
        wait_for_snapshot(&server);
        let before = picture(&server);
        for signal in [Signal::KILL, Signal::TERM, Signal::KILL] {
            server.restart_after(signal);
            let after = picture(&server);
            assert_eq!(after, before, "after {signal:?}");
            post.moved_to(server.port);
            wait_for_taken(&post, 24);
        }
        before
    });
    let class_of = |what: &str| before.classes.iter().find(|(who, ..)| who == what).map(|(_, class, _)| class.as_str());
    let known = [one_of(KNOWN, 30), one_of(SUSPECT, 30), one_of(NEW, 30)].map(|ip| ip.to_string());
    assert_eq!(known.each_ref().map(|ip| class_of(ip)), [Some("known"), Some("suspect"), Some("new")]);
    assert_eq!((class_of("127.13.0.9"), class_of("127.11.0.1")), (Some("pinned"), Some("pinned")));
    assert_eq!(before.modes, ["collect", "hold"]);
    filter.restart();
    wait_until_through(&server);
    wait_until_empty(&server);
    assert_eq!(mode(&server.status(postern()).expect("it answers"), "held.example").0, "hold");
    let account = Account { records: post.records(), copies: copies(&server.scratch().join("mail")), dead: Vec::new() };
    account.settle("judge");
    let bots = account.records.iter().filter(|record| record.peer.octets()[..2] == BOTS.octets()[..2]).count();
    println!("{} sent, {bots} by bots, {} taken; {:?}", account.records.len(), taken(&post), before.steering);
}
