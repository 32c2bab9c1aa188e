#!/usr/bin/env python3
"""What it costs a step that a run survives: comparing copies (train.verify_every), saving (checkpoint.every), and the
watch that a rank keeps on the others.

    bench/overhead.py build/dev/cli/headrace [--blocks 15]

Copies are compared, or a checkpoint begun, at every tenth step; what the steps behind such a one take longer than the
last five of its ten, is its cost: of one run, as machines change their mind between two.
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
layers = 6
width = 256
heads = 4
context = 128
vocabulary = 256
[data]
text = ["text.txt"]
[train]
steps = 1000000
microbatch = 2
microbatches = 4
[pipeline]
ranks = 1
replicas = 2
threads = 1
[checkpoint]
at_end = false
keep = 1
"""
OFTEN, SELDOM = 10, 100
WAYS = {
    "train.verify_every": f"train.verify_every={OFTEN}",
    "checkpoint.every": f"checkpoint.every={OFTEN}",
}


def times_of(run, steps, limit=600):
    """When each of these steps was recorded."""
    end = time.monotonic() + limit
    times, seen, path = [], 0, run / "metrics.jsonl"
    while len(times) < steps:
        if time.monotonic() > end:
            raise SystemExit("bench/overhead.py: the run makes no steps")
        if path.exists() and path.stat().st_size != seen:
            now, text = time.monotonic(), path.read_bytes()
            seen = len(text)
            times += [now] * (text.count(b"}\n") - len(times))
        time.sleep(0.002)
    return times


def watch_seconds(run):
    """The processors' time that the threads have had which watch the store, over all ranks."""
    total = 0
    for process in pathlib.Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if f"HEADRACE_BENCH_RUN={run}".encode() not in (process / "environ").read_bytes().split(b"\0"):
                continue
            for task in (process / "task").iterdir():
                if (task / "comm").read_text().strip() == "headrace-store":
                    total += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total / 1e9


def measure(headrace, folder, setting, blocks):
    """The median step, what is paid at every tenth, and the share of a core that a rank watches."""
    run = folder / f"run-{setting.split('=')[0]}"
    environment = dict(os.environ, HEADRACE_BENCH_RUN=str(run))
    process = subprocess.Popen([headrace, "train", "a.toml", "--run-dir", str(run), "--set", setting], cwd=folder,
                               env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        times = times_of(run, OFTEN * (blocks + 1))
        watched = watch_seconds(run)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # behind[k]: the steps that come as the k-th after a tenth one.
    behind = [[times[i] - times[i - 1] for i in range(OFTEN + k, len(times), OFTEN)] for k in range(OFTEN)]
    plain = statistics.median(sum(behind[OFTEN // 2:], []))
    cost = sum(statistics.median(steps) - plain for steps in behind[:OFTEN // 2])
    return plain, cost, watched / 2 / (times[-1] - times[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("headrace")
    parser.add_argument("--blocks", type=int, default=15)
    arguments = parser.parse_args()
    headrace = str(pathlib.Path(arguments.headrace).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "a.toml").write_text(CONFIG)
        (folder / "text.txt").write_text("to be or not to be, that is the question: " * 2000)
        for way, setting in WAYS.items():
            plain, cost, watch = measure(headrace, folder, setting, arguments.blocks)
            print(f"{way} = {SELDOM}: {100 * cost / SELDOM / plain:.3f} % of a step of {1e3 * plain:.0f} ms "
                  f"(each costs {1e3 * cost:.1f} ms)", flush=True)
    print(f"the watch: {100 * watch:.3f} % of a core on each rank")


if __name__ == "__main__":
    main()
