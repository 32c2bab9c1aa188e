"""Our exported schedules, executed by torch.distributed.pipelining's own runtime on Gloo processes.

    python torch_runs_ours.py path/to/headrace

For 2, 3 and 4 ranks and every schedule that torch's text form can say, two steps of a small model: the losses must be
those of the same model in one process. Uses the installed torch's private loader of schedule files (there is no other).
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile

try:
    import torch
    import torch.distributed as dist
    from torch.distributed.pipelining import PipelineStage
    from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime
except ImportError as error:
    print(f"skipped: no torch here ({error})")
    sys.exit(0)

ROWS, WIDTH, STEPS, RATE = 2, 8, 2, 0.5


def layers(stages):
    """One a stage; the same on every rank and in one process."""
    torch.manual_seed(1)
    return [torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh()) for _ in range(stages)]


def batch(step, microbatches):
    torch.manual_seed(100 + step)
    return torch.randn(ROWS * microbatches, WIDTH), torch.randn(ROWS * microbatches, WIDTH)


def loss_of(output, target):
    return torch.nn.functional.mse_loss(output, target)


def update(modules):
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter -= RATE * parameter.grad
                parameter.grad = None


def alone(stages, microbatches):
    """The losses of every step, a microbatch each."""
    model = layers(stages)
    losses = []
    for step in range(STEPS):
        inputs, targets = batch(step, microbatches)
        for x, y in zip(inputs.chunk(microbatches), targets.chunk(microbatches)):
            for layer in model:
                x = layer(x)
            loss = loss_of(x, y)
            loss.backward()
            losses.append(loss.item())
        for layer in model:
            for parameter in layer.parameters():
                parameter.grad /= microbatches  # as torch's runtime does
        update(model)
    return losses


def piped(case, rank):
    """This rank's losses, where it holds the last stage."""
    rank_of = {int(stage): r for stage, r in case["rank_of"].items()}
    model = layers(len(rank_of))
    mine = [s for s in rank_of if rank_of[s] == rank]
    example = torch.empty(ROWS, WIDTH)
    stages = [PipelineStage(model[s], s, len(rank_of), torch.device("cpu"), input_args=example.requires_grad_(s > 0),
                            output_args=torch.empty(ROWS, WIDTH).requires_grad_()) for s in mine]
    runtime = _PipelineScheduleRuntime(stages, case["microbatches"], loss_fn=loss_of)
    runtime.stage_index_to_group_rank = rank_of
    for stage in stages:
        stage.stage_index_to_group_rank = rank_of
    runtime._load_csv(case["file"], case["format"])
    losses = []
    for step in range(STEPS):
        inputs, targets = batch(step, case["microbatches"])
        of_step = []
        last = len(rank_of) - 1 in mine
        runtime.step(*([inputs] if 0 in mine else []), target=targets if last else None,
                     losses=of_step if last else None)
        losses += [loss.item() for loss in of_step]
        update([model[s] for s in mine])
    return losses


def work(path):
    cases = json.load(open(path))
    dist.init_process_group("gloo")
    for number, case in enumerate(cases):
        losses = piped(case, dist.get_rank())
        if losses:
            print(json.dumps([number, losses]), flush=True)
        dist.barrier()
    dist.destroy_process_group()


def cases_for(program, ranks, folder):
    names = [row["schedule"] for row in json.loads(subprocess.check_output([program, "show", "--format", "json"]))]
    for name in names:
        for lowered in (False, True):
            microbatches = 2 * ranks
            command = [program, "export", name, "--ranks", str(ranks), "--microbatches", str(microbatches)]
            exported = subprocess.run(command + ["--lowered"] * lowered, capture_output=True, text=True)
            if exported.returncode:
                continue  # sizes that the schedule does not take
            cells = [row.split(",") for row in exported.stdout.splitlines()]
            computed = [(int(s), rank) for rank, row in enumerate(cells) for cell in row
                        for s in re.findall(r"(?<!\d)(\d+)[FIWB]\d", cell)]
            rank_of = dict(computed)
            units = 1 + max(int(n) for row in cells for cell in row for n in re.findall(r"\d[FIWB](\d+)", cell))
            if re.search(r"\dU\b", exported.stdout) or units != microbatches or any(rank_of[s] != rank for s, rank in computed):
                continue  # asynchronous, split sequences, or a stage on two ranks: torch cannot say that
            file = os.path.join(folder, f"{name}-{ranks}-{lowered}.csv")
            with open(file, "w") as out:
                out.write(exported.stdout)
            yield {"name": name, "rank_of": dict(sorted(rank_of.items())), "microbatches": microbatches, "file": file,
                   "format": "compute_comms" if lowered else "compute_only"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main(program):
    failures, done, names = 0, 0, set()
    with tempfile.TemporaryDirectory() as folder:
        for ranks in (2, 3, 4):
            cases = list(cases_for(program, ranks, folder))
            path = os.path.join(folder, "cases.json")
            with open(path, "w") as out:
                json.dump(cases, out)
            environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
                           "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
            processes = [subprocess.Popen([sys.executable, __file__, "--work", path], text=True,
                                          stdout=subprocess.PIPE, env={**environment, "RANK": str(rank)})
                         for rank in range(ranks)]
            losses = {}
            for process in processes:
                out, _ = process.communicate(timeout=240)
                failures += process.returncode != 0
                losses.update((number, values) for number, values in map(json.loads, out.splitlines()))
            for number, case in enumerate(cases):
                done += 1
                names.add(case["name"])
                wanted = alone(len(case["rank_of"]), case["microbatches"])
                got = losses.get(number)
                first = case["microbatches"]
                # The first step is the same to the bit; updates add gradients in the schedule's order.
                if got is None or got[:first] != wanted[:first] or not torch.allclose(
                        torch.tensor(got), torch.tensor(wanted), rtol=1e-6, atol=0):
                    failures += 1
                    print(f"FAILED: {case['name']}, {ranks} ranks, {case['format']}: {got}, in one process {wanted}")
    print(f"{done} schedule files executed by torch, {failures} failures: {', '.join(sorted(names))}")
    return failures or not names >= {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-v"}


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(sys.argv[2])
    else:
        sys.exit(1 if main(sys.argv[1]) else 0)
