#!/usr/bin/env python3
"""Measure another engine over the benchmark checkpoint: one JSON line of tokens per second.

    python peers.py [--threads N] llama LLAMA_SERVER MODEL.gguf
    python peers.py [--threads N] vllm MODEL_DIR [--eager]

The cells are those of `boyle bench engine`: prefill_512 is 512 over the time of a 512-token prompt and one token;
decode_bN is N * 32 over the difference of the times for 34 and for 2 tokens, prompts of 16. Medians of 3.
"""
import argparse
import concurrent.futures
import json
import os
import random
import statistics
import subprocess
import time
import urllib.request

REPETITIONS = 3
# A repetition that another process spoils is tried again, as `boyle bench engine` does.
ATTEMPTS_MAX = 9
BATCHES = (1, 8, 32)
PORT = 18431
# Loading 3 GB from a slow disk.
START_SECONDS_MAX = 600
RANDOM = random.Random(0)


def prompt(count):
    return [RANDOM.randrange(1000, 100000) for _ in range(count)]


def decode_rates(run, batch):
    rates = []
    for _ in range(ATTEMPTS_MAX):
        seconds = run(batch, 16, 34) - run(batch, 16, 2)
        if seconds > 0:
            rates.append(batch * 32 / seconds)
        if len(rates) == REPETITIONS:
            return rates
    raise SystemExit(f"decode_b{batch}: 34 tokens took no longer than 2; stop what else runs here")


def measure(run):
    """`run(batch, prompt tokens, answer tokens)` -> seconds."""
    run(1, 512, 1)
    cells = {"prefill_512": statistics.median(512 / run(1, 512, 1) for _ in range(REPETITIONS))}
    for batch in BATCHES:
        run(batch, 16, 2)
        cells[f"decode_b{batch}"] = statistics.median(decode_rates(run, batch))
    return cells


def post(body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/completion", json.dumps(body).encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=1200) as answer:
        return json.load(answer)


def wait_for_server(process):
    for _ in range(START_SECONDS_MAX * 2):
        if process.poll() is not None:
            raise SystemExit(f"llama-server ended with status {process.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("llama-server does not answer")


def llama(arguments):
    # Its batch and flash attention are at their defaults, which are the fastest here; the cache is for 32 sequences.
    process = subprocess.Popen(
        [arguments.server, "-m", arguments.model, "-t", str(arguments.threads), "-c", "32768",
         "-np", "32", "--port", str(PORT), "--no-webui", "--fit", "off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def one(prompt_ids, tokens):
        answer = post(dict(prompt=prompt_ids, n_predict=tokens, ignore_eos=True,
                           cache_prompt=False, temperature=0))
        # A server that stops early would look fast.
        if answer["tokens_predicted"] != tokens:
            raise SystemExit(f"asked for {tokens} tokens, got {answer['tokens_predicted']}")

    def run(batch, prompt_tokens, tokens):
        prompts = [prompt(prompt_tokens) for _ in range(batch)]
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(batch) as pool:
            list(pool.map(lambda ids: one(ids, tokens), prompts))
        return time.perf_counter() - began

    try:
        wait_for_server(process)
        return measure(run)
    finally:
        process.terminate()
        process.wait()


def vllm(arguments):
    os.environ.update(
        VLLM_CPU_KVCACHE_SPACE="2", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1",
        VLLM_LOGGING_LEVEL="ERROR", OMP_NUM_THREADS=str(arguments.threads))
    processors = sorted(os.sched_getaffinity(0))
    if arguments.threads < len(processors):
        # Left alone, it binds one thread to each processor, whatever OMP_NUM_THREADS says.
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(
            str(processor) for processor in processors[:arguments.threads])
    from vllm import LLM, SamplingParams
    engine = LLM(arguments.model, dtype="bfloat16", max_model_len=2048, max_num_seqs=32,
                 enforce_eager=arguments.eager, enable_prefix_caching=False)

    def run(batch, prompt_tokens, tokens):
        prompts = [{"prompt_token_ids": prompt(prompt_tokens)} for _ in range(batch)]
        sampling = SamplingParams(max_tokens=tokens, min_tokens=tokens, ignore_eos=True,
                                  temperature=0, detokenize=False)
        began = time.perf_counter()
        engine.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - began

    run(1, 32, 4)
    return measure(run)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    engines = parser.add_subparsers(dest="engine", required=True)
    one = engines.add_parser("llama")
    one.add_argument("server")
    one.add_argument("model")
    one = engines.add_parser("vllm")
    one.add_argument("model")
    one.add_argument("--eager", action="store_true", help="without compiling the model")
    arguments = parser.parse_args()
    measured = {"llama": llama, "vllm": vllm}[arguments.engine](arguments)
    print(json.dumps({"engine": arguments.engine, "threads": arguments.threads, "cells": measured}))


if __name__ == "__main__":
    main()
