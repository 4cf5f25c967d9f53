//! The planner's tests: scripts with golden plans, laws as properties, and lint against broken plans.

mod laws;
mod lint;
mod script;
mod world;
