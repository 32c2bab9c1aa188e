#!/usr/bin/env python3
"""The peer on one device: a GPT of our sizes as one writes it in plain PyTorch, eager or compiled.

    plain_gpt.py --text FILE [--layers 12 --width 768 …] [--compile] [--device cuda]

Pre-norm blocks, learned positions, a head tied to the embedding; fp32 weights under autocast, gradients added up over
microbatches, clipped, fused AdamW: what Headrace computes, by PyTorch's fastest own means. Prints one line of JSON:
seconds of each step, tokens a step, the peak of allocated memory, the loss of the last step.

On CUDA nothing waits between the first step and the last: steps are timed by events in the stream. That is the best that
such a loop can do; one that prints its loss waits at each step.
"""

import argparse
import contextlib
import json
import math
import time

import torch
import torch.nn.functional as F
from torch import nn

DEVIATION = 0.02  # GPT-2's


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def attention(self, x):
        batch, tokens, width = x.shape
        q, k, v = (part.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
                   for part in self.qkv(x).split(width, dim=2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))


class PlainGpt(nn.Module):
    def __init__(self, layers, width, heads, context, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.start_as_gpt2(layers)

    def start_as_gpt2(self, layers):
        for name, parameter in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                nn.init.normal_(parameter, std=DEVIATION / math.sqrt(2 * layers))
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=DEVIATION)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens, targets):
        x = self.embedding(tokens) + self.position.weight[:tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Text:
    """Microbatches of random places of a file, a byte a token."""

    def __init__(self, path, context, microbatch, device):
        with open(path, "rb") as file:
            self.bytes = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
        self.context, self.microbatch, self.device = context, microbatch, device
        self.generator = torch.Generator().manual_seed(1)

    def draw(self):
        starts = torch.randint(len(self.bytes) - self.context - 1, (self.microbatch,), generator=self.generator)
        rows = torch.stack([self.bytes[start:start + self.context + 1] for start in starts.tolist()]).long()
        if self.device.type == "cuda":
            rows = rows.pin_memory()
        rows = rows.to(self.device, non_blocking=True)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


class Marks:
    """When steps begin, told without waiting for the device."""

    def __init__(self, device):
        self.is_cuda = device.type == "cuda"
        self.marks = []

    def set(self):
        if self.is_cuda:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.perf_counter())

    def seconds(self):
        pairs = zip(self.marks, self.marks[1:])
        if not self.is_cuda:
            return [end - begin for begin, end in pairs]
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) / 1e3 for begin, end in pairs]


def optimizer_of(model):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), fused=True)


def step(model, forward, optimizer, text, microbatches, products):
    optimizer.zero_grad(set_to_none=True)
    total = 0
    for _ in range(microbatches):
        tokens, targets = text.draw()
        with products():
            loss = forward(tokens, targets) / microbatches
        loss.backward()
        total += loss.detach()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
    optimizer.step()
    return total


def arguments_given():
    parser = argparse.ArgumentParser()
    for size, usual in {"layers": 12, "width": 768, "heads": 12, "context": 1024, "vocabulary": 50304,
                        "microbatch": 8, "microbatches": 8, "steps": 30}.items():
        parser.add_argument(f"--{size}", type=int, default=usual)
    parser.add_argument("--text", required=True)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def main():
    given = arguments_given()
    device = torch.device(given.device)
    torch.manual_seed(1)
    with device:
        model = PlainGpt(given.layers, given.width, given.heads, given.context, given.vocabulary)
    forward = torch.compile(model) if given.compile else model
    optimizer = optimizer_of(model)
    text = Text(given.text, given.context, given.microbatch, device)
    half = given.precision == "bf16"

    def products():
        return torch.autocast(device.type, torch.bfloat16) if half else contextlib.nullcontext()

    marks = Marks(device)
    for _ in range(given.steps):
        marks.set()
        loss = step(model, forward, optimizer, text, given.microbatches, products)
    marks.set()
    print(json.dumps({
        "seconds": marks.seconds(),
        "tokens": given.microbatch * given.microbatches * given.context,
        "peak_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "loss": loss.item(),
    }))


if __name__ == "__main__":
    main()
