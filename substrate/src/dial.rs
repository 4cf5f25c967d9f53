//! Connections to agents and routers, as the deployment's security has it.

use proto::tls::{Deployment, Expected, Identity, Role, Security};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// A connection inside one site takes milliseconds; a second means that nobody is there.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens channels to the agents and routers of one deployment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    security: Security,
    agents: Expected,
    routers: Expected,
}

impl Dialer {
    /// Without TLS: for agents and routers on this machine.
    pub fn plaintext() -> Self {
        // Without TLS nobody is expected in particular.
        let anybody = Expected::Named(Identity::Operator);
        Self { security: Security::Plaintext, agents: anybody.clone(), routers: anybody }
    }

    /// Those who answer must prove that they are the deployment's.
    pub fn new(security: Security, deployment: &Deployment) -> Self {
        let of = |role| Expected::Named(Identity::of(role, deployment.clone()));
        Self { security, agents: of(Role::Agent), routers: of(Role::Router) }
    }

    /// A channel to an agent at host:port that connects on first use.
    ///
    /// # Errors
    /// When the address is not a valid authority.
    pub fn agent(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        self.channel(address, &self.agents)
    }

    /// A channel to a router's control service at host:port that connects on first use.
    ///
    /// # Errors
    /// When the address is not a valid authority.
    pub fn router(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        self.channel(address, &self.routers)
    }

    fn channel(
        &self,
        address: &str,
        expected: &Expected,
    ) -> Result<Channel, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        Ok(self.security.lazy(&endpoint, expected))
    }
}
