//! What the operator asks of the API server, as data. The chart grants exactly this; a test compares both ways.
//!
//! Whoever makes the operator use another verb or kind adds it here and in the chart's template `boyle.rules`.

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Wherever ModelDeployments are watched: the whole cluster, or one namespace.
    Deployments,
    /// Kinds without a namespace. An operator of one namespace goes without.
    Cluster,
    /// The operator's own namespace.
    Own,
}

/// Verbs on the resources of one API group.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub place: Place,
    /// Empty for the core group.
    pub group: &'static str,
    pub resources: &'static [&'static str],
    pub verbs: &'static [&'static str],
}

/// For kinds that the operator applies and watches. They go with the ModelDeployment that owns them.
const KEPT: &[&str] = &["create", "get", "list", "patch", "watch"];

/// All rights.
pub const RULES: &[Rule] = &[
    Rule {
        place: Place::Deployments,
        group: "boyle.dev",
        resources: &["modeldeployments"],
        verbs: &["list", "watch"],
    },
    Rule {
        place: Place::Deployments,
        group: "boyle.dev",
        resources: &["modeldeployments/status"],
        verbs: &["patch"],
    },
    // Never called: admission asks for it where owner references may only block deletion by right.
    Rule {
        place: Place::Deployments,
        group: "boyle.dev",
        resources: &["modeldeployments/finalizers"],
        verbs: &["update"],
    },
    Rule {
        place: Place::Deployments,
        group: "",
        resources: &["pods"],
        verbs: &["delete", "list", "watch"],
    },
    Rule {
        place: Place::Deployments,
        group: "",
        resources: &["secrets", "serviceaccounts", "services"],
        verbs: KEPT,
    },
    // The recorded plan is replaced as a whole, by whoever read it last.
    Rule {
        place: Place::Deployments,
        group: "",
        resources: &["configmaps"],
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    },
    Rule { place: Place::Deployments, group: "apps", resources: &["deployments"], verbs: KEPT },
    // A changed model's old agents go, with their plan.
    Rule {
        place: Place::Deployments,
        group: "apps",
        resources: &["statefulsets"],
        verbs: &["create", "delete", "get", "list", "patch", "watch"],
    },
    Rule {
        place: Place::Deployments,
        group: "networking.k8s.io",
        resources: &["networkpolicies"],
        verbs: KEPT,
    },
    Rule {
        place: Place::Deployments,
        group: "policy",
        resources: &["poddisruptionbudgets"],
        verbs: KEPT,
    },
    Rule {
        place: Place::Deployments,
        group: "monitoring.coreos.com",
        resources: &["prometheusrules", "servicemonitors"],
        verbs: &["create", "patch"],
    },
    Rule {
        place: Place::Deployments,
        group: "events.k8s.io",
        resources: &["events"],
        verbs: &["create"],
    },
    Rule { place: Place::Cluster, group: "", resources: &["nodes"], verbs: &["list", "watch"] },
    Rule {
        place: Place::Own,
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["create", "get", "update"],
    },
    Rule { place: Place::Own, group: "", resources: &["secrets"], verbs: &["create", "get"] },
];

/// Whether some rule has this verb on this plural, `modeldeployments/status` for example.
pub fn allows(verb: &str, plural: &str) -> bool {
    RULES.iter().any(|rule| rule.resources.contains(&plural) && rule.verbs.contains(&verb))
}
