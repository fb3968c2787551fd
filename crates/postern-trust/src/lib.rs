//! Who is let in first: evidence, the trust book, classes, pressure, admission, modes. Pure: bytes,
//! integers and `now` come in, decisions go out; no I/O, no clock.
