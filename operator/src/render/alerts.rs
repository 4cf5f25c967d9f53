//! Alerts of one deployment. Each has an entry in docs/operate.md that says what to do.

use super::Target;

/// How soon somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Users see it.
    Critical,
    /// Users may see it soon, or see it a little.
    Warning,
    /// Nobody but the bill sees it.
    Info,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One alert.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alert {
    pub name: &'static str,
    pub severity: Severity,
    /// How long it must hold.
    pub lasting: &'static str,
    pub expression: String,
    pub summary: String,
}

/// All alerts of a deployment.
pub(super) fn of(target: &Target) -> Vec<Alert> {
    let (name, namespace) = (target.request.name.as_str(), &target.namespace);
    let who = format!("ModelDeployment {name} in {namespace}");
    let own = format!("namespace=\"{namespace}\",model_deployment=\"{name}\"");
    let mut alerts = state(&who, &own);
    alerts.extend(requests(&who, &own));
    alerts.extend(latency(target, &who, &own));
    alerts.extend(agents(&who, &own));
    alerts.push(Alert {
        name: "BoyleCostAboveReference",
        severity: Severity::Info,
        lasting: "1h",
        expression: format!(
            "max by (currency) (boyle_operator_cost_per_million_tokens{{{own}}}) \
             > max by (currency) (boyle_operator_reference_cost_per_million_tokens{{{own}}})"
        ),
        summary: format!("{who} costs more for each token than the API it is compared with"),
    });
    alerts
}

fn state(who: &str, own: &str) -> Vec<Alert> {
    vec![
        Alert {
            name: "BoyleDeploymentNotReady",
            severity: Severity::Critical,
            lasting: "15m",
            expression: format!(
                "max(boyle_operator_condition{{{own},condition=\"Available\"}}) == 0"
            ),
            summary: format!("{who} has not been ready for 15 minutes"),
        },
        Alert {
            name: "BoyleDegraded",
            severity: Severity::Warning,
            lasting: "15m",
            expression: format!(
                "max(boyle_operator_condition{{{own},condition=\"Degraded\"}}) == 1"
            ),
            summary: format!("{who} has been degraded for 15 minutes"),
        },
        Alert {
            name: "BoyleExpertsMissing",
            severity: Severity::Critical,
            lasting: "2m",
            expression: format!("boyle_operator_experts_missing{{{own}}} > 0"),
            summary: format!("{who} has experts without a copy; requests wait for them"),
        },
        Alert {
            name: "BoyleAgentsMissing",
            severity: Severity::Warning,
            lasting: "10m",
            expression: format!(
                "boyle_operator_agents_ready{{{own}}} < boyle_operator_agents_desired{{{own}}}"
            ),
            summary: format!("{who} has fewer agents than wanted"),
        },
        Alert {
            name: "BoyleRoutersMissing",
            severity: Severity::Warning,
            lasting: "5m",
            expression: format!(
                "boyle_operator_routers_ready{{{own}}} < boyle_operator_routers_desired{{{own}}}"
            ),
            summary: format!("{who} has fewer routers than wanted"),
        },
    ]
}

fn requests(who: &str, own: &str) -> Vec<Alert> {
    let share = |code: &str| {
        format!(
            "sum(rate(boyle_router_requests_total{{{own},code=~\"{code}\"}}[5m])) \
             / sum(rate(boyle_router_requests_total{{{own}}}[5m]))"
        )
    };
    vec![
        Alert {
            name: "BoyleRequestsFailing",
            severity: Severity::Critical,
            lasting: "5m",
            expression: format!("{} > 0.01", share("5..")),
            summary: format!("{who} answers more than 1 % of its requests with an error"),
        },
        Alert {
            name: "BoyleRequestsRefused",
            severity: Severity::Warning,
            lasting: "10m",
            expression: format!("{} > 0.05", share("429")),
            summary: format!("{who} refuses more than 5 % of its requests: it is full"),
        },
        Alert {
            name: "BoyleRequestsHeld",
            severity: Severity::Warning,
            lasting: "10m",
            expression: format!("sum(boyle_router_requests_held{{{own}}}) > 0"),
            summary: format!("{who} has had requests waiting for an agent for 10 minutes"),
        },
        Alert {
            name: "BoyleStreamsMoving",
            severity: Severity::Warning,
            lasting: "15m",
            expression: format!(
                "sum(increase(boyle_router_resumes_total{{{own}}}[15m])) \
                 > 0.1 * sum(increase(boyle_router_requests_received_total{{{own}}}[15m]))"
            ),
            summary: format!("{who} moves more than every tenth stream to another home"),
        },
    ]
}

fn latency(target: &Target, who: &str, own: &str) -> Vec<Alert> {
    let objectives = target.request.objectives;
    let slow = |histogram: &str, seconds: f64| {
        format!(
            "histogram_quantile(0.9, sum by (le) (rate({histogram}_bucket{{{own}}}[5m]))) > {seconds}"
        )
    };
    let first = objectives.time_to_first_token.as_secs_f64();
    let each = objectives.time_per_output_token.as_secs_f64();
    vec![
        Alert {
            name: "BoyleFirstTokenSlow",
            severity: Severity::Warning,
            lasting: "10m",
            expression: slow("boyle_router_time_to_first_token_seconds", first),
            summary: format!("{who}: every tenth first token takes longer than {first} s"),
        },
        Alert {
            name: "BoyleTokensSlow",
            severity: Severity::Warning,
            lasting: "10m",
            expression: slow("boyle_router_inter_token_latency_seconds", each),
            summary: format!("{who}: every tenth token takes longer than {each} s"),
        },
    ]
}

fn agents(who: &str, own: &str) -> Vec<Alert> {
    vec![
        Alert {
            name: "BoyleCacheFull",
            severity: Severity::Warning,
            lasting: "10m",
            expression: format!("avg(boyle_agent_kv_cache_usage_ratio{{{own}}}) > 0.95"),
            summary: format!("{who}: the agents' KV caches are full; sequences queue"),
        },
        Alert {
            name: "BoyleExchangeFailovers",
            severity: Severity::Warning,
            lasting: "10m",
            expression: format!("sum(rate(boyle_agent_exchange_failovers_total{{{own}}}[5m])) > 1"),
            summary: format!("{who}: agents often ask the next copy because a peer is late"),
        },
    ]
}
