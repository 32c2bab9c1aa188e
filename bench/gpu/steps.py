#!/usr/bin/env python3
"""Steps on one device: Headrace on one rank and on four that share it, beside a plain PyTorch GPT of the same sizes.

    steps.py --program HEADRACE --report FILE --work FOLDER --until SECONDS_SINCE_1970 [--device cpu] [--tiny]
    steps.py --warm-compiled --work FOLDER

Called by bench/gpu/run. Measures one row after the other, the ones that say the most first, each in processes and with a
limit of its own. After every row the report is written anew behind what it held before, and rows.csv, steps.csv and
timelines beside it, so that a call that is cut off leaves what was seen. --warm-compiled fills the compiler's cache.
"""

import argparse
import signal
import sys
import time

from cases import GPT2, SMOL, TINY, cases_of
from results import Results, keep_timeline, name_of_device, number
from runner import Runner, warm_compiled

SETTLE_S = 3  # what is left to write the report


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
