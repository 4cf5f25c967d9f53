//! What Prometheus reads about each ModelDeployment: its status as numbers. Knows no cluster.
//!
//! Series are made anew for every scrape, so that a deployment that is gone, or a reason that has passed, leaves none.

use crds::ModelDeploymentStatus;
use planner::cost::Cost;
use prometheus::{GaugeVec, Opts, Registry, TextEncoder};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Labels of every series here.
const WHO: [&str; 2] = ["namespace", "model_deployment"];

/// The statuses that were shown last.
#[derive(Clone, Debug, Default)]
pub struct DeploymentMetrics {
    shown: Arc<Mutex<BTreeMap<(String, String), Shown>>>,
}

/// What is known of one deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    pub status: ModelDeploymentStatus,
    pub cost: Option<Cost>,
    pub reference: Option<Reference>,
}

/// What the same tokens would have cost elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    pub model: String,
    pub per_million_tokens: f64,
}

/// The gauges of one scrape.
struct Gauges {
    registry: Registry,
    agents_ready: GaugeVec,
    agents_desired: GaugeVec,
    routers_ready: GaugeVec,
    routers_desired: GaugeVec,
    experts_placed: GaugeVec,
    experts_missing: GaugeVec,
    expert_copies: GaugeVec,
    plan_generation: GaugeVec,
    condition: GaugeVec,
    cost: GaugeVec,
    idle_share: GaugeVec,
    reference_cost: GaugeVec,
}

impl DeploymentMetrics {
    /// Takes note of a deployment's status.
    pub fn show(&self, namespace: &str, name: &str, shown: Shown) {
        self.lock().insert((namespace.to_owned(), name.to_owned()), shown);
    }

    /// It is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// No deployment is known any more: another replica acts, and two must not tell different things.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The text that a scrape gets.
    ///
    /// # Errors
    /// Only for a name that is used twice or is none.
    pub fn render(&self) -> prometheus::Result<String> {
        let gauges = Gauges::new()?;
        for ((namespace, name), shown) in self.lock().iter() {
            gauges.set([namespace, name], shown);
        }
        TextEncoder::new().encode_to_string(&gauges.registry.gather())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Shown>> {
        // The map is whole after every statement, so a panic elsewhere has left nothing half done.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gauges {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str, more: &[&str]| {
            let labels = [&WHO[..], more].concat();
            let gauge = GaugeVec::new(Opts::new(format!("boyle_operator_{name}"), help), &labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            agents_ready: gauge("agents_ready", "Agents that hold all of their share.", &[])?,
            agents_desired: gauge("agents_desired", "Agents that there should be.", &[])?,
            routers_ready: gauge("routers_ready", "Routers that take requests.", &[])?,
            routers_desired: gauge("routers_desired", "Routers that there should be.", &[])?,
            experts_placed: gauge("experts_placed", "Experts that some agent holds.", &[])?,
            experts_missing: gauge("experts_missing", "Experts that no agent holds.", &[])?,
            expert_copies: gauge("expert_copies", "The fewest copies of any expert.", &[])?,
            plan_generation: gauge("plan_generation", "Number of the plan in force.", &[])?,
            condition: gauge("condition", "1 while it is True.", &["condition", "reason"])?,
            cost: gauge(
                "cost_per_million_tokens",
                "Measured over the last hour, idle time included.",
                &["currency"],
            )?,
            idle_share: gauge("idle_share", "Part of the agents' time without a sequence.", &[])?,
            reference_cost: gauge(
                "reference_cost_per_million_tokens",
                "What the same tokens would have cost at a list price.",
                &["currency", "reference"],
            )?,
            registry,
        })
    }

    #[allow(clippy::cast_precision_loss)] // Generations stay far below fifty-three bits.
    fn set(&self, who: [&str; 2], shown: &Shown) {
        let status = &shown.status;
        let set = |gauge: &GaugeVec, value: f64| gauge.with_label_values(&who).set(value);
        if let Some(agents) = &status.agents {
            set(&self.agents_ready, f64::from(agents.ready));
            set(&self.agents_desired, f64::from(agents.desired));
        }
        if let Some(routers) = &status.routers {
            set(&self.routers_ready, f64::from(routers.ready));
            set(&self.routers_desired, f64::from(routers.desired));
        }
        if let Some(experts) = &status.experts {
            set(&self.experts_placed, f64::from(experts.placed));
            set(&self.experts_missing, f64::from(experts.missing));
            set(&self.expert_copies, f64::from(experts.copies));
        }
        if let Some(plan) = &status.plan {
            set(&self.plan_generation, plan.generation as f64);
        }
        for condition in &status.conditions {
            let holds = f64::from(u8::from(condition.status == "True"));
            let labels = [who[0], who[1], &condition.type_, &condition.reason];
            self.condition.with_label_values(&labels).set(holds);
        }
        let Some(cost) = &shown.cost else { return };
        set(&self.idle_share, cost.idle_share);
        if let Some(each) = cost.per_million_tokens {
            self.cost.with_label_values(&[who[0], who[1], &cost.currency]).set(each);
        }
        if let Some(reference) = &shown.reference {
            let labels = [who[0], who[1], &cost.currency, &reference.model];
            self.reference_cost.with_label_values(&labels).set(reference.per_million_tokens);
        }
    }
}
