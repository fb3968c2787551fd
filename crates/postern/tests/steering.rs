//! Accept queues of their own for the known, seen from outside: the server is stopped (SIGSTOP),
//! clients connect, and the kernel's table says in which queue each waits. Then it goes on, and
//! everybody is greeted.

#![cfg(target_os = "linux")]

#[path = "cli/harness.rs"]
mod harness;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use harness::{PATIENCE, Server, free_port};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::Value;

const CONFIG: &str = "threads = 2\n[trust]\npinned = [\"127.9.0.0/16\"]\n";
const KNOWN: [u8; 2] = [127, 9];
const STRANGERS: [u8; 2] = [127, 8];
/// From each class.
const CLIENTS: u8 = 12;

fn start(dir: &Path, smtp: &str) -> Server {
    fs::write(dir.join("postern.toml"), CONFIG).expect("written");
    Server::spawn(dir, &["--smtp", smtp, "--deliver", "none", "-c", "postern.toml"])
}

fn steering(server: &Server) -> Value {
    server.status()["steering"][0].clone()
}

/// Connects from `network`.N.1.
fn client(network: [u8; 2], n: u8, addr: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from((Ipv4Addr::new(network[0], network[1], n, 1), 0))).expect("bound");
    connect(&socket, &addr).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

/// How many wait in each of the server's queues, in the order in which they were opened: the
/// descriptors of the process tell the order, the kernel's table the length.
fn queues(pid: &Value, addr: SocketAddr) -> Vec<u32> {
    let ending = format!(":{:04X}", addr.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let mut waiting = HashMap::new();
    for line in table.lines() {
        let column: Vec<&str> = line.split_whitespace().collect();
        // Local address; 0A is LISTEN; tx_queue:rx_queue, where a listener's second is its line.
        if column[1].ends_with(&ending) && column[3] == "0A" {
            let length = column[4].split_once(':').and_then(|(_, length)| u32::from_str_radix(length, 16).ok());
            waiting.insert(format!("socket:[{}]", column[9]), length.expect("a number"));
        }
    }
    let mut descriptors: Vec<u32> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    descriptors.sort_unstable();
    let link = |fd: &u32| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
    // Each once: some are open twice.
    descriptors.iter().filter_map(|fd| waiting.remove(link(fd)?.to_str()?)).collect()
}

/// Stops the server. The signal finds one thread at once and the others by and by: on a busy machine they go on for a
/// while, and take who connects.
fn stop(server: &Server) {
    let pid = server.status()["pid"].clone();
    server.signal("-STOP");
    let until = Instant::now() + PATIENCE;
    let stands = |thread: PathBuf| {
        let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
        // The state stands behind the name, which is in brackets and may be anything.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    while !fs::read_dir(format!("/proc/{pid}/task")).expect("the process").flatten().all(|thread| stands(thread.path()))
    {
        assert!(Instant::now() < until, "the server does not stop");
        std::thread::yield_now();
    }
}

/// Stops the server, connects, counts, lets it go on, and hears every greeting.
fn check_queues(server: &Server) {
    let (addr, pid) = (server.addr("smtp"), server.status()["pid"].clone());
    stop(server);
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.extend([client(KNOWN, n, addr), client(STRANGERS, n, addr)]);
    }
    let queues = queues(&pid, addr);
    server.signal("-CONT");
    assert_eq!(queues.len(), 4, "two for each of two threads");
    let lengths = (queues[..2].iter().sum::<u32>(), queues[2..].iter().sum::<u32>());
    assert_eq!(lengths, (CLIENTS.into(), CLIENTS.into()), "strangers and known in {queues:?}");
    for client in clients {
        let from = client.local_addr().expect("an address");
        let mut greeting = String::new();
        BufReader::new(client).read_line(&mut greeting).unwrap_or_else(|error| panic!("{from}: {error}"));
        assert!(greeting.starts_with("220 "), "{from}: {greeting}");
    }
}

#[test]
fn the_known_wait_in_queues_of_their_own_and_do_again_after_kill_9() {
    let dir = tempfile::tempdir().expect("scratch");
    let smtp = format!("127.0.0.1:{}", free_port());
    let mut server = start(dir.path(), &smtp);
    for _ in 0..3 {
        let status = steering(&server);
        assert_eq!((&status["active"], &status["left_out"]), (&Value::Bool(true), &0.into()), "{status}");
        assert!(status["networks"].as_u64() >= Some(1) && status["why"].is_null(), "{status}");
        check_queues(&server);
        // With clients in every queue of the process that dies.
        stop(&server);
        let _left_behind: Vec<TcpStream> =
            (0..CLIENTS).map(|n| client(if n % 2 == 0 { KNOWN } else { STRANGERS }, n, server.addr("smtp"))).collect();
        server.kill();
        server = start(dir.path(), &smtp);
    }
    check_queues(&server);
}

#[test]
fn a_socket_from_the_service_manager_is_plain_and_status_says_so() {
    let dir = tempfile::tempdir().expect("scratch");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    fs::write(dir.path().join("postern.toml"), CONFIG).expect("written");
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=smtp exec \"$0\" serve --deliver none -c postern.toml 3<&0 0</dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_postern")]).stdin(std::os::fd::OwnedFd::from(listener));
    let server = Server::spawn_command(dir.path(), &mut command);
    let status = steering(&server);
    assert_eq!(status["active"], false, "{status}");
    assert!(status["why"].as_str().is_some_and(|why| why.contains("LISTEN_FDS")), "{status}");
    for network in [KNOWN, STRANGERS] {
        let mut greeting = String::new();
        BufReader::new(client(network, 1, server.addr("smtp"))).read_line(&mut greeting).expect("greeted");
        assert!(greeting.starts_with("220 "), "{greeting}");
    }
}
