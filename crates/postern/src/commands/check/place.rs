//! What is on this machine: data directory, free space, addresses, user, limits.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use super::Findings;
use crate::config::Config;
use crate::config::values::Size;
use crate::control::client::running;

pub(super) fn check_data_dir(config: &Config, findings: &mut Findings) {
    let data = &config.settings.general.data;
    if let Err(failure) = crate::control::refuse_long_path(data) {
        return findings.wrong(failure.what, &failure.cure);
    }
    match first_existing(data) {
        Some(dir) if !writable(dir) => findings.wrong(
            format!("data directory {}: {} is not writable", data.display(), dir.display()),
            "give it to the server's user, or choose another with `data`",
        ),
        Some(dir) => {
            if dir == data {
                findings.good(format!("data directory {} is writable", data.display()));
            } else {
                findings.good(format!("data directory {} will be made", data.display()));
            }
            check_free_space(config, dir, findings);
        }
        None => {
            findings.wrong(format!("data directory {}: no such place", data.display()), "choose another with `data`");
        }
    }
}

fn check_free_space(config: &Config, dir: &Path, findings: &mut Findings) {
    let Ok(stat) = rustix::fs::statvfs(dir) else { return };
    let free = Size(stat.f_bavail.saturating_mul(stat.f_frsize));
    let spool = &config.settings.spool;
    if free.0 < spool.free_high.0 {
        findings.wrong(
            format!("{free} free, less than spool.free_high = {}: mail would be refused with 452", spool.free_high),
            "make room, or lower spool.free_low and spool.free_high",
        );
    } else if free.0 < spool.bytes_max.0 {
        findings.note(
            format!(
                "{free} free, less than spool.bytes_max = {}: the disk is full before the spool is",
                spool.bytes_max
            ),
            "fine: senders are told 452 at spool.free_low",
        );
    } else {
        findings.good(format!("{free} free"));
    }
}

/// The directory itself, or the nearest one above it in which it can be made.
fn first_existing(dir: &Path) -> Option<&Path> {
    let here = Path::new(".");
    dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { here } else { dir }).find(|dir| dir.is_dir())
}

/// `access(2)`: asks without writing.
pub(super) fn writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

pub(super) fn check_addresses(config: &Config, findings: &mut Findings) {
    let ours = running(&config.settings.general.data);
    for addr in config.settings.smtp.listen.0.iter().chain(&config.settings.relay.listen) {
        match TcpListener::bind(addr) {
            Ok(_) => findings.good(format!("{addr} is free")),
            Err(error) => match (error.kind(), ours) {
                (ErrorKind::AddrInUse, Some(pid)) => {
                    findings.note(format!("{addr} is in use, by the server that runs here (pid {pid}) or another"), "");
                }
                (ErrorKind::AddrInUse, None) => findings.wrong(
                    format!("{addr} is in use"),
                    &format!("`ss -ltnp sport = :{}` names the program that has it", addr.port()),
                ),
                (ErrorKind::PermissionDenied, _) => findings.note(
                    format!("{addr} needs a privilege that this user does not have"),
                    "CAP_NET_BIND_SERVICE (see etc/postern.service), socket activation, or root with [run_as]",
                ),
                _ => findings.wrong(format!("{addr}: {error}"), "`ip addr` shows the addresses of this machine"),
            },
        }
    }
    if let Some(addr) = config.settings.admin.listen {
        findings.note(format!("admin at {addr}: not part of this release, nothing will listen there"), "");
    }
    if config.settings.relay.listen.is_some() && config.relay_next_hop.is_none() {
        findings.wrong(
            "the relay listener has nowhere to send mail to: it refuses every domain that is not ours",
            "add next_hop = \"smtp:HOST:PORT\" to [relay]",
        );
    }
}

pub(super) fn check_user_and_limits(config: &Config, findings: &mut Findings) {
    match crate::serve::privileges::identity(&config.settings.run_as) {
        Ok(Some(_)) if !rustix::process::geteuid().is_root() => {
            findings.note("[run_as] takes effect when the server is started as root", "");
        }
        Ok(Some(_)) => findings.good("the user of [run_as] exists"),
        Ok(None) if rustix::process::geteuid().is_root() => {
            findings.note("would stay root, which is never needed", "set [run_as], or start as another user");
        }
        Ok(None) => {}
        Err(failure) => findings.wrong(failure.what, &failure.cure),
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let wanted = config.settings.smtp.connections_max as u64 + crate::serve::DESCRIPTORS_BESIDE;
    if limit < wanted {
        findings.note(
            format!("{limit} open files are allowed, smtp.connections_max needs {wanted}"),
            "raise LimitNOFILE (systemd) or `ulimit -Hn`, or lower smtp.connections_max",
        );
    }
}
