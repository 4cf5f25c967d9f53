//! The process substrate keeps every substrate's promises.

use crate::processes::{signal, writing_below};
use cli::arguments::{DeploymentArguments, StateArguments};
use cli::process::{ProcessConfig, ProcessSubstrate};
use cli::resolve::Resolved;
use planner::spec::Goal;
use std::path::PathBuf;
use substrate::Instance;
use substrate::conformance::{Harness, check};
use substrate::status::AgentDetail;
use tempfile::TempDir;

struct Processes {
    _root: TempDir,
    resolved: Resolved,
    goal: Goal,
}

impl Harness for Processes {
    type Substrate = ProcessSubstrate;

    fn goal(&self) -> Goal {
        self.goal.clone()
    }

    fn substrate(&self) -> ProcessSubstrate {
        let directory = self.resolved.directory.clone();
        drop(directory.lock().unwrap());
        ProcessSubstrate::new(ProcessConfig {
            executable: PathBuf::from(env!("CARGO_BIN_EXE_boyle")),
            directory,
            port: 0,
            agent_memory_bytes: self.resolved.agent_memory_bytes,
        })
    }

    fn kill(&self, victim: &AgentDetail) {
        match &victim.instance {
            Some(Instance::Process { pid }) => signal(*pid, "KILL"),
            other => panic!("no process: {other:?}"),
        }
    }

    fn freeze(&self, victim: &AgentDetail) {
        match &victim.instance {
            Some(Instance::Process { pid }) => signal(*pid, "STOP"),
            other => panic!("no process: {other:?}"),
        }
    }

    fn outdate(&self, substrate: &mut ProcessSubstrate) {
        substrate.outdate_agents();
    }

    fn leftovers(&self) -> Vec<String> {
        let pids = writing_below(self.resolved.directory.path());
        pids.iter().map(|pid| format!("pid {pid}")).collect()
    }
}

#[tokio::test]
async fn processes_conform() {
    let root = tempfile::tempdir().unwrap();
    let state = StateArguments { state_directory: Some(root.path().to_owned()) };
    let flags = DeploymentArguments {
        agent_memory: Some(1 << 30),
        state,
        ..DeploymentArguments::default()
    };
    let resolved = Resolved::new(None, &flags).unwrap();
    let goal = resolved.goal().unwrap();
    let harness = Processes { _root: root, resolved, goal };
    if let Err(error) = check(&harness).await {
        panic!("{error}");
    }
}
