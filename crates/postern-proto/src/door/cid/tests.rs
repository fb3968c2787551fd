//! What `cid` promises.
