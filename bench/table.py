#!/usr/bin/env python3
"""Put the engines' results together: `table.py FOLDER LLAMA_NAME VLLM_NAME` writes table.md and table.json."""
import json
import re
import sys


def order(name):
    """Prefill, then decode by batch, then by context."""
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    return not name.startswith("prefill"), "ctx" in name, numbers


def rows(boyle, peers):
    for name in sorted(boyle["cells"], key=order):
        cell = boyle["cells"][name]
        measured = {peer: found["cells"].get(name) for peer, found in peers.items()}
        known = [value for value in measured.values() if value]
        yield {
            "cell": name,
            "boyle": cell["tokens_per_second"],
            "limit": cell["limit"],
            "fraction_of_limit": cell["fraction_of_limit"],
            "bound": cell["bound"],
            **measured,
            "ratio_to_best_peer": cell["tokens_per_second"] / max(known) if known else None,
        }


def markdown(boyle, peers, table):
    machine, limits = boyle["machine"], boyle["limits"]
    bf16 = limits["bf16_flop_per_second"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; memory read "
        f"{limits['read_bytes_per_second'] / 1e9:.1f} GB/s, f32 "
        f"{limits['f32_flop_per_second'] / 1e9:.0f} GFLOP/s, bf16 "
        + (f"{bf16 / 1e9:.0f} GFLOP/s" if bf16 else "none")
        + f"; Boyle on kernel path {boyle['kernel_path']} with {boyle['engine_threads']} thread(s), "
        f"peers with {', '.join(str(found['threads']) for found in peers.values())}",
        "",
        "| cell | Boyle tokens/s | limit | share | bound by | "
        + " | ".join(peers) + " | Boyle / best peer |",
        "|---|---:|---:|---:|---|" + "---:|" * (len(peers) + 1),
    ]
    for row in table:
        shown = [f"{row[peer]:.1f}" if row[peer] else "" for peer in peers]
        ratio = row["ratio_to_best_peer"]
        lines.append(
            f"| {row['cell']} | {row['boyle']:.1f} | {row['limit']:.1f} | "
            f"{row['fraction_of_limit']:.0%} | {row['bound']} | " + " | ".join(shown)
            + f" | {f'{ratio:.2f}' if ratio else ''} |")
    return "\n".join(lines) + "\n"


def main():
    folder, llama, vllm = sys.argv[1:]
    load = lambda name: json.load(open(f"{folder}/{name}.json"))
    boyle, peers = load("boyle"), {llama: load("llama"), vllm: load("vllm")}
    table = list(rows(boyle, peers))
    text = markdown(boyle, peers, table)
    with open(f"{folder}/table.md", "w") as file:
        file.write(text)
    with open(f"{folder}/table.json", "w") as file:
        json.dump({"boyle": boyle, "peers": peers, "table": table}, file, indent=1)
        file.write("\n")
    print(text, end="")


if __name__ == "__main__":
    main()
