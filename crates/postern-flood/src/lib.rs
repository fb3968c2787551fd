//! Hostile and friendly crowds against an SMTP server on loopback or in a namespace of one's own.
