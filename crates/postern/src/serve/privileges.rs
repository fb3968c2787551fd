//! Giving up root after the addresses are open, and pinning to a core for measurements.
//!
//! Runs before any thread is started: the system calls act on the calling thread, and every later
//! thread inherits from it. Users are looked up in /etc/passwd and /etc/group, or given by number.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{CpuSet, sched_setaffinity, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::config::settings::RunAs;
use crate::exit::{Code, Failure};

/// Whom to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    uid: u32,
    gid: u32,
}

/// Finds the user and group of `[run_as]`; `None` when there is none.
///
/// # Errors
/// [`Code::Config`] when there is no such user or group.
pub(crate) fn identity(run_as: &RunAs) -> Result<Option<Identity>, Failure> {
    let Some(user) = &run_as.user else { return Ok(None) };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    find(&passwd, &groups, user, run_as.group.as_deref()).map(Some).map_err(|what| {
        Failure::new(Code::Config, what).cure("create it (`adduser --system --group postern`) or give a number")
    })
}

fn find(passwd: &str, groups: &str, user: &str, group: Option<&str>) -> Result<Identity, String> {
    let entry = |file: &str, name: &str| {
        let line = file.lines().find(|line| line.split(':').next() == Some(name))?;
        let number = |n: usize| line.split(':').nth(n).and_then(|field| field.parse::<u32>().ok());
        Some((number(2)?, number(3)))
    };
    let (uid, primary) = match (entry(passwd, user), user.parse()) {
        (Some((uid, gid)), _) => (uid, gid),
        (None, Ok(uid)) => (uid, None),
        (None, Err(_)) => return Err(format!("run_as.user: there is no user \"{user}\"")),
    };
    let gid = match group {
        Some(group) => match (entry(groups, group), group.parse()) {
            (Some((gid, _)), _) | (None, Ok(gid)) => gid,
            (None, Err(_)) => return Err(format!("run_as.group: there is no group \"{group}\"")),
        },
        None => primary.ok_or_else(|| format!("run_as.group is needed beside the user number {user}"))?,
    };
    Ok(Identity { uid, gid })
}

/// What root has made belongs to the identity; for anybody else it stays theirs.
///
/// # Errors
/// The system's.
pub(crate) fn give(path: &Path, identity: Identity) -> std::io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    chown(path, Some(identity.uid), Some(identity.gid))
}

/// Hands the data directory to the identity and becomes it, for good.
///
/// # Errors
/// [`Code::NoPermission`] when not started as root.
pub(crate) fn become_identity(identity: Identity, data: &Path) -> Result<(), Failure> {
    if geteuid().as_raw() == identity.uid {
        return Ok(());
    }
    chown(data, Some(identity.uid), Some(identity.gid))
        .map_err(|error| Failure::io(Code::Os, data.display(), &error))?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let done = set_thread_groups(&[gid])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid));
    done.map_err(|error| {
        Failure::io(Code::NoPermission, format!("cannot become user {} ([run_as])", identity.uid), &error.into())
            .cure("start as root, or leave [run_as] out and start as that user")
    })
}

/// Whether this is root with no intention to become anybody else.
pub(crate) fn stays_root(run_as: &RunAs) -> bool {
    geteuid().is_root() && run_as.user.is_none()
}

/// Binds this thread, and those it starts, to one core.
///
/// # Errors
/// The system's, for example when there is no such core.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        return Err(Failure::new(Code::Usage, format!("there is no core {core}")));
    }
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| Failure::io(Code::Os, format!("core {core}"), &error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\npostern:x:101:102::/nonexistent:/usr/sbin/nologin\n";
    const GROUPS: &str = "root:x:0:\nmail:x:8:\n";

    fn check(user: &str, group: Option<&str>, expected: Option<(u32, u32)>) {
        let found = find(PASSWD, GROUPS, user, group).ok().map(|identity| (identity.uid, identity.gid));
        assert_eq!(found, expected, "{user} {group:?}");
    }

    #[test]
    fn a_user_is_found_by_name_or_number_with_its_group() {
        check("postern", None, Some((101, 102)));
        check("postern", Some("mail"), Some((101, 8)));
        check("postern", Some("77"), Some((101, 77)));
        check("4242", Some("mail"), Some((4242, 8)));
        check("4242", None, None);
        check("nobody-here", None, None);
        check("postern", Some("nobody-here"), None);
    }
}
