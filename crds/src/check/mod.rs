//! The checks of each part of a spec. Each pushes what it finds and returns what it read.

pub(crate) mod agents;
pub(crate) mod model;
pub(crate) mod pods;
pub(crate) mod text;

use crate::quantity::{Decimal, parse_duration};
use crate::request::{CostRequest, ObjectivesRequest, ReplicaRange};
use crate::spec::{ADDRESS_LENGTH_MAX, COPIES_MAX, Cost, Objectives, ROUTERS_MAX, Router};
use crate::violation::Violation;
use planner::spec::AgentRange;
use std::num::NonZeroU32;
use std::time::Duration;

/// A StatefulSet's pods carry its name, 8 characters of the group and 10 of its revision in one label of 63:
/// `NAME-agents-GGGGGGGG-RRRRRRRRRR`.
const NAME_LENGTH_MAX: usize = 36;
/// Longer than anybody waits; a longer one is a typing error.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A name that a Service may have: lower-case letters, digits and hyphens, first a letter, last no hyphen.
pub(crate) fn name(name: &str, found: &mut Vec<Violation>) {
    if !text::is_service_name(name) || name.len() > NAME_LENGTH_MAX {
        let remedy = format!(
            "write 1 to {NAME_LENGTH_MAX} lower-case letters, digits and hyphens, first a letter, last no hyphen"
        );
        found.push(Violation::new("metadata.name", name, remedy));
    }
}

/// `most` bounds both ends; the smaller may be 0 only where the caller allows it.
pub(crate) fn range(field: &str, (min, max): (u32, u32), most: u32, found: &mut Vec<Violation>) {
    let max_field = format!("{field}.max");
    if max == 0 || max > most {
        found.push(Violation::new(&max_field, max, format!("write 1 to {most}")));
    } else if max < min {
        let remedy = format!("write at least {field}.min, which is {min}, or lower that");
        found.push(Violation::new(&max_field, max, remedy));
    }
}

pub(crate) fn copies(
    asked: u32,
    agents: AgentRange,
    found: &mut Vec<Violation>,
) -> Option<NonZeroU32> {
    let max = agents.max;
    let remedy = if asked > COPIES_MAX || asked == 0 {
        format!("write 1 to {COPIES_MAX}: 1 reloads on loss, 2 goes on without a stall")
    } else if asked > max && max > 0 {
        format!("write at most the number of agents, which is {max}, or raise spec.agents.max")
    } else {
        return NonZeroU32::new(asked);
    };
    found.push(Violation::new("spec.experts.copies", asked, remedy));
    None
}

pub(crate) fn router(router: &Router, found: &mut Vec<Violation>) -> ReplicaRange {
    let (min, max) = (router.min, router.max.unwrap_or(router.min));
    if min == 0 {
        let remedy = "write at least 1; agents may sleep, the router holds their requests";
        found.push(Violation::new("spec.router.min", min, remedy));
    } else {
        range("spec.router", (min, max), ROUTERS_MAX, found);
    }
    ReplicaRange { min, max }
}

/// More than nothing, and no more than [`DURATION_MAX`].
pub(crate) fn duration(field: &str, text: &str, found: &mut Vec<Violation>) -> Duration {
    match parse_duration(text) {
        Ok(Duration::ZERO) => found.push(Violation::new(field, text, "write more than 0")),
        Ok(duration) if duration <= DURATION_MAX => return duration,
        Ok(_) => found.push(Violation::new(field, text, "write at most 168h")),
        Err(error) => found.push(Violation::new(field, text, error)),
    }
    Duration::ZERO
}

pub(crate) fn objectives(asked: &Objectives, found: &mut Vec<Violation>) -> ObjectivesRequest {
    let (first, each) = ("spec.objectives.timeToFirstToken", "spec.objectives.timePerOutputToken");
    ObjectivesRequest {
        time_to_first_token: duration(first, &asked.time_to_first_token, found),
        time_per_output_token: duration(each, &asked.time_per_output_token, found),
    }
}

pub(crate) fn cost(asked: Option<&Cost>, found: &mut Vec<Violation>) -> CostRequest {
    let default = Cost { currency: "USD".to_owned(), ..Cost::default() };
    let asked = asked.unwrap_or(&default);
    let mut price = |text: &String| {
        let failed = |error| found.push(Violation::new("spec.cost.acceleratorHour", text, error));
        Decimal::parse(text).map_err(failed).ok()
    };
    let accelerator_hour = asked.accelerator_hour.as_ref().and_then(&mut price);
    let code =
        asked.currency.len() == 3 && asked.currency.bytes().all(|it| it.is_ascii_uppercase());
    if !code {
        let remedy = "write a code of three capital letters, USD for example";
        found.push(Violation::new("spec.cost.currency", &asked.currency, remedy));
    }
    if let Some(reference) = &asked.compare_with
        && !text::is_vendor_and_model(reference)
    {
        let remedy = "write vendor/model, openai/o1 for example";
        found.push(Violation::new("spec.cost.compareWith", reference, remedy));
    }
    let (currency, compare_with) = (asked.currency.clone(), asked.compare_with.clone());
    CostRequest { accelerator_hour, currency, compare_with }
}

pub(crate) fn image(asked: Option<&str>, found: &mut Vec<Violation>) {
    if let Some(image) = asked
        && (!text::is_image(image) || image.len() > ADDRESS_LENGTH_MAX as usize)
    {
        let remedy =
            "write registry/repository:tag, registry.example.com/boyle/serving:1.2.3 for example";
        found.push(Violation::new("spec.image", image, remedy));
    }
}
