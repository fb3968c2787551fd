//! Starting, stopping, reloading.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::harness::{BODY, PATIENCE, Server, delivered, id_in, postern};

#[test]
fn serve_without_a_configuration_delivers_into_a_maildir_and_says_when_it_is_ready() {
    let dir = tempfile::tempdir().expect("scratch");
    let server =
        Server::spawn(dir.path(), &["--smtp", "127.0.0.1:0", "--door", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert!(server.ready.ends_with(" admin=off relay=off\n"), "{:?}", server.ready);
    assert_ne!(server.addr("smtp").port(), 0);
    assert_ne!(server.addr("door").port(), 0);
    let mut smtp = server.smtp();
    let reply = smtp.send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250 2.0.0 Delivered as "), "{reply}");
    let reply = smtp.send("bob@example.com", BODY).expect("answered");
    assert!(reply.starts_with("250 "), "{reply}");
    let reply = smtp.send("ann@elsewhere.example", BODY).expect("answered");
    assert!(reply.starts_with("550 5.7."), "{reply}");
    let mail = delivered(&dir.path().join("postern-data/mail"));
    assert_eq!(mail.len(), 2);
    assert!(mail.iter().all(|mail| mail.ends_with(BODY)), "{:?}", String::from_utf8_lossy(&mail[0]));
}

#[test]
fn a_message_kept_with_deliver_none_leaves_at_a_later_start_with_a_target() {
    let dir = tempfile::tempdir().expect("scratch");
    let mut server = Server::start(dir.path(), &["--deliver", "none"]);
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250 2.0.0 Queued as "), "{reply}");
    server.signal("-TERM");
    assert!(server.wait().success());
    assert!(!dir.path().join("postern-data/mail").exists());
    let server = Server::start(dir.path(), &[]);
    server.wait_until_drained();
    assert_eq!(delivered(&dir.path().join("postern-data/mail")).len(), 1);
}

#[test]
fn sigterm_lets_a_message_under_way_end_and_stops_within_ten_seconds() {
    let dir = tempfile::tempdir().expect("scratch");
    let mut server = Server::start(dir.path(), &[]);
    let mut idle = server.smtp();
    let mut busy = server.smtp();
    assert!(busy.envelope("ann@localhost").expect("answered").starts_with("354"));
    let began = Instant::now();
    server.signal("-TERM");
    server.wait_for_log("stopping");
    let reply = busy.say("Subject: late\r\n\r\nlate\r\n.").expect("answered");
    assert!(reply.starts_with("250 "), "{reply}");
    // The idle one is told, not cut.
    assert!(idle.reply().is_ok_and(|reply| reply.starts_with("421 ")));
    assert!(server.wait().success());
    // The promise, and what a busy machine may take beside it; without the promise it would be the five minutes of an idle
    // session.
    assert!(began.elapsed() < Duration::from_secs(10) + PATIENCE, "{:?}", began.elapsed());
    assert!(!dir.path().join("postern-data/control.sock").exists());
    assert_eq!(delivered(&dir.path().join("postern-data/mail")).len(), 1);
}

#[test]
fn a_second_server_in_the_same_data_directory_is_refused_and_a_stale_socket_is_not_a_server() {
    let dir = tempfile::tempdir().expect("scratch");
    let mut server = Server::start(dir.path(), &[]);
    let pid = server.status()["pid"].as_u64().expect("pid");
    let said = postern(dir.path(), &["serve", "--smtp", "127.0.0.1:0"]);
    assert_eq!(said.code, 69, "{}", said.err);
    assert!(said.err.contains(&format!("already running, pid {pid}")), "{}", said.err);
    server.kill();
    assert!(dir.path().join("postern-data/control.sock").exists(), "left behind by kill -9");
    let server = Server::start(dir.path(), &[]);
    assert_ne!(server.status()["pid"].as_u64(), Some(pid));
}

#[test]
fn an_address_in_use_is_named_with_a_cure() {
    let dir = tempfile::tempdir().expect("scratch");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("free");
    let addr = taken.local_addr().expect("bound").to_string();
    let said = postern(dir.path(), &["serve", "--smtp", &addr]);
    assert_eq!(said.code, 69, "{}", said.err);
    assert!(said.err.contains(&addr) && said.err.contains("ss -ltnp"), "{}", said.err);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("free");
    let addr = taken.local_addr().expect("bound").to_string();
    let said = postern(dir.path(), &["serve", "--smtp", "127.0.0.1:0", "--door", &addr]);
    assert_eq!(said.code, 69, "{}", said.err);
    assert!(said.err.contains(&addr) && said.err.contains("ss -lunp"), "{}", said.err);
}

#[test]
fn a_second_server_does_not_share_the_port_of_another_with_threads() {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("postern.toml"), "threads = 3\n").expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let addr = server.addr("smtp").to_string();
    let said = postern(dir.path(), &["serve", "-c", "postern.toml", "--data", "other", "--smtp", &addr]);
    assert_eq!(said.code, 69, "{}{}", said.out, said.err);
    assert!(said.err.contains(&addr) && said.err.contains("ss -ltnp"), "{}", said.err);
}

#[test]
fn of_servers_started_at_once_in_one_data_directory_the_one_that_runs_can_be_asked() {
    let dir = tempfile::tempdir().expect("scratch");
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["serve", "--smtp", "127.0.0.1:0", "--door", "off"]).current_dir(dir.path());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts")
    };
    let mut servers: Vec<_> = (0..4).map(|_| start()).collect();
    let mut winners = Vec::new();
    for server in &mut servers {
        let mut line = String::new();
        BufReader::new(server.stdout.take().expect("piped")).read_line(&mut line).expect("text");
        if line.starts_with("ready ") {
            winners.push(u64::from(server.id()));
        } else {
            server.wait().expect("refused");
        }
    }
    let said = postern(dir.path(), &["status", "--json"]);
    for server in &mut servers {
        let _ = server.kill();
        let _ = server.wait();
    }
    assert_eq!(winners.len(), 1);
    let status: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.err));
    assert_eq!(status["pid"].as_u64(), Some(winners[0]));
}

#[test]
fn a_data_directory_too_long_for_a_socket_is_said_so() {
    let dir = tempfile::tempdir().expect("scratch");
    let data = "x".repeat(100);
    for args in [&["serve", "--smtp", "127.0.0.1:0", "--data", &data][..], &["status", "--data", &data]] {
        let said = postern(dir.path(), args);
        assert_eq!(said.code, 78, "{}", said.err);
        assert!(said.err.contains("at most 107") && said.err.contains("shorter"), "{}", said.err);
    }
}

#[test]
fn recipients_that_cannot_be_read_are_answered_450_and_a_misspelt_file_keeps_the_last_names() {
    let dir = tempfile::tempdir().expect("scratch");
    let configure = |names: &str| {
        let text = format!("[recipients]\n\"a.example\" = {{ file = \"{names}\" }}\n");
        fs::write(dir.path().join("postern.toml"), text).expect("written");
    };
    configure("names");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let check = |recipient: &str, code: &str| {
        let mut smtp = server.smtp();
        smtp.say("MAIL FROM:<x@client.example>").expect("answered");
        let reply = smtp.say(&format!("RCPT TO:<{recipient}>")).expect("answered");
        assert!(reply.starts_with(code), "{recipient}: {reply}");
    };
    check("ann@a.example", "450");
    fs::write(dir.path().join("names"), "ann\n").expect("written");
    server.wait_for_log("recipients read again");
    check("ann@a.example", "250");
    check("bob@a.example", "550 5.1.1");
    configure("nmaes");
    server.signal("-HUP");
    server.wait_for_log("the last names known stay in force");
    server.wait_for_log("configuration reloaded");
    check("ann@a.example", "250");
}

#[test]
fn a_changed_data_directory_and_a_first_callout_need_a_restart() {
    let dir = tempfile::tempdir().expect("scratch");
    let file = dir.path().join("postern.toml");
    fs::write(&file, "[recipients]\n\"a.example\" = \"any\"\n").expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    fs::write(&file, "data = \"other\"\n[recipients]\n\"a.example\" = \"any\"\n").expect("written");
    for _ in 0..2 {
        server.signal("-HUP");
        let line = server.wait_for_log("needs a restart");
        assert!(line.contains("data"), "{line}");
        server.wait_for_log("configuration reloaded");
    }
    let reply = server.smtp().send("ann@a.example", BODY).expect("answered");
    assert!(reply.starts_with("250 2.0.0 Delivered as "), "{reply}");
    assert_eq!(delivered(&dir.path().join("postern-data/mail")).len(), 1);
    assert!(!dir.path().join("other").exists());
    let asked = "deliver = \"lmtp:/nowhere\"\n[recipients]\n\"a.example\" = { callout = true }\n";
    fs::write(&file, asked).expect("written");
    server.signal("-HUP");
    let line = server.wait_for_log("needs a restart");
    assert!(line.contains("callout"), "{line}");
}

#[test]
fn a_signal_right_behind_the_ready_line_is_heard() {
    let dir = tempfile::tempdir().expect("scratch");
    // The moment is short: several starts.
    for _ in 0..10 {
        let mut server = Server::start(dir.path(), &[]);
        server.signal("-HUP");
        server.wait_for_log("configuration reloaded");
        server.signal("-TERM");
        assert!(server.wait().success());
    }
}

#[test]
fn sighup_takes_new_domains_and_keeps_the_old_ones_when_the_file_is_wrong() {
    let dir = tempfile::tempdir().expect("scratch");
    let file = dir.path().join("postern.toml");
    fs::write(&file, "[recipients]\n\"a.example\" = \"any\"\n").expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let check = |recipient: &str, code: &str| {
        let mut smtp = server.smtp();
        smtp.say("MAIL FROM:<x@client.example>").expect("answered");
        let reply = smtp.say(&format!("RCPT TO:<{recipient}>")).expect("answered");
        assert!(reply.starts_with(code), "{recipient}: {reply}");
    };
    check("ann@a.example", "250");
    check("ann@b.example", "550");
    fs::write(&file, "threads = 3\n[recipients]\n\"b.example\" = \"any\"\n").expect("written");
    server.signal("-HUP");
    let line = server.wait_for_log("needs a restart");
    assert!(line.contains("threads"), "{line}");
    server.wait_for_log("configuration reloaded");
    check("ann@a.example", "550");
    check("ann@b.example", "250");
    fs::write(&file, "[recipient]\n").expect("written");
    server.signal("-HUP");
    let line = server.wait_for_log("the old configuration stays in force");
    assert!(line.contains("recipient"), "{line}");
    check("ann@b.example", "250");
}

#[test]
fn a_changed_file_of_recipients_is_seen_without_a_signal() {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("names"), "ann\n").expect("written");
    fs::write(dir.path().join("postern.toml"), "[recipients]\n\"a.example\" = { file = \"names\" }\n")
        .expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let check = |recipient: &str, code: &str| {
        let mut smtp = server.smtp();
        smtp.say("MAIL FROM:<x@client.example>").expect("answered");
        let reply = smtp.say(&format!("RCPT TO:<{recipient}>")).expect("answered");
        assert!(reply.starts_with(code), "{recipient}: {reply}");
    };
    check("ann+lists@a.example", "250");
    check("bob@a.example", "550 5.1.1");
    fs::write(dir.path().join("names"), "ann\nbob\n").expect("written");
    server.wait_for_log("recipients read again");
    check("bob@a.example", "250");
}

#[test]
fn the_relay_listener_takes_mail_for_anywhere_and_only_on_loopback() {
    let dir = tempfile::tempdir().expect("scratch");
    let said = postern(dir.path(), &["serve", "--relay", "0.0.0.0:0"]);
    assert_eq!(said.code, 64, "{}", said.err);
    assert!(said.err.starts_with("postern: --relay: 0.0.0.0:0 is not loopback"), "{}", said.err);
    let check = |flags: &[&str], anywhere: &str| {
        let server = Server::start(dir.path(), &[&["--relay", "127.0.0.1:0"], flags].concat());
        let mut relay = super::harness::Smtp::connect(server.addr("relay")).expect("greeted");
        let reply = relay.send("ann@localhost", BODY).expect("answered");
        assert!(id_in(&reply).is_some(), "{reply}");
        relay.say("MAIL FROM:<ann@localhost>").expect("answered");
        let reply = relay.say("RCPT TO:<bob@far.example>").expect("answered");
        assert!(reply.starts_with(anywhere), "{flags:?}: {reply}");
    };
    check(&[], "550 5.7.1");
    fs::write(dir.path().join("postern.toml"), "[relay]\nnext_hop = \"none\"\n").expect("written");
    check(&["-c", "postern.toml"], "250");
}

#[test]
fn started_as_root_it_becomes_the_user_of_run_as_after_opening_its_addresses() {
    let dir = tempfile::tempdir().expect("scratch");
    let config = "[run_as]\nuser = \"65534\"\ngroup = \"65534\"\n";
    fs::write(dir.path().join("postern.toml"), config).expect("written");
    // The user must be able to reach its data directory.
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let root = fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !root {
        let said = postern(dir.path(), &["serve", "--smtp", "127.0.0.1:0", "-c", "postern.toml"]);
        assert_eq!(said.code, 77, "{}", said.err);
        return;
    }
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let pid = server.status()["pid"].as_u64().expect("pid");
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten() {
        let status = fs::read_to_string(task.path().join("status")).expect("readable");
        let ids = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned();
        assert_eq!(ids("Uid:"), "65534\t65534\t65534\t65534");
        assert_eq!(ids("Gid:"), "65534\t65534\t65534\t65534");
        assert_eq!(ids("Groups:"), "65534");
    }
    assert!(server.smtp().send("ann@localhost", BODY).expect("answered").starts_with("250 "));
}

#[test]
fn a_socket_of_the_service_manager_is_served() {
    let dir = tempfile::tempdir().expect("scratch");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("free");
    let addr = listener.local_addr().expect("bound");
    // As systemd does it: descriptor 3, and the pid of whom it is meant for.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=smtp exec \"$0\" serve --door off 3<&0 0</dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_postern")]).stdin(OwnedFd::from(listener));
    let server = Server::spawn_command(dir.path(), &mut command);
    assert_eq!(server.addr("smtp"), addr);
    for _ in 0..20 {
        assert!(server.smtp().send("ann@localhost", BODY).expect("answered").starts_with("250 "));
    }
}

#[test]
fn log_lines_are_json_objects_when_asked_for() {
    let dir = tempfile::tempdir().expect("scratch");
    fs::write(dir.path().join("postern.toml"), "[log]\nformat = \"json\"\n").expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let line = server.wait_for_log("\"ready\"");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["level"], "INFO");
    assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 24), "{line}");
}
