"""M1's mathematics by the transformers library, with what it does otherwise corrected: only the
first rotary_dim components of a head turn, and the decay of a layer counts from zero to one over
all layers. For checking the engine, not for speed."""

import json
from pathlib import Path

import torch
import transformers.models.minimax.modeling_minimax as minimax
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers.models.minimax.configuration_minimax import MiniMaxConfig


class PartialRotary(torch.nn.Module):
    """cos and sin of the angles of rotary_dim components, in float32."""

    def __init__(self, rotary_dim, theta):
        super().__init__()
        self.inverse = theta ** -(torch.arange(0, rotary_dim, 2).float() / rotary_dim)

    def forward(self, x, position_ids):
        angle = position_ids[..., None].float() * self.inverse
        angle = torch.cat((angle, angle), -1)
        return angle.cos(), angle.sin()


def turn(q, k, cos, sin, unsqueeze_dim=1):
    """Turns the first components of q and k, as many as cos has."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    n = cos.shape[-1]

    def apply(x):
        first, rest = x[..., :n], x[..., n:]
        a, b = first.chunk(2, -1)
        first = first * cos + torch.cat((-b, a), -1) * sin
        return torch.cat((first.to(x.dtype), rest), -1)

    return apply(q), apply(k)


def layer_slopes(attention):
    n = attention.num_attention_heads
    slopes = torch.tensor([2.0 ** (-8.0 * (j + 1) / n) for j in range(n)])
    factor = 1 - attention.layer_idx / (attention.num_hidden_layers - 1) + 1e-5
    return (slopes * factor)[:, None, None]


def library_config(c):
    kinds = ["full_attention" if t else "linear_attention" for t in c["attn_type_list"]]
    config = MiniMaxConfig(
        vocab_size=c["vocab_size"], hidden_size=c["hidden_size"],
        intermediate_size=c["intermediate_size"], num_hidden_layers=c["num_hidden_layers"],
        num_attention_heads=c["num_attention_heads"],
        num_key_value_heads=c["num_key_value_heads"], head_dim=c["head_dim"],
        max_position_embeddings=c["max_position_embeddings"], rms_norm_eps=c["rms_norm_eps"],
        num_experts_per_tok=c["num_experts_per_tok"], num_local_experts=c["num_local_experts"],
        rope_parameters={"rope_type": "default", "rope_theta": float(c["rope_theta"])},
        bos_token_id=None, eos_token_id=None, layer_types=kinds, block_size=64,
        tie_word_embeddings=False,
        linear_attn_alpha_factor=c["layernorm_linear_attention_alpha"],
        linear_attn_beta_factor=c["layernorm_linear_attention_beta"],
        full_attn_alpha_factor=c["layernorm_full_attention_alpha"],
        full_attn_beta_factor=c["layernorm_full_attention_beta"],
        mlp_alpha_factor=c["layernorm_mlp_alpha"], mlp_beta_factor=c["layernorm_mlp_beta"])
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    return config


def library_weights(path, config):
    """The released names as the library's: experts of a layer in two stacks."""
    weights = {}
    for shard in sorted(path.glob("*.safetensors")):
        weights |= load_file(shard)
    out = {name.replace("block_sparse_moe.", "mlp."): tensor
           for name, tensor in weights.items() if ".experts." not in name}
    for layer in range(config["num_hidden_layers"]):
        def stack(part):
            prefix = f"model.layers.{layer}.block_sparse_moe.experts."
            return torch.stack([weights[f"{prefix}{e}.{part}.weight"]
                                for e in range(config["num_local_experts"])])
        prefix = f"model.layers.{layer}.mlp.experts."
        out[prefix + "gate_up_proj"] = torch.cat((stack("w1"), stack("w3")), 1)
        out[prefix + "down_proj"] = stack("w2")
    return out


class Reference:
    """BF16 weights, float32 mathematics. "medium" lets torch multiply with oneDNN, in float32 all
    the same unless the machine has AMX; its other routine takes thirty times as long."""

    def __init__(self, path):
        torch.set_num_threads(1)  # the products of one token are too small to share
        torch.set_float32_matmul_precision("medium")
        path = Path(path)
        config = json.loads((path / "config.json").read_text())
        minimax.apply_rotary_pos_emb = turn
        minimax.MiniMaxLightningAttention.get_slope_rate = layer_slopes
        net = minimax.MiniMaxForCausalLM(library_config(config))
        _, unknown = net.load_state_dict(library_weights(path, config), strict=False)
        assert not unknown, unknown
        self.net = net.float().eval()
        self.net.model.rotary_emb = PartialRotary(config["rotary_dim"], config["rope_theta"])
        self.tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self.end = self.tokenizer.token_to_id("<end_of_sentence>")

    @torch.no_grad()
    def logits(self, ids, cache=None, position=0):
        positions = torch.arange(position, position + len(ids))[None]
        state = {"use_cache": False} if cache is None else {
            "use_cache": True, "past_key_values": cache}
        return self.net(input_ids=torch.tensor([ids]), position_ids=positions, **state).logits[0]

    def generate(self, prompt, n, temperature=0.0, seed=0):
        """(text, whether the end token came)."""
        ids, out = self.tokenizer.encode(prompt).ids, []
        generator = torch.Generator().manual_seed(seed)
        cache = minimax.MiniMaxCache()
        row = self.logits(ids, cache)[-1]
        while len(out) < n:
            token = choose(row.float(), temperature, generator)
            if token == self.end:
                return self.tokenizer.decode(out, skip_special_tokens=False), True
            out.append(token)
            row = self.logits([token], cache, len(ids) + len(out) - 1)[-1]
        return self.tokenizer.decode(out, skip_special_tokens=False), False


def choose(row, temperature, generator, top_p=0.95):
    if temperature == 0:
        return int(row.argmax())
    values, order = (row / temperature).softmax(-1).sort(descending=True)
    values[values.cumsum(0) - values > top_p] = 0
    return int(order[torch.multinomial(values, 1, generator=generator)])
