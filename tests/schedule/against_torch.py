"""Our schedule files against torch.distributed.pipelining: what it writes we read, what we write it reads.

    python against_torch.py path/to/headrace

Uses the installed torch's private parts (there are no others), without processes.
"""

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from unittest import mock

try:
    from torch.distributed.pipelining import schedules as torch_schedules
    from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops
    from torch.distributed.pipelining.stage import PipelineStage
except ImportError as error:
    print(f"skipped: no torch here ({error})")
    sys.exit(0)

PROGRAM = sys.argv[1]
FOLDER = tempfile.mkdtemp()
failures = []
done = 0


def expect(ok, what):
    global done
    done += 1
    if not ok:
        failures.append(what)
        print("FAILED:", what)


def headrace(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)


def write(rows, name="schedule.csv"):
    path = os.path.join(FOLDER, name)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["" if cell is None else str(cell) for cell in row] for row in rows])
    return path


def compute_only(rows):
    """Without idle steps and reductions, as we write a generator's rows."""
    return [[str(a) for a in row if a is not None and "REDUCE" not in str(a)] for row in rows]


def ours(name, *flags):
    exported = headrace("export", name, *flags)
    if exported.returncode == 2:
        return None  # sizes that the schedule does not take
    expect(exported.returncode == 0, f"export {name} {flags}: {exported.stderr}")
    return list(csv.reader(exported.stdout.splitlines()))


def torch_runtime(rows, format, microbatches):
    """Loaded by torch's runtime, whose simulator then runs it."""
    stages = 1 + max(int(re.match(r"\(?(\d+)", cell).group(1)) for row in rows for cell in row)
    stage = mock.create_autospec(PipelineStage, instance=True)
    stage.group_rank, stage.group_size, stage.submod, stage.num_stages = 0, len(rows), None, stages
    runtime = torch_schedules._PipelineScheduleRuntime([stage] * (stages // len(rows)), microbatches)
    runtime._load_csv(write(rows), format)
    return runtime


def simulates(runtime):
    """Torch's simulator knows neither gathering nor reductions nor overlapped pairs."""
    order = {}
    for rank, actions in runtime.pipeline_order_with_comms.items():
        order[rank] = []
        for action in actions:
            parts = action.sub_actions or (action,)
            order[rank] += [a for a in parts if a.computation_type.name not in ("UNSHARD", "RESHARD", "REDUCE_GRAD")]
    torch_schedules._simulate_comms_compute(order, lambda s: runtime.stage_index_to_group_rank[s], runtime._num_stages)


def check_what_torch_writes():
    for name, stages in (("GPipe", 1), ("Interleaved1F1B", 2), ("Interleaved1F1B", 3), ("InterleavedZeroBubble", 2),
                         ("ZBVZeroBubble", 2), ("DualPipeV", 2)):
        for ranks, microbatches in ((2, 4), (3, 6), (4, 8)):
            rows = get_schedule_ops(name, ranks, microbatches, stages)
            checked = headrace("check", write(rows))
            expect(checked.returncode == 0, f"torch {name} {ranks} {microbatches}: {checked.stdout} {checked.stderr}")
            if stages == 1:
                continue
            for deferred in (False, True):
                lowered = get_schedule_ops(name, ranks, microbatches, stages, with_comms=True, defer_pp_recv=deferred)
                checked = headrace("check", write(lowered))
                said = f"torch {name} {ranks} {microbatches} lowered, deferred {deferred}: {checked.stdout}"
                if deferred:
                    # Receives in the order of use are crossed, or leave nobody at a receive: refused, and for that.
                    faults = checked.stdout.splitlines()[:-1]
                    expect(all("arrive in the order" in line or "deadlock" in line for line in faults), said)
                    expect(checked.returncode == 1 or same_order(lowered, ranks), said)
                else:
                    expect(checked.returncode == 0 and same_order(lowered, ranks), said)


def same_order(rows, ranks):
    """Whether each pair of ranks receives in the order of sending, found here by another way than ours."""
    rank_of = {int(re.match(r"\(?(\d+)", str(a)).group(1)): r for r, row in enumerate(rows) for a in row}
    for source in range(ranks):
        for target in range(ranks):
            sent, received = [], []
            for row, list_, kind in ((rows[source], sent, "SEND"), (rows[target], received, "RECV")):
                for action in map(str, row):
                    match = re.fullmatch(rf"(\d+){kind}_([FB])(\d+)", action)
                    if not match:
                        continue
                    stage, direction, microbatch = int(match[1]), match[2], int(match[3])
                    step = (1 if direction == "F" else -1) * (1 if kind == "SEND" else -1)
                    receiver = stage + step if kind == "SEND" else stage
                    if rank_of[stage + step] == (target if kind == "SEND" else source):
                        list_.append((direction, receiver, microbatch))
            if sent != received:
                return False
    return True


def check_what_torch_gets_wrong():
    checked = headrace("check", write(get_schedule_ops("1F1B", 2, 3)))
    expect(checked.returncode == 1 and "1F0: is missing" in checked.stdout, f"torch's 1F1B: {checked.stdout}")
    # Its breadth-first backward descends.
    checked = headrace("check", write(get_schedule_ops("LoopedBFS", 2, 3, 2)))
    lines = checked.stdout.splitlines()[:-1]
    expect(checked.returncode == 1 and lines and all("ascending" in line for line in lines),
           f"torch's LoopedBFS: {checked.stdout}")
    for text in ("0F0junk", "2BW0", "()OVERLAP_F_B", "(0F0;1B1)F"):
        expect(headrace("check", write([[text]])).returncode == 1, f"{text} is read")


def check_what_we_write():
    names = [row["schedule"] for row in json.loads(headrace("show", "--format", "json").stdout)]
    for name in names:
        for ranks, microbatches in ((2, 4), (4, 8)):
            sizes = ("--ranks", str(ranks), "--microbatches", str(microbatches))
            rows = ours(name, *sizes)
            text = str(rows)
            if rows is None or "U'" in text or has_replicas(rows):
                continue  # asynchronous, or on two ranks: torch cannot say that
            units = 1 + max(int(n) for row in rows for cell in row for n in re.findall(r"[FIWB](\d+)", cell))
            try:
                simulates(torch_runtime(rows, "compute_only", units))
                simulates(torch_runtime(ours(name, *sizes, "--lowered"), "compute_comms", units))
                expect(True, name)
            except Exception as error:  # whatever torch raises is a failure of ours
                expect(False, f"{name} {sizes}: torch says {type(error).__name__}: {error}")


def has_replicas(rows):
    seen = {}
    for rank, row in enumerate(rows):
        for cell in row:
            for stage in re.findall(r"(\d+)[FIWB]\d", cell):
                if seen.setdefault(stage, rank) != rank:
                    return True
    return False


def check_same_generators():
    names = {row["schedule"] for row in json.loads(headrace("show", "--format", "json").stdout)}
    pairs = [("gpipe", "GPipe", 1), ("interleaved", "Interleaved1F1B", 2), ("dualpipe-v", "DualPipeV", 2)]
    for mine, torchs, stages in pairs:
        if mine not in names:
            continue
        for ranks, microbatches in ((2, 4), (3, 6), (4, 8), (4, 12)):
            sizes = ("--ranks", str(ranks), "--microbatches", str(microbatches))
            if mine == "interleaved":
                sizes += ("--stages-per-rank", str(stages))
            expect(ours(mine, *sizes) == compute_only(get_schedule_ops(torchs, ranks, microbatches, stages)),
                   f"{mine} differs from torch's {torchs} at {sizes}")
    # All but the last rank, which torch gets wrong.
    for ranks, microbatches in ((2, 4), (4, 8)):
        expect(ours("1f1b", "--ranks", str(ranks), "--microbatches", str(microbatches))[:-1]
               == compute_only(get_schedule_ops("1F1B", ranks, microbatches))[:-1], "1f1b differs from torch's")


check_what_torch_writes()
check_what_torch_gets_wrong()
check_what_we_write()
check_same_generators()
print(f"{done - len(failures)} of {done} comparisons agree")
sys.exit(1 if failures else 0)
