//! Hostile bytes to each parser: no panic, no more memory than the input's size explains, and what is accepted
//! keeps its promises.

mod memory;
mod mutation;
mod parsers;
