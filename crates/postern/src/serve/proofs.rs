//! Who proves the keys of the postern's peers: the desk, from the configuration, with the pins that are in force.

use postern_identity::keys::{KeyDesk, KeyOptions};
use postern_net::dns::DnsTrust;

use super::peers::DoorPeers;
use crate::config::Config;
use crate::config::values::DnssecSetting;
use crate::exit::{Code, Failure};

/// The desk, when there is a postern to ask it; it follows `peers` from now on. Needs a `LocalSet`.
///
/// # Errors
/// The resolver's, or its trust anchor's.
pub(super) fn start(config: &Config, peers: &DoorPeers) -> Result<Option<KeyDesk>, Failure> {
    let settings = &config.settings;
    if config.door.is_none() {
        return Ok(None);
    }
    let mut pins = peers.follow();
    let options = KeyOptions {
        resolver: settings.dns.resolver,
        trust: trust(&settings.dns.dnssec),
        pinned: pins.borrow_and_update().pins(),
        ..KeyOptions::default()
    };
    let failed = |error| Failure::new(Code::Os, format!("proving keys: {error}")).cure("see [dns]");
    let desk = KeyDesk::start(options).map_err(failed)?;
    let follower = desk.clone();
    tokio::task::spawn_local(async move {
        while pins.changed().await.is_ok() {
            let now = pins.borrow_and_update().pins();
            follower.set_pinned(now);
        }
    });
    Ok(Some(desk))
}

/// As the resolver takes it; also for the side that sends.
pub(super) fn trust(setting: &DnssecSetting) -> DnsTrust {
    match setting {
        DnssecSetting::Off => DnsTrust::None,
        DnssecSetting::Root => DnsTrust::BuiltIn,
        DnssecSetting::File(file) => DnsTrust::Anchor(file.clone()),
    }
}
