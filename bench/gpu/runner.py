"""Runs one row: the program or plain PyTorch, in processes of its own, with a limit."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from cases import COMPILED, MICROBATCHES, Case, Row

ROOT = Path(__file__).resolve().parents[2]
PLAIN = Path(__file__).with_name("plain_gpt.py")


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


def warm_compiled(runner, models):
    for model in models:
        case = Case(model, COMPILED, 0, 0, plain=True, compiled=True)
        run_limited(runner.plain_command(case, 1), runner.work / "warm.log", 600)
