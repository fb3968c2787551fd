//! What happens when the process runs out of descriptors. A binary of its own: the limit is the
//! process's.

mod stage;

use postern_proto::mode::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stage::{Client, Door, PATIENCE};

#[test]
fn a_door_without_descriptors_says_421_keeps_its_clients_and_recovers() {
    let door = Door::start(Mode::Collect);
    let mut friend = door.connect();
    friend.expect("220 ");
    // The spool opens its first segment now; the program keeps descriptors back for the later ones.
    assert!(friend.send_message("Subject: x\r\n\r\n").starts_with("250 2.0.0 Queued"));
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 21), maximum: limit.maximum }).unwrap();
    // Each loopback client takes two descriptors of this process, its own and the door's: the
    // clients connect until they themselves cannot.
    let mut crowd = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect(door.addr()) {
        crowd.push(stream);
        assert!(crowd.len() < 64, "the limit does not hold");
    }
    let reply = friend.send_message("Subject: x\r\n\r\n");
    assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
    let until = std::time::Instant::now() + PATIENCE;
    while door.stats().accept_errors == 0 {
        assert!(std::time::Instant::now() < until, "the test does not reach the limit: {:?}", door.stats());
        std::thread::yield_now();
    }
    crowd.clear();
    setrlimit(Resource::Nofile, limit).unwrap();
    for _ in 0..200 {
        let mut late = Client::connect(door.addr());
        if late.line().starts_with("220 ") {
            return;
        }
    }
    panic!("the door did not recover");
}
