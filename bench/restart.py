#!/usr/bin/env python3
"""How long a run is away: from SIGKILL of one rank until the first new step is recorded, under `--max-restarts`
and, where it is there, under torchrun's.

    bench/restart.py build/dev/cli/headrace [--rounds 5] [--torchrun .venv/bin/torchrun]
"""

import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

CONFIG = """
[model]
layers = 4
width = 128
heads = 4
context = 64
vocabulary = 256
[data]
text = ["text.txt"]
[train]
steps = 1000000
microbatch = 2
microbatches = 4
[pipeline]
threads = 1
[checkpoint]
every = 5
"""


def records(run):
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return len([line for line in lines if line.endswith("}")])


def until(condition, limit=120):
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("bench/restart.py: the run does not go on")
        time.sleep(0.005)


def rank_process(run, rank):
    """The process of that rank whose run has this mark in its environment."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue
        if f"HEADRACE_BENCH_RUN={run}".encode() in environment and f"RANK={rank}".encode() in environment:
            if name.startswith("headrace") or name == "exe":
                return int(entry.name)
    return None


def away(command, folder, number):
    run = folder / f"run-{number}"
    environment = dict(os.environ, HEADRACE_BENCH_RUN=str(run), OMP_NUM_THREADS="1")
    process = subprocess.Popen(command + ["--run-dir", str(run)], cwd=folder, env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: records(run) >= 30)
        victim = rank_process(run, 1)
        os.kill(victim, signal.SIGKILL)
        start = time.monotonic()
        time.sleep(0.3)  # what the ranks still write as they end
        # A run that goes on first takes its records back to the checkpoint.
        last = (run / "metrics.jsonl").stat()
        until(lambda: (run / "metrics.jsonl").stat().st_mtime_ns != last.st_mtime_ns)
        cut = records(run)
        until(lambda: records(run) > cut)
        return time.monotonic() - start
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("headrace")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torchrun", default=".venv/bin/torchrun")
    arguments = parser.parse_args()
    headrace = str(pathlib.Path(arguments.headrace).resolve())
    torchrun = pathlib.Path(arguments.torchrun).absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "a.toml").write_text(CONFIG)
        (folder / "text.txt").write_text("to be or not to be, that is the question: " * 400)
        ways = {"headrace train --max-restarts": [headrace, "train", "a.toml", "--ranks", "2", "--max-restarts", "3"]}
        if torchrun.exists():
            ways["torchrun --max-restarts"] = [str(torchrun), "--no-python", "--standalone", "--max-restarts=3",
                                               "--nproc-per-node=2", headrace, "train", "a.toml"]
        medians = {}
        for way, command in ways.items():
            seconds = [away(command, folder, f"{i}-{len(medians)}") for i in range(arguments.rounds)]
            medians[way] = statistics.median(seconds)
            print(f"SIGKILL to the first new step, {way}: median {medians[way]:.2f} s of {arguments.rounds} "
                  f"({min(seconds):.2f} to {max(seconds):.2f})", flush=True)
        if len(medians) == 2:
            ours, theirs = medians.values()
            print(f"torchrun / headrace: {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
