//! The system calls of steering: the only `unsafe` of this crate.
//!
//! Neither rustix nor socket2 has these socket options, and neither has a general `setsockopt` or `getsockopt`;
//! so they are called here, through libc, and nowhere else. Nothing here decides anything.

#![expect(unsafe_code, reason = "socket options that no library wraps")]

use std::os::fd::AsFd;

use super::SteeringError;
use super::program::Program;

/// Gives the group of this socket a program, in the place of any other.
#[cfg(target_os = "linux")]
pub(super) fn attach(socket: &impl AsFd, program: &Program) -> Result<(), SteeringError> {
    let length = u16::try_from(program.len())
        .map_err(|_| SteeringError::Refused(std::io::Error::from(std::io::ErrorKind::FileTooLarge)))?;
    let mut filter: Vec<libc::sock_filter> = program
        .instructions()
        .iter()
        .map(|one| libc::sock_filter { code: one.code, jt: one.if_true, jf: one.if_false, k: one.k })
        .collect();
    let argument = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: the option takes a `struct sock_fprog`, whose size is given. It points to `length`
    // instructions in `filter`, which outlives the call; the kernel only reads them, checks them
    // itself, and keeps a copy.
    set(socket, libc::SO_ATTACH_REUSEPORT_CBPF, &argument)
}

/// Takes the program away.
#[cfg(target_os = "linux")]
pub(super) fn detach(socket: &impl AsFd) -> Result<(), SteeringError> {
    let unused: libc::c_int = 0;
    set(socket, libc::SO_DETACH_REUSEPORT_BPF, &unused)
}

#[cfg(target_os = "linux")]
fn set<T>(socket: &impl AsFd, option: libc::c_int, argument: &T) -> Result<(), SteeringError> {
    use std::os::fd::AsRawFd;

    let size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `socket` is borrowed, so the descriptor is open; `argument` is a live value of the
    // size given. What it points to, if anything, the callers answer for.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(argument).cast::<libc::c_void>(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(super::sorted(std::io::Error::last_os_error())) }
}

/// Packets that found this socket's queue full, since it was opened (`SK_MEMINFO_DROPS`, Linux 4.12; a process that
/// may not read `/proc` can ask for it as well). The kernel counts in 32 bits.
#[cfg(target_os = "linux")]
pub(super) fn drops(socket: &impl AsFd) -> std::io::Result<u32> {
    use std::os::fd::AsRawFd;

    const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
    let mut counts = [0_u32; DROPS + 1];
    let mut size = libc::socklen_t::try_from(size_of_val(&counts)).unwrap_or(0);
    // SAFETY: `socket` is borrowed, so the descriptor is open; the kernel writes `size` octets at most, which is the
    // room that `counts` has, and any octets are valid in it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            counts.as_mut_ptr().cast::<libc::c_void>(),
            &raw mut size,
        )
    };
    if result == 0 { Ok(counts[DROPS]) } else { Err(std::io::Error::last_os_error()) }
}

/// Elsewhere there is nothing like it.
#[cfg(not(target_os = "linux"))]
pub(super) fn drops(_socket: &impl AsFd) -> std::io::Result<u32> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Elsewhere there is nothing like it.
#[cfg(not(target_os = "linux"))]
pub(super) fn attach(_socket: &impl AsFd, _program: &Program) -> Result<(), SteeringError> {
    Err(SteeringError::Unsupported)
}

/// Elsewhere there is nothing like it.
#[cfg(not(target_os = "linux"))]
pub(super) fn detach(_socket: &impl AsFd) -> Result<(), SteeringError> {
    Err(SteeringError::Unsupported)
}
