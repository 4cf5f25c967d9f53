//! Writing small safetensors files, valid and not.

use std::path::Path;

use serde_json::{Map, Value, json};

/// One tensor to write.
#[derive(Clone)]
pub(crate) struct Written {
    pub(crate) name: &'static str,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Written {
    pub(crate) fn new(
        name: &'static str,
        dtype: &'static str,
        shape: &[usize],
        bytes: &[u8],
    ) -> Self {
        Self { name, dtype, shape: shape.to_vec(), bytes: bytes.to_vec() }
    }

    pub(crate) fn f32(name: &'static str, shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(name, "F32", shape, &bytes)
    }
}

/// A file with any header text.
pub(crate) fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), data].concat()
}

/// A valid file.
pub(crate) fn encode(tensors: &[Written]) -> Vec<u8> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut data = Vec::new();
    for tensor in tensors {
        let begin = data.len();
        data.extend_from_slice(&tensor.bytes);
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()]});
        header.insert(tensor.name.to_owned(), entry);
    }
    raw(&Value::Object(header).to_string(), &data)
}

/// Writes `model.safetensors`.
pub(crate) fn write(folder: &Path, tensors: &[Written]) {
    std::fs::write(folder.join("model.safetensors"), encode(tensors)).unwrap();
}

/// Writes an index with this `weight_map`.
pub(crate) fn write_index(folder: &Path, weight_map: &Value) {
    let index = json!({"metadata": {"total_size": 0}, "weight_map": weight_map});
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}
