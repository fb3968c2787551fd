//! What a second was like for the gate: told by the socket, which is the only one that can see it.

/// What a second was like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Share of a core that was used for reading and deciding, 0 to 1. What the rest of the thread will do with what was let
    /// in is added by the gate itself.
    pub cpu: f64,
    /// What the kernel dropped since the start: shown, and of no effect.
    pub kernel_drops: KernelDrops,
}

/// What never reached the gate, by queue: beside each figure of the gate's own, it says what the figure is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelDrops {
    /// Short headers and Handshake packets.
    pub established: u32,
    /// Initials with a ticket.
    pub ticket: u32,
    /// Initials with a cookie.
    pub cookie: u32,
    /// HELLOs, and everything else.
    pub rest: u32,
}
