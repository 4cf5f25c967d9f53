use super::pki::{Authority, agent, router};
use super::world::{EchoStream, TestServer};
use proto::METHODS;
use proto::tls::{Deployment, Expected, Identity, RULES, Security};
use std::collections::BTreeSet;
use tonic::Code;

/// The contract, written out once more: method, server, and who may call it.
fn contract() -> Vec<(&'static str, Identity, Vec<Identity>)> {
    let (agents, routers, operator) = (agent("a"), router("a"), Identity::Operator);
    let on_agent = |method, callers| (method, agents.clone(), callers);
    let on_router = |method, callers| (method, routers.clone(), callers);
    vec![
        on_agent("/boyle.v1.Agent/Assign", vec![operator.clone()]),
        on_agent("/boyle.v1.Agent/Drain", vec![operator.clone()]),
        on_agent("/boyle.v1.Agent/GetStatus", vec![operator.clone(), routers.clone()]),
        on_agent("/boyle.v1.Agent/WatchStatus", vec![operator.clone(), routers.clone()]),
        on_agent("/boyle.v1.Agent/FetchExpert", vec![agents.clone()]),
        on_agent("/boyle.v1.Generation/Generate", vec![routers.clone()]),
        on_agent("/boyle.v1.Exchange/Run", vec![agents.clone()]),
        on_router("/boyle.v1.RouterControl/SetHomes", vec![operator.clone()]),
        on_router("/boyle.v1.RouterControl/GetRouterStatus", vec![operator.clone()]),
    ]
}

fn callers() -> Vec<Identity> {
    let elsewhere = Deployment::new("a", "other").unwrap();
    vec![
        agent("a"),
        router("a"),
        Identity::Operator,
        agent("b"),
        router("b"),
        Identity::Agent(elsewhere.clone()),
        Identity::Router(elsewhere),
    ]
}

#[test]
fn every_method_of_every_service_has_one_rule() {
    let methods: BTreeSet<&str> = METHODS.iter().copied().collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.path).collect();
    let tested: BTreeSet<&str> = contract().iter().map(|(method, _, _)| *method).collect();
    assert_eq!(rules, methods, "decide in proto/src/tls/authorise.rs who may call a new method");
    assert_eq!(tested, methods, "say it here too");
    assert_eq!(RULES.len(), rules.len(), "one rule for each method");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_call_what_the_contract_says_and_nothing_else() {
    let authority = Authority::new("a");
    for (method, server, allowed) in contract() {
        let running = TestServer::start(&authority.security(&server)).await;
        for caller in callers() {
            let client = authority.security(&caller);
            let status = running.call(&client, &Expected::Named(server.clone()), method).await;
            if allowed.contains(&caller) {
                // The echo server has no such method, or no frame in the empty message.
                let through = [Code::Unimplemented, Code::Ok, Code::Internal, Code::Cancelled];
                assert!(through.contains(&status.code()), "{caller} → {method}: {status}");
                continue;
            }
            assert_eq!(status.code(), Code::PermissionDenied, "{caller} → {method}: {status}");
            let (caller, server) = (caller.to_string(), server.to_string());
            assert!(status.message().contains(&caller), "{status}");
            assert!(status.message().contains(&server), "{status}");
        }
    }
}

#[tokio::test]
async fn unknown_methods_are_for_nobody() {
    let authority = Authority::new("a");
    let server = TestServer::start(&authority.security(&agent("a"))).await;
    for path in ["/boyle.v1.Agent/Erase", "/boyle.v1.Agent/assign", "/", "/boyle.v1.Agent/Assign/"]
    {
        let operator = authority.security(&Identity::Operator);
        let status = server.call(&operator, &Expected::Named(agent("a")), path).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{path}: {status}");
    }
}

#[tokio::test]
async fn without_tls_everybody_may_call_everything() {
    let server = TestServer::start(&Security::Plaintext).await;
    for method in METHODS.iter().filter(|method| !method.contains("Exchange")) {
        let status = server.call(&Security::Plaintext, &Expected::OwnAgents, method).await;
        assert_eq!(status.code(), Code::Unimplemented, "{method}: {status}");
    }
    let channel = server.channel(&Security::Plaintext, &Expected::OwnAgents);
    EchoStream::open(channel).await.unwrap().echo(1).await.unwrap();
}
