//! Agents and operator behind mutual TLS; the API stays plain.

use crate::agent::ScriptedAgent;
use crate::credentials::Authority;
use crate::world::{World, chat_body, patience, reasoning_answer};
use proto::tls::{Expected, Security};
use proto::v1::router_control_client::RouterControlClient;
use proto::v1::{GetRouterStatusRequest, SetHomesRequest};
use router::RouterConfig;
use serde_json::json;
use tonic::Code;
use tonic::transport::Endpoint;

const AGENT: &str = "agent.tiny.ns.boyle.internal";
const ROUTER: &str = "router.tiny.ns.boyle.internal";
const OPERATOR: &str = "operator.boyle.internal";

async fn world(authority: &Authority) -> World {
    let security = authority.security(ROUTER);
    let config = RouterConfig { security, patience: patience(), ..RouterConfig::default() };
    World::start_for(config, &authority.security(OPERATOR)).await
}

#[tokio::test]
async fn clients_are_answered_by_agents_behind_mutual_tls() {
    let authority = Authority::new();
    let agent = authority.security(AGENT);
    let agent = ScriptedAgent::start_secured("a", reasoning_answer(), Vec::new(), agent);
    let mut world = world(&authority).await;
    world.set_homes(1, &[&agent]).await;
    world.wait_for_ready(1).await;
    world.chat(&chat_body(json!({}))).await;
}

#[tokio::test]
async fn an_agent_of_another_deployment_is_no_home() {
    let authority = Authority::new();
    let start = |id, name| {
        let security = authority.security(name);
        ScriptedAgent::start_secured(id, reasoning_answer(), Vec::new(), security)
    };
    let (own, other) = (start("own", AGENT), start("other", "agent.other.ns.boyle.internal"));
    let mut world = world(&authority).await;
    world.set_homes(1, &[&other, &own]).await;
    world.wait_for_ready(1).await;
    world.chat(&chat_body(json!({}))).await;
    assert_eq!(world.status().await.homes_ready, 1);
}

#[tokio::test]
async fn only_the_operator_sets_homes() {
    let authority = Authority::new();
    let world = world(&authority).await;
    let endpoint = Endpoint::from_shared(world.control_url.clone()).unwrap();
    let expected = Expected::Named(ROUTER.parse().unwrap());
    for caller in [AGENT, ROUTER] {
        let channel = authority.security(caller).lazy(&endpoint, &expected);
        let mut control = RouterControlClient::new(channel);
        let refused = control.set_homes(SetHomesRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        let refused = control.get_router_status(GetRouterStatusRequest {}).await.unwrap_err();
        assert!(refused.message().contains(caller), "{refused}");
    }
    for stranger in [Security::Plaintext, Authority::new().security(OPERATOR)] {
        let mut control = RouterControlClient::new(stranger.lazy(&endpoint, &expected));
        control.get_router_status(GetRouterStatusRequest {}).await.unwrap_err();
    }
}
