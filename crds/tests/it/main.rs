//! The resource's tests: good manifests, tables of bad ones, a real API server, and hostile bytes.

mod api_server;
mod bad;
mod generated;
mod good;
mod hostile;
mod tables;
