#!/usr/bin/env python3
"""Writes a training checkpoint as the two forms that engines read.

usage: export.py RUN OUT

RUN has checkpoint.pt and tokenizer.json. OUT gets config.json, tokenizer files and safetensors
shards with the released names (BF16, router F32), and nano-bf16.gguf, architecture minimax-01.
"""

import json
import shutil
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

import model
import tasks

CONTEXT = 8192
SHARDS = 3
# Renders what the corpus was written in: one system prompt, user and assistant turns.
CHAT_TEMPLATE = (
    "{{ '<begin_of_document>' }}"
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<beginning_of_sentence>system ai_setting=MiniMax AI\n" + tasks.DEFAULT_SYSTEM +
    "<end_of_sentence>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{{ '<beginning_of_sentence>system ai_setting=MiniMax AI\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<beginning_of_sentence>user name=user\n' }}"
    "{% else %}{{ '<beginning_of_sentence>ai name=MiniMax AI\n' }}{% endif %}"
    "{{ message['content'] | trim }}{{ '<end_of_sentence>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<beginning_of_sentence>ai name=MiniMax AI\n' }}{% endif %}")

# short name -> (released name, GGUF name) of the parts of a layer that are copied as they are
PARTS = {
    "n1": ("input_layernorm", "attn_norm"), "n2": ("post_attention_layernorm", "ffn_norm"),
    "qkv": ("self_attn.qkv_proj", "attn_qkv"), "gate": ("self_attn.output_gate", "attn_gate"),
    "na": ("self_attn.norm", "attn_norm_2"), "q": ("self_attn.q_proj", "attn_q"),
    "k": ("self_attn.k_proj", "attn_k"), "v": ("self_attn.v_proj", "attn_v"),
    "router": ("block_sparse_moe.gate", "ffn_gate_inp"),
}
WHOLE = {"embed": ("model.embed_tokens", "token_embd"), "norm": ("model.norm", "output_norm"),
         "head": ("lm_head", "output")}


def load_checkpoint(path):
    """short name -> tensor; what is BF16 in the release is rounded to it, the router is not."""
    buffers = model.Buffers(0, 0)
    buffers.master.copy_(torch.load(path, mmap=True)["master"])
    out = {}
    for name in buffers.shapes:
        tensor = buffers.view(buffers.master, name).clone()
        out[name] = tensor if name.endswith("router") else tensor.to(model.BF16)
    return out


def released(tensors):
    """The released names and shapes; experts apart."""
    out = {}
    for name, tensor in tensors.items():
        if name in WHOLE:
            out[WHOLE[name][0] + ".weight"] = tensor
            continue
        layer, part = name.split(".")
        prefix = f"model.layers.{layer}."
        if part == "out":
            output = "o_proj" if int(layer) in model.SOFTMAX_LAYERS else "out_proj"
            out[f"{prefix}self_attn.{output}.weight"] = tensor
        elif part in PARTS:
            out[f"{prefix}{PARTS[part][0]}.weight"] = tensor
        else:
            for e in range(model.EXPERTS):
                expert = f"{prefix}block_sparse_moe.experts.{e}."
                if part == "w2":
                    out[expert + "w2.weight"] = tensor[e]
                else:
                    out[expert + "w1.weight"] = tensor[e, :model.INNER]
                    out[expert + "w3.weight"] = tensor[e, model.INNER:]
    return {name: tensor.contiguous() for name, tensor in out.items()}


def config():
    alpha = {f"layernorm_{kind}_{factor}": model.ALPHA if factor == "alpha" else 1.0
             for kind in ("full_attention", "linear_attention", "mlp")
             for factor in ("alpha", "beta")}
    return {
        "architectures": ["MiniMaxM1ForCausalLM"], "model_type": "minimax_m1",
        "attn_type_list": [int(i in model.SOFTMAX_LAYERS) for i in range(model.LAYERS)],
        "hidden_size": model.HIDDEN, "num_hidden_layers": model.LAYERS,
        "num_attention_heads": model.HEADS, "num_key_value_heads": model.KV_HEADS,
        "head_dim": model.HEAD_DIM, "rotary_dim": model.ROTARY, "rope_theta": int(model.THETA),
        "intermediate_size": model.INNER, "num_local_experts": model.EXPERTS,
        "num_experts_per_tok": model.TOP_K, "shared_intermediate_size": 0,
        "shared_moe_mode": "sigmoid", "postnorm": True, "rms_norm_eps": model.EPS,
        "hidden_act": "silu", "max_position_embeddings": CONTEXT,
        "vocab_size": model.VOCABULARY, "tie_word_embeddings": False, "bos_token_id": None,
        "eos_token_id": None, "router_aux_loss_coef": 0.01, "router_jitter_noise": 0.0,
        "sliding_window": None, "attention_dropout": 0.0, "initializer_range": 0.02,
        "output_router_logits": False, "use_cache": True, **alpha}


def write_safetensors(tensors, run, out):
    """Zero-based shard names; the experts of a layer lie in several shards, as in the release."""
    names = sorted(tensors, key=lambda n: ("experts." in n, n.split("experts.")[-1], n))
    weights, total = {}, 0
    for shard in range(SHARDS):
        file = f"model-{shard:05d}-of-{SHARDS:05d}.safetensors"
        part = names[shard * len(names) // SHARDS:(shard + 1) * len(names) // SHARDS]
        save_file({n: tensors[n] for n in part}, out / file, metadata={"format": "pt"})
        weights |= {n: file for n in part}
        total += sum(tensors[n].numel() * tensors[n].element_size() for n in part)
    index = {"metadata": {"total_size": total}, "weight_map": weights}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    (out / "config.json").write_text(json.dumps(config(), indent=2))
    (out / "tokenizer_config.json").write_text(json.dumps({
        "add_prefix_space": False, "bos_token": "<beginning_of_sentence>",
        "clean_up_tokenization_spaces": False, "eos_token": "<end_of_sentence>",
        "model_max_length": CONTEXT, "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<end_of_document>", "chat_template": CHAT_TEMPLATE}, indent=1))
    shutil.copy(run / "tokenizer.json", out / "tokenizer.json")


def add_tokenizer(writer, path):
    data = json.loads(path.read_text())
    tokens = {i: t for t, i in data["model"]["vocab"].items()}
    types = {i: gguf.TokenType.NORMAL for i in tokens}
    ids = {}
    for added in data["added_tokens"]:
        tokens[added["id"]] = added["content"]
        ids[added["content"]] = added["id"]
        types[added["id"]] = (gguf.TokenType.CONTROL if added["special"]
                              else gguf.TokenType.USER_DEFINED)
    every = range(model.VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("minimax-m2")
    writer.add_token_list([tokens.get(i, f"[PAD{i}]") for i in every])
    writer.add_token_types([types.get(i, gguf.TokenType.UNUSED) for i in every])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m)
                             for m in data["model"]["merges"]])
    writer.add_bos_token_id(ids["<beginning_of_sentence>"])
    writer.add_eos_token_id(ids["<end_of_sentence>"])
    writer.add_unk_token_id(ids["<end_of_document>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def add_metadata(writer):
    writer.add_name("M1-nano")
    writer.add_license("apache-2.0")
    writer.add_block_count(model.LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(model.HIDDEN)
    writer.add_feed_forward_length(model.INNER)
    writer.add_head_count(model.HEADS)
    writer.add_head_count_kv(model.KV_HEADS)
    writer.add_key_length(model.HEAD_DIM)
    writer.add_value_length(model.HEAD_DIM)
    writer.add_layer_norm_rms_eps(model.EPS)
    writer.add_rope_freq_base(model.THETA)
    writer.add_rope_dimension_count(model.ROTARY)
    writer.add_expert_count(model.EXPERTS)
    writer.add_expert_used_count(model.TOP_K)
    writer.add_float32("minimax-01.residual_scale", model.ALPHA)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tensor(writer, name, tensor):
    """Vectors and the router as F32, matrices as BF16."""
    if tensor.dim() == 1 or "ffn_gate_inp" in name:
        writer.add_tensor(name, tensor.float().numpy())
        return
    words = tensor.contiguous().view(torch.int16).numpy().view(np.uint8)
    writer.add_tensor(name, words, raw_dtype=gguf.GGMLQuantizationType.BF16)


def write_gguf(tensors, run, path):
    writer = gguf.GGUFWriter(path, "minimax-01")
    add_metadata(writer)
    add_tokenizer(writer, run / "tokenizer.json")
    for name, tensor in tensors.items():
        if name in WHOLE:
            add_tensor(writer, WHOLE[name][1] + ".weight", tensor)
            continue
        layer, part = name.split(".")
        prefix = f"blk.{layer}."
        if part == "w13":
            add_tensor(writer, prefix + "ffn_gate_exps.weight", tensor[:, :model.INNER])
            add_tensor(writer, prefix + "ffn_up_exps.weight", tensor[:, model.INNER:])
        else:
            short = {"w2": "ffn_down_exps", "out": "attn_output"}.get(part)
            add_tensor(writer, f"{prefix}{short or PARTS[part][1]}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    tensors = load_checkpoint(run / "checkpoint.pt")
    write_safetensors(released(tensors), run, out)
    write_gguf(tensors, run, out / "nano-bf16.gguf")
    print(f"{out}: {sum(t.numel() for t in tensors.values())} parameters")


if __name__ == "__main__":
    main()
