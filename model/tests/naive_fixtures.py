"""Writes config.json and golden.json of derived/v2-grouped and derived/v3-wide-eps from an independent forward pass in float64.

Usage: python naive_fixtures.py, with numpy. Both use the weights of another fixture. The pass is first checked
against the answers that transformers gave for those weights. It follows DeepSeek's own published modelling code,
which transformers leaves in one place: norms inside attention have an eps of 1e-6 whatever rms_norm_eps is.
"""

import json
import struct
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures"
# Apart, because every folder of fixtures is a whole checkpoint that `boyle oracle` can run.
OUTPUT = Path(__file__).parent / "derived"
INNER_EPS = 1e-6
GREEDY_TOKENS = 24
DERIVED = {
    "v2-grouped": ("v2-lite", {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
                               "routed_scaling_factor": 4.0}),
    "v3-wide-eps": ("v3", {"rms_norm_eps": 0.01}),
}


def tensors(folder):
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    result = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            words = np.frombuffer(content[begin:end], "<u2").astype(np.uint32) << 16
            values = words.view(np.float32)
        else:
            values = np.frombuffer(content[begin:end], "<f4")
        result[name] = values.reshape(entry["shape"]).astype(np.float64)
    return result


def norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rope(x, theta):
    """x: [positions, heads, width], pairs (2i, 2i + 1)."""
    width = x.shape[-1]
    angles = np.arange(len(x))[:, None] * theta ** (-np.arange(0, width, 2) / width)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None, :]
    return np.stack([turned.real, turned.imag], -1).reshape(x.shape)


def attention(x, w, c):
    n, heads = len(x), c["num_attention_heads"]
    nope, turned, latent = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["kv_lora_rank"]
    if c["q_lora_rank"]:
        compressed = norm(x @ w("q_a_proj").T, w("q_a_layernorm"), INNER_EPS)
        q = compressed @ w("q_b_proj").T
    else:
        q = x @ w("q_proj").T
    q = q.reshape(n, heads, nope + turned)
    kv = x @ w("kv_a_proj_with_mqa").T
    expanded = norm(kv[:, :latent], w("kv_a_layernorm"), INNER_EPS) @ w("kv_b_proj").T
    expanded = expanded.reshape(n, heads, -1)
    key, value = expanded[..., :nope], expanded[..., nope:]
    q_turned = rope(q[..., nope:], c["rope_theta"])
    k_turned = rope(kv[:, None, latent:], c["rope_theta"])[:, 0]
    scores = np.einsum("qhd,khd->hqk", q[..., :nope], key)
    scores = (scores + np.einsum("qhd,kd->hqk", q_turned, k_turned)) / np.sqrt(nope + turned)
    scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
    return np.einsum("hqk,khd->qhd", softmax(scores), value).reshape(n, -1) @ w("o_proj").T


def network(x, t, prefix):
    gate, up = x @ t[f"{prefix}.gate_proj.weight"].T, x @ t[f"{prefix}.up_proj.weight"].T
    return (gate / (1 + np.exp(-gate)) * up) @ t[f"{prefix}.down_proj.weight"].T


def chosen(x, t, prefix, c):
    """Experts of one row and their weights."""
    logits = t[f"{prefix}.gate.weight"] @ x
    groups, kept, count = c["n_group"], c["topk_group"], c["num_experts_per_tok"]
    v3 = c["model_type"] == "deepseek_v3"
    scores = 1 / (1 + np.exp(-logits)) if v3 else softmax(logits)
    choice = scores + t[f"{prefix}.gate.e_score_correction_bias"] if v3 else scores
    if v3 or c["topk_method"] == "group_limited_greedy":
        grouped = np.sort(choice.reshape(groups, -1), 1)
        value = grouped[:, -2:].sum(1) if v3 else grouped[:, -1]
        keep = np.argsort(-value, kind="stable")[:kept]
        mask = np.isin(np.arange(len(choice)) // (len(choice) // groups), keep)
        choice = np.where(mask, choice, -np.inf)
    experts = np.argsort(-choice, kind="stable")[:count]
    weights = scores[experts]
    if v3 and c["norm_topk_prob"]:
        weights = weights / (weights.sum() + 1e-20)
    return experts, weights * c["routed_scaling_factor"]


def experts(x, t, prefix, c):
    out = network(x, t, f"{prefix}.shared_experts")
    for row in range(len(x)):
        for expert, weight in zip(*chosen(x[row], t, prefix, c)):
            out[row] += weight * network(x[row], t, f"{prefix}.experts.{expert}")
    return out


def logits(ids, t, c):
    eps = c["rms_norm_eps"]
    x = t["model.embed_tokens.weight"][ids]
    for layer in range(c["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        w = lambda name: t[f"{prefix}.self_attn.{name}.weight"]
        x = x + attention(norm(x, t[f"{prefix}.input_layernorm.weight"], eps), w, c)
        h = norm(x, t[f"{prefix}.post_attention_layernorm.weight"], eps)
        run = network(h, t, f"{prefix}.mlp") if layer < c["first_k_dense_replace"] else experts(h, t, f"{prefix}.mlp", c)
        x = x + run
    return norm(x, t["model.norm.weight"], eps)[-1] @ t["lm_head.weight"].T


def answer(prompt, t, c):
    ids, greedy, margins = list(prompt), [], []
    first = None
    for _ in range(GREEDY_TOKENS):
        last = logits(ids, t, c)
        first = last if first is None else first
        second, best = np.sort(last)[-2:]
        greedy.append(int(last.argmax()))
        margins.append(round(float(best - second), 6))
        ids.append(greedy[-1])
    last_logits = [round(float(value), 6) for value in first]
    return {"prompt": prompt, "last_logits": last_logits, "greedy": greedy, "greedy_margin": margins}


def main():
    for name, (source, changes) in DERIVED.items():
        t = tensors(FIXTURES / source)
        config = json.loads((FIXTURES / source / "config.json").read_text())
        known = json.loads((FIXTURES / source / "golden.json").read_text())[:3]
        for entry in known:
            difference = np.abs(logits(entry["prompt"], t, config) - entry["last_logits"]).max()
            assert difference < 1e-4, f"{source}: {difference}"
        before = [logits(entry["prompt"], t, config) for entry in known]
        config |= changes
        golden = [answer(entry["prompt"], t, config) for entry in known]
        changed = [np.abs(a - b["last_logits"]).max() for a, b in zip(before, golden)]
        print(f"{name}: logits differ from {source} by {changed}")
        (OUTPUT / name).mkdir(parents=True, exist_ok=True)
        (OUTPUT / name / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        (OUTPUT / name / "golden.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
