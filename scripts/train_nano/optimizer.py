"""The update of the shared weights: Muon for the matrices of attention, AdamW for the rest. Every
process updates a share of the tensors from the gradients of all processes."""

import torch

import model

RATES = {"experts": 1.5e-3, "embed": 3e-3, "head": 2e-3, "router": 1.5e-3, "norms": 2e-3}
MUON_RATE, MOMENTUM, WEIGHT_DECAY, CLIP = 0.012, 0.95, 0.05, 1.0
BETAS = (0.9, 0.95)


def group_of(name):
    part = name.split(".")[-1]
    if part in ("qkv", "gate", "out", "q", "k", "v"):
        return "muon"
    return {"w13": "experts", "w2": "experts", "embed": "embed", "head": "head",
            "router": "router"}.get(part, "norms")


def orthogonal(stack):
    """Newton-Schulz iteration (Jordan et al., Muon): the nearest orthogonal matrices, nearly.
    stack [n, rows <= cols, cols]."""
    x = stack.to(model.BF16)
    x = x / (stack.norm(dim=(1, 2), keepdim=True) + 1e-7).to(model.BF16)
    for _ in range(5):
        a = torch.bmm(x, x.transpose(1, 2))
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return x.float()


def as_stack(name, tensor):
    """A view of a parameter as square or wide matrices: q, k and v of a lightning layer are three,
    although their rows alternate by head."""
    if not name.endswith(".qkv"):
        return tensor[None]
    parts = tensor.view(model.HEADS, 3, model.HEAD_DIM, model.HIDDEN).transpose(0, 1)
    return parts.reshape(3, model.HEADS * model.HEAD_DIM, model.HIDDEN)


def from_stack(name, stack):
    if not name.endswith(".qkv"):
        return stack[0]
    parts = stack.view(3, model.HEADS, model.HEAD_DIM, model.HIDDEN).transpose(0, 1)
    return parts.reshape(3 * model.HEADS * model.HEAD_DIM, model.HIDDEN)


def share_out(buffers, rank, n_processes):
    """The tensors this process updates: largest first, each to who has least."""
    loads, mine = [0] * n_processes, []
    for name, (_, size) in sorted(buffers.offsets.items(), key=lambda item: -item[1][1]):
        owner = loads.index(min(loads))
        loads[owner] += size * (20 if group_of(name) == "muon" else 1)
        if owner == rank:
            mine.append(name)
    return mine


class Updater:
    def __init__(self, buffers, rank, n_processes, shared_norms, barrier):
        self.buffers, self.rank = buffers, rank
        self.shared_norms, self.barrier = shared_norms, barrier
        self.mine = share_out(buffers, rank, n_processes)
        self.masters = {name: buffers.view(buffers.master, name) for name in self.mine}
        self.gradients = {name: torch.zeros_like(m) for name, m in self.masters.items()}
        self.momenta = {name: torch.zeros_like(m) for name, m in self.masters.items()
                        if group_of(name) == "muon"}
        self.adam = torch.optim.AdamW(self._adam_groups(), betas=BETAS, eps=1e-10, fused=True)

    def _adam_groups(self):
        groups = []
        for kind, rate in RATES.items():
            names = [n for n in self.mine if group_of(n) == kind]
            for name in names:
                self.masters[name].grad = self.gradients[name]
            if names:
                decay = 0.0 if kind in ("norms", "router") else WEIGHT_DECAY
                groups.append({"params": [self.masters[n] for n in names], "rate": rate,
                               "lr": rate, "weight_decay": decay})
        return groups

    def _average(self):
        """Own gradients averaged over the processes; returns the square of their norm."""
        total = 0.0
        for name, out in self.gradients.items():
            parts = [self.buffers.view(flat, name) for flat in self.buffers.grads]
            out.copy_(parts[0])
            for part in parts[1:]:
                out.add_(part)
            out.div_(len(parts))
            total += out.square().sum().item()
        return total

    def _muon(self, lr):
        for name, momentum in self.momenta.items():
            gradient = self.gradients[name]
            momentum.lerp_(gradient, 1 - MOMENTUM)
            ahead = gradient.lerp(momentum, MOMENTUM)
            update = from_stack(name, orthogonal(as_stack(name, ahead)))
            master = self.masters[name]
            master.mul_(1 - lr * MUON_RATE * WEIGHT_DECAY).add_(update, alpha=-lr * MUON_RATE)

    @torch.no_grad()
    def step(self, lr):
        """One update with every rate times lr; returns the norm of the gradient. Gradients are
        zero afterwards."""
        self.barrier.wait()
        self.shared_norms[self.rank] = self._average()
        self.barrier.wait()
        norm = self.shared_norms.sum().sqrt().item()
        scale = min(1.0, CLIP / (norm + 1e-6))
        for gradient in self.gradients.values():
            gradient.mul_(scale)
        for group in self.adam.param_groups:
            group["lr"] = lr * group["rate"]
        self.adam.step()
        self._muon(lr)
        for name, master in self.masters.items():
            self.buffers.view(self.buffers.shadow, name).copy_(master)
        self.buffers.grads[self.rank].zero_()
        self.barrier.wait()
        return norm

    def state_dict(self):
        return {"adam": self.adam.state_dict(), "momenta": self.momenta}

    def load_state_dict(self, state):
        self.adam.load_state_dict(state["adam"])
        for name, momentum in self.momenta.items():
            momentum.copy_(state["momenta"][name])
