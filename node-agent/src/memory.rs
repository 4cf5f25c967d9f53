//! How much memory this process may use.

use std::path::{Path, PathBuf};

/// Where the kernel tells about control groups, this process's own group, and the machine's memory.
#[derive(Clone, Debug)]
pub struct Places {
    pub groups: PathBuf,
    pub own_group: PathBuf,
    pub machine: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            groups: "/sys/fs/cgroup".into(),
            own_group: "/proc/self/cgroup".into(),
            machine: "/proc/meminfo".into(),
        }
    }
}

/// The smallest limit of this process's control groups, and at most the machine's memory; 0 when nothing tells.
pub fn limit_bytes(places: &Places) -> u64 {
    let machine = read(&places.machine).and_then(|text| parse_meminfo(&text));
    let groups = read(&places.own_group).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| group_limits(&places.groups, line));
    limits.chain(machine).min().unwrap_or(0)
}

/// Limits of the group in one line of `/proc/self/cgroup` (`hierarchy:controllers:path`) and of those above it.
fn group_limits(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        _ if controllers.split(',').any(|it| it == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let group = root.join(path.trim_start_matches('/'));
    // A container sees its own group as the root, whatever path the line names.
    let groups = group.ancestors().take_while(|it| it.starts_with(&root));
    groups.filter_map(|group| read(&group.join(file))?.trim().parse().ok()).collect()
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::{Places, limit_bytes};
    use std::fs;
    use std::path::Path;

    /// A machine of 8 GiB whose kernel shows `files`, and `own_group` for this process.
    fn limit(own_group: &str, files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join("groups").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let at = |name: &str, content: &str| {
            let path = root.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        limit_bytes(&Places {
            groups: root.path().join("groups"),
            own_group: at("own", own_group),
            machine: at("meminfo", "MemFree: 1 kB\nMemTotal:    8388608 kB\n"),
        })
    }

    #[test]
    fn the_smallest_limit_counts() {
        let machine = 8 << 30;
        assert_eq!(limit("", &[]), machine);
        assert_eq!(limit("0::/", &[("memory.max", "max\n")]), machine);
        assert_eq!(limit("0::/", &[("memory.max", "1073741824\n")]), 1 << 30);
        let nested = [("a/memory.max", "4096\n"), ("a/b/memory.max", "max\n")];
        assert_eq!(limit("0::/a/b", &nested), 4096);
        // In a container the named path is not there, the root is the group.
        assert_eq!(limit("0::/kubepods/x", &[("memory.max", "2048\n")]), 2048);
        let old = [("memory/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(limit("4:cpu,memory:/x\n1:name=systemd:/y", &old), machine);
        let limited = [("memory/x/memory.limit_in_bytes", "512\n")];
        assert_eq!(limit("4:memory:/x\n", &limited), 512);
    }

    #[test]
    fn nothing_readable_is_zero() {
        let nowhere = Path::new("/nowhere/at/all");
        let places =
            Places { groups: nowhere.into(), own_group: nowhere.into(), machine: nowhere.into() };
        assert_eq!(limit_bytes(&places), 0);
    }
}
