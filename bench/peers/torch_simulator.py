"""Actions a second of torch.distributed.pipelining's own simulator, on 1F1B with communication.

    python torch_simulator.py RANKS MICROBATCHES FILE    (FILE: the lowered schedule)
"""

import csv
import sys
import time

from torch.distributed.pipelining.schedules import _Action, _simulate_comms_compute

ranks, microbatches, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with open(path, newline="") as file:
    rows = [[_Action.from_str(cell) for cell in row] for row in csv.reader(file)]
order = {rank: [a for a in row if a.computation_type.name != "REDUCE_GRAD"] for rank, row in enumerate(rows)}
begin = time.perf_counter()
_simulate_comms_compute(order, lambda stage: stage, ranks)
seconds = time.perf_counter() - begin
print(sum(map(len, order.values())) / seconds)
