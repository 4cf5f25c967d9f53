//! One sequence: its tokens, how the next one is drawn, and what became of those drawn.

use crate::engine::Vocabulary;
use crate::logprobs::{log_sum_exp, logprob, most_likely};
use crate::output::{Accepted, Finish, Output};
use crate::request::{Request, Sampling, TokenEvent, TokenLogprob, TokenLogprobs};
use crate::sampler::{self, History, NothingToDraw};
use crate::speculation::Acceptance;

/// State beside the cache; with it alone a sequence can be computed again.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    /// Prompt and answer.
    token_ids: Vec<u32>,
    prompt_tokens: usize,
    sampling: Sampling,
    /// Kept up only when penalties read it.
    history: History,
    output: Output,
    /// Guesses at the tokens after the last one.
    drafts: Vec<u32>,
    acceptance: Acceptance,
}

/// What drawing a token did.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    pub(crate) event: TokenEvent,
    pub(crate) finish: Option<Finish>,
}

impl Sequence {
    /// Stands where an earlier home stood after the emitted tokens; the finish when they were the end already.
    pub(crate) fn new(
        request: Request,
        end_token_ids: &[u32],
        vocabulary: &dyn Vocabulary,
    ) -> (Self, Option<Finish>) {
        let mut sequence = Self {
            prompt_tokens: request.prompt_token_ids.len(),
            token_ids: request.prompt_token_ids,
            sampling: request.sampling,
            history: History::default(),
            output: Output::new(&request.stop, end_token_ids),
            drafts: Vec::new(),
            acceptance: Acceptance::default(),
        };
        if sampler::has_penalties(&sequence.sampling) {
            sequence.history.add_prompt(&sequence.token_ids);
        }
        let mut finish = sequence.output.finish_if_full();
        for token_id in request.emitted_token_ids {
            if finish.is_some() {
                break;
            }
            finish = sequence.append(token_id, &vocabulary.token_bytes(token_id)).finish;
        }
        (sequence, finish)
    }

    pub(crate) fn token_ids(&self) -> &[u32] {
        &self.token_ids
    }

    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Tokens that the answer may still get.
    pub(crate) fn tokens_left(&self) -> usize {
        self.output.tokens_left()
    }

    pub(crate) fn drafts(&self) -> &[u32] {
        &self.drafts
    }

    pub(crate) fn take_drafts(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.drafts)
    }

    pub(crate) fn acceptance(&self) -> Acceptance {
        self.acceptance
    }

    pub(crate) fn acceptance_mut(&mut self) -> &mut Acceptance {
        &mut self.acceptance
    }

    /// Guesses one more token from the drafting layer's logits `[vocab_size]`, with the number that the token itself will
    /// be drawn with: where the two distributions are alike, so are the tokens. `None` when there is nothing to draw.
    pub(crate) fn draft(&mut self, logits: &[f32]) -> Option<u32> {
        let position = (self.token_ids.len() + self.drafts.len()) as u64;
        let token_id = sampler::draw(logits, &self.sampling, &self.history, position).ok()?;
        self.drafts.push(token_id);
        Some(token_id)
    }

    /// Draws the next token from its raw logits `[vocab_size]`.
    ///
    /// # Errors
    /// [`NothingToDraw`] when no logit is above minus infinity.
    pub(crate) fn draw(
        &mut self,
        logits: &[f32],
        vocabulary: &dyn Vocabulary,
    ) -> Result<Drawn, NothingToDraw> {
        let position = self.token_ids.len() as u64;
        let token_id = sampler::draw(logits, &self.sampling, &self.history, position)?;
        let logprobs = self
            .sampling
            .top_logprobs
            .map(|count| token_logprobs(logits, token_id, count as usize, vocabulary));
        let accepted = self.append(token_id, &vocabulary.token_bytes(token_id));
        let event = TokenEvent { token_id, text: accepted.text, logprobs };
        Ok(Drawn { event, finish: accepted.finish })
    }

    fn append(&mut self, token_id: u32, bytes: &[u8]) -> Accepted {
        self.token_ids.push(token_id);
        if sampler::has_penalties(&self.sampling) {
            self.history.add_generated(token_id);
        }
        self.output.accept(token_id, bytes)
    }
}

fn token_logprobs(
    logits: &[f32],
    chosen: u32,
    count: usize,
    vocabulary: &dyn Vocabulary,
) -> TokenLogprobs {
    let log_sum_exp = log_sum_exp(logits);
    let entry = |token_id: u32| TokenLogprob {
        token_id,
        logprob: logits
            .get(token_id as usize)
            .map_or(f32::NEG_INFINITY, |logit| logprob(*logit, log_sum_exp)),
        bytes: vocabulary.token_bytes(token_id),
    };
    let top = most_likely(logits, count).into_iter().map(entry).collect();
    TokenLogprobs { chosen: entry(chosen), top }
}
