//! Laws of the scheduler, on lengths and blocks alone.

use crate::harness::property_config;
use engine::blocks::BlockAllocator;
use engine::request::SequenceId;
use engine::scheduler::{Planned, Scheduler, SchedulerLimits};
use model::executor::{BlockId, CacheShape, LogitsWanted};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Sequences of one kind have the same tokens and share blocks; more than there are in the tests with fixed plans.
const KINDS: u64 = 4;
const TOKEN_IDS: [[u32; 40]; KINDS as usize] = [[0; 40], [1; 40], [2; 40], [3; 40]];

fn token_ids(sequence: SequenceId) -> &'static [u32] {
    &TOKEN_IDS[(sequence.0 % KINDS) as usize]
}

/// A sequence as the test sees it.
#[derive(Clone, Copy, Debug)]
struct Job {
    length: usize,
    /// It ends when it would get longer than this.
    length_max: usize,
    /// Unknown from its admission until its first part.
    cached: Option<usize>,
    /// Its length when it was last let run.
    prefill: usize,
}

#[derive(Clone, Debug)]
struct Scenario {
    limits: SchedulerLimits,
    shape: CacheShape,
    /// (step at which it arrives, prompt length, answer length, step after its arrival at which it is cancelled)
    arrivals: Vec<(usize, usize, usize, Option<usize>)>,
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let arrival = (0usize..40, 1usize..20, 1usize..20, proptest::option::weighted(0.2, 0usize..20));
    let arrivals = proptest::collection::vec(arrival, 1..15);
    (1usize..24, 1usize..8, 1usize..6, 0usize..30, arrivals).prop_map(
        |(step_tokens_max, sequences_max, block_tokens, spare, arrivals)| {
            // The largest one just fits alone; everything beyond that is spare.
            let largest = arrivals.iter().map(|arrival| arrival.1 + arrival.2 - 1).max();
            let block_count = largest.unwrap_or(1).div_ceil(block_tokens) + spare / block_tokens;
            Scenario {
                limits: SchedulerLimits { step_tokens_max, sequences_max },
                shape: CacheShape { block_tokens, block_count },
                arrivals,
            }
        },
    )
}

struct World {
    scenario: Scenario,
    scheduler: Scheduler,
    jobs: BTreeMap<SequenceId, Job>,
    cancel_at: BTreeMap<usize, Vec<SequenceId>>,
    /// The step in which each sequence got its first tokens.
    first_planned: BTreeMap<SequenceId, usize>,
    finished: usize,
}

impl World {
    fn new(scenario: Scenario) -> Self {
        Self {
            scheduler: Scheduler::new(scenario.limits, scenario.shape),
            scenario,
            jobs: BTreeMap::new(),
            cancel_at: BTreeMap::new(),
            first_planned: BTreeMap::new(),
            finished: 0,
        }
    }

    fn arrive(&mut self, step: usize, next_id: &mut u64) {
        for (at, prompt, answer, cancel) in self.scenario.arrivals.clone() {
            if at == step {
                let id = SequenceId(*next_id);
                *next_id += 1;
                self.scheduler.add(id, prompt);
                let length_max = prompt + answer - 1;
                self.jobs.insert(id, Job { length: prompt, length_max, cached: None, prefill: 0 });
                if let Some(after) = cancel {
                    self.cancel_at.entry(step + after).or_default().push(id);
                }
            }
        }
        for id in self.cancel_at.remove(&step).unwrap_or_default() {
            self.scheduler.remove(id);
            self.finished += usize::from(self.jobs.remove(&id).is_some());
        }
    }

    /// The next step; notes who was let run in it.
    fn plan(&mut self) -> Vec<Planned> {
        let is_waiting = |id: &SequenceId| self.scheduler.block_table(*id).is_empty();
        let waiting: Vec<SequenceId> = self.jobs.keys().copied().filter(is_waiting).collect();
        let plan = self.scheduler.plan(token_ids);
        for id in waiting {
            let job = self.jobs.get_mut(&id).unwrap();
            (job.cached, job.prefill) = (None, job.length);
        }
        plan
    }

    fn check(&self, plan: &[Planned]) {
        let limits = self.scenario.limits;
        let tokens: usize = plan.iter().map(|part| part.count).sum();
        assert!(tokens <= limits.step_tokens_max, "{tokens} tokens in a step");
        assert!(plan.len() <= limits.sequences_max);
        let planned: BTreeSet<SequenceId> = plan.iter().map(|part| part.sequence).collect();
        assert_eq!(planned.len(), plan.len(), "a sequence twice in one step");
        if let Some(oldest) = self.jobs.keys().next() {
            assert!(planned.contains(oldest), "the oldest has to wait");
        }
        let is_decode = |part: &Planned| part.position >= self.jobs[&part.sequence].prefill;
        assert!(plan.is_sorted_by_key(|part| (!is_decode(part), part.sequence)), "{plan:?}");
        for part in plan {
            let job = self.jobs[&part.sequence];
            assert!(part.count > 0 && part.position + part.count <= job.length);
            match job.cached {
                Some(cached) => assert_eq!(part.position, cached, "does not go on"),
                None => assert_eq!(part.position % self.scenario.shape.block_tokens, 0),
            }
            let is_last = part.position + part.count == job.length;
            assert_eq!(part.logits == LogitsWanted::LastToken, is_last);
        }
    }

    fn check_blocks(&self, plan: &[Planned]) {
        let shape = self.scenario.shape;
        // The same block only in the same place of sequences of one kind.
        let mut places: BTreeMap<BlockId, (usize, u64)> = BTreeMap::new();
        for id in self.jobs.keys() {
            for (index, block) in self.scheduler.block_table(*id).iter().enumerate() {
                let place = (index, id.0 % KINDS);
                assert_eq!(*places.entry(*block).or_insert(place), place, "a block is mixed up");
            }
        }
        assert!(places.keys().all(|block| (block.0 as usize) < shape.block_count));
        assert_eq!(self.scheduler.blocks().used_count(), places.len(), "a block has leaked");
        for part in plan {
            let covered = self.scheduler.block_table(part.sequence).len() * shape.block_tokens;
            assert!(covered >= part.position + part.count);
        }
    }

    fn apply(&mut self, step: usize, plan: &[Planned]) {
        for part in plan {
            self.first_planned.entry(part.sequence).or_insert(step);
            self.scheduler.record_computed(part, token_ids(part.sequence));
            let job = self.jobs.get_mut(&part.sequence).unwrap();
            job.cached = Some(part.position + part.count);
            if part.logits == LogitsWanted::LastToken {
                if job.length == job.length_max {
                    self.jobs.remove(&part.sequence);
                    self.scheduler.remove(part.sequence);
                    self.finished += 1;
                } else {
                    job.length += 1;
                    self.scheduler.record_token(part.sequence);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(property_config(512))]

    #[test]
    fn steps_are_bounded_and_fair_and_end(scenario in scenario()) {
        let mut world = World::new(scenario);
        let mut next_id = 0;
        // The oldest gets at least a token on in every step, and nothing makes it start again.
        let work: usize = world.scenario.arrivals.iter().map(|arrival| arrival.1 + arrival.2).sum();
        for step in 0..40 + work {
            world.arrive(step, &mut next_id);
            let plan = world.plan();
            world.check(&plan);
            world.check_blocks(&plan);
            prop_assert_eq!(&plan, &world.scheduler.plan(token_ids), "the same until something happens");
            world.apply(step, &plan);
        }
        prop_assert_eq!(world.finished, world.scenario.arrivals.len());
        prop_assert!(world.first_planned.values().is_sorted(), "overtaken: {:?}", world.first_planned);
        prop_assert_eq!(world.scheduler.blocks().used_count(), 0);
        prop_assert_eq!(world.scheduler.running_count() + world.scheduler.waiting_count(), 0);
    }

    #[test]
    fn allocator_extends_wholly_or_not_at_all(
        block_tokens in 1usize..5,
        block_count in 0usize..12,
        requests in proptest::collection::vec((0usize..4, 0usize..30), 0..40),
    ) {
        let mut blocks = BlockAllocator::new(CacheShape { block_tokens, block_count });
        let mut tables: Vec<Vec<BlockId>> = vec![Vec::new(); 4];
        for (owner, tokens) in requests {
            let before = tables[owner].clone();
            if tokens == 0 {
                blocks.release(&mut tables[owner]);
            } else if blocks.extend(&mut tables[owner], tokens).is_ok() {
                prop_assert!(tables[owner].len() * block_tokens >= tokens);
                prop_assert!(tables[owner].starts_with(&before));
            } else {
                prop_assert_eq!(&tables[owner], &before);
                prop_assert!(tokens.div_ceil(block_tokens) - before.len() > blocks.free_count());
            }
            let held: usize = tables.iter().map(Vec::len).sum();
            let distinct: BTreeSet<BlockId> = tables.iter().flatten().copied().collect();
            prop_assert_eq!(distinct.len(), held);
            prop_assert_eq!(blocks.used_count(), held);
            prop_assert!(held <= block_count);
        }
    }
}

#[test]
fn decode_goes_before_prefill_and_takes_one_token_each() {
    let limits = SchedulerLimits { step_tokens_max: 8, sequences_max: 4 };
    let mut scheduler = Scheduler::new(limits, CacheShape { block_tokens: 4, block_count: 64 });
    let run = |scheduler: &mut Scheduler| {
        let plan = scheduler.plan(token_ids);
        for part in &plan {
            scheduler.record_computed(part, token_ids(part.sequence));
            if part.logits == LogitsWanted::LastToken {
                scheduler.record_token(part.sequence);
            }
        }
        plan.iter().map(|part| (part.sequence.0, part.position, part.count)).collect::<Vec<_>>()
    };
    scheduler.add(SequenceId(0), 20);
    scheduler.add(SequenceId(1), 3);
    scheduler.add(SequenceId(2), 9);
    assert_eq!(run(&mut scheduler), [(0, 0, 8)]);
    assert_eq!(run(&mut scheduler), [(0, 8, 8)]);
    assert_eq!(run(&mut scheduler), [(0, 16, 4), (1, 0, 3), (2, 0, 1)]);
    assert_eq!(run(&mut scheduler), [(0, 20, 1), (1, 3, 1), (2, 1, 6)]);
    assert_eq!(run(&mut scheduler), [(0, 21, 1), (1, 4, 1), (2, 7, 2)]);
    assert_eq!(run(&mut scheduler), [(0, 22, 1), (1, 5, 1), (2, 9, 1)]);
}

#[test]
fn youngest_gives_its_blocks_to_the_oldest() {
    let limits = SchedulerLimits { step_tokens_max: 16, sequences_max: 4 };
    let mut scheduler = Scheduler::new(limits, CacheShape { block_tokens: 2, block_count: 4 });
    scheduler.add(SequenceId(0), 4);
    scheduler.add(SequenceId(1), 4);
    for part in scheduler.plan(token_ids) {
        scheduler.record_computed(&part, token_ids(part.sequence));
        scheduler.record_token(part.sequence);
    }
    let plan = scheduler.plan(token_ids);
    assert_eq!(plan.len(), 1);
    assert_eq!((plan[0].sequence.0, plan[0].position), (0, 4));
    assert_eq!((scheduler.preemptions(), scheduler.waiting_count()), (1, 1));
    assert!(scheduler.block_table(SequenceId(1)).is_empty());
    scheduler.remove(SequenceId(0));
    let plan = scheduler.plan(token_ids);
    assert_eq!(
        (plan[0].sequence.0, plan[0].position, plan[0].count),
        (1, 2, 3),
        "its first block was kept"
    );
}
