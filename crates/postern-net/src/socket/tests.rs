//! Listeners and the reserve, on sockets of this machine.

use std::io::Read;
use std::net::TcpStream;

use super::*;

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

#[test]
fn listeners_share_a_port_only_when_told_to() {
    let first = listen(any_port(), BACKLOG, true).expect("a port");
    let addr = first.local_addr().expect("an address");
    listen(addr, BACKLOG, true).expect("the same port again");
    let error = listen(addr, BACKLOG, false).expect_err("taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(first.accept().expect_err("nobody there").kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_socket_file_is_replaced_only_when_nobody_listens() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let first = listen_unix(&path, 0o600).expect("a socket");
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    assert_eq!(listen_unix(&path, 0o600).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    drop(first);
    listen_unix(&path, 0o660).expect("the abandoned file is replaced");
}

#[test]
fn a_client_is_turned_away_with_words() {
    let listener = listen(any_port(), BACKLOG, false).expect("a port");
    let mut reserve = ReserveDescriptor::new().expect("a descriptor");
    assert!(!reserve.turn_away(&listener, b"421 full\r\n").expect("nobody waits"));
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    assert!(reserve.turn_away(&listener, b"421 full\r\n").expect("one waits"));
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("words, then the end");
    assert_eq!(heard, "421 full\r\n");
}

#[test]
fn the_reserve_is_for_lack_of_descriptors_only() {
    let error = |errno: Errno| io::Error::from(errno);
    assert!(ReserveDescriptor::is_for(&error(Errno::MFILE)) && ReserveDescriptor::is_for(&error(Errno::NFILE)));
    assert!(
        !ReserveDescriptor::is_for(&error(Errno::NOBUFS)) && !ReserveDescriptor::is_for(&error(Errno::CONNABORTED))
    );
}

#[test]
fn the_limit_of_open_files_is_raised_to_the_hard_one() {
    let raised = raise_nofile_limit().expect("a limit");
    assert_eq!(Some(raised), getrlimit(Resource::Nofile).maximum.or(Some(u64::MAX)));
}
