//! A program that ends at once with exit code 1, in place of Boyle's in an image that is meant to fail. It must need
//! nothing, for there is nothing in the image: it is written byte by byte.

use anyhow::{Result, bail};

/// Where the program is loaded; any page will do.
const ADDRESS: u64 = 0x40_0000;

/// Of the file's header and the one program header after it.
const HEADERS_BYTES: u16 = 64 + 56;

/// The whole file.
///
/// # Errors
/// On an architecture whose instructions are not written down here.
pub fn program() -> Result<Vec<u8>> {
    let (machine, code): (u16, &[u8]) = match std::env::consts::ARCH {
        // mov edi, 1; mov eax, 60 (exit); syscall
        "x86_64" => (62, &[0xbf, 1, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]),
        // mov x0, 1; mov x8, 93 (exit); svc 0
        "aarch64" => (183, &[0x20, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4]),
        other => bail!("no broken image for {other}: write its exit in xtask/src/images/broken.rs"),
    };
    Ok(elf(machine, code))
}

/// An executable of one segment that holds the headers and the code.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let short = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());
    // An executable for this machine, version 1, and where it begins.
    short(&mut file, 2);
    short(&mut file, machine);
    word(&mut file, 1);
    long(&mut file, ADDRESS + u64::from(HEADERS_BYTES));
    // The program header follows; there are no sections and no flags.
    long(&mut file, 64);
    long(&mut file, 0);
    word(&mut file, 0);
    for size in [64, 56, 1, 0, 0, 0] {
        short(&mut file, size);
    }
    // One segment to load, readable and executable: the whole file.
    let size = u64::from(HEADERS_BYTES) + code.len() as u64;
    word(&mut file, 1);
    word(&mut file, 5);
    for value in [0, ADDRESS, ADDRESS, size, size, 0x1000] {
        long(&mut file, value);
    }
    file.extend_from_slice(code);
    file
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    #[test]
    fn it_ends_with_exit_code_1() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken");
        std::fs::write(&path, super::program().unwrap()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Command::new(&path).status().unwrap().code(), Some(1));
    }
}
