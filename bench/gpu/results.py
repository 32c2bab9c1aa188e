"""What was measured, as Markdown, tables and timelines, written anew after every row."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cases import COMPILED, EAGER, FOUR, FOUR_SPLIT, FREE, MICROBATCHES, ONE, WARM_STEPS

PEAK_TFLOPS = {"bf16": 989.4, "fp32": 67.0}
PEAK_OF = re.compile(r"H100 80GB HBM3|H200")


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
