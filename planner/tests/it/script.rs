//! Each file in `tests/scripts` is a life of one deployment: commands, and the golden output after `---`.
//! `UPDATE_EXPECT=1 cargo test -p planner` rewrites the outputs.

use crate::world::{agent, facts, spec};
use planner::identity::HostId;
use planner::inventory::{AgentState, Inventory};
use planner::lint::lint;
use planner::plan::{Plan, plan};
use planner::render::Rendered;
use planner::spec::ServingSpec;
use std::fmt::Write as _;
use std::path::Path;

#[test]
fn scripts_give_their_golden_plans() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts are in the repository") {
        let path = entry.expect("a readable folder").path();
        check(&path);
        count += 1;
    }
    assert!(count >= 5, "only {count} scripts were found");
}

fn check(path: &Path) {
    let text = std::fs::read_to_string(path).expect("a readable script");
    let (commands, expected) = text.split_once("---\n").unwrap_or((&text, ""));
    let actual = run(commands);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, format!("{commands}---\n{actual}")).expect("a writable script");
    } else {
        assert_eq!(actual, expected, "{} differs; UPDATE_EXPECT=1 rewrites it", path.display());
    }
}

struct World {
    spec: ServingSpec,
    inventory: Inventory,
    plan: Option<Plan>,
}

fn run(commands: &str) -> String {
    let mut world = World { spec: spec(1, 8, 2), inventory: Inventory::default(), plan: None };
    let mut output = String::new();
    for line in commands.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u32>().expect("a number");
        match words[0] {
            "model" => world.spec = spec(number(1), number(2), number(3)),
            "agent" => {
                let facts = facts(words[1], words[2], u64::from(number(3)));
                world.inventory.agents.insert(agent(words[1]), facts);
            }
            "gone" => drop(world.inventory.agents.remove(&agent(words[1]))),
            "restarting" => state(&mut world, words[1], AgentState::Restarting),
            "running" => state(&mut world, words[1], AgentState::Running),
            "leaving" => state(&mut world, words[1], AgentState::Leaving),
            "draining" => state(&mut world, words[1], AgentState::Draining),
            "lost" => state(&mut world, words[1], AgentState::Lost),
            "moved" => {
                let facts =
                    world.inventory.agents.get_mut(&agent(words[1])).expect("a known agent");
                facts.host = HostId::new(words[2]);
            }
            "plan" => plan_and_render(&mut world, &mut output),
            other => unreachable!("unknown command {other}"),
        }
    }
    output
}

fn state(world: &mut World, name: &str, state: AgentState) {
    world.inventory.agents.get_mut(&agent(name)).expect("a known agent").state = state;
}

fn plan_and_render(world: &mut World, output: &mut String) {
    match plan(&world.spec, &world.inventory, world.plan.as_ref()) {
        Err(error) => writeln!(output, "error: {error}").expect("text"),
        Ok(planned) => {
            let findings = lint(&world.spec, &world.inventory, &planned.plan, world.plan.as_ref());
            assert_eq!(findings, [], "golden plans are lint-clean");
            for reason in &planned.waiting {
                writeln!(output, "waiting: {reason}").expect("text");
            }
            write!(output, "{}", Rendered(&planned.plan)).expect("text");
            world.plan = Some(planned.plan);
        }
    }
}
