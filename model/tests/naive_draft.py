"""Writes derived/tiny-r1-draft.json: what models/tiny-r1's multi-token-prediction layer guesses, from an independent forward
pass in float64.

Usage: python naive_draft.py, with numpy. For each prompt the last prompt token's next one is the model's own choice; then
come the layer's logits for the token after it, and those for one more from the layer's own state.
"""

import json
import struct

import numpy as np

from naive_fixtures import OUTPUT, attention, experts, network, norm

MODEL = OUTPUT.parent.parent.parent / "models" / "tiny-r1"
PROMPTS = [[0, 3, 20, 31, 44, 57, 4, 5], [0, 3, 100, 101, 7, 300, 41, 42, 500, 4, 5, 77], [0, 9, 8, 7, 6]]


def e4m3(codes):
    sign = np.where(codes & 128, -1.0, 1.0)
    exponent, mantissa = (codes >> 3 & 15).astype(int), (codes & 7) / 8
    return sign * np.where(exponent == 0, mantissa * 2.0**-6, (1 + mantissa) * 2.0 ** (exponent - 7))


def tensors(folder, block=128):
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    result = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        raw = content[begin:end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        elif entry["dtype"] == "F8_E4M3":
            values = e4m3(np.frombuffer(raw, np.uint8))
        else:
            values = np.frombuffer(raw, "<f4").astype(np.float64)
        result[name] = values.reshape(entry["shape"])
    for name in [name for name in result if name.endswith("_scale_inv")]:
        scales = np.kron(result.pop(name), np.ones((block, block)))
        weight = result[name.removesuffix("_scale_inv")]
        weight *= scales[: weight.shape[0], : weight.shape[1]]
    return result


def layer(x, t, c, index):
    prefix, eps = f"model.layers.{index}", c["rms_norm_eps"]
    x = x + attention(norm(x, t[f"{prefix}.input_layernorm.weight"], eps), lambda n: t[f"{prefix}.self_attn.{n}.weight"], c)
    h = norm(x, t[f"{prefix}.post_attention_layernorm.weight"], eps)
    return x + (network(h, t, f"{prefix}.mlp") if index < c["first_k_dense_replace"] else experts(h, t, f"{prefix}.mlp", c))


def states(ids, t, c):
    x = t["model.embed_tokens.weight"][ids]
    for index in range(c["num_hidden_layers"]):
        x = layer(x, t, c, index)
    return norm(x, t["model.norm.weight"], c["rms_norm_eps"])


def guess(following, state, t, c):
    """The layer's own states: `following[i]` is the token after the position of `state[i]`."""
    prefix, eps = f"model.layers.{c['num_hidden_layers']}", c["rms_norm_eps"]
    token = norm(t[f"{prefix}.embed_tokens.weight"][following], t[f"{prefix}.enorm.weight"], eps)
    both = np.concatenate([token, norm(state, t[f"{prefix}.hnorm.weight"], eps)], -1)
    y = layer(both @ t[f"{prefix}.eh_proj.weight"].T, t, c, c["num_hidden_layers"])
    return norm(y, t[f"{prefix}.shared_head.norm.weight"], eps)


def answer(prompt, t, c):
    head = t[f"model.layers.{c['num_hidden_layers']}.shared_head.head.weight"].T
    state = states(prompt, t, c)
    chosen = int((state[-1] @ t["lm_head.weight"].T).argmax())
    following = prompt[1:] + [chosen]
    first = guess(following, state, t, c)
    drafted = int((first[-1] @ head).argmax())
    second = guess(following + [drafted], np.concatenate([state, first[-1:]]), t, c)
    rounded = lambda values: [round(float(value), 5) for value in values]
    return {"prompt": prompt, "next": chosen, "first": rounded(first[-1] @ head), "drafted": drafted,
            "second": rounded(second[-1] @ head)}


def main():
    c = json.loads((MODEL / "config.json").read_text())
    t = tensors(MODEL)
    answers = [answer(prompt, t, c) for prompt in PROMPTS]
    (OUTPUT / "tiny-r1-draft.json").write_text(json.dumps(answers) + "\n")


main()
