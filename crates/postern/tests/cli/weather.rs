//! Modes by themselves: a domain whose next hop is away collects, says why, stays so over
//! `kill -9`, and comes back when its mail has left.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

use super::harness::{BODY, PATIENCE, Server};

/// A next hop that is away until it serves: its address is held meanwhile, so that nobody else gets it.
struct Hop(OwnedFd);

impl Hop {
    fn away() -> Self {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        Self(socket)
    }

    fn at(&self) -> SocketAddr {
        getsockname(&self.0).expect("bound").try_into().expect("IPv4")
    }

    /// Takes everything from now on.
    fn serve(self) {
        listen(&self.0, 128).expect("listening");
        let listener = TcpListener::from(self.0);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || take_all(stream));
            }
        });
    }
}

fn take_all(stream: TcpStream) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut in_data = false;
    out.write_all(b"220 hop LMTP\r\n").ok()?;
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let reply: &[u8] = match line.get(..4).unwrap_or(&line).to_uppercase().as_str() {
            _ if in_data && line != "." => continue,
            "DATA" => b"354 go\r\n",
            "QUIT" => b"221 bye\r\n",
            _ => b"250 2.0.0 ok\r\n",
        };
        in_data = line.eq_ignore_ascii_case("DATA");
        out.write_all(reply).ok()?;
    }
    None
}

fn config(dir: &Path, hop: SocketAddr) -> String {
    let text = format!(
        "deliver = \"lmtp:{hop}\"\n[drain]\nretry_first = \"1s\"\nretry_max = \"1s\"\n\
         [auto]\nhop_down = \"1s\"\nstorm_min = \"2s\"\ncalm_after = \"1s\"\n"
    );
    let path = dir.join("postern.toml");
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("text").to_owned()
}

/// Asks until the answer has these words; each answer takes the server some milliseconds.
fn wait_until_said(server: &Server, args: &[&str], words: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let said = server.command(args);
        if said.out.contains(words) {
            return said.out;
        }
        assert!(Instant::now() < until, "{args:?} never said {words:?}: {}{}", said.out, said.err);
    }
}

#[test]
fn a_domain_whose_next_hop_is_away_collects_by_itself_over_kill_9_and_comes_back_when_it_is_drained() {
    let dir = tempfile::tempdir().expect("scratch");
    let hop = Hop::away();
    let config = config(dir.path(), hop.at());
    let mut server = Server::start(dir.path(), &["-c", &config]);
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
    wait_until_said(&server, &["mode"], "localhost: auto (collect: its next hop has been out of reach for");
    let status = wait_until_said(&server, &["status"], "nothing leaves just now");
    assert!(status.contains("localhost: collect: its next hop"), "{status}");
    server.kill();
    let server = Server::start(dir.path(), &["-c", &config]);
    let modes = server.command(&["mode"]).out;
    assert!(modes.contains("localhost: auto (collect: "), "the storm is not over: {modes}");
    hop.serve();
    server.wait_until_drained();
    wait_until_said(&server, &["mode"], "all domains: auto (through)");
    let until = Instant::now() + PATIENCE;
    while server.command(&["mode"]).out.contains("collect") {
        assert!(Instant::now() < until, "it does not come back: {}", server.status());
    }
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.contains("Delivered"), "the calm: answered at the outcome: {reply}");
}

#[test]
fn beyond_the_promise_nothing_more_is_taken_of_the_lowest_class() {
    let dir = tempfile::tempdir().expect("scratch");
    let hop = Hop::away();
    let text = std::fs::read_to_string(config(dir.path(), hop.at())).expect("text") + "promised_delay = \"1s\"\n";
    std::fs::write(dir.path().join("postern.toml"), text).expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250"), "{reply}");
    // Nothing can leave for longer than was promised.
    let until = Instant::now() + PATIENCE;
    while server.status()["weather"]["room"]["new"] != 0 {
        assert!(Instant::now() < until, "there is room still: {}", server.status()["weather"]);
    }
    wait_until_said(&server, &["mode"], "localhost: auto (collect: ");
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("451 4.3.2"), "{reply}");
    // The disk is empty: friends are buffered however long it takes.
    server.command(&["peer", "add", "127.0.0.0/8"]);
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
}

#[test]
fn the_status_says_what_dns_was_asked_about_strangers() {
    let dir = tempfile::tempdir().expect("scratch");
    let text = "[smtp]\nlisten = \"127.0.0.1:0\"\n[dns]\nresolver = \"127.0.0.1:9\"\n[dnsbl.\"list.example\"]\n";
    std::fs::write(dir.path().join("postern.toml"), text).expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let identity = server.status()["identity"].clone();
    assert_eq!((&identity["asked"], &identity["unaffordable"]["red"]), (&0.into(), &0.into()), "{identity}");
    assert_eq!((&identity["lists"][0]["zone"], &identity["lists"][0]["off"]), (&"list.example".into(), &false.into()));
    let dir = tempfile::tempdir().expect("scratch");
    std::fs::write(dir.path().join("postern.toml"), "[dns]\nidentity = false\n").expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    assert!(server.status()["identity"].is_null());
}

#[test]
fn in_the_red_every_domain_collects_and_afterwards_none_does() {
    let dir = tempfile::tempdir().expect("scratch");
    // The silent ones are friends: strangers would be sent away while the test looks.
    let text = "[smtp]\nconnections_max = 20\n[trust]\npinned = [\"127.0.0.0/8\"]\n[auto]\nstorm_min = \"1s\"\ncalm_after = \"1s\"\n";
    std::fs::write(dir.path().join("postern.toml"), text).expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let mut held: Vec<_> = (0..18).map(|_| TcpStream::connect(server.addr("smtp")).expect("connected")).collect();
    wait_until_said(&server, &["status"], "pressure     red: connections");
    wait_until_said(&server, &["mode"], "all domains: auto (collect: pressure: connections)");
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250 2.0.0 Queued"), "at the receipt: {reply}");
    held.clear();
    wait_until_said(&server, &["mode"], "all domains: auto (through)\n");
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.contains("Delivered"), "at the outcome: {reply}");
}

#[test]
fn a_configured_mode_and_a_command_stand_above_the_weather() {
    let dir = tempfile::tempdir().expect("scratch");
    let hop = Hop::away();
    let config = config(dir.path(), hop.at());
    let server = Server::start(dir.path(), &["-c", &config, "--mode", "through"]);
    let reply = server.smtp().send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250"), "{reply}");
    server.wait_for_log("localhost (auto): collect");
    let modes = server.command(&["mode"]).out;
    assert_eq!(modes, "all domains: through\n");
    server.command(&["mode", "hold", "localhost"]);
    let modes = server.command(&["mode"]).out;
    assert_eq!(modes, "all domains: through\nlocalhost: hold\n");
}
