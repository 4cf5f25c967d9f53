//! Engines that share the toy model's experts over a bad network, under one seed and a hand-moved clock: messages
//! are lost, late, doubled and reordered, agents die and return, the placement changes, homes fail over. Every
//! answer must be the one of an engine that is alone, as long as some copy comes back in the end.

mod network;
mod world;

use world::{Totals, World};

const SEEDS: u64 = 120;

#[test]
fn every_answer_survives_the_network() {
    let mut totals = Totals::default();
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.run();
        world.check_answers();
        totals.add(&world.totals());
    }
    // The seeds really contain what they are for.
    let Totals { failovers, preemptions, replays, crashes, lost, doubled, cancelled, remote } =
        totals;
    assert!(failovers > 1500 && lost > 900 && doubled > 900, "{totals:?}");
    assert!(preemptions > 500 && replays > 500 && crashes > 500 && cancelled > 50, "{totals:?}");
    assert!(remote > 50_000, "{totals:?}");
}
