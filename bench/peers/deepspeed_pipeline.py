"""The GPT of gpt_bench through DeepSpeed's PipelineModule (1F1B): two Gloo processes, one thread each.

    deepspeed_pipeline.py --size large --cuts 9      starts both ranks itself

Prints one JSON line, as gpt_bench does. Wants DeepSpeed beside torch:
    DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed==0.19.8
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import torch
from torch_pipelining import SIZES, layers, loss_of, start_ranks


def steps(arguments):
    import deepspeed
    from deepspeed.pipe import PipelineModule

    s = SIZES[arguments.size]
    m = arguments.microbatches or s["microbatches"]
    deepspeed.init_distributed("gloo")
    torch.manual_seed(1)
    every = layers(s)
    cut = int(arguments.cuts)

    class CutModule(PipelineModule):
        def _partition_layers(self, method="uniform"):
            self.parts = [0, cut, len(every)]
            self._local_start, self._local_stop = self.parts[self.stage_id], self.parts[self.stage_id + 1]

    module = CutModule(layers=every, num_stages=2, loss_fn=loss_of)
    engine, *_ = deepspeed.initialize(
        model=module,
        model_parameters=[p for p in module.parameters() if p.requires_grad],
        config={
            "train_micro_batch_size_per_gpu": s["microbatch"],
            "gradient_accumulation_steps": m,
            "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
            "steps_per_print": 10**9,
        },
    )
    ids = torch.randint(s["vocabulary"], (s["microbatch"], s["context"]))
    targets = torch.randint(s["vocabulary"], (s["microbatch"], s["context"]))

    def batches():
        while True:
            yield ids, targets

    seconds = []
    data = batches()
    for step in range(2 + arguments.steps):
        start = time.perf_counter()
        engine.train_batch(data)
        torch.distributed.barrier()
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    tokens = s["microbatch"] * s["context"] * m
    return json.dumps({"tokens_per_second": tokens / median, "step_seconds": median, "microbatches": m})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="large", choices=SIZES)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--microbatches", type=int, default=0)
    parser.add_argument("--cuts", required=True)
    arguments = parser.parse_args()
    if "RANK" not in os.environ:
        sys.exit(start_ranks())
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed talks
        line = steps(arguments)
    if os.environ["RANK"] == "0":
        print(line, flush=True)


if __name__ == "__main__":
    main()
