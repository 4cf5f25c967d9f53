//! The resource's tests: good manifests, a table of bad ones with their messages, and hostile bytes.

mod bad;
mod good;
mod hostile;
