//! Black-box tests: the built `boyle`, real processes, HTTP.

mod cancel;
mod kill;
mod lifecycle;
mod openai_client;
mod transcripts;
