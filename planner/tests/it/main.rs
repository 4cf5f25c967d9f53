//! The planner's tests: scripts with golden plans, laws as properties, and lint against broken plans; numbers, rollouts
//! and costs.

mod cost;
mod engine;
mod laws;
mod lint;
mod rollout;
mod scale;
mod script;
mod world;
