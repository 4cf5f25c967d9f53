//! Boyle's gRPC interface: the generated messages and services, and the exchange's tensor codec.
//!
//! Knows nothing of models or plans; every crate that talks over the network depends on it.

pub mod exchange;
pub mod limits;
pub mod refusal;
pub mod tls;

/// Every method of every service, as `/package.Service/Method`.
pub const METHODS: &[&str] = include!(concat!(env!("BOYLE_GENERATED"), "/methods.rs"));

/// Messages and services of the package `boyle.v1`.
#[allow(
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    rust_2018_idioms,
    unused_qualifications
)]
pub mod v1 {
    include!(concat!(env!("BOYLE_GENERATED"), "/boyle.v1.rs"));
}
