//! The command line.

use crate::memory::parse_bytes;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Port of the HTTP API of `boyle up`.
pub const PORT: u16 = 8080;

const EXAMPLES: &str = "\
Examples:
  boyle chat \"How many r's are in strawberry?\"   ask the embedded model, nothing else needed
  boyle up                                       serve it on http://127.0.0.1:8080
  boyle up deployment.yaml --agents 4 --copies 2 serve a ModelDeployment with four agents
  boyle status                                   look at what runs
  boyle oracle model/tests/fixtures/v3           check the numerics against golden answers
  boyle bench engine models/tiny-r1              measure tokens per second, beside the machine's limits";

/// Serves mixture-of-experts models from agents that share their experts.
#[derive(Debug, Parser)]
#[command(name = "boyle", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a ModelDeployment as processes on this machine until Ctrl-C.
    Up(UpArguments),
    /// Ask a model, and start the embedded one first when nothing runs.
    Chat(ChatArguments),
    /// Show what runs: agents, experts, tokens per second.
    Status(StatusArguments),
    /// Show the plan that `up` would make, without starting anything.
    Plan(PlanArguments),
    /// Check checkpoints with a golden.json against their golden logits and tokens.
    Oracle(OracleArguments),
    /// Measure a model on this machine, beside what memory and processor allow.
    Bench(BenchArguments),
    /// One node agent; `up` starts these.
    #[command(hide = true)]
    Agent(node_agent::AgentArguments),
    /// The router; `up` starts it.
    #[command(hide = true)]
    Router(router::RouterArguments),
}

const UP_HELP: &str = "\
Progress and changes go to standard error; once the model is available, its URL and an example request go to \
standard output (one line of JSON with --json).

Examples:
  boyle up                        the embedded model, 3 agents, 2 copies of each expert
  boyle up --agents 2 --copies 1  other numbers
  boyle up --port 0               any free port
  boyle up deployment.yaml        a ModelDeployment whose model.source is file:///a/checkpoint/folder

Exit status: 0 after Ctrl-C or SIGTERM once the model was available, 130 or 143 when interrupted before, \
1 when it cannot be served, 2 for a wrong command line.

A manifest to start from:

apiVersion: boyle.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: my-model
spec:
  model:
    source: file:///models/my-model
  agents:
    min: 3
  experts:
    copies: 2";

/// `boyle up`.
#[derive(Debug, Args)]
#[command(after_help = UP_HELP)]
pub struct UpArguments {
    /// A ModelDeployment in YAML; without one, the embedded model.
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub deployment: DeploymentArguments,
    /// Port of the HTTP API on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "P", default_value_t = PORT)]
    pub port: u16,
    /// Print one line of JSON instead of text when the model is available.
    #[arg(long)]
    pub json: bool,
}

/// What changes a ModelDeployment for this machine.
#[derive(Clone, Debug, Default, Args)]
pub struct DeploymentArguments {
    /// Number of agents, instead of the file's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub agents: Option<u32>,
    /// Copies of each expert, instead of the file's.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub copies: Option<u32>,
    /// Code that computes: auto, reference, portable, avx2, avx512 or avx512bf16.
    #[arg(long, value_name = "PATH")]
    pub kernel_path: Option<String>,
    /// Tokens that the model's own multi-token-prediction layer guesses ahead at most; 0 turns it off. Answers are the
    /// same.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=4))]
    pub draft_tokens: Option<u32>,
    /// Memory that one agent may use, such as 2GiB; without it, what is available divided among the agents.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub agent_memory: Option<u64>,
    #[command(flatten)]
    pub state: StateArguments,
}

/// Where things are kept.
#[derive(Clone, Debug, Default, Args)]
pub struct StateArguments {
    /// Folder for models, plans, status and logs [default: $XDG_STATE_HOME/boyle or ~/.local/state/boyle].
    #[arg(long, value_name = "D", env = "BOYLE_STATE_ROOT")]
    pub state_directory: Option<PathBuf>,
}

const CHAT_HELP: &str = "\
The model's reasoning is shown dimmed, its answer plain. When standard output is not a terminal, only the answer \
goes there and the reasoning goes to standard error. At the prompt, /new starts another conversation and /quit or \
Ctrl-D leaves. A model whose context is too short for a conversation is asked each question on its own.

Examples:
  boyle chat                                      talk
  boyle chat \"3 + 4 = ?\"                          one question, then exit
  boyle chat --url http://10.0.0.7:8080 \"Hello\"   a model that runs elsewhere";

/// `boyle chat`.
#[derive(Debug, Args)]
#[command(after_help = CHAT_HELP)]
pub struct ChatArguments {
    /// One question; without it, a prompt.
    pub question: Option<String>,
    /// An OpenAI API, instead of what runs on this machine.
    #[arg(long)]
    pub url: Option<String>,
    /// A ModelDeployment in YAML to start when nothing runs; without one, the embedded model.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Randomness of the answer; 0 gives the same one every time.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f32,
    #[command(flatten)]
    pub deployment: DeploymentArguments,
}

/// `boyle status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Print one JSON object a line for each deployment that runs.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub state: StateArguments,
}

/// `boyle plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// A ModelDeployment in YAML; without one, the embedded model.
    pub file: Option<PathBuf>,
    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub deployment: DeploymentArguments,
}

const ORACLE_HELP: &str = "\
Exit status: 0 when every folder passes on every path, 1 otherwise.

Example:
  boyle oracle model/tests/fixtures/*/ --kernel-path reference";

/// `boyle oracle`.
#[derive(Debug, Args)]
#[command(after_help = ORACLE_HELP)]
pub struct OracleArguments {
    /// Checkpoint folders with a golden.json.
    #[arg(required = true, value_name = "DIR")]
    pub directories: Vec<PathBuf>,
    /// Only this path: reference, portable, avx2, avx512 or avx512bf16; may be repeated. Without it, all that this processor runs.
    #[arg(long, value_name = "PATH")]
    pub kernel_path: Vec<String>,
}

/// `boyle bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Tokens per second of the engine, without sockets, and the limits that the machine sets.
    Engine(BenchEngineArguments),
    /// Time from storage into memory, beside a plain read of the same files.
    Load(BenchLoadArguments),
}

const BENCH_ENGINE_HELP: &str = "\
Cells (default: all that fit the model's context; the long contexts take as long as reading their prompts does):
  prefill_512         a prompt of 512 tokens and one token of answer; tokens of the prompt per second
  decode_b1, _b8, _b32  so many sequences at once with prompts of 16 tokens; tokens per second of all together,
                      from the 3rd to the 34th
  decode_b1_ctx1024, _ctx4096, _ctx16384, _ctx32768
                      one sequence at the end of a context so long
Other numbers work too. Prompts are random token ids, the same in every run; sampling is greedy; end tokens are
ignored. A value is the median of 3.

The limit of a cell is the longer of two times: the bytes that a pass must read (weights, the experts that uniform
routing is expected to choose, the cache) over the read bandwidth, and its multiply-adds over the peak of the
processor's instructions. Both are measured in the same run, with all threads. A model that fits the processor's caches
can be faster than the limit, which is that of memory.

Progress goes to standard error, the result to standard output. Measure on a machine that does nothing else.

Examples:
  boyle bench engine models/tiny-r1
  boyle bench engine /models/r1 --cells prefill_512,decode_b1 --json
  boyle bench engine /models/r1 --kernel avx2";

/// `boyle bench engine`.
#[derive(Debug, Args)]
#[command(after_help = BENCH_ENGINE_HELP)]
pub struct BenchEngineArguments {
    /// Folder with config.json and safetensors files; a tokeniser is not needed.
    #[arg(value_name = "MODEL_DIR")]
    pub model: PathBuf,
    /// Only these cells, separated by commas.
    #[arg(long, value_name = "CELLS", value_delimiter = ',')]
    pub cells: Vec<String>,
    /// Code that computes: reference, portable, avx2, avx512 or avx512bf16 [default: the fastest here].
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<String>,
    /// Threads that compute and that the machine's limits are measured with [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    #[command(flatten)]
    pub output: BenchOutput,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct BenchOutput {
    /// Print one line of JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

const BENCH_LOAD_HELP: &str = "\
Loads everything three times and reads the files three times, first from the page cache (warm), then after the system was \
asked to forget them (cold). The rates are bytes of the files over time; the medians are shown.

Example:
  boyle bench load models/tiny-r1 --json";

/// `boyle bench load`.
#[derive(Debug, Args)]
#[command(after_help = BENCH_LOAD_HELP)]
pub struct BenchLoadArguments {
    /// Folder with config.json and safetensors files.
    #[arg(value_name = "MODEL_DIR")]
    pub model: PathBuf,
    /// Code that will compute, which decides how weights are kept [default: the fastest here].
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<String>,
    #[command(flatten)]
    pub output: BenchOutput,
}
