//! One process runs a deployment; the lock dies with it.

use cli::state::{Holder, Running, StateError, StateRoot};

#[test]
fn the_holder_is_named() {
    let root = tempfile::tempdir().unwrap();
    let directory = StateRoot::resolve(Some(root.path())).unwrap().deployment("m");
    assert_eq!(directory.running().unwrap(), None);
    let lock = directory.lock().unwrap();
    assert_eq!(directory.running().unwrap(), Some(Holder::Unknown));
    let running = Running { pid: 4711, port: Some(8080) };
    directory.write_running(&running).unwrap();
    let error = directory.lock().unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("4711") && text.contains("8080") && text.contains("boyle status"),
        "{text}"
    );
    assert!(
        matches!(error, StateError::Running { holder: Holder::Known(held), .. } if held == running)
    );
    drop(lock);
    assert_eq!(directory.running().unwrap(), None);
}

#[test]
fn a_later_run_keeps_the_plan_and_forgets_the_rest() {
    let root = tempfile::tempdir().unwrap();
    let directory = StateRoot::resolve(Some(root.path())).unwrap().deployment("m");
    drop(directory.lock().unwrap());
    for file in ["plan.json", "status.json", "running.json"] {
        directory.write(file, &"old").unwrap();
    }
    std::fs::write(directory.logs().join("agent-0.log"), b"old").unwrap();
    let _lock = directory.lock().unwrap();
    assert_eq!(directory.read::<String>("plan.json").unwrap().as_deref(), Some("old"));
    assert_eq!(directory.read::<String>("status.json").unwrap(), None);
    assert_eq!(directory.running().unwrap(), Some(Holder::Unknown));
    assert!(!directory.logs().join("agent-0.log").exists());
}

#[test]
fn a_file_of_another_shape_is_named() {
    let root = tempfile::tempdir().unwrap();
    let directory = StateRoot::resolve(Some(root.path())).unwrap().deployment("m");
    let _lock = directory.lock().unwrap();
    directory.write("running.json", &["not", "it"]).unwrap();
    let error = directory.read::<Running>("running.json").unwrap_err();
    assert!(error.to_string().contains("running.json"), "{error}");
}

#[test]
fn looking_does_not_keep_a_starter_out() {
    let root = tempfile::tempdir().unwrap();
    let directory = StateRoot::resolve(Some(root.path())).unwrap().deployment("m");
    drop(directory.lock().unwrap());
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            for _ in 0..10_000 {
                directory.running().unwrap();
            }
        });
        while !looking.is_finished() {
            drop(directory.lock().unwrap());
        }
    });
}
