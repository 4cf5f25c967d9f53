//! Pure numerics of DeepSeek-class models: configuration, weights, layers, kernels, tokeniser, chat template.
//!
//! Knows no clock, socket or thread. Short names used in the numerics:
//!
//! | name | meaning |
//! |---|---|
//! | `q`, `k`, `v`, `o` | query, key, value, attention output |
//! | `nope`, `rope` | the parts of a head without and with rotary position embedding |
//! | `c_kv` | compressed key/value latent of MLA, after its norm |
//! | `eps` | the epsilon of RMSNorm |

pub mod backend;
mod buffers;
pub mod checkpoint;
pub mod config;
pub mod detokenizer;
pub mod executor;
pub mod expert_store;
pub mod fp8;
pub mod kernels;
pub mod layers;
pub mod load;
pub mod oracle;
pub mod parallel;
pub mod reference;
pub mod runner;
pub mod template;
pub mod tokenizer;
