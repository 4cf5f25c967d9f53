//! Objects of `/v1/chat/completions`.

use crate::answer::{Format, Head, UsageKey, WholeChoice};
use crate::assemble::Addition;
use crate::logprobs::ChatLogprobs;
use crate::parse::ReasoningText;
use crate::reasoning::Piece;
use crate::usage::Usage;
use proto::v1::TokenLogprobs;
use serde::Serialize;

/// Writes chat objects; keeps log probabilities of tokens whose text is still held back.
#[derive(Debug)]
pub struct ChatFormat {
    pub reasoning: ReasoningText,
    pub logprobs: LogprobsKey,
    /// For each choice: log probabilities not sent yet.
    pub held: Vec<Vec<TokenLogprobs>>,
}

/// Whether the client asked for log probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogprobsKey {
    Wanted,
    Null,
}

impl From<Option<u32>> for LogprobsKey {
    fn from(top_logprobs: Option<u32>) -> Self {
        if top_logprobs.is_some() { Self::Wanted } else { Self::Null }
    }
}

#[derive(Serialize)]
struct Object<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: Option<()>,
    choices: Vec<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

#[derive(Serialize)]
struct MessageChoice {
    index: usize,
    message: Message,
    logprobs: Option<ChatLogprobs>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    refusal: Option<()>,
}

impl ChatFormat {
    /// The deltas of one addition, in order.
    fn deltas(&self, addition: &mut Addition) -> Vec<Delta> {
        let mut deltas = Vec::new();
        if addition.accepted {
            let content = Some(String::new());
            deltas.push(Delta { role: Some("assistant"), content, ..Delta::default() });
        }
        for piece in addition.pieces.drain(..) {
            match (piece, self.reasoning) {
                (Piece::Reasoning(text), ReasoningText::Shown) => {
                    deltas.push(Delta { reasoning_content: Some(text), ..Delta::default() });
                }
                (Piece::Reasoning(_), ReasoningText::Hidden) => {}
                (Piece::Content(text), _) => {
                    deltas.push(Delta { content: Some(text), ..Delta::default() });
                }
            }
        }
        deltas
    }

    /// Log probabilities that belong to the next chunk of this choice.
    fn release(&mut self, index: usize) -> Option<ChatLogprobs> {
        let held = self.held.get_mut(index).filter(|held| !held.is_empty())?;
        Some(ChatLogprobs::new(std::mem::take(held)))
    }
}

impl Format for ChatFormat {
    fn chunks(
        &mut self,
        head: &Head,
        usage: UsageKey,
        index: usize,
        mut addition: Addition,
    ) -> Result<Vec<String>, serde_json::Error> {
        if let Some(held) = self.held.get_mut(index) {
            held.append(&mut addition.logprobs);
        }
        let mut choices = Vec::new();
        for delta in self.deltas(&mut addition) {
            let logprobs = self.release(index);
            choices.push(ChunkChoice { index, delta, logprobs, finish_reason: None });
        }
        if let Some(reason) = addition.finish {
            let (delta, logprobs) = (Delta::default(), self.release(index));
            choices.push(ChunkChoice { index, delta, logprobs, finish_reason: Some(reason) });
        }
        let chunk = |choice| serde_json::to_string(&chunk_object(head, usage.into(), vec![choice]));
        choices.into_iter().map(chunk).collect()
    }

    fn usage_chunk(&self, head: &Head, usage: Usage) -> Result<String, serde_json::Error> {
        serde_json::to_string(&chunk_object(head, Some(Some(usage)), Vec::new()))
    }

    fn whole(
        &self,
        head: &Head,
        choices: Vec<WholeChoice>,
        usage: Usage,
    ) -> Result<String, serde_json::Error> {
        let named = choices.into_iter().enumerate();
        let choices = named.map(|(index, choice)| MessageChoice {
            index,
            message: Message {
                role: "assistant",
                content: choice.content,
                reasoning_content: Some(choice.reasoning)
                    .filter(|text| !text.is_empty() && self.reasoning == ReasoningText::Shown),
                refusal: None,
            },
            logprobs: (self.logprobs == LogprobsKey::Wanted)
                .then(|| ChatLogprobs::new(choice.logprobs)),
            finish_reason: choice.finish,
        });
        serde_json::to_string(&Object {
            id: &head.id,
            object: "chat.completion",
            created: head.created,
            model: &head.model,
            system_fingerprint: None,
            choices: choices.collect(),
            usage: Some(Some(usage)),
        })
    }
}

fn chunk_object(
    head: &Head,
    usage: Option<Option<Usage>>,
    choices: Vec<ChunkChoice>,
) -> Object<'_, ChunkChoice> {
    Object {
        id: &head.id,
        object: "chat.completion.chunk",
        created: head.created,
        model: &head.model,
        system_fingerprint: None,
        choices,
        usage,
    }
}
