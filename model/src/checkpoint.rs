//! A checkpoint folder: memory-mapped safetensors (one file, or shards with an index), read tensor by tensor.
