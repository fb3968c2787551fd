//! The postern against peers that take more than they may, leave in the middle, or mean harm: real gate, real QUIC, real
//! spool. Its peers are made here, because the client of `postern-net` does none of this.

#[path = "../stage/mod.rs"]
mod blunt;
mod client;
mod doorstep;
mod frames;
mod inside;
mod life;
mod mail;
mod stage;
mod tampered;
mod weight;
