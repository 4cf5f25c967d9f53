//! The objects as they were last read by a person. `UPDATE_EXPECT=1` writes them anew.

use super::{CASES, objects, target};
use std::path::Path;

#[test]
fn objects_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/render");
    for (name, manifest) in CASES {
        let objects = objects(&target(manifest));
        let documents: Vec<String> =
            objects.iter().map(|object| serde_yaml::to_string(object).unwrap()).collect();
        let found = documents.join("---\n");
        let path = folder.join(format!("{name}.yaml"));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(expected, found, "{name}: read the difference, then run with UPDATE_EXPECT=1");
    }
}
