//! `boyle bench engine`: the real engine over the real model, in this process and without sockets.

mod report;

use super::cell::{Cell, DECODE_PROMPT, FIRST_TOKENS, MEASURED_TOKENS, REPETITIONS, choose};
use super::error::BenchError;
use super::limits::{LoadedBytes, ModelCost};
use super::machine::{self, Machine};
use super::median;
use crate::arguments::BenchEngineArguments;
use crate::memory::{available_per_agent, readable};
use crate::progress::Progress;
use engine::engine::{Advance, Engine, EngineConfig, Vocabulary};
use engine::exchange::{PeerId, Placement};
use engine::request::{EndOfSequence, Request, Sampling, SequenceEvent, Stop};
use model::executor::CacheShape;
use model::kernels::KernelPath;
use model::load::{LoadError, ModelLoader};
use model::parallel::Parallel;
use node_agent::limits::CACHE_BLOCK_TOKENS;
use node_agent::pool::Pool;
use report::{CellReport, Report};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Prompt tokens that one pass takes, as agents do by default.
const STEP_TOKENS_MAX: usize = 512;
/// A repetition without a result is tried again; a machine that spoils two of three says nothing.
const ATTEMPTS_MAX: usize = 3 * REPETITIONS;
/// Nobody is asked for experts, so nobody is late.
const EXPERT_DEADLINE: Duration = Duration::from_secs(60);
/// Random prompts are the same in every run.
const SEED: u64 = 0x2545_F491_4F6C_DD1D;

/// An opened model and the threads that will compute it.
pub(super) struct Opened {
    pub loader: ModelLoader,
    pub path: KernelPath,
    pub threads: usize,
    pub parallel: Arc<dyn Parallel>,
}

/// The one place that says with what a model computes.
pub(super) fn open(
    directory: &Path,
    kernel: Option<&str>,
    threads: Option<u32>,
) -> Result<Opened, BenchError> {
    if !directory.is_dir() {
        return Err(BenchError::NoFolder { path: directory.into() });
    }
    let path = match kernel {
        Some(name) => name.parse()?,
        None => KernelPath::best(),
    };
    let threads = threads.map_or_else(machine::cores, |threads| threads as usize);
    let pool = Pool::start(threads).map_err(|source| BenchError::Threads { threads, source })?;
    let parallel: Arc<dyn Parallel> = Arc::new(pool);
    let loader = ModelLoader::open_with(directory, path, Arc::clone(&parallel))
        .map_err(|source| BenchError::Model { path: directory.into(), source: Box::new(source) })?;
    Ok(Opened { loader, path, threads, parallel })
}

/// Runs the cells and prints them.
///
/// # Errors
/// [`BenchError`].
pub fn run(arguments: &BenchEngineArguments) -> Result<(), BenchError> {
    let opened = open(&arguments.model, arguments.kernel.as_deref(), arguments.threads)?;
    let config = opened.loader.config();
    let cells = choose(&arguments.cells, config.context_length_max)?;
    let threads = opened.threads;
    let cache = cache_shape(&cells);
    check_memory(bytes_needed(&opened.loader, cache, threads))?;
    let mut progress = Progress::new();
    progress.step("measuring memory and arithmetic");
    let limits = machine::measure(opened.path, threads)?;
    let cost = ModelCost::new(config, loaded_bytes(&opened));
    progress.step("loading the model");
    let failed =
        |source| BenchError::Model { path: arguments.model.clone(), source: Box::new(source) };
    let mut bench = Bench::load(&opened.loader, &cells, cache).map_err(failed)?;
    let mut reports = Vec::new();
    for cell in cells {
        let measured = bench.measure(cell, &mut progress)?;
        reports.push((cell, CellReport::new(cell, measured, &cost, &limits)));
    }
    progress.finish();
    let machine = Machine::read();
    Report::new(arguments.model.clone(), &opened, (machine, threads, limits), reports)
        .print(arguments.output);
    Ok(())
}

/// Room for the largest cell; a sequence's last token is never computed, and takes room all the same.
fn cache_shape(cells: &[Cell]) -> CacheShape {
    let blocks = |cell: &Cell| cell.sequences() * cell.context().div_ceil(CACHE_BLOCK_TOKENS);
    let block_count = cells.iter().map(blocks).max().unwrap_or(1);
    CacheShape { block_tokens: CACHE_BLOCK_TOKENS, block_count }
}

fn loaded_bytes(opened: &Opened) -> LoadedBytes {
    LoadedBytes {
        dense: opened.loader.dense_bytes(),
        expert: opened.loader.expert_bytes(),
        cache_position: opened.loader.cache_block_bytes(1),
        table_value: if opened.path == KernelPath::Reference { 4 } else { 2 },
    }
}

/// Whether the weights fit what is available.
pub(super) fn check_model_memory(opened: &Opened) -> Result<(), BenchError> {
    check_memory(model_bytes(&opened.loader))
}

fn model_bytes(loader: &ModelLoader) -> u64 {
    let experts = loader.expert_bytes().saturating_mul(loader.expert_addresses().len() as u64);
    loader.dense_bytes().saturating_add(experts)
}

fn bytes_needed(loader: &ModelLoader, cache: CacheShape, threads: usize) -> u64 {
    let block = loader.cache_block_bytes(cache.block_tokens);
    let cache = block.saturating_mul(cache.block_count as u64);
    // Buffers of the measurement are gone before the model is loaded.
    model_bytes(loader).saturating_add(cache).max(machine::bytes_needed(threads))
}

fn check_memory(needed: u64) -> Result<(), BenchError> {
    // A machine that does not say is tried.
    let Ok(available) = available_per_agent(1) else { return Ok(()) };
    if needed > available {
        let (needed, available) = (readable(needed), readable(available));
        return Err(BenchError::Memory { needed, available });
    }
    Ok(())
}

/// Ids without text: turning tokens into text is no part of what is measured.
struct Wordless {
    vocab_size: usize,
}

impl Vocabulary for Wordless {
    fn token_bytes(&self, _token_id: u32) -> Vec<u8> {
        Vec::new()
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

/// What was seen of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub tokens_per_second: f64,
    /// Of the prompt before a cell behind a context.
    pub prefill_tokens_per_second: Option<f64>,
}

struct Bench {
    engine: Engine,
    vocab_size: u32,
    random: u64,
    origin: Instant,
}

impl Bench {
    fn load(loader: &ModelLoader, cells: &[Cell], cache: CacheShape) -> Result<Self, LoadError> {
        let config = loader.config();
        let context_length = config.context_length_max;
        let executor = loader.load_executor(cache, context_length, &mut |_| {})?;
        let wanted = loader.expert_addresses().into_iter().collect();
        let experts = Arc::new(loader.load_experts(None, &wanted, &mut |_| {})?);
        let local = PeerId("bench".into());
        let copies = wanted.iter().map(|address| (*address, vec![local.clone()])).collect();
        let engine_config = EngineConfig {
            context_length,
            step_tokens_max: STEP_TOKENS_MAX,
            sequences_max: cells.iter().map(|cell| cell.sequences()).max().unwrap_or(1),
            queue_max: 0,
            expert_deadline: EXPERT_DEADLINE,
            end_token_ids: config.end_token_ids.clone(),
            // Random prompts say nothing of how often drafts are right.
            draft_tokens_max: 0,
        };
        let placement = Placement { generation: 1, local, copies };
        let vocabulary = Arc::new(Wordless { vocab_size: config.vocab_size });
        let engine = Engine::new(engine_config, executor, experts, vocabulary, placement);
        let vocab_size = u32::try_from(config.vocab_size).unwrap_or(u32::MAX);
        Ok(Self { engine, vocab_size, random: SEED, origin: Instant::now() })
    }

    fn measure(&mut self, cell: Cell, progress: &mut Progress) -> Result<Measured, BenchError> {
        if let Cell::DecodeBehind { .. } = cell {
            progress.step(&format!("{cell}: reading {} tokens first", cell.prompt()));
            return self.behind(cell);
        }
        progress.step(&format!("{cell}: warming up"));
        self.seconds(cell, 1)?;
        let mut rates = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            progress.step(&format!("{cell}: {} of {REPETITIONS}", rates.len() + 1));
            rates.extend(match cell {
                Cell::Prefill { tokens } => rate(tokens, self.seconds(cell, 1)?),
                Cell::Decode { .. } | Cell::DecodeBehind { .. } => {
                    let long = self.seconds(cell, FIRST_TOKENS + MEASURED_TOKENS)?;
                    let short = self.seconds(cell, FIRST_TOKENS)?;
                    rate(cell.sequences() * MEASURED_TOKENS, long - short)
                }
            });
            if rates.len() == REPETITIONS {
                let tokens_per_second = median(rates);
                return Ok(Measured { tokens_per_second, prefill_tokens_per_second: None });
            }
        }
        Err(BenchError::Disturbed { cell: cell.to_string(), attempts: ATTEMPTS_MAX })
    }

    /// Time until every sequence of a cell has its tokens.
    fn seconds(&mut self, cell: Cell, answer: usize) -> Result<f64, BenchError> {
        let prompt = if let Cell::Prefill { tokens } = cell { tokens } else { DECODE_PROMPT };
        let requests: Vec<Request> =
            (0..cell.sequences()).map(|_| self.request(prompt, answer)).collect();
        let began = Instant::now();
        for request in requests {
            self.engine.submit(request)?;
        }
        self.run(|| {})?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// One prompt, then all repetitions in a row: a long prompt takes far longer than they do.
    fn behind(&mut self, cell: Cell) -> Result<Measured, BenchError> {
        let request = self.request(cell.prompt(), Cell::behind_answer());
        let began = Instant::now();
        self.engine.submit(request)?;
        let mut times = Vec::new();
        self.run(|| times.push(began.elapsed().as_secs_f64()))?;
        let measured = times.get(FIRST_TOKENS - 1..).unwrap_or_default();
        let ends = measured.iter().step_by(MEASURED_TOKENS);
        let rates =
            ends.clone().zip(ends.skip(1)).map(|(from, to)| MEASURED_TOKENS as f64 / (to - from));
        let first = times.first().copied();
        Ok(Measured {
            tokens_per_second: median(rates.collect()),
            prefill_tokens_per_second: first.map(|seconds| cell.prompt() as f64 / seconds),
        })
    }

    /// Drives the engine until nothing has work; hears of every token.
    fn run(&mut self, mut token: impl FnMut()) -> Result<(), BenchError> {
        loop {
            let advance = self.engine.advance(self.origin.elapsed());
            while let Some((_, event)) = self.engine.poll_event() {
                match event {
                    SequenceEvent::Token(_) => token(),
                    SequenceEvent::Admitted { .. } | SequenceEvent::Finished { .. } => {}
                    SequenceEvent::Failed { message } => {
                        return Err(BenchError::Engine { message });
                    }
                }
            }
            match advance {
                Advance::Ran => {}
                Advance::Idle => return Ok(()),
                Advance::Waiting { .. } => {
                    let message = "it waits for experts although all are here".to_owned();
                    return Err(BenchError::Engine { message });
                }
            }
        }
    }

    fn request(&mut self, prompt: usize, max_tokens: usize) -> Request {
        Request {
            prompt_token_ids: (0..prompt).map(|_| self.random_token()).collect(),
            emitted_token_ids: Vec::new(),
            sampling: greedy(),
            stop: Stop {
                max_tokens,
                strings: Vec::new(),
                token_ids: Vec::new(),
                end_of_sequence: EndOfSequence::Ignore,
            },
        }
    }

    /// xorshift64: good enough to spread tokens over experts.
    fn random_token(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 32) as u32 % self.vocab_size.max(1)
    }
}

/// Tokens per second; `None` where a disturbed machine took no longer for the long run than for the short one.
fn rate(tokens: usize, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| tokens as f64 / seconds)
}

fn greedy() -> Sampling {
    Sampling {
        temperature: 0.0,
        top_k: None,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logit_bias: BTreeMap::new(),
        seed: 0,
        top_logprobs: None,
    }
}

#[cfg(test)]
mod tests;
