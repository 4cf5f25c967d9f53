use super::{Command, Hooks, start};
use crate::board::Board;
use crate::engine_watch::EngineWatch;
use crate::metrics::Metrics;
use crate::self_test::one_greedy_token;
use engine::engine::{Engine, EngineConfig, Vocabulary};
use engine::exchange::{PeerId, Placement};
use model::executor::{
    Batch, CacheShape, Executor, ExecutorError, ExpertAddress, ExpertCall, ExpertError, Experts,
    Progress, Pulse, RowFormat,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A fault of ours, which no real executor can be made to have.
struct Faulty;

impl Executor for Faulty {
    fn cache_shape(&self) -> CacheShape {
        CacheShape { block_tokens: 16, block_count: 4 }
    }

    fn begin(&mut self, _: Batch) -> Result<Progress, ExecutorError> {
        panic!("the executor is faulty")
    }

    fn overlap(&mut self) {}

    fn resume(&mut self, _: &[&[u8]]) -> Result<Progress, ExecutorError> {
        Err(ExecutorError::NoPassOpen)
    }

    fn pulse(&self) -> Pulse {
        Pulse::default()
    }

    fn abandon(&mut self) {}
}

/// Hangs in a pass until it is let go.
struct Stuck {
    entered: mpsc::Sender<()>,
    released: std::sync::mpsc::Receiver<()>,
    pulse: Pulse,
}

impl Executor for Stuck {
    fn cache_shape(&self) -> CacheShape {
        Faulty.cache_shape()
    }

    fn begin(&mut self, _: Batch) -> Result<Progress, ExecutorError> {
        self.entered.blocking_send(()).unwrap();
        self.released.recv().unwrap();
        Err(ExecutorError::PassOpen)
    }

    fn overlap(&mut self) {}

    fn resume(&mut self, _: &[&[u8]]) -> Result<Progress, ExecutorError> {
        Err(ExecutorError::NoPassOpen)
    }

    fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    fn abandon(&mut self) {}
}

#[derive(Debug)]
struct NoExperts;

impl Experts for NoExperts {
    fn row_format(&self) -> RowFormat {
        RowFormat::F32
    }

    fn row_length(&self) -> usize {
        1
    }

    fn resident(&self) -> Vec<ExpertAddress> {
        Vec::new()
    }

    fn compute(&self, layer: u32, _: &[ExpertCall], _: &[u8]) -> Result<Vec<u8>, ExpertError> {
        Err(ExpertError::NotResident { layer, expert: 0 })
    }
}

struct OneWord;

impl Vocabulary for OneWord {
    fn token_bytes(&self, _: u32) -> Vec<u8> {
        Vec::new()
    }

    fn vocab_size(&self) -> usize {
        1
    }
}

fn engine(executor: Box<dyn Executor>) -> Engine {
    let config = EngineConfig {
        context_length: 8,
        step_tokens_max: 8,
        sequences_max: 1,
        queue_max: 1,
        expert_deadline: Duration::from_secs(1),
        draft_tokens_max: 0,
        end_token_ids: Vec::new(),
    };
    let placement = Placement { generation: 1, local: PeerId("a".into()), copies: BTreeMap::new() };
    Engine::new(config, executor, Arc::new(NoExperts), Arc::new(OneWord), placement)
}

fn hooks(fatal: mpsc::Sender<String>) -> Hooks {
    Hooks {
        board: Arc::new(Board::new("a", 0)),
        metrics: Arc::new(Metrics::new().unwrap()),
        pulse: Pulse::default(),
        fatal,
    }
}

#[tokio::test]
async fn a_thread_that_hangs_is_seen_from_outside() {
    let (entered, mut inside) = mpsc::channel(1);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (fatal, _) = mpsc::channel(1);
    let hooks = hooks(fatal);
    let watch = EngineWatch::default();
    watch.follow(hooks.pulse.clone());
    let executor = Stuck { entered, released, pulse: hooks.pulse.clone() };
    let commands = start(engine(Box::new(executor)), hooks).unwrap();
    let (events, _happened) = mpsc::channel(2);
    let (accepted, _taken) = oneshot::channel();
    let request = Box::new(one_greedy_token());
    commands.send(Command::Submit { request, events, accepted }).await.unwrap();
    inside.recv().await.unwrap();
    let patience = Duration::from_millis(200);
    let hung = async {
        while watch.stalled() < patience {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), hung).await.expect("nobody saw it hang");
    release.send(()).unwrap();
    let moves = async {
        while watch.stalled() >= patience {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), moves).await.expect("it moves again unseen");
}

#[tokio::test]
async fn a_panic_is_told_and_ends_the_streams() {
    let (fatal, mut reasons) = mpsc::channel(1);
    let commands = start(engine(Box::new(Faulty)), hooks(fatal)).unwrap();
    let (events, mut happened) = mpsc::channel(2);
    let (accepted, taken) = oneshot::channel();
    let request = Box::new(one_greedy_token());
    commands.send(Command::Submit { request, events, accepted }).await.unwrap();
    assert!(taken.await.unwrap().is_ok());
    assert_eq!(happened.recv().await, None);
    assert_eq!(reasons.recv().await.unwrap(), "the executor is faulty");
    assert!(commands.send(Command::PeerUp(PeerId("b".into()))).await.is_err());
}
