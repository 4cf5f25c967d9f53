//! Random bytes and mutated manifests: an error or a deployment, never a panic.

use crds::{MANIFEST_BYTES_MAX, ParseError, parse_yaml};

/// Each of the two tests; enough to reach every branch of the reader many times.
const CASES: u64 = 100_000;

/// SplitMix64, so that every run sees the same bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }
}

fn feed(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    parse_yaml(&text).map_or(0, |deployment| usize::from(deployment.to_request().is_ok()))
}

#[test]
fn random_bytes_are_refused() {
    let mut random = Random(1);
    let mut taken = 0;
    for _ in 0..CASES {
        let length = random.below(48);
        let bytes: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
        taken += feed(&bytes);
    }
    assert_eq!(taken, 0);
}

#[test]
fn mutated_manifests_do_no_harm() {
    let mut random = Random(2);
    let mut taken = 0;
    // Short, so that a case takes microseconds; the structure is all there.
    let seed = "apiVersion: boyle.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: a}\n\
                spec: {model: {source: 'embedded://a'}, agents: &x {min: 2}, experts: {copies: 2}}\n";
    for _ in 0..CASES {
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.next().to_le_bytes()[0],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"{}[]:&*!|>-#'\"\n "[random.below(16)]),
            }
        }
        taken += feed(&bytes);
    }
    assert!(taken > 0, "some mutations only change a name");
}

#[test]
fn large_and_deep_manifests_are_bounded() {
    let long = "a".repeat(MANIFEST_BYTES_MAX + 1);
    assert!(matches!(parse_yaml(&long), Err(ParseError::TooLong { .. })));
    let deep = format!("spec: {}", "[".repeat(MANIFEST_BYTES_MAX / 2));
    assert!(parse_yaml(&deep).is_err());
    let bomb: String = (1..60).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
        let below = level - 1;
        format!("{text}a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}]\n")
    });
    assert!(parse_yaml(&bomb).is_err());
}
