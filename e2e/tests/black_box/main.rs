//! Black-box tests: the built `boyle`, real processes, HTTP.

mod accuracy;
mod cancel;
mod kill;
mod lifecycle;
mod openai_client;
mod readme;
mod transcripts;
