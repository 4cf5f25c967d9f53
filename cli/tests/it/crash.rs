//! Children that cannot run.

use crate::processes::WAIT_MAX;
use cli::arguments::{DeploymentArguments, StateArguments};
use cli::process::{ProcessConfig, ProcessSubstrate};
use cli::resolve::Resolved;
use std::path::Path;
use substrate::reason::Reason;
use substrate::{DeploymentStatus, Phase, Reconciler};

/// The status once a deployment whose children are `executable` has failed.
async fn failed(executable: &Path) -> DeploymentStatus {
    let root = tempfile::tempdir().unwrap();
    let state = StateArguments { state_directory: Some(root.path().to_owned()) };
    let memory = Some(1 << 30);
    let flags =
        DeploymentArguments { agent_memory: memory, state, ..DeploymentArguments::default() };
    let resolved = Resolved::new(None, &flags).unwrap();
    let _lock = resolved.directory.lock().unwrap();
    let substrate = ProcessSubstrate::new(ProcessConfig {
        executable: executable.to_owned(),
        directory: resolved.directory.clone(),
        port: 0,
        agent_memory_bytes: resolved.agent_memory_bytes,
    });
    let goal = resolved.goal().unwrap();
    let mut reconciler = Reconciler::start(substrate, goal).await.unwrap();
    let failing = async {
        loop {
            let status = reconciler.reconcile().await;
            if status.phase == Phase::Failed {
                return status;
            }
            reconciler.changed().await;
        }
    };
    let status = tokio::time::timeout(WAIT_MAX, failing).await.unwrap();
    reconciler.stop().await.unwrap();
    status
}

#[tokio::test]
async fn a_crash_loop_is_named_with_its_reason_and_its_next_try() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("crashing");
    std::fs::write(&script, "#!/bin/sh\necho the disk is on fire >&2\nexit 7\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let status = failed(&script).await;
    let loops = status.reasons.iter().find_map(|reason| match reason {
        Reason::AgentCrashLooping { exits, next_start_ms, cause, .. } => {
            Some((*exits, *next_start_ms, cause.clone()))
        }
        _ => None,
    });
    let (exits, next_start_ms, cause) = loops.unwrap();
    assert!(exits >= 3 && next_start_ms > Some(0), "{exits} exits, next in {next_start_ms:?} ms");
    assert!(cause.contains("exit status: 7") && cause.contains("the disk is on fire"), "{cause}");
}

#[tokio::test]
async fn an_executable_that_is_not_there_is_named() {
    let status = failed(Path::new("/no/such/boyle")).await;
    let texts: Vec<String> = status.reasons.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.contains("/no/such/boyle")), "{texts:?}");
}
