//! Every queue, timeout and limit of the daemon, with its reason.

use std::time::Duration;

/// KV positions in one cache block: small enough that a short sequence wastes little, large enough that a block table
/// of a full context stays short.
pub const CACHE_BLOCK_TOKENS: usize = 16;

/// Commands that wait for the engine's thread. They come from gRPC tasks, which wait for room; it only bounds memory
/// when a step takes long.
pub const COMMANDS_MAX: usize = 1024;

/// How old the engine's published counters may be while it is busy. Publishing costs microseconds.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// The engine's thread looks at the clock at least this often even when it has nothing to do, so that no lost wake-up
/// can ever stop it for good.
pub const IDLE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How often a changed status is pushed to watchers.
pub const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Watchers hear something at least this often; `WatchStatus` promises one second.
pub const STATUS_HEARTBEAT: Duration = Duration::from_millis(900);

/// Window of the tokens-per-second gauge: long enough to be steady, short enough to follow load.
pub const RATE_WINDOW: Duration = Duration::from_secs(5);

/// The self-test waits for peers that still load; after this long the reason is logged and it goes on waiting.
pub const SELF_TEST_REMINDER: Duration = Duration::from_secs(10);

/// An agent that nobody drained may hold what others still load, whatever the plan says. It goes on answering until no peer
/// has called for the first time, and at most for the second: under load some peer always calls.
pub const PEERS_QUIET: Duration = Duration::from_millis(500);
pub const PEERS_SERVED_MAX: Duration = Duration::from_secs(10);

/// Open connections are closed within this time once the grace is over.
pub const CLOSE_GRACE: Duration = Duration::from_millis(500);

/// Requests of one connection at once; a router opens few connections with many streams.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 4096;

// -- health

/// The engine's thread counts every layer and, when it is idle, every second. A layer of the largest model takes far
/// less; with the probes' own period and threshold a hung engine is killed within 30 s.
pub const ENGINE_STALL_MAX: Duration = Duration::from_secs(12);
/// How often somebody looks whether it has moved.
pub const ENGINE_SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
/// Buckets of a forward pass in seconds: a decode step of a small model up to a large prefill on a processor.
pub const STEP_SECONDS_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Buckets of an expert call in seconds: a network's round trip up to the deadline.
pub const EXCHANGE_SECONDS_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

// -- the model's source

/// Wait before a source is tried again; it doubles up to the maximum. What is mended at the source is noticed soon,
/// and a source that refuses is not pressed.
pub const SOURCE_RETRY_MIN: Duration = Duration::from_secs(2);
pub const SOURCE_RETRY_MAX: Duration = Duration::from_secs(60);
/// Connecting to a source, over a slow network and a proxy.
pub const SOURCE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A source that says nothing for so long has lost us; the request is sent again from where it broke.
pub const SOURCE_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Redirects of one request; a hub has one or two.
pub const SOURCE_REDIRECTS_MAX: usize = 5;
/// Small requests at once while a source is listed.
pub const SOURCE_REQUESTS_MAX: usize = 8;
/// Longest description of a repository: some hundred bytes for each of some thousand files.
pub const HUB_ANSWER_BYTES_MAX: usize = 16 << 20;
/// How long an address that the hub redirected to is used again; signatures in it hold for an hour or so.
pub const HUB_LOCATION_AGE_MAX: Duration = Duration::from_secs(300);
/// Requests for weights at once: enough to fill a fast network over long ways. Each holds one buffer.
pub const FETCH_CONCURRENCY: usize = 8;
/// Bytes that are written at once.
pub const FETCH_BUFFER_BYTES: usize = 1 << 20;
/// Longest request: short enough that all of them end at about the same time, long enough that asking costs nothing.
pub const FETCH_PIECE_BYTES: u64 = 64 << 20;
/// Unneeded bytes between two needed ranges that are fetched rather than asked around.
pub const FETCH_GAP_BYTES: u64 = 16 << 10;
/// Attempts of one request without a single byte; beyond it the whole fetch waits, and says why.
pub const FETCH_ATTEMPTS_MAX: u32 = 6;
/// Wait before a request is sent again; it doubles up to the maximum.
pub const FETCH_BACKOFF_MIN: Duration = Duration::from_millis(200);
pub const FETCH_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A crash loses at most this much of a fetch.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often an agent looks whether another one on its volume has finished fetching.
pub const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// First read of a safetensors file: most headers fit.
pub const HEADER_FIRST_BYTES: u64 = 64 << 10;
/// Longest file beside the weights; the largest tokenisers have some 20 MB.
pub const TEXT_FILE_BYTES_MAX: u64 = 64 << 20;

// -- experts from peers

/// Part of a tensor in one message.
pub const EXPERT_CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for one stream's flow control.
pub const EXPERT_CHUNKS_WAITING_MAX: usize = 4;
/// Experts that are handed out at once; one more is refused and comes from the source.
pub const EXPERT_STREAMS_MAX: usize = 8;
/// Experts that are asked for at once.
pub const PEER_FETCHES_MAX: usize = 4;
/// Peers that are asked for one expert before the source is.
pub const PEERS_ASKED_MAX: usize = 3;
/// A peer that sends nothing for so long is no help.
pub const PEER_CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

// -- assignments

/// Agents of one plan. It bounds the number of links.
pub const PEERS_MAX: usize = 4096;
/// (layer, expert) pairs of one plan; R1 has 14 848.
pub const PLACEMENTS_MAX: usize = 1 << 20;
/// Longest name or address; DNS names have at most 253 characters.
pub const NAME_BYTES_MAX: usize = 253;
/// Longest URI and revision of a model's source.
pub const URI_BYTES_MAX: usize = 2048;
/// Longest path of a model's folder, as Linux has it.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest context in tokens; block tables and position counters are sized for it.
pub const CONTEXT_LENGTH_MAX: u32 = 1 << 22;
/// Largest step in tokens.
pub const STEP_TOKENS_MAX: u32 = 1 << 16;
/// Sequences that run at once, and that wait.
pub const SEQUENCES_MAX: u32 = 1 << 16;
/// A longer wait for one copy would be a stall that clients see.
pub const EXPERT_DEADLINE_MAX_MS: u32 = 60_000;

// -- requests

/// Prompts that are rendered and tokenised at once; each may hold `GENERATE_REQUEST_BYTES_MAX` for a while.
pub const PREPARING_MAX: usize = 64;
/// Prompts up to this size are prepared on the network's own threads: it takes less than a millisecond.
pub const INLINE_PROMPT_BYTES_MAX: usize = 4 << 10;
/// Longest request id in bytes; it is printed in logs.
pub const REQUEST_ID_BYTES_MAX: usize = 256;
/// Stop strings of a request; each is looked for at every token.
pub const STOP_STRINGS_MAX: usize = 64;
/// Longest stop string; this much text may be held back.
pub const STOP_STRING_BYTES_MAX: usize = 1024;
/// Stop token ids of a request.
pub const STOP_TOKENS_MAX: usize = 1024;
/// Entries of `logit_bias`, as OpenAI limits them generously.
pub const LOGIT_BIAS_ENTRIES_MAX: usize = 4096;
/// Largest absolute logit bias, presence and frequency penalty: beyond it a token is certain or banned anyway.
pub const LOGIT_SHIFT_MAX: f32 = 100.0;
/// Largest temperature and repetition penalty: beyond it the distribution is flat.
pub const SCALE_MAX: f32 = 100.0;
/// Alternatives beside the chosen token; OpenAI allows 20.
pub const TOP_LOGPROBS_MAX: u32 = 128;
/// Token events that one message of a stream may carry. It bounds the message, not the stream.
pub const TOKENS_PER_DELTA_MAX: usize = 256;

// -- exchange

/// Threads that run peers' rows. Two: one call computes while another one's rows are copied; the kernels themselves
/// share the cores with the agent's own steps.
pub const EXPERT_WORKERS: usize = 2;
/// Calls of all peers that wait for a worker; one more is refused as overloaded and goes to another copy.
pub const EXPERT_JOBS_MAX: usize = 256;
/// Calls of one peer that are open at once; the stream is not read on before one is answered.
pub const CALLS_PER_STREAM_MAX: usize = 32;
/// Calls that wait for one peer's stream; one more fails at once and goes to another copy.
pub const LINK_QUEUE_MAX: usize = 64;
/// How long after the engine's deadline an answer is still of use: by then the peer is asked again. What is older is
/// not computed any more, so that a process that was stopped for a while does not answer the past.
pub const LATE_ANSWER_MAX: Duration = Duration::from_secs(10);
/// Calls of one peer without an answer. Far more than one engine has open; beyond it the oldest is forgotten.
pub const LINK_PENDING_MAX: usize = 4096;
/// Frames that wait for one stream's flow control.
pub const LINK_OUTGOING_MAX: usize = 16;
/// A peer on the same network answers a connect within milliseconds.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The other side's hello, once connected.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait before the first new connect; it doubles up to the maximum. A restarted process is back within a second.
pub const RECONNECT_MIN: Duration = Duration::from_millis(50);
pub const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// HTTP/2 pings: a partitioned peer is noticed after both together. Calls
/// have deadlines of their own. Pings are answered by threads that do not compute, so that busy cores delay them little.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(2_500);
