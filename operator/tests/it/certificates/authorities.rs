use super::world::{DAY, agent, authorities, describe, policy, start};
use k8s_openapi::ByteString;
use operator::certificates::{Authorities, Data, Policy, read_authorities};
use proptest::prelude::*;

fn read(data: &Data) -> Result<Authorities, String> {
    read_authorities(data, "boyle/boyle-ca").map_err(|error| describe(&error))
}

/// In the three states that the Secret can be in.
fn states() -> [Authorities; 3] {
    let one = authorities();
    let two = one.replace(&policy(), start()).unwrap().unwrap();
    let after = start() + DAY;
    let three = two.advance(&[], &policy(), after).unwrap().unwrap();
    [one, two, three]
}

#[test]
fn the_secret_says_all_of_it() {
    let keys: [&[&str]; 3] = [
        &["tls.crt", "tls.key"],
        &["next.crt", "next.key", "tls.crt", "tls.key"],
        &["previous.crt", "tls.crt", "tls.key"],
    ];
    for (state, keys) in states().into_iter().zip(keys) {
        let data = state.data();
        assert_eq!(data.keys().collect::<Vec<_>>(), keys);
        assert_eq!(read(&data), Ok(state.clone()));
        let trusted = state.bundle().matches("BEGIN CERTIFICATE").count();
        assert_eq!(trusted, keys.iter().filter(|key| key.ends_with(".crt")).count());
    }
    let [_, two, three] = states();
    assert!(two.replace(&policy(), start()).unwrap().is_none(), "one replacement at a time");
    assert!(three.replace(&policy(), start()).unwrap().is_none());
}

#[test]
fn a_broken_authority_is_told_and_not_replaced() {
    for state in states() {
        let good = state.data();
        for (key, value) in &good {
            let mut data = good.clone();
            let optional = key == "next.crt" || key == "previous.crt";
            data.remove(key);
            match read(&data) {
                Ok(_) => assert!(optional, "{key}"),
                Err(text) => {
                    assert!(text.contains(key) && text.contains("boyle/boyle-ca"), "{text}");
                    assert!(text.contains("delete the Secret"), "{text}");
                }
            }
            let half = value.0[..value.0.len() / 2].to_vec();
            for content in [Vec::new(), b"?".to_vec(), vec![0xff; 9], half] {
                data.insert(key.clone(), ByteString(content));
                let text = read(&data).unwrap_err();
                assert!(text.contains(key) && text.contains("boyle/boyle-ca"), "{text}");
            }
        }
    }
    let mut mixed = authorities().data();
    mixed.insert("tls.key".to_owned(), authorities().data()["tls.key"].clone());
    assert!(read(&mixed).unwrap_err().contains("does not belong"));

    let state = authorities();
    let leaf = state.issue(&agent(), &policy(), start()).unwrap().data(&state);
    assert!(read(&leaf).unwrap_err().contains("no authority"));
}

#[test]
fn keys_are_never_printed() {
    let [_, two, _] = states();
    let leaf = two.issue(&agent(), &policy(), start()).unwrap();
    let printed = format!("{two:?} {leaf:?}");
    let keys = [&two.data()["tls.key"], &two.data()["next.key"], &leaf.data(&two)["tls.key"]];
    for key in keys {
        let text = String::from_utf8(key.0.clone()).unwrap();
        // The private half is in the first two lines; the third is the public half, which certificates show.
        for line in text.lines().filter(|line| !line.starts_with("-----")).take(2) {
            assert!(!printed.contains(line));
        }
    }
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let short = Policy { authority_life: DAY * 30, ..policy() };
    let state = Authorities::generate(&short, start()).unwrap();
    let leaf = state.issue(&agent(), &short, start() + DAY * 10).unwrap();
    assert_eq!(leaf.validity.not_after, start() + DAY * 30);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_bytes_in_the_secret_make_it_panic(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 5),
    ) {
        let keys = ["tls.crt", "tls.key", "next.crt", "next.key", "previous.crt"];
        let data = keys.iter().zip(values);
        let data: Data = data.map(|(key, value)| ((*key).to_owned(), ByteString(value))).collect();
        prop_assert!(read(&data).is_err());
    }
}
