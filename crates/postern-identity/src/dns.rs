//! The name server, through hickory.
use std::net::SocketAddr;
use std::time::Duration;
pub(crate) struct Dns;
impl Dns {
    pub(crate) fn new(_server: Option<SocketAddr>, _lookup: Duration) -> Result<Self, String> {
        Ok(Self)
    }
}
