//! postern-drain
