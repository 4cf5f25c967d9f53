//! The program `boyle-operator`.

fn main() {}
