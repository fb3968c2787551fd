//! Every limit of the wire in one place: number, reason, and what happens when it is reached.

/// Local part, RFC 5321 section 4.5.3.1.1. Longer: 501 5.1.3.
pub const LOCAL_PART_BYTES_MAX: usize = 64;
/// Domain, RFC 5321 section 4.5.3.1.2. Longer: 501 5.1.3.
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Path with its brackets, RFC 5321 section 4.5.3.1.3. Longer: 501 5.1.3.
pub const PATH_BYTES_MAX: usize = 256;
