//! How much memory an agent may use on this machine.

use std::path::Path;

/// Why memory could not be determined.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("read {path}; give the memory of an agent with --agent-memory")]
    Read {
        path: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{path} has no line `MemAvailable: N kB`; give the memory of an agent with --agent-memory"
    )]
    NoLine { path: &'static str },
}

const MEMINFO: &str = "/proc/meminfo";

/// Memory that processes can take without swapping, divided among agents, in bytes.
///
/// # Errors
/// [`MemoryError`] where the kernel does not say.
pub fn available_per_agent(agents: u32) -> Result<u64, MemoryError> {
    let text = std::fs::read_to_string(Path::new(MEMINFO));
    let text = text.map_err(|source| MemoryError::Read { path: MEMINFO, source })?;
    let bytes = parse_available(&text).ok_or(MemoryError::NoLine { path: MEMINFO })?;
    Ok(bytes / u64::from(agents.max(1)))
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// `2GiB`, `512MiB`, `1500000000` → bytes, for command lines.
///
/// # Errors
/// A sentence that says what to write.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "Ki" => 1 << 10,
        "MiB" | "Mi" => 1 << 20,
        "GiB" | "Gi" => 1 << 30,
        "TiB" | "Ti" => 1 << 40,
        _ => return Err(format!("unknown unit {unit:?}; write for example 512MiB or 2GiB")),
    };
    let number: u64 = number.parse().map_err(|_| "write for example 512MiB or 2GiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "more memory than there can be".to_owned())
}

/// Bytes for people: `12.2 MB`.
pub fn readable(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    for (size, unit) in UNITS {
        if bytes >= size {
            let tenths = bytes / (size / 10);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}
