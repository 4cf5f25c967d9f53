//! `boyle`: see `boyle --help`.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(cli::arguments::Arguments::parse())
}
