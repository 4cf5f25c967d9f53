//! Every request of a deployment's creation goes wrong once, in every way: the end is the same.

use crate::support::deployment::{self, NAMESPACE};
use crate::support::faults::{Fault, Faults};
use crate::support::plane::{Plane, Running, settings};
use crate::support::wait::until;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, ResourceExt};
use operator::key::HASH_ANNOTATION;
use operator::run::Operator;
use operator::settings::{Settings, Transport};
use operator::watch::Kind;
use serde_json::json;
use std::collections::BTreeMap;

/// Everything the operator made for a deployment: kind and name, without the deployment's own name, and its hash.
async fn made(client: &Client, name: &str) -> BTreeMap<String, bool> {
    let mut all = BTreeMap::new();
    let ours = ListParams::default().labels(&format!("boyle.dev/model-deployment={name}"));
    for kind in Kind::APPLIED {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), NAMESPACE, &kind.resource());
        for object in api.list(&ours).await.expect("a list") {
            let short = object.name_any().replace(name, "NAME");
            let applied = object.annotations().contains_key(HASH_ANNOTATION);
            all.insert(format!("{kind:?} {short}"), applied);
        }
    }
    all
}

fn operator(plane: &Plane, name: &str, faults: &Faults) -> Running {
    // Certificates are part of what may go wrong.
    let settings = Settings { transport: Transport::MutualTls, ..settings(name) };
    let operator = Operator::new(settings, plane.config.clone(), faults);
    Running::start(operator.expect("an operator"))
}

async fn until_made(plane: &Plane, name: &str, wanted: &BTreeMap<String, bool>, what: &str) {
    until(what, || async {
        let made = made(&plane.client, name).await;
        if made == *wanted { Ok(()) } else { Err(format!("{made:#?}\ninstead of\n{wanted:#?}")) }
    })
    .await;
    deployment::until_is(&plane.client, name, what, |it| deployment::phase(it) == "Pending").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_once_the_end_is_the_same() {
    let plane = Plane::start().await;
    let good = Faults::default();
    let first = operator(&plane, "reference", &good);
    deployment::create(&plane.client, &deployment::embedded("reference", json!({}))).await;
    let wanted = until("the reference is made", || async {
        let made = made(&plane.client, "reference").await;
        let complete = made.keys().any(|it| it.starts_with("Deployment"))
            && made.keys().any(|it| it.starts_with("StatefulSet"));
        if complete { Ok(made) } else { Err(format!("{made:?}")) }
    })
    .await;
    first.stop().await;
    let requests = good.seen().len();
    let faults = [
        Fault::Lost,
        Fault::Unanswered,
        Fault::Refused(409),
        Fault::Refused(410),
        Fault::Refused(429),
        Fault::Refused(500),
    ];
    let mut fired = 0;
    for number in 0..requests {
        let fault = faults[number % faults.len()];
        let name = format!("case-{number}");
        let injected = Faults::at(number, fault);
        let victim = operator(&plane, &name, &injected);
        deployment::create(&plane.client, &deployment::embedded(&name, json!({}))).await;
        let what = format!("request {number} with {fault:?}");
        until_made(&plane, &name, &wanted, &what).await;
        fired += usize::from(injected.fired());
        victim.kill().await;
        deployment::api(&plane.client).delete(&name, &<_>::default()).await.expect("deleted");
    }
    assert!(fired * 2 > requests, "{fired} of {requests} faults were met");
}
