//! Objects of `/v1/completions`.

use crate::answer::{Format, Head, UsageKey, WholeChoice};
use crate::assemble::Addition;
use crate::chat::LogprobsKey;
use crate::logprobs::CompletionLogprobs;
use crate::reasoning::Piece;
use crate::usage::Usage;
use proto::v1::TokenLogprobs;
use serde::Serialize;

/// Writes text completion objects.
#[derive(Debug)]
pub struct CompletionFormat {
    pub logprobs: LogprobsKey,
    pub sent: Vec<Sent>,
}

/// What one choice has sent of its log probabilities.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Of tokens whose text is still held back.
    held: Vec<TokenLogprobs>,
    /// Characters before the next token.
    offset: usize,
}

#[derive(Serialize)]
struct Object<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: Option<()>,
    choices: Vec<TextChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct TextChoice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<&'static str>,
}

impl CompletionFormat {
    fn release(&mut self, index: usize) -> Option<CompletionLogprobs> {
        let sent = self.sent.get_mut(index).filter(|sent| !sent.held.is_empty())?;
        Some(CompletionLogprobs::new(std::mem::take(&mut sent.held), &mut sent.offset))
    }
}

impl Format for CompletionFormat {
    fn chunks(
        &mut self,
        head: &Head,
        usage: UsageKey,
        index: usize,
        mut addition: Addition,
    ) -> Result<Vec<String>, serde_json::Error> {
        if let Some(sent) = self.sent.get_mut(index) {
            sent.held.append(&mut addition.logprobs);
        }
        let text: String = addition
            .pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Reasoning(text) | Piece::Content(text) => text,
            })
            .collect();
        if text.is_empty() && addition.finish.is_none() {
            return Ok(Vec::new());
        }
        let logprobs = self.release(index);
        let choice = TextChoice { index, text, logprobs, finish_reason: addition.finish };
        Ok(vec![serde_json::to_string(&object(head, usage.into(), vec![choice]))?])
    }

    fn usage_chunk(&self, head: &Head, usage: Usage) -> Result<String, serde_json::Error> {
        serde_json::to_string(&object(head, Some(Some(usage)), Vec::new()))
    }

    fn whole(
        &self,
        head: &Head,
        choices: Vec<WholeChoice>,
        usage: Usage,
    ) -> Result<String, serde_json::Error> {
        let named = choices.into_iter().enumerate();
        let choices = named.map(|(index, choice)| TextChoice {
            index,
            text: choice.content,
            logprobs: (self.logprobs == LogprobsKey::Wanted)
                .then(|| CompletionLogprobs::new(choice.logprobs, &mut 0)),
            finish_reason: Some(choice.finish),
        });
        serde_json::to_string(&object(head, Some(Some(usage)), choices.collect()))
    }
}

fn object(head: &Head, usage: Option<Option<Usage>>, choices: Vec<TextChoice>) -> Object<'_> {
    Object {
        id: &head.id,
        object: "text_completion",
        created: head.created,
        model: &head.model,
        system_fingerprint: None,
        choices,
        usage,
    }
}
