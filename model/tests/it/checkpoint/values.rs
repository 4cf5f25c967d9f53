use std::collections::BTreeMap;

use model::checkpoint::{Checkpoint, StoredValues};
use model::config::StoredFormat;
use model::fp8::E4M3;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::json;

use super::file::{Written, encode, write, write_index};
use crate::config::fixture;

/// By the format's definition, without bit tricks.
#[test]
fn e4m3_table() {
    for byte in 0..=255u8 {
        let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
        let exponent = i32::from(byte >> 3 & 15);
        let fraction = f64::from(byte & 7) / 8.0;
        let found = E4M3[usize::from(byte)];
        if byte & 0x7f == 0x7f {
            assert!(found.is_nan(), "byte {byte:#x}");
            continue;
        }
        let expected = match exponent {
            0 => sign * fraction * 2f64.powi(-6),
            _ => sign * (1.0 + fraction) * 2f64.powi(exponent - 7),
        };
        assert_eq!(f64::from(found), expected, "byte {byte:#x}");
        assert_eq!(found.is_sign_negative(), byte & 0x80 != 0);
    }
    assert_eq!(E4M3.iter().copied().fold(0.0, f32::max), 448.0);
    assert_eq!(E4M3[1], 2f32.powi(-9));
}

#[test]
fn plain_types() {
    let folder = tempfile::tempdir().unwrap();
    let values = [1.0f32, -0.5, 3.25, 1024.0, -0.0, 65504.0];
    let halves: Vec<u8> =
        values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
    let brains: Vec<u8> =
        values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect();
    let tensors = [
        // Three odd bytes first, so that nothing behind them is aligned.
        Written::new("odd", "U8", &[3], &[1, 2, 3]),
        Written::f32("full", &[2, 3], &values),
        Written::new("half", "F16", &[3, 2], &halves),
        Written::new("brain", "BF16", &[6], &brains),
        Written::f32("empty", &[0, 4], &[]),
        Written::f32("scalar", &[], &[7.0]),
    ];
    write(folder.path(), &tensors);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.contains("half") && !checkpoint.contains("quarter"));
    let read = |name, shape: &[usize]| checkpoint.tensor(name, shape, StoredFormat::Plain).unwrap();
    let full = read("full", &[2, 3]);
    assert_eq!((full.rows(), full.columns(), full.stored_bytes()), (2, 3, 24));
    assert_eq!(full.to_f32(), values);
    let mut row = [0.0; 3];
    full.read_row(1, &mut row);
    assert_eq!(row, values[3..]);
    assert_eq!(read("half", &[3, 2]).to_f32(), values);
    let brain = read("brain", &[6]);
    assert_eq!((brain.rows(), brain.columns(), brain.stored_bytes()), (1, 6, 12));
    assert_eq!(brain.to_f32(), [1.0, -0.5, 3.25, 1024.0, -0.0, 65536.0]);
    assert!(read("empty", &[0, 4]).to_f32().is_empty());
    assert_eq!(read("scalar", &[]).to_f32(), [7.0]);
}

/// 3 × 5 in blocks of 2 × 2: the last row and the last column stand in smaller blocks.
#[test]
fn ragged_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0x30..0x3f).collect();
    let scales = [1.0, 10.0, 100.0, 0.5, 0.0, 3.0];
    let tensors = [
        Written::new("w", "F8_E4M3", &[3, 5], &bytes),
        Written::f32("w_scale_inv", &[2, 3], &scales),
    ];
    write(folder.path(), &tensors);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let tensor =
        checkpoint.tensor("w", &[3, 5], StoredFormat::Fp8Blocks { rows: 2, columns: 2 }).unwrap();
    assert_eq!(tensor.stored_bytes(), 15 + 24);
    let values = tensor.to_f32();
    for row in 0..3 {
        for column in 0..5 {
            let expected = E4M3[0x30 + row * 5 + column] * scales[row / 2 * 3 + column / 2];
            assert_eq!(values[row * 5 + column], expected, "row {row}, column {column}");
        }
    }
    let mut last = [0.0; 5];
    tensor.read_row(2, &mut last);
    assert_eq!(last, values[10..]);
}

/// Every tensor of a real file with ragged 128 × 128 blocks, against the safetensors crate's own reading.
#[test]
fn fp8_fixture() {
    let path = fixture("v3-fp8");
    let bytes = std::fs::read(path.join("model.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.names().count(), reference.len());
    let mut fp8_count = 0;
    for (name, view) in reference.iter().filter(|(_, view)| view.dtype() == Dtype::F8_E4M3) {
        let scales = reference.tensor(&format!("{name}_scale_inv")).unwrap();
        let across = scales.shape()[1];
        let format = StoredFormat::Fp8Blocks { rows: 128, columns: 128 };
        let values = checkpoint.tensor(name, view.shape(), format).unwrap().to_f32();
        for (position, (&byte, &value)) in view.data().iter().zip(&values).enumerate() {
            let (row, column) = (position / view.shape()[1], position % view.shape()[1]);
            let block = (row / 128 * across + column / 128) * 4;
            let scale = f32::from_le_bytes(scales.data()[block..block + 4].try_into().unwrap());
            assert_eq!(value, E4M3[usize::from(byte)] * scale, "{name} [{row}, {column}]");
        }
        fp8_count += 1;
    }
    assert!(fp8_count > 100, "{fp8_count}");
}

/// A fixture cut in three shards reads the same as the single file.
#[test]
fn shards_equal_the_single_file() {
    let bytes = std::fs::read(fixture("v3").join("model.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    let mut shards: BTreeMap<String, Vec<Written>> = BTreeMap::new();
    let mut weight_map = json!({});
    for (position, (name, view)) in reference.iter().enumerate() {
        let shard = format!("model-{:05}-of-00003.safetensors", position % 3 + 1);
        let dtype = if view.dtype() == Dtype::F32 { "F32" } else { "BF16" };
        let name: &'static str = name.to_owned().leak();
        weight_map[name] = json!(shard);
        shards.entry(shard).or_default().push(Written::new(name, dtype, view.shape(), view.data()));
    }
    let folder = tempfile::tempdir().unwrap();
    for (shard, tensors) in &shards {
        std::fs::write(folder.path().join(shard), encode(tensors)).unwrap();
    }
    write_index(folder.path(), &weight_map);
    let sharded = Checkpoint::open(folder.path()).unwrap();
    let single = Checkpoint::open(&fixture("v3")).unwrap();
    assert!(sharded.names().eq(single.names()));
    for (name, view) in reference.iter() {
        let read = |from: &Checkpoint| {
            from.tensor(name, view.shape(), StoredFormat::Plain).unwrap().to_f32()
        };
        assert_eq!(read(&sharded), read(&single), "{name}");
    }
}

#[test]
fn stored_form_is_visible() {
    let checkpoint = Checkpoint::open(&fixture("v3")).unwrap();
    let tensor = checkpoint.tensor("model.norm.weight", &[128], StoredFormat::Plain).unwrap();
    assert!(matches!(tensor.values, StoredValues::Bf16(bytes) if bytes.len() == 256));
}
