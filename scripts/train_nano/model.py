"""M1-nano in PyTorch, for training on a CPU: bfloat16 products, hand-written backward passes where
autograd would be slow. The mathematics are M1's; names of parameters are short here and become the
released ones in export.py.

Weights live in three flat buffers shared by the processes that train: `master` (float32),
`shadow` (bfloat16, what products read) and one gradient buffer (bfloat16) per process.
"""

import functools
import math

import torch
import torch.nn.functional as F

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, ROTARY = 8, 256, 4, 2, 64, 32
EXPERTS, TOP_K, INNER, VOCABULARY = 32, 2, 256, 2048
THETA, EPS, NORM_EPS = 10_000_000.0, 1e-5, 1e-6
ALPHA = (2 * LAYERS) ** 0.25  # as the released model: 3.5566 for 80 layers
SOFTMAX_LAYERS = {7}
CHUNK = 64
SLACK = 32  # expert products have a multiple of so many rows
BF16 = torch.bfloat16


def shapes():
    """name -> (shape, standard deviation at the start; 0 means all ones)."""
    small = (8 * LAYERS) ** -0.25  # DeepNorm's factor for values, outputs and MLPs
    unit = 1 / math.sqrt(HIDDEN)
    width, kv_width = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    out = {"embed": ((VOCABULARY, HIDDEN), 0.1), "head": ((VOCABULARY, HIDDEN), 0.5 * unit),
           "norm": ((HIDDEN,), 0)}
    for layer in range(LAYERS):
        part = {"n1": ((HIDDEN,), 0), "n2": ((HIDDEN,), 0),
                "router": ((EXPERTS, HIDDEN), unit),
                "w13": ((EXPERTS, 2 * INNER, HIDDEN), unit),
                "w2": ((EXPERTS, HIDDEN, INNER), small * unit),
                "out": ((HIDDEN, width), small * unit)}
        if layer in SOFTMAX_LAYERS:
            part |= {"q": ((width, HIDDEN), unit), "k": ((kv_width, HIDDEN), unit),
                     "v": ((kv_width, HIDDEN), unit)}
        else:
            part |= {"qkv": ((3 * width, HIDDEN), unit), "gate": ((width, HIDDEN), unit),
                     "na": ((width,), 0)}
        out |= {f"{layer}.{name}": value for name, value in part.items()}
    return out


class Buffers:
    """The flat weights and gradients, shared between processes."""

    def __init__(self, n_processes, seed):
        self.shapes = shapes()
        sizes = {name: math.prod(shape) for name, (shape, _) in self.shapes.items()}
        self.total = sum(sizes.values())
        self.offsets, at = {}, 0
        for name, size in sizes.items():
            self.offsets[name] = (at, size)
            at += size
        self.master = torch.empty(self.total).share_memory_()
        self.shadow = torch.empty(self.total, dtype=BF16).share_memory_()
        self.grads = [torch.zeros(self.total, dtype=BF16).share_memory_()
                      for _ in range(n_processes)]
        generator = torch.Generator().manual_seed(seed)
        for name, (shape, std) in self.shapes.items():
            values = torch.randn(shape, generator=generator) * std if std else torch.ones(shape)
            self.view(self.master, name).copy_(values)
        self.shadow.copy_(self.master)

    def view(self, flat, name):
        at, size = self.offsets[name]
        return flat[at:at + size].view(self.shapes[name][0])

    def leaves(self, process):
        """name -> bfloat16 leaf whose .grad lies in the process's gradient buffer."""
        out = {}
        for name in self.shapes:
            leaf = self.view(self.shadow, name).detach().requires_grad_(True)
            leaf.grad = self.view(self.grads[process], name)
            out[name] = leaf
        return out


class RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gain, eps):
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = (scale.square() / x.shape[-1] + eps).rsqrt().to(BF16)
        unit = x * scale
        ctx.save_for_backward(unit, scale, gain)
        return unit * gain

    @staticmethod
    def backward(ctx, grad):
        unit, scale, gain = ctx.saved_tensors
        inner = grad * gain
        mean = (inner * unit).sum(-1, keepdim=True, dtype=torch.float32) / unit.shape[-1]
        grad_gain = (grad * unit).sum(0, dtype=torch.float32).to(BF16)
        return inner.sub_(unit * mean.to(BF16)).mul_(scale), grad_gain, None


def by_expert(ends, product, round_up=False):
    """Calls product(expert, begin, end) for every expert with tokens. With round_up, end is rounded
    up so that few shapes occur (each costs a compilation of its kernel): rows past an expert's own
    are garbage that the next expert overwrites, so order matters."""
    begin = 0
    for e, end in enumerate(ends):
        if end > begin:
            product(e, begin, begin + -(-(end - begin) // SLACK) * SLACK if round_up else end)
        begin = end


def rows(n, width):
    """Room for n rows and what rounding up may add."""
    return torch.empty(n + SLACK, width, dtype=BF16)


class Experts(torch.autograd.Function):
    """sum over the chosen experts of weight * w2(SiLU(w1 u) * (w3 u)); tokens sorted by expert.

    Gradients of the experts' weights are written into their buffers straight away.
    """

    @staticmethod
    def forward(ctx, u, top_weights, ids, w13, w2, grad_w13, grad_w2):
        flat = ids.flatten()
        order = flat.argsort(stable=True)
        n = len(order)
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(n)
        ends = flat.bincount(minlength=EXPERTS).cumsum(0).tolist()
        token = order // TOP_K
        x, hidden, y = rows(n, HIDDEN), rows(n, 2 * INNER), rows(n, HIDDEN)
        torch.index_select(u, 0, token, out=x[:n])
        x[n:] = 0
        by_expert(ends, lambda e, i, j: torch.mm(x[i:j], w13[e].t(), out=hidden[i:j]), True)
        act = F.silu(hidden[:, :INNER]).mul_(hidden[:, INNER:])
        by_expert(ends, lambda e, i, j: torch.mm(act[i:j], w2[e].t(), out=y[i:j]), True)
        pairs = y.index_select(0, inverse).view(-1, TOP_K, HIDDEN)
        weights = top_weights.to(BF16)
        ctx.save_for_backward(x, hidden, act, pairs, weights, token, order, inverse, w13, w2)
        ctx.ends, ctx.grads = ends, (grad_w13, grad_w2)
        return torch.addcmul(pairs[:, 0] * weights[:, :1], pairs[:, 1], weights[:, 1:])

    @staticmethod
    def backward(ctx, grad):
        x, hidden, act, pairs, weights, token, order, inverse, w13, w2 = ctx.saved_tensors
        grad_w13, grad_w2 = ctx.grads
        n = len(order)
        for e, (begin, end) in enumerate(zip([0] + ctx.ends, ctx.ends)):
            if begin == end:
                grad_w13[e].zero_(), grad_w2[e].zero_()
        grad_weights = (pairs * grad[:, None]).sum(-1, dtype=torch.float32)
        dy, dact, dx = rows(n, HIDDEN), torch.empty_like(act), torch.empty_like(x)
        torch.mul(grad.index_select(0, token), weights.flatten()[order][:, None], out=dy[:n])
        dy[n:] = 0
        by_expert(ctx.ends, lambda e, i, j: torch.mm(dy[i:j], w2[e], out=dact[i:j]), True)
        by_expert(ctx.ends, lambda e, i, j: torch.mm(dy[i:j].t(), act[i:j], out=grad_w2[e]))
        gate, up = hidden[:, :INNER], hidden[:, INNER:]
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        dhidden = torch.empty_like(hidden)
        torch.mul(dact, silu, out=dhidden[:, INNER:])
        slope = torch.addcmul(sigmoid, silu, 1 - sigmoid)
        torch.mul(dact.mul_(up), slope, out=dhidden[:, :INNER])
        by_expert(ctx.ends, lambda e, i, j: torch.mm(dhidden[i:j], w13[e], out=dx[i:j]), True)
        by_expert(ctx.ends, lambda e, i, j: torch.mm(dhidden[i:j].t(), x[i:j], out=grad_w13[e]))
        pair = dx.index_select(0, inverse).view(-1, TOP_K, HIDDEN)
        return pair[:, 0] + pair[:, 1], grad_weights, None, None, None, None, None


def slopes():
    return torch.tensor([2.0 ** (-8.0 * (j + 1) / HEADS) for j in range(HEADS)])


def decay_tables(layer, n_chunks):
    """What lightning attention multiplies by, for one layer: within a chunk [heads, C, C], from
    the state [heads, C, 1], into the state [heads, C, 1], between chunks [heads, n, n]."""
    rate = slopes() * (1 - layer / (LAYERS - 1) + 1e-5)
    at = torch.arange(CHUNK, dtype=torch.float32)

    def power(steps):
        return torch.exp(-rate.view(-1, 1, 1) * steps.clamp_min(0)) * (steps >= 0)

    within = power(at[:, None] - at[None, :])
    number = torch.arange(n_chunks, dtype=torch.float32)
    between = power(CHUNK * (number[:, None] - 1 - number[None, :]))
    between = between * (number[:, None] > number[None, :])
    return (within.to(BF16), power((at + 1)[:, None]).to(BF16),
            power((CHUNK - 1 - at)[:, None]).to(BF16), between.to(BF16))


def lightning(qkv, tables, batch):
    """qkv [batch * length, heads * 3 * D] after SiLU -> [batch * length, heads * D]."""
    within, leave, enter, between = tables
    n = between.shape[-1]
    parts = qkv.view(batch, n, CHUNK, HEADS, 3, HEAD_DIM).permute(4, 3, 1, 0, 2, 5)
    q, k, v = (p.reshape(HEADS, n * batch, CHUNK, HEAD_DIM) for p in parts)
    scores = torch.matmul(q, k.transpose(-1, -2)) * within[:, None]
    out = torch.matmul(scores, v)
    if n > 1:
        added = torch.matmul((k * enter[:, None]).transpose(-1, -2), v)
        states = torch.bmm(between, added.view(HEADS, n, batch * HEAD_DIM * HEAD_DIM))
        states = states.view(HEADS, n * batch, HEAD_DIM, HEAD_DIM)
        out = out + torch.matmul(q * leave[:, None], states)
    out = out.view(HEADS, n, batch, CHUNK, HEAD_DIM).permute(2, 1, 3, 0, 4)
    return out.reshape(-1, HEADS * HEAD_DIM)


def rotary_table(length):
    inverse = 1.0 / (THETA ** (torch.arange(0, ROTARY, 2, dtype=torch.float32) / ROTARY))
    angle = torch.arange(length, dtype=torch.float32)[:, None] * inverse
    return angle.cos().to(BF16)[:, None], angle.sin().to(BF16)[:, None]


@functools.cache
def causal_bias(length):
    return torch.full((length, length), -math.inf, dtype=BF16).triu(1)


def rotate(x, table):
    """x [batch, length, heads, D]: turns the first ROTARY components, halves paired."""
    cos, sin = table
    a, b, rest = x.split([ROTARY // 2, ROTARY // 2, HEAD_DIM - ROTARY], -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)


class Nano:
    """The forward pass over leaves given by Buffers."""

    def __init__(self, leaves):
        self.w = leaves
        self.tables = {}

    def attention(self, layer, h, batch):
        w = lambda name: self.w[f"{layer}.{name}"]
        length = h.shape[0] // batch
        if layer not in SOFTMAX_LAYERS:
            key = (layer, length)
            if key not in self.tables:
                self.tables[key] = decay_tables(layer, length // CHUNK)
            out = lightning(F.silu(F.linear(h, w("qkv"))), self.tables[key], batch)
            out = RmsNorm.apply(out, w("na"), NORM_EPS)
            return F.linear(out * torch.sigmoid(F.linear(h, w("gate"))), w("out"))
        if length not in self.tables:
            self.tables[length] = rotary_table(length)
        heads = lambda x, n: x.view(batch, length, n, HEAD_DIM)
        q = rotate(heads(F.linear(h, w("q")), HEADS), self.tables[length])
        k = rotate(heads(F.linear(h, w("k")), KV_HEADS), self.tables[length])
        v = heads(F.linear(h, w("v")), KV_HEADS)
        share = HEADS // KV_HEADS
        k, v = k.repeat_interleave(share, 2), v.repeat_interleave(share, 2)
        q, k, v = (x.transpose(1, 2).reshape(-1, length, HEAD_DIM) for x in (q, k, v))
        scores = torch.bmm(q * HEAD_DIM ** -0.5, k.transpose(1, 2)) + causal_bias(length)
        out = torch.bmm(scores.softmax(-1), v).view(batch, HEADS, length, HEAD_DIM)
        return F.linear(out.transpose(1, 2).reshape(-1, HEADS * HEAD_DIM), w("out"))

    def moe(self, layer, u):
        """(output, balance loss, expert counts)."""
        name = lambda part: f"{layer}.{part}"
        probability = F.linear(u, self.w[name("router")]).float().softmax(-1)
        top, ids = probability.topk(TOP_K, -1)
        top = top / top.sum(-1, keepdim=True)
        w13, w2 = self.w[name("w13")], self.w[name("w2")]
        out = Experts.apply(u, top, ids, w13.detach(), w2.detach(), w13.grad, w2.grad)
        counts = ids.flatten().bincount(minlength=EXPERTS)
        balance = EXPERTS * (counts / ids.numel() * probability.mean(0)).sum()
        return out, balance, counts

    def forward(self, ids):
        """ids [batch, length] -> (logits [batch * length, vocabulary] bf16, balance, counts)."""
        x = F.embedding(ids.flatten(), self.w["embed"])
        balance, counts = 0.0, []
        for layer in range(LAYERS):
            w = lambda name: self.w[f"{layer}.{name}"]
            h = RmsNorm.apply(x, w("n1"), EPS)
            y = torch.add(self.attention(layer, h, ids.shape[0]), h, alpha=ALPHA)
            u = RmsNorm.apply(y, w("n2"), EPS)
            moe, layer_balance, layer_counts = self.moe(layer, u)
            x = torch.add(moe, u, alpha=ALPHA)
            balance = balance + layer_balance / LAYERS
            counts.append(layer_counts)
        z = RmsNorm.apply(x, self.w["norm"], EPS)
        return F.linear(z, self.w["head"]), balance, torch.stack(counts)
