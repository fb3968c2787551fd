//! `postern demo` as anybody would run it, with a small crowd.

#[path = "cli/harness.rs"]
mod harness;

use std::path::Path;
use std::process::{Command, Stdio};

use harness::{PATIENCE, Said};
use serde_json::Value;

/// In a directory of its own for what is temporary: what is left there was left behind.
fn demo(temporary: &Path, flags: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["demo", "--fast"])
        .args(flags)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    Said {
        code: output.status.code().expect("not killed"),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("there").next().is_none()
}

#[test]
fn through_the_night_friends_mail_gets_through_and_nothing_answered_250_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = demo(dir.path(), &["--plain", "--seed", "1"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    for words in
        ["PROMISE KEPT: ", "and nothing answered 250 is lost.", " flood  friends' mail taken: ", "collect from 0:"]
    {
        assert!(said.out.contains(words), "{words:?} is not in\n{}", said.out);
    }
    assert!(is_empty(dir.path()), "nothing is left behind");
}

#[test]
fn while_port_25_drowns_the_mail_of_a_peer_comes_by_the_postern() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = demo(dir.path(), &["--json", "--seed", "2"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let night: Value = serde_json::from_str(&said.out).expect("JSON");
    let number = |at: &str| night.pointer(at).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {at} in {night:#}"));
    let (offered, by_postern) = (number("/with_postern/peers/offered"), number("/way/by_postern"));
    assert!(offered > 0 && by_postern >= offered, "{night:#}");
    assert_eq!((number("/way/by_port_25"), number("/way/waiting")), (0, 0), "{night:#}");
    let at_the_door = number("/way/answered_at_outcome") + number("/way/answered_at_receipt");
    assert!(at_the_door >= by_postern, "both ends count the same mail: {night:#}");
    // Every message that their own site answered is at the server behind the other one, and nothing else is.
    assert_eq!(number("/way/under_way/samples"), number("/with_postern/peers/taken"), "{night:#}");
    let (due, gone) = (number("/with_postern/peers/due_in_flood"), number("/way/by_postern_in_flood"));
    assert!(
        due > 0 && gone > number("/without/peers/taken_in_flood"),
        "port 25 of the other server drowned: {night:#}"
    );
    assert!(is_empty(dir.path()), "nothing is left behind");
}

#[test]
fn a_night_that_is_interrupted_says_so_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let child = Command::new(env!("CARGO_BIN_EXE_postern"))
        // Long enough that it is calm still when it is up, on a busy machine too: that is a sixth of the night.
        .args(["demo", "--seconds", "600", "--bots", "300", "--json"])
        .env("TMPDIR", dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // As soon as the server of the demo is up it has a directory with its socket.
    let up = || {
        std::fs::read_dir(dir.path()).expect("there").flatten().any(|entry| entry.path().join("ledger-0-1").exists())
    };
    let until = std::time::Instant::now() + PATIENCE;
    while !up() {
        assert!(std::time::Instant::now() < until, "it does not begin");
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(1));
    let reckoning: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(reckoning["stopped_early"], true);
    assert_eq!(reckoning["promise"]["kept"], false);
    // It was calm: what the peers' site had answered a moment before was waited for.
    assert_eq!(reckoning["promise"]["arrived"], reckoning["promise"]["answered_250"], "{reckoning}");
    assert_eq!(reckoning["promise"]["lost"], 0, "{reckoning}");
    assert!(is_empty(dir.path()), "nothing is left behind");
}

#[test]
fn where_nobody_answers_nothing_is_played() {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("an address");
    let addr = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let said = demo(dir.path(), &["--against", &addr, "--plain"]);
    assert_eq!((said.code, said.out.as_str()), (69, ""), "{}", said.err);
    assert!(said.err.contains("does not answer"), "{}", said.err);
}

#[test]
fn somebody_else_s_server_is_not_loaded() {
    let dir = tempfile::tempdir().expect("a directory");
    // Multicast: refused in every namespace, and nothing could be sent to it by TCP if it were not.
    let said = demo(dir.path(), &["--against", "224.0.0.1:25", "--plain"]);
    assert_eq!(said.code, 64, "{}{}", said.out, said.err);
    assert!(said.err.contains("127.0.0.0/8"), "{}", said.err);
}
