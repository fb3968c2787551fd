//! DNS with a budget, and the MTA-STS policy over HTTPS.
