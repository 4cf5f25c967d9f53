//! The scenarios, one file each.

mod autoscale;
mod bad_image;
mod bad_input;
mod bad_revision;
mod delete_pods;
mod install;
mod kill_processes;
mod kubectl_scale;
mod lifecycle;
mod mtls;
mod node_cut_and_join;
mod node_drain;
mod node_poweroff;
mod operator_upgrade;
mod restricted;
mod rollout_image;
mod rollout_setting;
mod scale_agents;
mod scale_routers;
mod scale_to_zero;
mod sources;

use crate::scenario::Scenario;

/// All of them.
pub const ALL: &[Scenario] = &[
    install::SCENARIO,
    mtls::SCENARIO,
    restricted::SCENARIO,
    lifecycle::SCENARIO,
    kill_processes::SCENARIO,
    delete_pods::SCENARIO,
    node_poweroff::SCENARIO,
    node_cut_and_join::SCENARIO,
    node_drain::SCENARIO,
    rollout_image::SCENARIO,
    rollout_setting::SCENARIO,
    bad_image::SCENARIO,
    bad_revision::SCENARIO,
    operator_upgrade::SCENARIO,
    scale_agents::SCENARIO,
    scale_routers::SCENARIO,
    autoscale::SCENARIO,
    scale_to_zero::SCENARIO,
    kubectl_scale::SCENARIO,
    sources::SCENARIO,
    bad_input::SCENARIO,
];
