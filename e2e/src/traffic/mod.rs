//! Traffic with known answers through the HTTP API, and what became of it.
//!
//! Some streams that are always open, and arrivals that do not wait for earlier answers: both as the seed says. A
//! connection that breaks takes its request along; as OpenAI's client does, the driver sends it again, and counts it.

mod attempt;
mod histogram;
pub mod prompts;
pub mod random;
mod tally;
mod totals;

pub use attempt::{Ending, Target};
pub use tally::{Counts, Lateness, Reconnects, Report};
pub use totals::Totals;

use anyhow::{Result, ensure};
use prompts::Prompt;
use random::Random;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tally::{Tally, Times};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Requests open at once; later arrivals are counted and not sent. It bounds the driver's memory.
const OPEN_MAX: usize = 2048;
/// Times that one request is sent again; OpenAI's client does it twice, but starts again less often.
const RECONNECTS_MAX: u32 = 12;
/// Before a request is sent again: doubled each time up to the second.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(1);
/// For open requests when the traffic stops: longer than a router holds a request.
const END_WAIT: Duration = Duration::from_secs(150);
/// For every stream to have a token.
const FLOW_WAIT: Duration = Duration::from_secs(60);

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Streams that are always open.
    pub streams: usize,
    /// Further requests a second, at independent moments.
    pub rate: f64,
    pub seed: u64,
    pub lateness: Lateness,
}

impl Load {
    /// So many streams and nothing else.
    pub fn streams(streams: usize, seed: u64) -> Self {
        Self { streams, rate: 0.0, seed, lateness: Lateness::default() }
    }
}

/// Running traffic.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    prompts: Vec<Prompt>,
    started: Instant,
    tally: Mutex<Tally>,
}

impl Traffic {
    /// Begins at once.
    pub fn start(target: Target, prompts: Vec<Prompt>, load: Load) -> Self {
        let shared = Arc::new(Shared {
            target,
            prompts,
            started: Instant::now(),
            tally: Mutex::new(Tally::new(load.lateness)),
        });
        let (stopping, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (_, number) in (0..load.streams).zip(1..) {
            let random = Random::new(load.seed, number);
            tasks.spawn(one_by_one(Arc::clone(&shared), random, stopped.clone()));
        }
        if load.rate > 0.0 {
            tasks.spawn(arrivals(Arc::clone(&shared), load, stopped));
        }
        Self { shared, stopping, tasks }
    }

    pub fn counts(&self) -> Counts {
        self.shared.tally().counts()
    }

    /// Waits until `count` more answers have come whole: something flows.
    ///
    /// # Errors
    /// When they do not come in time; with the report.
    pub async fn flows(&self, count: u64) -> Result<()> {
        let wanted = self.counts().whole + count;
        let end = Instant::now() + FLOW_WAIT;
        while self.counts().whole < wanted {
            ensure!(
                Instant::now() < end,
                "no answers for {} s:\n{}",
                FLOW_WAIT.as_secs(),
                self.report()
            );
            sleep(PAUSE_FIRST).await;
        }
        Ok(())
    }

    pub fn report(&self) -> Report {
        self.shared.tally().report(self.shared.started.elapsed())
    }

    /// Asks nothing new, and waits for what runs.
    pub async fn stop(mut self) -> Report {
        self.stopping.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(END_WAIT, ended).await.is_err() {
            let counts = self.counts();
            let open = counts.asked - counts.whole - counts.failed - counts.cut - counts.changed;
            self.shared.tally().unfinished(usize::try_from(open).unwrap_or(usize::MAX));
        }
        self.report()
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        // A panic while it was held can have lost one count; the panic itself is seen.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, sent again whenever its connection breaks.
    async fn ask(&self, prompt: &Prompt) {
        let now = || self.started.elapsed();
        self.tally().asked();
        let mut times = Times::new(now());
        let mut pause = PAUSE_FIRST;
        for reconnects in 0.. {
            let heard = || self.tally().heard(&mut times, now());
            let ending = self.target.ask(prompt, heard).await;
            match &ending {
                Ending::Broken(reason) if reconnects < RECONNECTS_MAX => {
                    self.tally().reconnects(&mut times, now(), reason);
                }
                _ => return self.tally().ended(&times, now(), &ending, &prompt.question),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    fn draw(&self, random: &mut Random) -> Option<&Prompt> {
        self.prompts.get(random.below(self.prompts.len()))
    }
}

async fn one_by_one(shared: Arc<Shared>, mut random: Random, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let Some(prompt) = shared.draw(&mut random) else { return };
        shared.ask(prompt).await;
    }
}

async fn arrivals(shared: Arc<Shared>, load: Load, mut stopped: watch::Receiver<bool>) {
    let mut random = Random::new(load.seed, 0);
    let mut open = JoinSet::new();
    let mut next = Instant::now();
    loop {
        next += random.until_next(load.rate);
        let over = async {
            // The sender may be gone, which is the end too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        tokio::select! {
            () = over => break,
            () = sleep_until(next) => {}
        }
        while open.try_join_next().is_some() {}
        if open.len() >= OPEN_MAX {
            shared.tally().unsent();
            continue;
        }
        let Some(prompt) = shared.draw(&mut random).cloned() else { break };
        let shared = Arc::clone(&shared);
        open.spawn(async move { shared.ask(&prompt).await });
    }
    while open.join_next().await.is_some() {}
}
