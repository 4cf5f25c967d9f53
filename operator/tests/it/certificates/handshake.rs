use super::world::policy;
use operator::certificates::Authorities;
use proto::tls::{Caller, Deployment, Expected, Identity, Security};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tonic::transport::Endpoint;
use tonic::transport::server::Connected;

/// Bound of every wait.
const WAIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_is_issued_opens_connections_between_all_roles() {
    let authorities = Authorities::generate(&policy(), SystemTime::now()).unwrap();
    // The longest names that there are.
    let long = "a".repeat(63);
    let deployment = Deployment::new(&long, &long).unwrap();
    let identities =
        [Identity::Agent(deployment.clone()), Identity::Router(deployment), Identity::Operator];
    let secured = identities.each_ref().map(|identity| {
        let leaf = authorities.issue(identity, &policy(), SystemTime::now()).unwrap();
        Security::from_pem(leaf.pem("test", &authorities), identity.role()).unwrap()
    });
    for (server, security) in identities.iter().zip(&secured) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = security.incoming(listener);
        for (caller, client) in identities.iter().zip(&secured) {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            let expected = Expected::Named(server.clone());
            let meeting = async {
                let (connected, accepted) =
                    tokio::join!(client.connect(&endpoint, &expected), incoming.next());
                connected.unwrap();
                accepted.unwrap().unwrap().connect_info()
            };
            let found = tokio::time::timeout(WAIT, meeting).await.unwrap();
            assert_eq!(found, Caller::Known(caller.clone()));
        }
    }
}
