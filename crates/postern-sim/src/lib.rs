//! postern-sim
