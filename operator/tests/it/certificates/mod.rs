//! Certificates: made, checked, renewed, and their authorities replaced, all in a time that the test tells.

mod authorities;
mod handshake;
mod life;
mod secrets;
mod world;
