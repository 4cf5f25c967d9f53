//! JSON objects whose names must be unique, as the safetensors format demands and serde does not check.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Free-form entry of a safetensors header; never a tensor.
const METADATA_NAME: &str = "__metadata__";

/// Tensor name → `V`, without [`METADATA_NAME`]; a second entry of one name is an error that names it.
#[derive(Debug)]
pub(super) struct UniqueNames<V>(pub(super) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueNames<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<V> {
    type Value = UniqueNames<V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with one entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(name) = access.next_key::<String>()? {
            if name == METADATA_NAME {
                access.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = access
                .next_value()
                .map_err(|error| de::Error::custom(format!("tensor {name}: {error}")))?;
            if entries.contains_key(&name) {
                return Err(de::Error::custom(format!("tensor {name}: named twice")));
            }
            entries.insert(name, value);
        }
        Ok(UniqueNames(entries))
    }
}
