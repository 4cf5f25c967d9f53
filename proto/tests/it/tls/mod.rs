//! Mutual TLS over real sockets.

mod authorisation;
mod folder;
mod handshakes;
mod identities;
mod pki;
mod rotation;
mod world;
