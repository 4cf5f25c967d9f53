//! Tests that need no root: control planes on loopback, images, names, keys.

mod again;
mod control_plane;
mod image;
mod named;
mod tools;
