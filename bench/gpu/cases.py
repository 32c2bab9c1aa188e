"""What is measured on one device: the sizes, the rows, and their order of worth."""

import dataclasses
import re
import statistics

MICROBATCHES = 8
WARM_STEPS = 5  # not counted: allocators, autotuning and, of a compiled row, the compiler
FEWEST_STEPS = 3  # counted ones, of a row that was cut off


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
