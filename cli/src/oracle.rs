//! `boyle oracle`: checkpoints against their golden answers.

use crate::arguments::OracleArguments;
use crate::describe;
use model::kernels::KernelPath;
use model::oracle::{Verdict, check};
use std::path::Path;
use std::process::ExitCode;

/// Runs the checks and prints one line for each folder and path.
///
/// # Errors
/// For a path that does not exist; everything else is a failed line.
pub fn run(arguments: &OracleArguments) -> anyhow::Result<ExitCode> {
    let paths = if arguments.kernel_path.is_empty() {
        KernelPath::available()
    } else {
        arguments.kernel_path.iter().map(|name| name.parse()).collect::<Result<_, _>>()?
    };
    let mut all = Verdict::Pass;
    for directory in &arguments.directories {
        for &path in &paths {
            if check_one(directory, path) == Verdict::Fail {
                all = Verdict::Fail;
            }
        }
    }
    Ok(match all {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Fail => ExitCode::FAILURE,
    })
}

fn check_one(directory: &Path, path: KernelPath) -> Verdict {
    let place = format!("{}  {path:<9}", directory.display());
    match check(directory, path) {
        Ok(report) => {
            let (equal, total) = report.greedy();
            print_line!(
                "{place}  largest logit difference {:.3e}  cosine {:.6}  greedy equal {equal}/{total}  {}",
                report.logit_difference_max(),
                report.cosine_min(),
                report.verdict()
            );
            report.verdict()
        }
        Err(error) => {
            print_line!("{place}  FAIL  {}", describe(&error));
            Verdict::Fail
        }
    }
}
