"""SmolLM2-135M, a model with real weights: the same here as in transformers, fine-tuned over stages, and back.

    python smollm2_test.py path/to/build/dev
"""

import glob
import json
import os
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = f"{ROOT}/data/smollm2-135m"
TEXTS = sorted(glob.glob(f"{ROOT}/data/shakespeare/*.txt"))
if not os.path.isdir(MODEL) or not TEXTS:
    print("skipped: data/smollm2-135m or data/shakespeare is not there; ./run model fetches the first, ./run setup the other")
    sys.exit(0)
try:
    import tokenizers
    import torch
    import transformers
except ImportError as error:
    print(f"skipped: {error}; ./run test installs it")
    sys.exit(0)

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
PROGRAM, HEADRACE = f"{sys.argv[1]}/tests/checkpoint/model_program", f"{sys.argv[1]}/cli/headrace"
TOKENS, NEW = 128, 8
tokenizer = tokenizers.Tokenizer.from_file(f"{MODEL}/tokenizer.json")
failures = 0


def expect(ok, what):
    global failures
    failures += not ok
    print("ok:" if ok else "FAILED:", what)


def run(arguments):
    result = subprocess.run([str(each) for each in arguments], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"FAILED: {' '.join(map(str, arguments))}: {result.stdout}{result.stderr}")
    return result.stdout


def ours(folder, ids, work):
    """Loss, logits and what follows greedily."""
    with open(f"{work}/ids", "wb") as file:
        file.write(ids.numpy().tobytes())
    out = run([PROGRAM, "run", folder, f"{work}/ids", 1, NEW, f"{work}/logits"]).split("\n")
    with open(f"{work}/logits", "rb") as file:
        logits = torch.frombuffer(bytearray(file.read()), dtype=torch.float32).view(1, ids.shape[1], -1)
    return float(out[0]), logits, [int(word) for word in out[1].split()]


def same_as_transformers(folder, ids, work, what):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.generation_config.pad_token_id = 0
    with torch.no_grad():
        theirs = model(ids, labels=ids)
        following = model.generate(ids, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False)[0, ids.shape[1]:].tolist()
    loss, logits, tokens = ours(folder, ids, work)
    apart = ((logits - theirs.logits).abs().max() / theirs.logits.abs().max()).item()
    expect(abs(loss - theirs.loss.item()) < 1e-5, f"{what}: loss {loss}, theirs {theirs.loss.item()}")
    expect(apart < 1e-5, f"{what}: logits to {apart:.1e} of the largest")
    expect(tokens == following, f"{what}: then {tokenizer.decode(tokens)!r}, theirs {tokenizer.decode(following)!r}")
    return tokenizer.decode(tokens)


def fine_tuned(ranks, work):
    """Its records without times, and its validations' losses."""
    folder = f"{work}/over-{ranks}"
    keys = {"data.cache": f"{work}/cache", "model.context": 64, "train.steps": 6, "train.batch": 2, "train.microbatches": 2,
            "evaluate.every": 3, "evaluate.sequences": 8, "checkpoint.at_end": "true" if ranks == 2 else "false"}
    os.chdir(ROOT)
    run([HEADRACE, "train", "configs/smollm2.toml", "--ranks", ranks, "--threads", 1, "--run-dir", folder,
         *(word for key, value in keys.items() for word in ("--set", f"{key}={value}"))])
    records = []
    for name in ("metrics", "evaluations"):
        with open(f"{folder}/{name}.jsonl") as file:
            records += [json.loads(line) for line in file]
    for record in records:
        record.pop("seconds", None)
    return records, [record["validation_loss"] for record in records if "validation_loss" in record]


with tempfile.TemporaryDirectory() as work:
    with open(TEXTS[0]) as file:
        ids = torch.tensor([tokenizer.encode(file.read()[3000:6000]).ids[:TOKENS]])
    same_as_transformers(MODEL, ids, work, "on Shakespeare")
    question = torch.tensor([tokenizer.encode("The capital of France is").ids])
    expect("Paris" in same_as_transformers(MODEL, question, work, "of France"), "the capital of France is Paris")
    records, losses = fine_tuned(2, work)
    expect(losses[-1] < losses[0], f"fine-tuned over two stages its validation loss goes {losses}")
    expect(fine_tuned(3, work)[0] == records, "over three stages it is the same to the bit")
    (checkpoint,) = glob.glob(f"{work}/over-2/checkpoints/step-*")
    same_as_transformers(checkpoint, ids, work, "fine-tuned")
    expect(transformers.AutoTokenizer.from_pretrained(checkpoint).encode("Who's there?") == tokenizer.encode("Who's there?").ids,
           "its folder has the tokenizer")

sys.exit(1 if failures else 0)
