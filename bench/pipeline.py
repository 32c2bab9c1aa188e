"""Our pipeline beside torch.distributed.pipelining and, where it is installed, DeepSpeed: tokens/s and ratios.

    pipeline.py GPT_BENCH [--rounds 3] [--sizes large,tiny] [--schedules 1f1b,gpipe,interleaved,zb-h1,zb-v]

The limit is two independent one-thread runs of our whole model at the same time: what two cores can do with nothing
between them. DeepSpeed's PipelineModule has 1F1B alone: its row appears with that schedule. Every round measures all
columns, one after the other; medians over the rounds are printed.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
PEER = PEERS / "torch_pipelining.py"
DEEPSPEED = PEERS / "deepspeed_pipeline.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def result(process):
    out, err = process.communicate(timeout=600)
    if process.returncode != 0:
        sys.exit(f"error: {' '.join(process.args)} ended with {process.returncode}:\n{err}")
    return json.loads(out.strip().splitlines()[-1])


def two_at_once(command):
    return sum(result(process)["tokens_per_second"] for process in [start(command), start(command)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="large,tiny")
    parser.add_argument("--schedules", default="1f1b,gpipe,interleaved,zb-h1,zb-v")
    arguments = parser.parse_args()
    schedules = arguments.schedules.split(",")
    for size in arguments.sizes.split(","):
        rows = {}
        simulated = {}

        def note(name, tokens_per_second, microbatch_ms=None):
            rows.setdefault(name, []).append((tokens_per_second, microbatch_ms))

        steps = "3" if size == "large" else "40"
        common = ["--size", size, "--steps", steps]
        for _ in range(arguments.rounds):
            note("limit: ours, two runs alone", two_at_once([arguments.program, *common, "--alone"]))
            note("torch, two runs alone", two_at_once([sys.executable, str(PEER), *common, "--alone"]))
            for schedule in schedules:
                ours = result(start([arguments.program, *common, "--schedule", schedule]))
                note(f"ours {schedule}", ours["tokens_per_second"], 1e3 * ours["step_seconds"] / ours["microbatches"])
                simulated.setdefault(f"ours {schedule}", []).append(ours["makespan"] / ours["simulated"])
                torch = result(start([sys.executable, str(PEER), *common, "--schedule", schedule,
                                      "--cuts", ",".join(map(str, ours["cuts"]))]))
                note(f"torch {schedule}", torch["tokens_per_second"],
                     1e3 * torch["step_seconds"] / torch["microbatches"])
                if schedule == "1f1b" and importlib.util.find_spec("deepspeed"):
                    other = result(start([sys.executable, str(DEEPSPEED), *common, "--cuts", str(ours["cuts"][0])]))
                    note("deepspeed 1f1b", other["tokens_per_second"],
                         1e3 * other["step_seconds"] / other["microbatches"])
        limit = statistics.median(tokens for tokens, _ in rows["limit: ours, two runs alone"])
        print(f"# {size}: 2 processes × 1 thread, median of {arguments.rounds} rounds; of the limit = tokens/s ÷ "
              "two independent runs' sum")
        print(f"{'':32}{'tokens/s':>12}{'of the limit':>14}{'ms/microbatch':>15}{'ours/torch':>12}{'÷ simulated':>13}")
        for name, values in rows.items():
            tokens = statistics.median(tokens for tokens, _ in values)
            times = [ms for _, ms in values if ms is not None]
            ms = f"{statistics.median(times):15.3f}" if times else " " * 15
            peer = rows.get(name.replace("ours", "torch")) if name.startswith("ours") else None
            ratio = f"{tokens / statistics.median(t for t, _ in peer):12.3f}" if peer else ""
            off = f"{statistics.median(simulated[name]):13.3f}" if name in simulated else ""
            print(f"{name:32}{tokens:12.0f}{tokens / limit:14.3f}{ms}{ratio}{off}")
        print(flush=True)


if __name__ == "__main__":
    main()
