//! Certificate folders, as Kubernetes mounts them and as they go wrong.

use super::pki::{Authority, Leaf, agent};
use proptest::prelude::*;
use proto::tls::{Identity, Pem, Role, Security};
use std::error::Error;
use std::path::Path;
use tempfile::TempDir;

const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// A Secret as the kubelet mounts it: the files are links through `..data`, which is swapped.
pub struct Mounted {
    folder: TempDir,
    version: u32,
}

impl Mounted {
    pub fn new(pem: &Pem) -> Self {
        let mut mounted = Self { folder: tempfile::tempdir().unwrap(), version: 0 };
        mounted.swap(pem);
        for name in FILES {
            let target = Path::new("..data").join(name);
            std::os::unix::fs::symlink(target, mounted.path().join(name)).unwrap();
        }
        mounted
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn swap(&mut self, pem: &Pem) {
        self.version += 1;
        let version = format!("..{}", self.version);
        write(&self.path().join(&version), pem);
        let link = self.path().join("..data_tmp");
        std::os::unix::fs::symlink(&version, &link).unwrap();
        std::fs::rename(&link, self.path().join("..data")).unwrap();
        let _ = std::fs::remove_dir_all(self.path().join(format!("..{}", self.version - 1)));
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join("..data").join(name)).unwrap();
    }
}

fn write(folder: &Path, pem: &Pem) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, content) in FILES.iter().zip([&pem.certificate, &pem.key, &pem.authorities]) {
        std::fs::write(folder.join(name), content).unwrap();
    }
}

/// Everything that the error says.
fn refusal(folder: &Path, role: Role) -> String {
    let error = Security::from_directory(Some(folder), role).unwrap_err();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn no_folder_is_plaintext_and_a_good_one_names_us() {
    let security = Security::from_directory(None, Role::Agent).unwrap();
    assert!(matches!(security, Security::Plaintext));
    let authority = Authority::new("a");
    let folder = Mounted::new(&authority.issue(&Leaf::new(agent("a")), &[&authority]));
    let security = Security::from_directory(Some(folder.path()), Role::Agent).unwrap();
    assert_eq!(security.identity(), Some(&agent("a")));
}

#[test]
fn what_is_wrong_is_named_with_file_and_remedy() {
    let authority = Authority::new("a");
    let good = authority.issue(&Leaf::new(agent("a")), &[&authority]);
    let other = authority.issue(&Leaf::new(agent("a")), &[&authority]);
    let pem = |certificate: &[u8], key: &[u8], authorities: &[u8]| Pem {
        origin: String::new(),
        certificate: certificate.to_vec(),
        key: key.to_vec(),
        authorities: authorities.to_vec(),
    };
    let garbage = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    let no_der = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (crt, key, ca) = (&good.certificate[..], &good.key[..], &good.authorities[..]);
    let stranger = authority.issue(&Leaf::new("example.com"), &[]);
    let router = authority.issue(&Leaf::new("router.a.ns.boyle.internal"), &[]);
    let huge = vec![b' '; (1 << 20) + 1];
    let table = [
        (pem(b"", key, ca), "tls.crt", "no CERTIFICATE block"),
        (pem(garbage, key, ca), "tls.crt", "no PEM text"),
        (pem(no_der, key, ca), "tls.crt", "cannot be read"),
        (pem(&huge, key, ca), "tls.crt", "1 MiB"),
        (pem(&stranger.certificate, key, ca), "tls.crt", "example.com"),
        (pem(&router.certificate, key, ca), "tls.crt", "but this is agent"),
        (pem(crt, b"", ca), "tls.key", "private key"),
        (pem(crt, &other.key, ca), "tls.key", "does not belong"),
        (pem(crt, key, b""), "ca.crt", "no CERTIFICATE block"),
        (pem(crt, key, no_der), "ca.crt", "no authority"),
        (pem(crt, key, crt), "ca.crt", "nobody's authority"),
    ];
    for (pem, file, reason) in table {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &pem);
        let text = refusal(folder.path(), Role::Agent);
        let file = folder.path().join(file).display().to_string();
        assert!(text.contains(&file) && text.contains(reason), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let text = refusal(folder.path(), Role::Operator);
    assert!(text.contains("tls.crt") && text.contains("mount the Secret"), "{text}");
}

#[test]
fn keys_are_never_printed() {
    let authority = Authority::new("a");
    let pem = authority.issue(&Leaf::new(Identity::Operator), &[&authority]);
    let key = String::from_utf8(pem.key.clone()).unwrap();
    let security = Security::from_pem(pem.clone(), Role::Operator).unwrap();
    let printed = format!("{pem:?} {security:?}");
    for line in key.lines().filter(|line| !line.starts_with("-----")) {
        assert!(!printed.contains(line));
    }
    let bytes = format!("{:?}", pem.key);
    assert!(!printed.contains(bytes.trim_matches(['[', ']'])));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_bytes_in_the_folder_make_it_panic(
        files in prop::array::uniform3(prop::collection::vec(any::<u8>(), 0..300)),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key, authorities] = files;
        write(folder.path(), &Pem { origin: String::new(), certificate, key, authorities });
        let text = refusal(folder.path(), Role::Agent);
        prop_assert!(text.contains(&folder.path().display().to_string()));
    }

    #[test]
    fn damage_to_good_files_never_panics(
        file in 0..3_usize,
        position in any::<prop::sample::Index>(),
        change in prop_oneof![Just(None), any::<u8>().prop_map(Some)],
    ) {
        let authority = Authority::new("a");
        let mut pem = authority.issue(&Leaf::new(agent("a")), &[&authority]);
        let content = match file {
            0 => &mut pem.certificate,
            1 => &mut pem.key,
            _ => &mut pem.authorities,
        };
        let position = position.index(content.len());
        match change {
            Some(byte) => content[position] = byte,
            None => content.truncate(position),
        }
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &pem);
        let _ = Security::from_directory(Some(folder.path()), Role::Agent);
    }
}
