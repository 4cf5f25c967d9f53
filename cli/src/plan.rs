//! `boyle plan`: what `up` would do.

use crate::arguments::PlanArguments;
use crate::memory::readable;
use crate::output;
use crate::resolve::Resolved;
use planner::plan::{Plan, Planned};
use planner::spec::ServingSpec;
use std::process::ExitCode;

/// Prints the plan.
///
/// # Errors
/// When there is none, with the arithmetic.
pub fn run(arguments: &PlanArguments) -> anyhow::Result<ExitCode> {
    let resolved = Resolved::new(arguments.file.as_deref(), &arguments.deployment)?;
    let spec = resolved.spec(&resolved.goal()?)?;
    let Planned { plan, waiting } = resolved.plan(&spec)?;
    if arguments.json {
        print_line!("{}", serde_json::to_string_pretty(&plan)?);
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&planner::render::Rendered(&plan).to_string());
    print_line!("memory (each agent may use {})", readable(resolved.agent_memory_bytes));
    for agent in plan.agents.keys() {
        print_line!("  {agent}: {}", memory_line(&spec, &plan, agent));
    }
    for shortfall in waiting {
        print_line!("! {shortfall}");
    }
    Ok(ExitCode::SUCCESS)
}

fn memory_line(spec: &ServingSpec, plan: &Plan, agent: &planner::identity::AgentId) -> String {
    let experts = plan.placement.values().filter(|agents| agents.contains(agent)).count() as u64;
    let dense = spec.model.dense_bytes;
    let routed = experts.saturating_mul(spec.model.expert_bytes);
    let cache = spec.engine.kv_cache_bytes;
    format!(
        "{} = {} dense + {experts} experts of {} + {} KV cache",
        readable(dense.saturating_add(routed).saturating_add(cache)),
        readable(dense),
        readable(spec.model.expert_bytes),
        readable(cache),
    )
}
