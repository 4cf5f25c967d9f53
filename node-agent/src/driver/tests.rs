use super::{Command, start};
use crate::board::Board;
use crate::self_test::one_greedy_token;
use engine::engine::{Engine, EngineConfig, Vocabulary};
use engine::exchange::{PeerId, Placement};
use model::executor::{
    Batch, CacheShape, Executor, ExecutorError, ExpertAddress, ExpertCall, ExpertError, Experts,
    Progress, RowFormat,
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

#[tokio::test]
async fn a_panic_is_told_and_ends_the_streams() {
    let config = EngineConfig {
        context_length: 8,
        step_tokens_max: 8,
        sequences_max: 1,
        queue_max: 1,
        expert_deadline: Duration::from_secs(1),
        end_token_ids: Vec::new(),
    };
    let placement = Placement { generation: 1, local: PeerId("a".into()), copies: BTreeMap::new() };
    let engine =
        Engine::new(config, Box::new(Faulty), Arc::new(NoExperts), Arc::new(OneWord), placement);
    let (fatal, mut reasons) = mpsc::channel(1);
    let commands = start(engine, Arc::new(Board::new("a")), fatal).unwrap();
    let (events, mut happened) = mpsc::channel(2);
    let (accepted, taken) = oneshot::channel();
    let request = Box::new(one_greedy_token());
    commands.send(Command::Submit { request, events, accepted }).await.unwrap();
    assert!(taken.await.unwrap().is_ok());
    assert_eq!(happened.recv().await, None);
    assert_eq!(reasons.recv().await.unwrap(), "the executor is faulty");
    assert!(commands.send(Command::PeerUp(PeerId("b".into()))).await.is_err());
}
