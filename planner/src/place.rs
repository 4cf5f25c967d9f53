//! Which agents hold which experts: keep what is held, fill what is missing, even out the counts.
//!
//! Balance is counted layer by layer, because a forward pass waits for every layer's slowest agent.

use crate::identity::{AgentId, ExpertId, HostId};
use std::collections::{BTreeMap, BTreeSet};

/// Everything placement looks at.
#[derive(Clone, Debug)]
pub struct PlacementTask {
    pub copies: u32,
    pub candidates: Vec<Candidate>,
    /// Every routed expert with its load.
    pub load: BTreeMap<ExpertId, u64>,
    /// Who holds what now; agents that are no candidates are ignored.
    pub held: BTreeMap<ExpertId, Vec<AgentId>>,
}

impl PlacementTask {
    /// Distinct hosts among the candidates.
    pub fn host_count(&self) -> usize {
        self.candidates.iter().map(|candidate| &candidate.host).collect::<BTreeSet<_>>().len()
    }

    /// Distinct hosts of these agents.
    pub fn hosts_of(&self, agents: &[AgentId]) -> BTreeSet<&HostId> {
        let among = |candidate: &&Candidate| agents.contains(&candidate.agent);
        self.candidates.iter().filter(among).map(|candidate| &candidate.host).collect()
    }
}

/// An agent that may hold experts.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub agent: AgentId,
    pub host: HostId,
    /// Experts it has memory for.
    pub experts_max: u64,
}

/// Places every expert; holders come in candidate order. An expert has fewer holders than asked only when no
/// other candidate has room.
pub fn place(task: &PlacementTask) -> BTreeMap<ExpertId, Vec<AgentId>> {
    let mut board = Board::new(task);
    board.keep_held();
    board.fill_missing();
    // Settling may free room for a copy that found none; every further round adds copies, so this ends.
    while board.settle() == Settled::Moved && board.fill_missing() > 0 {}
    board.into_placement()
}

/// Why one candidate is better than another for a copy; smaller is better, fields in order of weight.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    copies_on_host: usize,
    over_quota: bool,
    layer_count: u64,
    load: u128,
    index: usize,
}

/// Whether settling changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Already,
    Moved,
}

/// Candidates by index, experts by id; the state that the phases move.
struct Board<'task> {
    task: &'task PlacementTask,
    host_index: Vec<usize>,
    holders: BTreeMap<ExpertId, BTreeSet<usize>>,
    /// Copies that were held before, which are the last to be moved.
    kept: BTreeSet<(ExpertId, usize)>,
    layer_count: BTreeMap<(u32, usize), u64>,
    count: Vec<u64>,
    /// Rows on each agent; wide enough for any sum of measured rows.
    load: Vec<u128>,
    layer_quota: Vec<u64>,
}

impl<'task> Board<'task> {
    fn new(task: &'task PlacementTask) -> Self {
        let hosts: BTreeSet<_> = task.candidates.iter().map(|candidate| &candidate.host).collect();
        let index_of = |host| hosts.iter().position(|known| *known == host).unwrap_or(0);
        let agents = task.candidates.len();
        Self {
            task,
            host_index: task.candidates.iter().map(|it| index_of(&it.host)).collect(),
            holders: task.load.keys().map(|expert| (*expert, BTreeSet::new())).collect(),
            kept: BTreeSet::new(),
            layer_count: BTreeMap::new(),
            count: vec![0; agents],
            load: vec![0; agents],
            layer_quota: layer_quotas(task),
        }
    }

    // -- phase 1

    /// Takes over what is held, up to the copies asked for and the room there is.
    fn keep_held(&mut self) {
        let index: BTreeMap<_, _> =
            self.task.candidates.iter().enumerate().map(|(at, it)| (&it.agent, at)).collect();
        for expert in self.task.load.keys() {
            let held = self.task.held.get(expert).into_iter().flatten();
            let held: Vec<usize> = held.filter_map(|agent| index.get(agent).copied()).collect();
            for agent in held {
                let wanted = self.copies_of(*expert) < self.task.copies as usize;
                if wanted && self.has_room(agent, *expert) {
                    self.add(*expert, agent);
                    self.kept.insert((*expert, agent));
                }
            }
        }
    }

    // -- phase 2

    /// Gives every expert its first copy, then its second, and so on; the busiest experts first. Returns how many
    /// copies it added.
    fn fill_missing(&mut self) -> usize {
        let mut added = 0;
        let mut by_load: Vec<_> = self.task.load.iter().map(|(id, load)| (*id, *load)).collect();
        by_load.sort_by_key(|(id, load)| (std::cmp::Reverse(*load), *id));
        for rank in 1..=self.task.copies as usize {
            for (expert, _) in &by_load {
                if self.copies_of(*expert) < rank
                    && let Some(agent) = self.cheapest(*expert)
                {
                    self.add(*expert, agent);
                    added += 1;
                }
            }
        }
        added
    }

    fn cheapest(&self, expert: ExpertId) -> Option<usize> {
        let open = (0..self.count.len()).filter(|agent| self.has_room(*agent, expert));
        open.min_by_key(|agent| self.cost(*agent, expert))
    }

    fn cost(&self, agent: usize, expert: ExpertId) -> Cost {
        let layer_count = self.layer_count_of(expert.layer, agent);
        Cost {
            copies_on_host: self.copies_on_host(agent, expert),
            over_quota: layer_count >= self.layer_quota[agent],
            layer_count,
            load: self.load[agent],
            index: agent,
        }
    }

    // -- phase 3

    /// Moves copies off shared hosts and from full agents to emptier ones, until no move helps.
    ///
    /// Each move lessens the copies that share a host; or, at equal ones, the copies above quota; or, at equal
    /// ones, the sum of squared counts. So this ends.
    fn settle(&mut self) -> Settled {
        let layers: BTreeSet<u32> = self.task.load.keys().map(|expert| expert.layer).collect();
        let experts: Vec<ExpertId> = self.task.load.keys().copied().collect();
        let mut settled = Settled::Already;
        // Whole rounds, because one move costs a look at its own expert or layer only; a thousand moves over fifteen
        // thousand experts must not look at all of them each time.
        loop {
            let mut moves = 0;
            for expert in &experts {
                while let Some((from, to)) = self.spread_move(*expert) {
                    self.shift(*expert, from, to);
                    moves += 1;
                }
            }
            for layer in &layers {
                while let Some((expert, from, to)) = self.even_move(*layer) {
                    self.shift(expert, from, to);
                    moves += 1;
                }
            }
            if moves == 0 {
                return settled;
            }
            settled = Settled::Moved;
        }
    }

    fn shift(&mut self, expert: ExpertId, from: usize, to: usize) {
        self.remove(expert, from);
        self.add(expert, to);
    }

    /// A copy that shares its host with another one, and an agent on a host with fewer copies that has room.
    fn spread_move(&self, expert: ExpertId) -> Option<(usize, usize)> {
        let holders = self.holders.get(&expert)?;
        let crowded = |agent: &&usize| self.copies_on_host(**agent, expert) > 1;
        let from = *holders.iter().rev().find(crowded)?;
        let to = self.cheapest(expert)?;
        let gain = self.copies_on_host(from, expert) > self.copies_on_host(to, expert) + 1;
        gain.then_some((from, to))
    }

    /// The move from the fullest possible agent to the emptiest; copies that are not kept go first.
    fn even_move(&self, layer: u32) -> Option<(ExpertId, usize, usize)> {
        let agents = self.count.len();
        let count = |agent| self.layer_count_of(layer, agent);
        let useful = |from: usize, to: usize| {
            let over = count(from) > self.layer_quota[from] && count(to) < self.layer_quota[to];
            over || count(from) > count(to) + 1 && count(to) < self.layer_quota[to]
        };
        let mut pairs: Vec<_> = (0..agents)
            .flat_map(|from| (0..agents).map(move |to| (from, to)))
            .filter(|(from, to)| from != to && useful(*from, *to))
            .collect();
        pairs.sort_by_key(|(from, to)| (std::cmp::Reverse(count(*from)), count(*to), *from, *to));
        pairs.into_iter().find_map(|(from, to)| {
            let movable =
                self.layer_experts(layer).filter(|expert| self.may_move(*expert, from, to));
            let chosen =
                movable.min_by_key(|expert| (self.kept.contains(&(*expert, from)), *expert))?;
            Some((chosen, from, to))
        })
    }

    fn layer_experts(&self, layer: u32) -> impl Iterator<Item = ExpertId> + '_ {
        let first = ExpertId { layer, expert: 0 };
        let last = ExpertId { layer, expert: u32::MAX };
        self.holders.range(first..=last).map(|(expert, _)| *expert)
    }

    fn may_move(&self, expert: ExpertId, from: usize, to: usize) -> bool {
        let holds =
            |agent: usize| self.holders.get(&expert).is_some_and(|set| set.contains(&agent));
        let leaves_host = usize::from(self.host_index[from] == self.host_index[to]);
        holds(from)
            && self.has_room(to, expert)
            && self.copies_on_host(to, expert) - leaves_host
                <= self.copies_on_host(from, expert).saturating_sub(1)
    }

    // -- bookkeeping

    fn copies_of(&self, expert: ExpertId) -> usize {
        self.holders.get(&expert).map_or(0, BTreeSet::len)
    }

    fn layer_count_of(&self, layer: u32, agent: usize) -> u64 {
        self.layer_count.get(&(layer, agent)).copied().unwrap_or(0)
    }

    fn has_room(&self, agent: usize, expert: ExpertId) -> bool {
        let holds = self.holders.get(&expert).is_some_and(|set| set.contains(&agent));
        !holds && self.count[agent] < self.task.candidates[agent].experts_max
    }

    fn copies_on_host(&self, agent: usize, expert: ExpertId) -> usize {
        let host = self.host_index[agent];
        let holders = self.holders.get(&expert).into_iter().flatten();
        holders.filter(|other| self.host_index[**other] == host).count()
    }

    fn add(&mut self, expert: ExpertId, agent: usize) {
        self.holders.entry(expert).or_default().insert(agent);
        *self.layer_count.entry((expert.layer, agent)).or_default() += 1;
        self.count[agent] += 1;
        self.load[agent] += self.load_of(expert);
    }

    fn remove(&mut self, expert: ExpertId, agent: usize) {
        self.holders.entry(expert).or_default().remove(&agent);
        *self.layer_count.entry((expert.layer, agent)).or_default() -= 1;
        self.count[agent] -= 1;
        self.load[agent] -= self.load_of(expert);
    }

    fn load_of(&self, expert: ExpertId) -> u128 {
        self.task.load.get(&expert).copied().map_or(0, u128::from)
    }

    fn into_placement(self) -> BTreeMap<ExpertId, Vec<AgentId>> {
        let name = |agent: usize| self.task.candidates[agent].agent.clone();
        self.holders
            .into_iter()
            .map(|(id, set)| (id, set.into_iter().map(name).collect()))
            .collect()
    }
}

/// Experts of one layer that each agent should hold at most: an even share, less where memory is short, the
/// others taking over what is left.
fn layer_quotas(task: &PlacementTask) -> Vec<u64> {
    let layers: BTreeSet<u32> = task.load.keys().map(|expert| expert.layer).collect();
    let layer_count = (layers.len() as u64).max(1);
    let total = task.load.len() as u64 * u64::from(task.copies);
    let mut level = total.div_ceil((task.candidates.len() as u64).max(1));
    let filled = |level: u64| -> u64 {
        task.candidates.iter().map(|it| it.experts_max.min(level)).fold(0, u64::saturating_add)
    };
    // Smallest common level at which everything fits; no agent holds an expert twice, so the number of experts bounds it.
    while filled(level) < total && level < task.load.len() as u64 {
        level += 1;
    }
    task.candidates.iter().map(|it| it.experts_max.min(level).div_ceil(layer_count)).collect()
}
