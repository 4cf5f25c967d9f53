//! Text for people. Whoever reads may have gone away (`boyle status | head`), which is no failure of the command,
//! so these do not panic as `println!` does.

use std::io::Write as _;

/// To standard output, at once.
pub fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// To standard error.
pub fn note(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// `println!` for a reader that may be gone.
macro_rules! print_line {
    ($($argument:tt)*) => { $crate::output::print(&format!("{}\n", format_args!($($argument)*))) };
}

/// `eprintln!` for a reader that may be gone.
macro_rules! note_line {
    ($($argument:tt)*) => { $crate::output::note(&format!("{}\n", format_args!($($argument)*))) };
}
