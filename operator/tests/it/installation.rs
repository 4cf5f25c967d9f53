//! An operator with the rights that the chart gives and no more; and what `check` says of an installation.

use crate::chart;
use crate::support::deployment::{self, condition, until_is};
use crate::support::plane::{Plane, Running, settings};
use crate::support::wait::until;
use crds::ModelDeployment;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::ApiResource;
use kube::{Client, Config, CustomResourceExt};
use operator::check::{CheckError, check};
use operator::rbac;
use operator::run::Operator;
use operator::settings::WatchScope;
use serde_json::json;
use tower::layer::util::Identity;

/// The account that the chart binds its roles to, in the namespace of this module's operators.
const ACCOUNT: &str = "system:serviceaccount:default:boyle-operator";

/// Applies the chart's roles and bindings, as in namespace `default`.
async fn grant(client: &Client) {
    let objects = chart::objects(&["--namespace=default"]);
    let rights = ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
    for object in objects.iter().filter(|it| rights.iter().any(|kind| it["kind"] == *kind)) {
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let TypeMeta { kind, .. } = object.types.clone().unwrap();
        let gvk = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", &kind);
        let resource = ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object.metadata.name.clone().unwrap();
        let parameters = PatchParams::apply("test").force();
        api.patch(&name, &parameters, &Patch::Apply(&object)).await.unwrap();
    }
}

/// As the operator's account sees the cluster.
fn as_operator(config: &Config) -> Config {
    let mut config = config.clone();
    config.auth_info.impersonate = Some(ACCOUNT.to_owned());
    let groups = ["system:serviceaccounts", "system:authenticated"];
    config.auth_info.impersonate_groups = Some(groups.map(str::to_owned).to_vec());
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_charts_rights_are_enough_and_nothing_else_is_asked_for() {
    let plane = Plane::start().await;
    grant(&plane.client).await;
    let config = as_operator(&plane.config);
    let operator = Operator::new(settings("operator-a"), config.clone(), &Identity::new()).unwrap();
    let operator = Running::start(operator);
    let wanted = deployment::embedded("tiny", json!({"agents": {"min": 2}}));
    deployment::create(&plane.client, &wanted).await;
    until_is(&plane.client, "tiny", "accepted", |it| condition(it, "Accepted") == "True Valid")
        .await;
    let sets: Api<StatefulSet> = Api::namespaced(plane.client.clone(), "default");
    let routers: Api<Deployment> = Api::namespaced(plane.client.clone(), "default");
    until_is(&plane.client, "tiny", "counted", |it| {
        it.status.as_ref().is_some_and(|status| status.agents.is_some())
    })
    .await;
    assert_eq!(sets.list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert_eq!(routers.list(&ListParams::default()).await.unwrap().items.len(), 1);

    let said = check(Client::try_from(config).unwrap(), "default", &WatchScope::Cluster).await;
    assert!(said.unwrap().contains("operator-a acts"));

    let metrics = operator.metrics.clone();
    operator.stop().await;
    let refused = metrics.requests_where(|_, _, code| code == "403");
    let unlisted = metrics.requests_where(|verb, kind, _| {
        // Which kinds there are, everybody may ask.
        !rbac::allows(verb, kind) && kind != "discovery"
    });
    assert_eq!((refused, unlisted), (0, 0), "{}", metrics.render());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_that_the_resource_is_missing_or_may_not_be_read() {
    let plane = Plane::start().await;
    let nobody = Client::try_from(as_operator(&plane.config)).unwrap();
    let error = check(nobody, "default", &WatchScope::Cluster).await.unwrap_err();
    assert!(matches!(error, CheckError::List(_)), "{error}");
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.client.clone());
    definitions.delete(ModelDeployment::crd_name(), &<_>::default()).await.unwrap();
    // The API server goes on serving a resource for a moment.
    let deployments: Api<ModelDeployment> = Api::all(plane.client.clone());
    until("the resource goes", || async {
        match deployments.list_metadata(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(_) => Err("it is still served".to_owned()),
        }
    })
    .await;
    let error = check(plane.client.clone(), "default", &WatchScope::Cluster).await.unwrap_err();
    assert!(matches!(error, CheckError::NoResource), "{error}");
}
