//! Asking a next hop whether a recipient exists: MAIL, RCPT, RSET, no message.
//!
//! Owns the verdict; caching it, and what to answer meanwhile, is the door's.

use std::time::Duration;

use postern_proto::address::Address;
use postern_proto::client::RecipientResult;
use postern_proto::envelope::{Notify, Recipient};
use postern_proto::reply::{Enhanced, Reply};

use crate::client::{ClientAddress, Connector, Protocol, Target};

/// What a next hop thinks of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalloutVerdict {
    /// RCPT was accepted.
    Exists,
    /// 550 with 5.1.1: no such mailbox. Nothing else is evidence of absence: 550 alone is also how
    /// hops say "blocked", "relay denied" and "over quota", and would be cached as "unknown user".
    Unknown(Reply),
    /// Could not be found out; the words are for the log.
    Unsure(String),
}

/// Asks once, on a connection of its own, as `<>`, which every server must take (RFC 5321 section
/// 6.1) and which cannot cause a bounce. With `proxy` the connection begins with a PROXY header
/// that says LOCAL.
///
/// The caller bounds the whole with a timeout; dropping the future closes the connection.
pub async fn check(
    connector: &Connector,
    target: &Target,
    protocol: Protocol,
    proxy: bool,
    address: &Address,
) -> CalloutVerdict {
    let client_address = if proxy { ClientAddress::ProxyV2 } else { ClientAddress::None };
    let mut connection = match connector.connect(target, protocol, client_address, None).await {
        Ok(connection) => connection,
        Err(failure) => return CalloutVerdict::Unsure(failure.to_string()),
    };
    let recipient = Recipient { address: address.clone(), original: None, notify: Notify::default() };
    let verdict = match connection.probe(None, &[recipient]).await {
        Ok(results) => verdict(results.into_iter().next()),
        // It answered RCPT and hung up on RSET: the answer stands.
        Err(error) => match error.decided.into_iter().next().flatten() {
            Some(result) => verdict(Some(result)),
            None => CalloutVerdict::Unsure(error.failure.to_string()),
        },
    };
    // Whoever waits for the verdict need not wait for a goodbye.
    tokio::spawn(tokio::time::timeout(GOODBYE_MAX, connection.quit()));
    verdict
}

/// For the reply to QUIT.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

fn verdict(result: Option<RecipientResult>) -> CalloutVerdict {
    match result {
        Some(RecipientResult::Delivered(_)) => CalloutVerdict::Exists,
        Some(RecipientResult::Refused(reply)) if reply.code == 550 && reply.enhanced == Some(Enhanced(5, 1, 1)) => {
            CalloutVerdict::Unknown(reply)
        }
        Some(RecipientResult::Refused(reply) | RecipientResult::Deferred(reply)) => {
            CalloutVerdict::Unsure(reply.to_string())
        }
        None => CalloutVerdict::Unsure("no answer".to_owned()),
    }
}

#[cfg(test)]
mod tests;
