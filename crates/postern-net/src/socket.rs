//! Listeners, the reserve descriptor and the limit of open files.
//!
//! Owns socket options, not policy: who is accepted, and what is said to whom, the doors decide.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that the kernel completes and keeps for us (it cuts this to `net.core.somaxconn`,
/// 4096 by default). In a burst they wait here instead of being dropped and retried a second later.
pub const BACKLOG: i32 = 4096;

/// Opens a listener: non-blocking, `SO_REUSEADDR`, close-on-exec, IPv6 without IPv4. With
/// `reuse_port` several sockets share the address and the kernel spreads connections over them.
///
/// # Errors
/// The system's, as they are.
pub fn listen(addr: SocketAddr, backlog: i32, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if addr.is_ipv6() {
        // `[::]:25` beside `0.0.0.0:25` must not be "address in use".
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Opens a Unix socket with the given file mode, replacing a socket file that nobody listens on.
/// Non-blocking. The mode stands before the first client can connect.
///
/// # Errors
/// The system's; [`io::ErrorKind::AddrInUse`] when somebody does listen.
pub fn listen_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let addr = SockAddr::unix(path)?;
    match socket.bind(&addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
            fs::remove_file(path)?;
            socket.bind(&addr)?;
        }
        result => result?,
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A socket file whose listener is gone, as after a crash.
fn is_abandoned(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A descriptor kept back so that a client can be told 421 when there are no others left.
///
/// Without it `accept` fails, the connection stays in the queue, the socket stays readable and the
/// loop spins at 100 % CPU while clients wait for a greeting that cannot come.
#[derive(Debug)]
pub struct ReserveDescriptor {
    held: Option<File>,
}

impl ReserveDescriptor {
    /// Takes one.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self { held: Some(open_null()?) })
    }

    /// Whether this error of `accept` is the one that the reserve is for: no descriptor left to the
    /// process (EMFILE) or to the system (ENFILE).
    pub fn is_for(error: &io::Error) -> bool {
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
    }

    /// Gives the reserve up, accepts one connection, writes `farewell`, closes it and takes the
    /// reserve again. Never blocks when `listener` does not. `Ok(false)`: nobody was waiting, or the
    /// reserve itself could not be had (another thread was faster): wait a moment.
    ///
    /// # Errors
    /// Those of `accept`, other than the ones above.
    pub fn turn_away(&mut self, listener: &TcpListener, farewell: &[u8]) -> io::Result<bool> {
        self.held = None;
        let turned_away = match listener.accept() {
            Ok((mut stream, _)) => {
                // A fresh connection's send buffer takes one line; when it does not, closing says it.
                let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(farewell));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || Self::is_for(&error) => Ok(false),
            Err(error) => Err(error),
        };
        self.held = open_null().ok();
        turned_away
    }
}

fn open_null() -> io::Result<File> {
    File::open("/dev/null")
}

/// Raises the number of files that may be open to the hard limit; returns the limit now in force.
///
/// # Errors
/// The system's.
pub fn raise_nofile_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
