"""The GPT of gpt_bench through torch.distributed.pipelining: two Gloo processes, one thread each.

    torch_pipelining.py --size large --schedule 1f1b --cuts 9    starts both ranks itself
    torch_pipelining.py --size large --alone                     the whole model in this process

Prints one JSON line, as gpt_bench does.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

SIZES = {
    "large": dict(layers=8, width=384, heads=6, context=256, vocabulary=8192, microbatch=4, microbatches=8),
    "tiny": dict(layers=4, width=16, heads=2, context=8, vocabulary=64, microbatch=1, microbatches=64),
}


class Embedding(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.table = nn.Embedding(s["vocabulary"], s["width"])
        self.position = nn.Embedding(s["context"], s["width"])

    def forward(self, ids):
        return self.table(ids) + self.position.weight[: ids.size(1)]


class Attention(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.heads = s["heads"]
        self.norm = nn.LayerNorm(s["width"])
        self.qkv = nn.Linear(s["width"], 3 * s["width"])
        self.out = nn.Linear(s["width"], s["width"])

    def forward(self, x):
        rows, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).split(width, dim=2)
        q, k, v = (t.view(rows, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(mixed.transpose(1, 2).reshape(rows, length, width))


class Mlp(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.norm = nn.LayerNorm(s["width"])
        self.up = nn.Linear(s["width"], 4 * s["width"])
        self.down = nn.Linear(4 * s["width"], s["width"])

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x)), approximate="tanh"))


class Head(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.norm = nn.LayerNorm(s["width"])
        self.out = nn.Linear(s["width"], s["vocabulary"], bias=False)

    def forward(self, x):
        return self.out(self.norm(x))


def layers(s):
    blocks = [half(s) for _ in range(s["layers"]) for half in (Attention, Mlp)]
    return [Embedding(s), *blocks, Head(s)]


def loss_of(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1))


def schedule_class(name):
    """By our name of the schedule; the zero-bubble ones are the nearest that torch has."""
    from torch.distributed.pipelining import schedules

    return {"1f1b": schedules.Schedule1F1B, "gpipe": schedules.ScheduleGPipe,
            "interleaved": schedules.ScheduleInterleaved1F1B, "zb-v": schedules.ScheduleZBVZeroBubble,
            "zb-h1": schedules.ScheduleInterleavedZeroBubble}[name]


def steps_of(arguments, s, rank, size):
    torch.manual_seed(1)
    m = arguments.microbatches or s["microbatches"]
    ids = torch.randint(s["vocabulary"], (s["microbatch"] * m, s["context"]))
    targets = torch.randint(s["vocabulary"], (s["microbatch"] * m, s["context"]))
    every = layers(s)
    bounds = [0, *map(int, arguments.cuts.split(",")), len(every)] if size == 2 else [0, len(every)]
    stages = len(bounds) - 1
    rank_of = {k: (size - 1 - k % size if arguments.schedule == "zb-v" and k >= size else k % size)
               for k in range(stages)}
    modules = {k: nn.Sequential(*every[bounds[k] : bounds[k + 1]]) for k in range(stages) if rank_of[k] == rank}
    module = modules.get(0)
    optimizer = torch.optim.AdamW([p for m in modules.values() for p in m.parameters()], lr=1e-3, fused=True)
    if size == 2:
        from torch.distributed.pipelining import PipelineStage

        # With the shapes given, the stages need not find them out by a trial run (which would need numpy).
        ids_of_one = ids[: s["microbatch"]]
        hidden = torch.empty(s["microbatch"], s["context"], s["width"], requires_grad=True)
        logits = torch.empty(s["microbatch"], s["context"], s["vocabulary"], requires_grad=True)
        mine = [PipelineStage(part, k, stages, torch.device("cpu"), input_args=ids_of_one if k == 0 else hidden,
                              output_args=logits if k + 1 == stages else hidden) for k, part in modules.items()]
        several = arguments.schedule in ("interleaved", "zb-v", "zb-h1")
        schedule = schedule_class(arguments.schedule)(mine if several else mine[0], m, loss_fn=loss_of)
        first, last = 0 in modules, stages - 1 in modules

        def one():
            schedule.step(*([ids] if first else []), **({"target": targets, "losses": []} if last else {}))
    else:

        def one():
            for i in range(m):
                rows = slice(i * s["microbatch"], (i + 1) * s["microbatch"])
                (loss_of(module(ids[rows]), targets[rows]) / m).backward()

    seconds = []
    for step in range(2 + arguments.steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=False)
        one()
        optimizer.step()
        if size == 2:
            dist.barrier()
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    if rank == 0:
        median = statistics.median(seconds)
        print(json.dumps({"tokens_per_second": ids.numel() / median, "step_seconds": median, "microbatches": m}))


def start_ranks():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                   "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([sys.executable, *sys.argv], env={**environment, "RANK": str(r), "LOCAL_RANK": str(r)})
             for r in range(2)]
    return max(abs(rank.wait()) for rank in ranks)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument("--schedule", default="1f1b")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--microbatches", type=int, default=0)
    parser.add_argument("--cuts", default="9", help="first layer of each later stage")
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    if not arguments.alone and "RANK" not in os.environ:
        sys.exit(start_ranks())
    torch.set_num_threads(1)
    if arguments.alone:
        return steps_of(arguments, SIZES[arguments.size], 0, 1)
    dist.init_process_group("gloo")
    steps_of(arguments, SIZES[arguments.size], dist.get_rank(), 2)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
