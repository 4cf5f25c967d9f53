//! Sizes that both sides of a connection agree on.

/// Largest `Assignment`: R1's placement has 14 848 experts; at ten copies with 63-byte names each that is under
/// 10 MiB. A larger message is refused before it is read.
pub const ASSIGNMENT_BYTES_MAX: usize = 16 << 20;

/// Largest `AgentStatus`: lists of resident experts and troubles, a few bytes for each.
pub const STATUS_BYTES_MAX: usize = 4 << 20;

/// Largest `GenerateRequest`: a full context of 160 Ki tokens has about 1 MiB of text; tools and escapes included it
/// stays below this. It bounds what one connection can make an agent hold.
pub const GENERATE_REQUEST_BYTES_MAX: usize = 8 << 20;

/// Largest `GenerateEvent`: the first one echoes every prompt token id, at most 5 bytes each.
pub const GENERATE_EVENT_BYTES_MAX: usize = 8 << 20;

/// Largest header of an exchange frame: 128 Ki (expert, row) pairs, eight for each of 16 Ki rows. prost unfolds a
/// header of this size into at most 16 MiB.
pub const EXCHANGE_HEADER_BYTES_MAX: usize = 1 << 20;

/// Largest exchange frame: the outputs of 512 rows with eight experts each, of 7 168 bf16 values. Engines with larger
/// steps would have to split their calls; a receiver reserves this much for each open stream at worst.
pub const EXCHANGE_FRAME_BYTES_MAX: usize = 64 << 20;

/// HTTP/2 window of one stream: a whole dispatch of a busy step travels without waiting for a window update.
pub const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// HTTP/2 window of one connection: several such streams at once.
pub const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Largest HTTP/2 frame: fewer frame headers and wake-ups for each dispatch than the default of 16 KiB.
pub const HTTP2_FRAME_BYTES_MAX: u32 = 1 << 20;
