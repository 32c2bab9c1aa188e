#!/usr/bin/env python3
"""Steps on one device: Headrace on one rank and on four that share it, beside a plain PyTorch GPT of the same sizes.

    steps.py --program HEADRACE --report FILE --work FOLDER --until SECONDS_SINCE_1970 [--device cpu] [--tiny]
    steps.py --warm-compiled --work FOLDER

Called by bench/gpu/run. Measures one row after the other, the ones that say the most first, each in processes and with a
limit of its own. After every row the report is written anew behind what it held before, and rows.csv, steps.csv and
timelines beside it, so that a call that is cut off leaves what was seen. --warm-compiled fills the compiler's cache.
"""

import argparse
import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLAIN = Path(__file__).with_name("plain_gpt.py")
MICROBATCHES = 8
WARM_STEPS = 5  # not counted: allocators, autotuning and, of a compiled row, the compiler
FEWEST_STEPS = 3  # counted ones, of a row that was cut off
SETTLE_S = 3  # what is left to write the report
# Dense products as the data sheets of the SXM boards give them; fp32 without TF32.
PEAK_TFLOPS = {"bf16": 989.4, "fp32": 67.0}
PEAK_OF = re.compile(r"H100 80GB HBM3|H200")


@dataclasses.dataclass
class Model:
    name: str
    layers: int
    width: int
    heads: int
    context: int
    vocabulary: int
    microbatch: int

    def flops_per_token(self):
        """As headrace counts (headrace/plan/gpt_layers.cc): products alone, half of the scores, a backward twice a forward."""
        block = 24 * self.width**2 + 2 * self.context * self.width
        return 3 * (self.layers * block + 2 * self.width * self.vocabulary)

    def sizes(self):
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in ("name", "microbatch")}


GPT2 = Model("GPT-2-124M", 12, 768, 12, 1024, 50304, 8)
SMOL = Model("SmolLM2-135M sizes", 30, 576, 9, 2048, 49152, 4)
TINY = [Model("tiny A", 4, 64, 2, 64, 512, 2), Model("tiny B", 5, 48, 3, 96, 384, 1)]


@dataclasses.dataclass
class Case:
    model: Model
    name: str
    limit_s: float
    needs_s: float  # with less left it is not begun
    precision: str = "bf16"
    plain: bool = False
    compiled: bool = False
    ranks: int = 1
    schedule: str = "1f1b"
    deterministic: bool = True

    def file_name(self):
        return re.sub(r"\W+", "-", f"{self.model.name} {self.name} {self.precision}".lower()).strip("-")


@dataclasses.dataclass
class Row:
    case: Case
    seconds: list = dataclasses.field(default_factory=list)  # of every step
    tokens: int = 0  # a step
    loss: float | None = None
    peak_gib: float | None = None
    closing: str = ""  # the program's last table and lines
    fault: str = ""
    took_s: float = 0

    def median(self):
        counted = self.seconds[WARM_STEPS:]
        return statistics.median(counted) if len(counted) >= FEWEST_STEPS else None

    def rate(self):
        return self.tokens / self.median() if self.median() else None


ONE, EAGER, COMPILED = "ours, 1 stage", "PyTorch eager", "PyTorch compiled"
FOUR, FOUR_SPLIT = "ours, 4 stages, 1f1b", "ours, 4 stages, zb-h1"
FREE = "ours, 1 stage, deterministic = false"


def cases_of(first, second):
    """In the order of what they are worth."""

    def ours(model, name, **more):
        return Case(model, name, limit_s=60, needs_s=20, **more)

    def eager(model, name=EAGER, **more):
        return Case(model, name, limit_s=45, needs_s=15, plain=True, **more)

    def of(model):
        return {
            ONE: ours(model, ONE),
            EAGER: eager(model),
            FOUR: ours(model, FOUR, ranks=4),
            COMPILED: Case(model, COMPILED, limit_s=100, needs_s=30, plain=True, compiled=True),
            FREE: ours(model, FREE, deterministic=False),
            FOUR_SPLIT: ours(model, FOUR_SPLIT, ranks=4, schedule="zb-h1"),
        }

    a, b = of(first), of(second)
    return [
        a[ONE], a[EAGER], a[FOUR], a[COMPILED], a[FREE], a[FOUR_SPLIT],
        b[ONE], b[EAGER], b[FOUR], b[COMPILED], b[FOUR_SPLIT],
        ours(first, ONE, precision="fp32"), eager(first, precision="fp32"),
        # The same once more, to see what one measurement is worth.
        ours(first, ONE + ", again"), eager(first, EAGER + ", again"),
        b[FREE],
    ]


def make_text(path, bytes_wanted=4_000_000):
    """Sources and documents of this repository, over and over."""
    if path.exists():
        return
    files = sorted(p for folder in ("headrace", "docs", "tests", "cli") for p in (ROOT / folder).rglob("*")
                   if p.suffix in (".cc", ".h", ".md", ".py"))
    text = b"".join(p.read_bytes() for p in files)
    path.write_bytes((text * (bytes_wanted // len(text) + 1))[:bytes_wanted])


def end_group(process):
    """What it started too: ranks, the compiler's workers."""
    for way, patience_s in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, way)
            process.wait(patience_s)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def run_limited(command, log, limit_s):
    """Into the log; what went wrong, in words, or nothing."""
    with open(log, "wb") as out:
        try:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            return f"could not be started: {error.strerror}"
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return f"cut off after {limit_s:.0f} s"
        finally:
            end_group(process)
    return f"ended with {code}: {last_words(log)}" if code != 0 else ""


def last_words(log):
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(error:|[\w.]*(Error|Exception)\b)", line)]
    return (telling or lines or ["it said nothing"])[-1][:300]


class Runner:
    def __init__(self, given):
        self.given = given
        self.work = Path(given.work).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.text = self.work / "text.txt"
        make_text(self.text)

    def steps(self, case):
        return 12 if self.given.tiny else 15 if case.precision == "fp32" else 30

    def run(self, case, limit_s):
        begin = time.monotonic()
        row = self.plain(case, limit_s) if case.plain else self.ours(case, limit_s)
        row.took_s = time.monotonic() - begin
        if not row.fault and row.median() is None:
            row.fault = "too few steps to count"
        return row

    def plain_command(self, case, steps):
        command = [sys.executable, PLAIN, "--text", self.text, "--device", self.given.device,
                   "--precision", case.precision, "--microbatch", str(case.model.microbatch),
                   "--microbatches", str(MICROBATCHES), "--steps", str(steps)]
        for size, value in case.model.sizes().items():
            command += [f"--{size}", str(value)]
        return command + ["--compile"] * case.compiled

    def plain(self, case, limit_s):
        log = self.work / f"{case.file_name()}.log"
        row = Row(case, fault=run_limited(self.plain_command(case, self.steps(case)), log, limit_s))
        if not row.fault:
            said = json.loads(log.read_text().strip().splitlines()[-1])
            row.seconds, row.tokens, row.loss = said["seconds"], said["tokens"], said["loss"]
            row.peak_gib = said["peak_bytes"] / 2**30 if said["peak_bytes"] is not None else None
        return row

    def config(self, model):
        path = self.work / (re.sub(r"\W+", "-", model.name.lower()) + ".toml")
        sizes = "\n".join(f"{key} = {value}" for key, value in model.sizes().items())
        path.write_text(f"""[model]
{sizes}
[data]
text = ["{self.text}"]
cache = "{self.work / 'cache'}"
validation = 0
[train]
microbatch = {model.microbatch}
microbatches = {MICROBATCHES}
[optimizer]
learning_rate = 3e-4
decay = "constant"
[checkpoint]
at_end = false
""")
        return path

    def folder(self, case):
        return self.work / case.file_name()

    def ours_command(self, case):
        settings = [f"train.precision={case.precision}", f"pipeline.device={self.given.device}"]
        if self.given.device == "cuda":
            settings += [f"pipeline.ranks_per_device={case.ranks}"] * (case.ranks > 1)
            settings += ["train.deterministic=false"] * (not case.deterministic)
        command = [self.given.program, "train", self.config(case.model), "--run-dir", self.folder(case), "--overwrite",
                   "--launcher", "local", "--ranks", str(case.ranks), "--schedule", case.schedule,
                   "--steps", str(self.steps(case)), *["--timeline"] * (case.ranks > 1)]
        for setting in settings:
            command += ["--set", setting]
        return command

    def ours(self, case, limit_s):
        if not self.given.program:
            return Row(case, fault="there is no program: it was not built")
        log = self.work / f"{case.file_name()}.log"
        shutil.rmtree(self.folder(case), ignore_errors=True)
        row = Row(case, fault=run_limited(self.ours_command(case), log, limit_s))
        self.read_records(row)
        self.read_closing(row, log.read_text(errors="replace") if log.exists() else "")
        return row

    def read_records(self, row):
        path = self.folder(row.case) / "metrics.jsonl"
        records = []
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:  # the last one, of a run that was cut off
                break
        if records:
            row.seconds = [record["seconds"] for record in records]
            row.tokens, row.loss = records[-1]["tokens"], records[-1]["loss"]

    def read_closing(self, row, said):
        device = re.search(r"^# device: .*$", said, re.MULTILINE)
        begin = said.rfind("\nstage  rank  layers")
        # The table before the first step begins so too, and has no times.
        if begin < 0 or "peak memory" not in (closing := said[begin:].strip()).splitlines()[0]:
            return
        row.closing = (device[0] + "\n" if device else "") + closing
        row.peak_gib = peak_memory_gib(closing)


def peak_memory_gib(closing):
    """Of all ranks together."""
    header, *lines = (re.split(r" {2,}", line.strip()) for line in closing.splitlines())
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
    of_rank = {}
    for cells in lines:
        if len(cells) == len(header):
            number, unit = cells[header.index("peak memory")].split()
            of_rank[cells[header.index("rank")]] = float(number) * units[unit]
    return sum(of_rank.values()) / 2**30 if of_rank else None


def mfu(row, device_name):
    if row.rate() is None or not PEAK_OF.search(device_name):
        return None
    return row.rate() * row.case.model.flops_per_token() / (PEAK_TFLOPS[row.case.precision] * 1e12)


def table(header, lines):
    return "\n".join(["| " + " | ".join(header) + " |", "|" + " --- |" * len(header),
                      *("| " + " | ".join(line) + " |" for line in lines)])


def number(value, digits, scale=1.0):
    return "–" if value is None else f"{scale * value:,.{digits}f}"


class Results:
    def __init__(self, report, device_name):
        self.report = Path(report)
        self.before = self.report.read_text() if self.report.exists() else ""
        self.device_name = device_name
        self.rows = []
        self.skipped = []  # (case, why)

    def find(self, model, name, precision="bf16"):
        for row in self.rows:
            if (row.case.model.name, row.case.name, row.case.precision) == (model.name, name, precision):
                return row
        return None

    def ratio(self, model, over, under):
        rates = [row.rate() if (row := self.find(model, name)) else None for name in (over, under)]
        return rates[0] / rates[1] if all(rates) else None

    def models(self):
        cases = [row.case for row in self.rows] + [case for case, _ in self.skipped]
        return {case.model.name: case.model for case in cases}.values()

    def verdicts(self):
        wanted = [(ONE, EAGER, 1.00), (ONE, COMPILED, 0.95), (FOUR, ONE, 0.90), (FOUR_SPLIT, ONE, 0.90)]
        for model in self.models():
            for over, under, least in wanted:
                ratio = self.ratio(model, over, under)
                what = "not measured" if ratio is None else f"{ratio:.3f}: {'met' if ratio >= least else 'NOT MET'}"
                yield f"- {model.name}: {over} ÷ {under}, wanted ≥ {least:.2f}: **{what}**"

    def table_of(self, model):
        lines = []
        for row in self.rows:
            case = row.case
            if case.model.name != model.name:
                continue
            eager = self.find(model, EAGER, case.precision)
            share = row.rate() / eager.rate() if row.rate() and eager and eager.rate() else None
            lines.append([case.name, case.precision, number(row.rate(), 0), number(row.median(), 1, 1e3),
                          number(share, 3), number(row.peak_gib, 2), number(mfu(row, self.device_name), 1, 100),
                          number(row.loss, 3), f"{row.took_s:.0f}", row.fault.replace("|", "\\|")])
        lines += [[case.name, case.precision, *["–"] * 7, f"skipped: {why}"]
                  for case, why in self.skipped if case.model.name == model.name]
        return table(["row", "precision", "tokens/s", "ms a step", "÷ eager", "peak GiB", "MFU %", "last loss",
                      "took s", "note"], lines)

    def heading_of(self, model):
        sizes = ", ".join(f"{key} {value}" for key, value in model.sizes().items())
        tokens = model.microbatch * MICROBATCHES * model.context
        return (f"### {model.name}\n\n{sizes}, tied; {MICROBATCHES} microbatches of {model.microbatch} sequences: "
                f"{tokens:,} tokens a step, {model.flops_per_token() / 1e6:,.1f} MFLOP a token\n")

    def deterministic(self):
        for model in self.models():
            ratio = self.ratio(model, ONE, FREE)
            if ratio is not None:
                yield (f"- {model.name}: with `train.deterministic = true` {100 * (ratio - 1):+.1f} % tokens/s against false "
                       f"({self.find(model, ONE).rate():,.0f} and {self.find(model, FREE).rate():,.0f})")

    def text(self):
        parts = ["## Steps", "### Verdicts\n\n" + "\n".join(self.verdicts())]
        parts += [self.heading_of(model) + "\n" + self.table_of(model) for model in self.models()]
        parts.append(f"""\
tokens/s: tokens a step over the median of its steps but the first {WARM_STEPS}. Peak: of ours the tensors that the program
counts, all ranks together; of PyTorch `max_memory_allocated`. MFU: matrix products as headrace counts them, over
{PEAK_TFLOPS['bf16']} TFLOP/s (bf16) or {PEAK_TFLOPS['fp32']} (fp32) of an H100 or H200 (SXM); left out on others.""")
        parts.append("### Deterministic kernels\n\n" + ("\n".join(self.deterministic()) or "not measured"))
        parts.append("### A step of 4 stages, as its timeline says\n\n" + (self.timelines() or "not measured"))
        closings = [f"{row.case.model.name}, {row.case.name}, {row.case.precision}:\n\n```\n{row.closing}\n```"
                    for row in self.rows if row.closing]
        parts.append("### What the program said at the end\n\n" + ("\n\n".join(closings) or "nothing"))
        return "\n\n".join(parts) + "\n"

    def timelines(self):
        parts = []
        for row in self.rows:
            path = self.report.parent / timeline_name(row.case)
            if row.case.ranks > 1 and path.exists():
                parts.append(f"{row.case.model.name}, {row.case.name} ([{path.name}]({path.name}), opens in Perfetto), "
                             "milliseconds of the last step:\n\n" + timeline_table(path))
        return "\n\n".join(parts)

    def write(self):
        replace(self.report, self.before + self.text() + "\n")
        with open(self.report.parent / "rows.csv", "w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["model", "row", "precision", "tokens_per_second", "median_seconds", "peak_gib", "mfu", "loss",
                          "fault"])
            for row in self.rows:
                out.writerow([row.case.model.name, row.case.name, row.case.precision, row.rate(), row.median(),
                              row.peak_gib, mfu(row, self.device_name), row.loss, row.fault])
        with open(self.report.parent / "steps.csv", "w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["model", "row", "precision", "step", "seconds"])
            for row in self.rows:
                out.writerows([row.case.model.name, row.case.name, row.case.precision, step, seconds]
                              for step, seconds in enumerate(row.seconds, 1))


def replace(path, text):
    """Whole or not at all."""
    other = path.with_name(path.name + ".new")
    other.write_text(text)
    os.replace(other, path)


def timeline_name(case):
    return f"timeline-{case.file_name()}.json"


def timeline_table(path):
    """Where each rank's time went, by the trace's categories."""
    kinds = ["compute", "transfer", "wait", "reduction", "update"]
    of_rank = {}
    slices = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("ph") == "X"]
    for event in slices:
        spent = of_rank.setdefault(event["pid"], dict.fromkeys(kinds, 0.0))
        spent[event["cat"]] = spent.get(event["cat"], 0.0) + event["dur"] / 1e3
    if not slices:
        return "it is empty"
    whole = (max(e["ts"] + e["dur"] for e in slices) - min(e["ts"] for e in slices)) / 1e3
    return table(["rank", *kinds, "of the whole step"],
                 [[str(rank), *(f"{spent[kind]:.1f}" for kind in kinds), f"{whole:.1f}"]
                  for rank, spent in sorted(of_rank.items())])


def keep_timeline(runner, row, beside):
    """Beside the report, which is what is carried away; run folders are not."""
    kept = beside / timeline_name(row.case)
    kept.unlink(missing_ok=True)  # an earlier call's
    path = runner.folder(row.case) / "timeline.json"
    if path.exists():
        shutil.copyfile(path, kept)


def name_of_device(device):
    if device != "cuda":
        return "CPU"
    ask = "import torch; print(torch.cuda.get_device_name())"
    try:
        done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "unknown"
    return done.stdout.strip() or "unknown"


def warm_compiled(runner, models):
    for model in models:
        case = Case(model, COMPILED, 0, 0, plain=True, compiled=True)
        run_limited(runner.plain_command(case, 1), runner.work / "warm.log", 600)


def why_not(case, given):
    left = given.until - time.time() - SETTLE_S
    if left < (1 if given.tiny else case.needs_s):
        return f"{max(0, left):.0f} s were left"
    if not case.deterministic and given.device != "cuda":
        return "a setting of CUDA's"
    return ""


def arguments_given():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="")
    parser.add_argument("--report", default="report.md")
    parser.add_argument("--work", required=True)
    parser.add_argument("--until", type=float, default=time.time() + 540)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--warm-compiled", action="store_true")
    return parser.parse_args()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended too
    given = arguments_given()
    runner = Runner(given)
    models = TINY if given.tiny else [GPT2, SMOL]
    if given.warm_compiled:
        return warm_compiled(runner, models)
    results = Results(given.report, name_of_device(given.device))
    for case in cases_of(*models):
        if why := why_not(case, given):
            results.skipped.append((case, why))
            print(f"  {case.model.name}, {case.name}, {case.precision}: skipped: {why}", flush=True)
            continue
        row = runner.run(case, min(case.limit_s, given.until - time.time() - SETTLE_S))
        results.rows.append(row)
        if case.ranks > 1:
            keep_timeline(runner, row, results.report.parent)
        results.write()
        print(f"  {case.model.name}, {case.name}, {case.precision}: {number(row.rate(), 0)} tokens/s  {row.fault}", flush=True)
    results.write()
    sys.exit(any(row.fault for row in results.rows))


if __name__ == "__main__":
    main()
