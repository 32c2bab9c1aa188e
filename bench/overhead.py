#!/usr/bin/env python3
"""What it costs a step that a run survives: comparing copies (train.verify_every), saving (checkpoint.every), and the
watch that a rank keeps on the others.

    bench/overhead.py build/dev/cli/headrace [--rounds 5]

Each way in turn, --rounds times; the medians are compared. Copies are compared, or a checkpoint begun, at every
tenth step, and the cost is given for every hundredth.
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
FROM, STEPS, OFTEN, SELDOM = 10, 60, 10, 100
WAYS = {
    "nothing": [],
    "train.verify_every": [f"train.verify_every={OFTEN}"],
    "checkpoint.every": [f"checkpoint.every={OFTEN}"],
}


def records(run):
    try:
        return (run / "metrics.jsonl").read_bytes().count(b"}\n")
    except FileNotFoundError:
        return 0


def until(run, count, limit=300):
    end = time.monotonic() + limit
    while records(run) < count:
        if time.monotonic() > end:
            raise SystemExit("bench/overhead.py: the run makes no steps")
        time.sleep(0.002)
    return time.monotonic()


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


def measure(headrace, folder, settings, number):
    """Seconds a step, and the share of them that a rank watches."""
    run = folder / f"run-{number}"
    command = [headrace, "train", "a.toml", "--run-dir", str(run)]
    for setting in settings:
        command += ["--set", setting]
    environment = dict(os.environ, HEADRACE_BENCH_RUN=str(run))
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        begin, watched = until(run, FROM), watch_seconds(run)
        end = until(run, FROM + STEPS)
        watched = watch_seconds(run) - watched
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return (end - begin) / STEPS, watched / 2 / (end - begin)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("headrace")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    headrace = str(pathlib.Path(arguments.headrace).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "a.toml").write_text(CONFIG)
        (folder / "text.txt").write_text("to be or not to be, that is the question: " * 2000)
        steps = {way: [] for way in WAYS}
        watch = []
        for number in range(arguments.rounds):
            for way, settings in WAYS.items():
                seconds, share = measure(headrace, folder, settings, f"{number}-{list(WAYS).index(way)}")
                steps[way].append(seconds)
                watch.append(share)
    plain = statistics.median(steps["nothing"])
    print(f"a step of two replicas, 4.8 M parameters: {1e3 * plain:.1f} ms "
          f"({1e3 * min(steps['nothing']):.1f} to {1e3 * max(steps['nothing']):.1f})")
    for way in list(WAYS)[1:]:
        # Round by round, as machines change their mind between rounds.
        more = statistics.median(with_it - without for with_it, without in zip(steps[way], steps["nothing"]))
        print(f"{way} = {SELDOM}: {100 * more * OFTEN / SELDOM / plain:.3f} % of a step "
              f"(each costs {1e3 * more * OFTEN:.1f} ms)")
    print(f"the watch: {100 * statistics.median(watch):.3f} % of a core on each rank")


if __name__ == "__main__":
    main()
