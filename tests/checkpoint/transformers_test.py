"""Our checkpoints in transformers, and its folders here: logits, losses, gradients and greedy tokens of every family.

    python transformers_test.py path/to/model_program
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


def compare_gradients(folder, model, ids, what):
    with tempfile.TemporaryDirectory() as work:
        with open(f"{work}/ids", "wb") as file:
            file.write(ids.numpy().tobytes())
        written = program("gradients", folder, f"{work}/ids", ROWS, work).strip()
        gradients = load_file(f"{written}/model-00001-of-00001.safetensors")
    model.zero_grad()
    model(ids, labels=ids).loss.backward()
    theirs_by_name = {name: parameter.grad for name, parameter in model.named_parameters()}
    expect(gradients.keys() == theirs_by_name.keys(), f"{what}: gradients of {gradients.keys() ^ theirs_by_name.keys()}")
    worst = max(expect_near(gradients[name], gradient, f"{what}: gradient of {name}")
                for name, gradient in theirs_by_name.items() if name in gradients)
    print(f"{what}: {len(gradients)} gradients to {worst:.1e}")


def gpt2(**more):
    return transformers.GPT2Config(**{
        "vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 3, "n_head": 4,
        "bos_token_id": None, "eos_token_id": None, **more})


def llama(kind=transformers.LlamaConfig, **more):
    return kind(**{
        "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "hidden_size": 32, "intermediate_size": 40,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None, **more})


LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8}
CONFIGS = {
    "gpt2 tied": gpt2(),
    "gpt2 untied": gpt2(tie_word_embeddings=False),
    "gpt2 odd": gpt2(n_inner=40, activation_function="gelu", layer_norm_epsilon=1e-3),
    "gpt2 relu": gpt2(activation_function="relu"),
    "llama": llama(),
    "llama tied": llama(tie_word_embeddings=True, num_key_value_heads=4, rms_norm_eps=1e-3),
    "llama 3": llama(rope_parameters=LLAMA3),
    "llama linear": llama(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}),
    "llama odd": llama(attention_bias=True, mlp_bias=True, head_dim=6, num_key_value_heads=1, hidden_act="gelu"),
    "mistral": llama(transformers.MistralConfig, sliding_window=None),
    "mistral long window": llama(transformers.MistralConfig, sliding_window=CONTEXT, head_dim=8),
    "qwen2": llama(transformers.Qwen2Config, tie_word_embeddings=True),
    "qwen3": llama(transformers.Qwen3Config, head_dim=12),
    "qwen3 bias": llama(transformers.Qwen3Config, head_dim=8, attention_bias=True, tie_word_embeddings=True),
}


def random_model(config):
    torch.manual_seed(3)
    config.initializer_range = 0.2
    model = transformers.AutoModelForCausalLM.from_config(config, torch_dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)  # else zero, and never seen
        elif parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=1, std=0.2)
    return model


def ours_in_transformers(work, ids):
    for (name, config), ranks in itertools.product(CONFIGS.items(), (1, 3)):
        what = f"ours, {name}, {ranks} ranks"
        directory = f"{work}/ours-{name}-{ranks}"
        os.mkdir(directory)
        config.to_json_file(f"{directory}/config.json")
        folder = program("write", directory, ranks, f"{directory}/config.json").strip()
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        expect(model.config.model_type == config.model_type, f"{what}: is a {type(model)}")
        expect(not any(info.values()), f"{what}: {info}")
        compare(folder, model, ids, what)
        # The reference reader takes the moments too, under the weights' names.
        for shard in range(1, ranks + 1):
            sets = [load_file(f"{folder}/{kind}-{shard:05}-of-{ranks:05}.safetensors")
                    for kind in ("model", "first", "second")]
            shapes = [{name: tensor.shape for name, tensor in each.items()} for each in sets]
            expect(shapes[0] == shapes[1] == shapes[2], f"{what}: moments of shard {shard}")


def transformers_in_ours(work, ids):
    for name, config in CONFIGS.items():
        folder = f"{work}/theirs-{name}"
        model = random_model(config)
        model.save_pretrained(folder)
        compare(folder, model, ids, f"theirs, {name}")
        compare_gradients(folder, model, ids, f"theirs, {name}")
    for name, sharded in itertools.product(("gpt2 tied", "llama"), (False, True)):
        what = f"theirs, {name}, bf16, {'sharded' if sharded else 'one file'}"
        folder = f"{work}/theirs-{name}-bf16-{sharded}"
        model = random_model(CONFIGS[name])
        model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="20KB" if sharded else "1GB")
        expect(sharded == os.path.exists(f"{folder}/model.safetensors.index.json"), f"{what}: sharded")
        # Read anew, as a model that is made bf16 has its rotary tables rounded too.
        compare(folder, transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), ids, what)


with tempfile.TemporaryDirectory() as work:
    torch.manual_seed(2)
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    ours_in_transformers(work, ids)
    transformers_in_ours(work, ids)

print(f"{done - len(failures)} of {done} expectations met, transformers {transformers.__version__}")
sys.exit(1 if failures else 0)
