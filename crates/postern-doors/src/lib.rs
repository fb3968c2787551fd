//! postern-doors
