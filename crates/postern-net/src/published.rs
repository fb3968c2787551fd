//! Whether what a domain has published would make senders refuse this server.
