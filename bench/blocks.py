"""A block of GPT-2 and of Llama, forward and backward on one core, beside PyTorch eager and compiled: ms and ratios.

    blocks.py BLOCK_BENCH [--rounds 3]

Every round measures all columns, one after the other; medians over the rounds are printed. PyTorch's blocks are written as
its documentation does: nn.LayerNorm or nn.RMSNorm, nn.Linear, scaled_dot_product_attention.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
import torch
from torch import nn
from torch.nn import functional as F

ROWS, CONTEXT, WIDTH, HEADS, KV_HEADS, EACH, INNER = 4, 256, 384, 6, 2, 64, 1024


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = (part.view(ROWS, CONTEXT, HEADS, EACH).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(WIDTH, 2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(ROWS, CONTEXT, WIDTH)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.q, self.out = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.k, self.v = (nn.Linear(WIDTH, KV_HEADS * EACH, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(WIDTH, INNER, bias=False) for _ in range(2))
        self.down = nn.Linear(INNER, WIDTH, bias=False)
        angles = torch.outer(torch.arange(CONTEXT), 10000 ** (-torch.arange(0, EACH, 2) / EACH))
        angles = torch.cat((angles, angles), -1)
        self.register_buffer("cosine", angles.cos())
        self.register_buffer("sine", angles.sin())

    def turned(self, x):
        first, second = x.chunk(2, -1)
        return x * self.cosine + torch.cat((-second, first), -1) * self.sine

    def forward(self, x):
        normed = self.norm1(x)
        q, k, v = (of(normed).view(ROWS, CONTEXT, -1, EACH).transpose(1, 2) for of in (self.q, self.k, self.v))
        q, k = self.turned(q), self.turned(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(ROWS, CONTEXT, WIDTH))
        normed = self.norm2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


def seconds_of(block, times=40, warm=5):
    x = torch.randn(ROWS, CONTEXT, WIDTH, requires_grad=True)
    gradient = torch.randn(ROWS, CONTEXT, WIDTH)
    seconds = []
    for i in range(warm + times):
        begin = time.perf_counter()
        block(x).backward(gradient)
        if i >= warm:
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("block  ours ms  eager ms  compiled ms  eager / ours  compiled / ours")
    for family, kind in (("gpt", Gpt), ("llama", Llama)):
        eager = kind()
        compiled = torch.compile(eager)
        columns = {"ours": [], "eager": [], "compiled": []}
        for _ in range(arguments.rounds):
            out = subprocess.run([arguments.program, family], capture_output=True, text=True, check=True).stdout
            columns["ours"].append(json.loads(out)["seconds"])
            columns["eager"].append(seconds_of(eager))
            columns["compiled"].append(seconds_of(compiled))
        ours, theirs, compiled_ones = (1e3 * statistics.median(column) for column in columns.values())
        print(f"{family:5}  {ours:7.2f}  {theirs:8.2f}  {compiled_ones:11.2f}  {theirs / ours:12.2f}  {compiled_ones / ours:15.2f}", flush=True)


main()
