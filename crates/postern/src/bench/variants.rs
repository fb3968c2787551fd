//! What is measured: one line each.

/// One measurement.
#[derive(Debug)]
pub(super) struct Variant {
    /// As it is printed; `--only` looks for words in it.
    pub(super) name: &'static str,
    /// Messages on one connection.
    pub(super) per_connection: u32,
    /// Octets of a body.
    pub(super) body_bytes: u32,
    /// STARTTLS on every connection.
    pub(super) starttls: bool,
    /// Names in a recipient list; 0 takes any.
    pub(super) recipients: u32,
    /// Added to each flush: a slower disk.
    pub(super) flush_delay_ms: u64,
    /// Slow ones send fewer messages.
    pub(super) divide_messages: u32,
}

const PLAIN: Variant = Variant {
    name: "1 a connection",
    per_connection: 1,
    body_bytes: 4096,
    starttls: false,
    recipients: 0,
    flush_delay_ms: 0,
    divide_messages: 1,
};

/// The table, in the order in which it is printed.
pub(super) const VARIANTS: [Variant; 10] = [
    PLAIN,
    Variant { name: "20 a connection", per_connection: 20, ..PLAIN },
    Variant { name: "1 a connection, recipient list", recipients: 10_000, ..PLAIN },
    Variant { name: "20 a connection, recipient list", per_connection: 20, recipients: 10_000, ..PLAIN },
    Variant { name: "1 a connection, STARTTLS", starttls: true, divide_messages: 4, ..PLAIN },
    Variant { name: "20 a connection, STARTTLS", per_connection: 20, starttls: true, ..PLAIN },
    Variant { name: "1 a connection, 50 KiB", body_bytes: 50 * 1024, divide_messages: 4, ..PLAIN },
    Variant { name: "20 a connection, 50 KiB", per_connection: 20, body_bytes: 50 * 1024, divide_messages: 4, ..PLAIN },
    Variant { name: "1 a connection, 10 ms flush", flush_delay_ms: 10, divide_messages: 2, ..PLAIN },
    Variant {
        name: "20 a connection, 10 ms flush",
        per_connection: 20,
        flush_delay_ms: 10,
        divide_messages: 2,
        ..PLAIN
    },
];
