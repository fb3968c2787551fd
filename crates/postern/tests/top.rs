//! `postern top` against the real server.

#[path = "cli/harness.rs"]
mod harness;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use harness::{BODY, Server, postern};

#[test]
fn one_frame_shows_doors_classes_mode_spool_and_drain() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["--mode", "hold"]);
    let mut client = server.smtp();
    let reply = client.send("ann@localhost", BODY).expect("answered");
    assert!(reply.starts_with("250"), "{reply}");
    let said = server.command(&["top", "--once"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let door = format!("smtp {}  1 open, 0.0 connects/s, 0.0 taken/s", server.addr("smtp"));
    for words in [
        &door,
        "\npressure ",
        "\npinned           0        0 B        0.0         0.0        0.0          0\n",
        "\nnew              1 ",
        "\nmode       all domains hold (set)\n",
        "\nspool      1 messages, 0 held, 32 B; 0.0 commits/s of - each; ",
        "\ndrain      0.0 delivered/s, 0.0 deferred/s, 0.0 refused/s; 0 under way\n",
        "\nsteering   ",
    ] {
        assert!(said.out.contains(words), "{words:?} is not in\n{}", said.out);
    }
}

#[test]
fn without_a_server_one_frame_is_an_error_and_the_lines_wait_for_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = postern(dir.path(), &["top", "--once"]);
    assert_eq!(said.code, 69, "{}", said.err);
    assert!(said.err.contains("no server is running"), "{}", said.err);
    let mut top = Command::new(env!("CARGO_BIN_EXE_postern"))
        .arg("top")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(top.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.next().expect("a line").starts_with("no answer: no server is running"));
    let server = Server::start(dir.path(), &[]);
    assert!(lines.any(|line| line.starts_with("open 0 connects/s ")), "it sees the server {}", server.ready);
    drop(server);
    assert!(lines.any(|line| line.starts_with("no answer: ")), "and that it has gone");
    let ended = Command::new("kill").args(["-TERM", &top.id().to_string()]).status().expect("kill");
    assert!(ended.success());
    assert_eq!(top.wait().expect("ends").code(), Some(0), "a signal ends it in good order");
}
