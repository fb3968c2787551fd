//! Counters of a door: written by its runtimes, read by `status`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A set of counters and its snapshot.
macro_rules! counters {
    ($live:ident, $snapshot:ident: $($(#[$doc:meta])* $name:ident,)*) => {
        /// Live counters; each counts from the start of the process unless its words say otherwise.
        #[derive(Debug, Default)]
        pub struct $live { $($(#[$doc])* pub $name: std::sync::atomic::AtomicU64,)* }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $snapshot { $($(#[$doc])* pub $name: u64,)* }

        impl $live {
            /// Reads all counters.
            pub fn snapshot(&self) -> $snapshot {
                $snapshot { $($name: self.$name.load(std::sync::atomic::Ordering::Relaxed),)* }
            }
        }
    };
}
pub(crate) use counters;

counters! {
    DoorStats, DoorStatsSnapshot:
    /// Connections open now.
    open,
    /// Connections accepted.
    accepted,
    /// Connections turned away because the door was full: 421 4.3.2.
    turned_away,
    /// `accept` failed: descriptors, buffers, memory.
    accept_errors,
    /// Messages answered 250 at the receipt.
    queued,
    /// Messages answered 250 at the outcome.
    delivered,
    /// Messages refused by filter or next hop, or for want of room.
    refused,
    /// Handshakes done.
    tls,
    /// Handshakes that failed.
    tls_failed,
    /// Sessions that ran out of time.
    timeouts,
    /// Clients that spoke before they were greeted.
    early_talkers,
    /// Messages whose author the peer of a mail stream may not bring: 550 USE-MX.
    use_mx,
    /// Sessions that panicked: our fault, and confined.
    panics,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
