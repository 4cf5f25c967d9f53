//! Golden answers of another implementation against ours: logits and greedy tokens of a checkpoint folder.
//!
//! `golden.json` is a list of `{prompt, last_logits, greedy, greedy_margin}`: token ids, the float32 logits of the
//! prompt's last position, the greedy continuation, and how far each of its tokens led the second best.

use crate::executor::{
    Batch, BlockId, CacheShape, Executor, ExecutorError, ExpertCall, ExpertError, Experts, Logits,
    LogitsWanted, Progress, RoutedRows, Segment,
};
use crate::expert_store::ExpertStore;
use crate::kernels::KernelPath;
use crate::load::{LoadError, ModelLoader};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Name of the file with the answers.
pub const GOLDEN_FILE: &str = "golden.json";
/// Largest golden file that is read; some hundred prompts of a full vocabulary fit.
const GOLDEN_BYTES_MAX: u64 = 1 << 30;
/// Cache block of the check; results do not depend on it.
const BLOCK_TOKENS: usize = 16;
/// Reference path: logits are f32 sums in another order, so only their last digits may differ.
const LOGIT_DIFFERENCE_MAX: f64 = 1e-3;
/// Paths with bf16 weights and cache.
const COSINE_MIN: f64 = 0.999;
/// A lead smaller than this may flip when weights and cache are rounded to bf16.
const MARGIN_JUDGED: f32 = 0.1;

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct OracleReport {
    pub path: KernelPath,
    pub prompts: Vec<PromptReport>,
}

/// One prompt's answers against ours.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptReport {
    pub prompt_tokens: usize,
    /// Over the last logits.
    pub logit_difference_max: f64,
    pub cosine: f64,
    pub greedy_equal: usize,
    pub greedy_total: usize,
    /// Positions in the continuation where another token won although the golden one led clearly.
    pub clear_misses: Vec<usize>,
}

/// Whether a path may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
}

/// A check that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    #[error("{file} cannot be read")]
    Unreadable {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{file} is larger than {GOLDEN_BYTES_MAX} bytes")]
    TooLarge { file: PathBuf },
    #[error("{file} is not a list of golden answers")]
    NotGolden {
        file: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{file}, answer {index}: {problem}")]
    BadAnswer { file: PathBuf, index: usize, problem: &'static str },
    #[error("the model cannot be loaded")]
    Load(#[from] LoadError),
    #[error("the forward pass failed")]
    Executor(#[from] ExecutorError),
    #[error("an expert failed")]
    Expert(#[from] ExpertError),
}

/// One entry of the golden file; what the check does not use is ignored.
#[derive(Debug, serde::Deserialize)]
struct Golden {
    prompt: Vec<u32>,
    last_logits: Vec<f32>,
    greedy: Vec<u32>,
    greedy_margin: Vec<f32>,
}

/// Runs every golden prompt through the loader, an executor and local experts on `path`.
///
/// The continuation is fed the golden tokens, so that each position is judged on its own. On the reference path
/// that equals free running, because there every token must be equal.
///
/// # Errors
/// [`OracleError`] when there is nothing to compare; a difference is not an error but a failed report.
pub fn check(directory: &Path, path: KernelPath) -> Result<OracleReport, OracleError> {
    let loader = ModelLoader::open(directory, path)?;
    let golden = read_golden(directory, loader.config().vocab_size)?;
    let longest = golden.iter().map(|golden| golden.prompt.len() + golden.greedy.len()).max();
    let longest = longest.unwrap_or(1);
    let cache =
        CacheShape { block_tokens: BLOCK_TOKENS, block_count: longest.div_ceil(BLOCK_TOKENS) };
    let executor = loader.load_executor(cache, longest, &mut |_| {})?;
    let everything = loader.expert_addresses().into_iter().collect();
    let experts = loader.load_experts(None, &everything, &mut |_| {})?;
    let mut run = Run { executor, experts, cache };
    let prompts = golden.iter().map(|golden| run.prompt(golden)).collect::<Result<_, _>>()?;
    Ok(OracleReport { path, prompts })
}

impl OracleReport {
    /// Reference: every logit within 0.001 and every greedy token equal. Others: cosine at least 0.999 and every
    /// token equal that led by more than 0.1.
    pub fn verdict(&self) -> Verdict {
        let passes = |prompt: &PromptReport| match self.path {
            KernelPath::Reference => {
                prompt.logit_difference_max <= LOGIT_DIFFERENCE_MAX
                    && prompt.greedy_equal == prompt.greedy_total
            }
            KernelPath::Portable
            | KernelPath::Avx2
            | KernelPath::Avx512
            | KernelPath::Avx512Bf16 => {
                prompt.cosine >= COSINE_MIN && prompt.clear_misses.is_empty()
            }
        };
        if !self.prompts.is_empty() && self.prompts.iter().all(passes) {
            Verdict::Pass
        } else {
            Verdict::Fail
        }
    }

    /// The largest difference of any last logit.
    pub fn logit_difference_max(&self) -> f64 {
        self.prompts.iter().map(|prompt| prompt.logit_difference_max).fold(0.0, worse)
    }

    /// The smallest cosine of any prompt's last logits.
    pub fn cosine_min(&self) -> f64 {
        -self.prompts.iter().map(|prompt| -prompt.cosine).fold(-1.0, worse)
    }

    /// Equal greedy tokens, of how many.
    pub fn greedy(&self) -> (usize, usize) {
        let equal = self.prompts.iter().map(|prompt| prompt.greedy_equal).sum();
        (equal, self.prompts.iter().map(|prompt| prompt.greedy_total).sum())
    }
}

/// The larger one; NaN is worse than any number.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
        })
    }
}

impl fmt::Display for OracleReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (equal, total) = self.greedy();
        write!(
            formatter,
            "{} {}: largest logit difference {:.2e}, cosine {:.6}, greedy {equal}/{total}",
            self.verdict(),
            self.path,
            self.logit_difference_max(),
            self.cosine_min(),
        )
    }
}

fn read_golden(directory: &Path, vocab_size: usize) -> Result<Vec<Golden>, OracleError> {
    let file = directory.join(GOLDEN_FILE);
    let mut json = Vec::new();
    let read = File::open(&file)
        .and_then(|open| open.take(GOLDEN_BYTES_MAX + 1).read_to_end(&mut json))
        .map_err(|source| OracleError::Unreadable { file: file.clone(), source })?;
    if read as u64 > GOLDEN_BYTES_MAX {
        return Err(OracleError::TooLarge { file });
    }
    let golden: Vec<Golden> = serde_json::from_slice(&json)
        .map_err(|source| OracleError::NotGolden { file: file.clone(), source })?;
    for (index, answer) in golden.iter().enumerate() {
        let problem = if answer.prompt.is_empty() {
            "the prompt is empty"
        } else if answer.last_logits.len() != vocab_size {
            "last_logits is not as long as the vocabulary"
        } else if answer.greedy.len() != answer.greedy_margin.len() {
            "greedy and greedy_margin differ in length"
        } else {
            continue;
        };
        return Err(OracleError::BadAnswer { file, index, problem });
    }
    Ok(golden)
}

/// One model that answers prompt after prompt in the same cache.
struct Run {
    executor: Box<dyn Executor>,
    experts: ExpertStore,
    cache: CacheShape,
}

impl Run {
    fn prompt(&mut self, golden: &Golden) -> Result<PromptReport, OracleError> {
        let mut logits = self.step(&golden.prompt, 0)?;
        let mut report = PromptReport {
            prompt_tokens: golden.prompt.len(),
            logit_difference_max: largest_difference(&logits, &golden.last_logits),
            cosine: cosine(&logits, &golden.last_logits),
            greedy_equal: 0,
            greedy_total: golden.greedy.len(),
            clear_misses: Vec::new(),
        };
        for (index, (&token, &margin)) in
            golden.greedy.iter().zip(&golden.greedy_margin).enumerate()
        {
            if argmax(&logits) == Some(token as usize) {
                report.greedy_equal += 1;
            } else if margin > MARGIN_JUDGED {
                report.clear_misses.push(index);
            }
            if index + 1 < golden.greedy.len() {
                logits = self.step(&[token], golden.prompt.len() + index)?;
            }
        }
        Ok(report)
    }

    /// Logits after `token_ids` at `position`.
    fn step(&mut self, token_ids: &[u32], position: usize) -> Result<Vec<f32>, OracleError> {
        let segment = Segment {
            token_ids: token_ids.to_vec(),
            position,
            blocks: (0..self.cache.block_count as u32).map(BlockId).collect(),
            logits: LogitsWanted::LastToken,
        };
        let batch = Batch { segments: vec![segment] };
        Ok(run_pass(&mut *self.executor, &self.experts, batch)?.values)
    }
}

/// Runs one pass with all experts at hand.
///
/// # Errors
/// [`OracleError`] from the executor or an expert; the pass is then closed.
pub fn run_pass(
    executor: &mut dyn Executor,
    experts: &dyn Experts,
    batch: Batch,
) -> Result<Logits, OracleError> {
    let mut progress = executor.begin(batch)?;
    loop {
        match progress {
            Progress::Finished(logits) => return Ok(logits),
            Progress::Experts(routed) => {
                let outputs = compute(experts, &routed);
                let resumed = match &outputs {
                    Ok(outputs) => {
                        let outputs: Vec<&[u8]> = outputs.iter().map(Vec::as_slice).collect();
                        executor.resume(&outputs).map_err(OracleError::from)
                    }
                    Err(error) => Err(OracleError::Expert(error.clone())),
                };
                progress = resumed.inspect_err(|_| executor.abandon())?;
            }
        }
    }
}

/// Groups routes by expert and puts the outputs back in the order of the routes.
fn compute(experts: &dyn Experts, routed: &RoutedRows) -> Result<Vec<Vec<u8>>, ExpertError> {
    let mut by_expert: BTreeMap<u32, (Vec<u32>, Vec<usize>)> = BTreeMap::new();
    for (index, route) in routed.routes.iter().enumerate() {
        let (rows, indices) = by_expert.entry(route.expert).or_default();
        rows.push(route.row);
        indices.push(index);
    }
    let mut calls = Vec::with_capacity(by_expert.len());
    let mut order = Vec::with_capacity(routed.routes.len());
    for (expert, (rows, indices)) in by_expert {
        calls.push(ExpertCall { expert, rows });
        order.extend(indices);
    }
    let computed = experts.compute(routed.layer, &calls, &routed.rows)?;
    let row_bytes = experts.row_format().row_bytes(experts.row_length());
    let mut outputs = vec![Vec::new(); routed.routes.len()];
    for (index, output) in order.into_iter().zip(computed.chunks_exact(row_bytes)) {
        outputs[index] = output.to_vec();
    }
    Ok(outputs)
}

fn largest_difference(ours: &[f32], golden: &[f32]) -> f64 {
    ours.iter().zip(golden).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, worse)
}

fn cosine(ours: &[f32], golden: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(ours, golden) / (dot(ours, ours) * dot(golden, golden)).sqrt()
}

/// Index of the largest value, the first among equals; `None` when all are NaN.
fn argmax(values: &[f32]) -> Option<usize> {
    let mut best: Option<(usize, f32)> = None;
    for (index, &value) in values.iter().enumerate() {
        if !value.is_nan() && best.is_none_or(|(_, best)| value > best) {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}
