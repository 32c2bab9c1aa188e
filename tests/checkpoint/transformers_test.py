"""Our checkpoints in transformers, and its folders in our GPT: logits, losses and greedy tokens.

    python transformers_test.py path/to/gpt_program
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError as error:
    print(f"skipped: {error}; ./run test installs it")
    sys.exit(0)

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

PROGRAM = sys.argv[1]
ROWS, LENGTH, NEW, CONTEXT, VOCABULARY = 3, 16, 8, 24, 97
TOLERANCE = 1e-5
failures = []
done = 0


def expect(ok, what):
    global done
    done += 1
    if not ok:
        failures.append(what)
        print("FAILED:", what)


def expect_near(actual, expected, what):
    difference = (torch.as_tensor(actual) - torch.as_tensor(expected)).abs().max().item()
    expect(difference <= TOLERANCE, f"{what}: differs by {difference}")
    return difference


def program(*arguments):
    result = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"FAILED: {' '.join(map(str, arguments))}: {result.stderr}")
    return result.stdout


def ours(folder, ids):
    """Loss, logits and greedy tokens by our GPT."""
    with tempfile.TemporaryDirectory() as work:
        with open(f"{work}/ids", "wb") as file:
            file.write(ids.numpy().tobytes())
        out = program("run", folder, f"{work}/ids", ROWS, NEW, f"{work}/logits").split("\n")
        with open(f"{work}/logits", "rb") as file:
            logits = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    return float(out[0]), logits.view(ROWS, LENGTH, -1), [int(word) for word in out[1].split()]


def theirs(model, ids):
    model.eval()
    with torch.no_grad():
        result = model(ids, labels=ids)
        tokens = ids
        for _ in range(NEW):
            tokens = torch.cat([tokens, model(tokens).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return result.loss.item(), result.logits, tokens[:, LENGTH:].reshape(-1).tolist()


def compare(folder, model, ids, what):
    loss, logits, tokens = ours(folder, ids)
    their_loss, their_logits, their_tokens = theirs(model, ids)
    by = expect_near(logits, their_logits, f"{what}: logits")
    expect_near(loss, their_loss, f"{what}: loss")
    expect(tokens == their_tokens, f"{what}: greedy tokens {tokens}, theirs {their_tokens}")
    print(f"{what}: loss {loss:.6f}, logits to {by:.1e}")


def config_of(tied, **more):
    return transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=32, n_layer=3, n_head=4, tie_word_embeddings=tied,
        bos_token_id=None, eos_token_id=None, **more)


def ours_in_transformers(work, ids):
    for tied, ranks in itertools.product((True, False), (1, 3)):
        what = f"ours, {'tied' if tied else 'untied'}, {ranks} ranks"
        directory = f"{work}/ours-{tied}-{ranks}"
        os.mkdir(directory)
        with open(f"{directory}/config.json", "w") as file:
            json.dump({"model_type": "gpt2", "n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": CONTEXT,
                       "vocab_size": VOCABULARY, "tie_word_embeddings": tied}, file)
        folder = program("write", directory, ranks, f"{directory}/config.json").strip()
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        expect(isinstance(model, transformers.GPT2LMHeadModel), f"{what}: is a {type(model)}")
        expect(not any(info.values()), f"{what}: {info}")
        compare(folder, model, ids, what)
        # The reference reader takes the moments too, under the weights' names.
        for shard in range(1, ranks + 1):
            sets = [load_file(f"{folder}/{kind}-{shard:05}-of-{ranks:05}.safetensors")
                    for kind in ("model", "first", "second")]
            shapes = [{name: tensor.shape for name, tensor in each.items()} for each in sets]
            expect(shapes[0] == shapes[1] == shapes[2], f"{what}: moments of shard {shard}")


def transformers_in_ours(work, ids):
    for tied, dtype, sharded in itertools.product((True, False), (torch.float32, torch.bfloat16), (False, True)):
        what = f"theirs, {'tied' if tied else 'untied'}, {dtype}, {'sharded' if sharded else 'one file'}"
        folder = f"{work}/theirs-{tied}-{dtype}-{sharded}"
        torch.manual_seed(3)
        model = transformers.GPT2LMHeadModel(config_of(tied, initializer_range=0.2))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.2)  # else zero, and never seen
        model.to(dtype).save_pretrained(folder, max_shard_size="20KB" if sharded else "1GB")
        expect(sharded == os.path.exists(f"{folder}/model.safetensors.index.json"), f"{what}: sharded")
        compare(folder, model.float(), ids, what)


with tempfile.TemporaryDirectory() as work:
    torch.manual_seed(2)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    ours_in_transformers(work, ids)
    transformers_in_ours(work, ids)

print(f"{done - len(failures)} of {done} expectations met, transformers {transformers.__version__}")
sys.exit(1 if failures else 0)
