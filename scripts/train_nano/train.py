#!/usr/bin/env python3
"""Trains M1-nano: two processes of one thread each, which share weights and average gradients.

usage: train.py OUT [--steps N] [--decay-steps N] [--seed S]

OUT needs tokenizer.json; gets log.jsonl, checkpoint.pt and, per process, optimizer-R.pt. Started
again it goes on from the checkpoint. Every step's documents depend on the seed and the step alone.
A number in the file OUT/steps replaces --steps while it runs, from the next checkpoint on.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from tokenizers import Tokenizer

import corpus
import model
import optimizer
import tasks

PROCESSES = 2
# Weight of the load-balancing loss, from step 1000 on the second: experts may first become what they
# like, and later no one is left out.
BALANCE, LATE_BALANCE = 0.01, 0.04
SAVE_EVERY = 50
WARMUP = 40


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--decay-steps", type=int, default=900)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def learning_rate(step, steps, decay_steps):
    """Linear warm-up, constant, linear decay to nearly nothing."""
    return min(1.0, (step + 1) / WARMUP, max(0.01, (steps - step) / decay_steps))


def planned_steps(args):
    path = args.out / "steps"
    return int(path.read_text()) if path.exists() else args.steps


def window_shape(step, seed):
    """((windows, tokens) of one process, whether recall over a long range leads each window). The
    range grows, so that copying is learnt where it is easy."""
    rng = random.Random(f"shape {seed} {step}")
    draw = rng.random()
    if step < 150 or draw < 0.70:
        return (8, 256), False
    if step < 400:
        return (4, 512), True
    if step < 700:
        return rng.choice([(4, 512), (2, 1024)]), True
    return rng.choice([(4, 512), (2, 1024), (2, 1280), (1, 2048)]), True


def accuracy(logits, targets, weights, kind):
    """(right, all) of the tokens with the weight `kind`."""
    chosen = weights == kind
    return int((logits[chosen].argmax(-1) == targets[chosen]).sum()), int(chosen.sum())


def train_step(net, tokenizer, step, rank, seed):
    shape, long_recall = window_shape(step, seed)
    ids, weights = (torch.from_numpy(x) for x in corpus.make_batch(
        tokenizer, f"train {seed} {step} {rank}", shape, long_recall))
    logits, balance, counts = net.forward(ids[:, :-1])
    targets, weights = ids[:, 1:].flatten(), weights.flatten()
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    (loss + (BALANCE if step < 1000 else LATE_BALANCE) * balance).backward()
    return {"tokens": len(targets), "loss": loss.item(), "plain_loss": losses.mean().item(),
            "balance": balance.item(), "window": shape[1],
            "least_share": float((counts / counts.sum(-1, keepdim=True)).min()),
            "answers": accuracy(logits, targets, weights, tasks.ANSWER),
            "recalled": accuracy(logits, targets, weights, tasks.RECALLED)}


def save(args, step, tokens, buffers, updater, rank, barrier, steps):
    """Writes beside and renames, so that an interruption leaves the old checkpoint. Also the
    moment when the plan may change, for all processes at once."""
    out = args.out
    torch.save(updater.state_dict(), out / f"optimizer-{rank}.part")
    if rank == 0:
        torch.save({"step": step, "tokens": tokens, "master": buffers.master},
                   out / "checkpoint.part")
    barrier.wait()
    os.replace(out / f"optimizer-{rank}.part", out / f"optimizer-{rank}.pt")
    if rank == 0:
        os.replace(out / "checkpoint.part", out / "checkpoint.pt")
        steps.fill_(planned_steps(args))
    barrier.wait()


def resume(args, buffers, updater, rank):
    """(first step, tokens so far)."""
    if not (args.out / "checkpoint.pt").exists():
        return 0, 0
    state = torch.load(args.out / "checkpoint.pt", mmap=True)
    updater.load_state_dict(torch.load(args.out / f"optimizer-{rank}.pt"))
    if rank == 0:
        buffers.master.copy_(state["master"])
        buffers.shadow.copy_(buffers.master)
    return state["step"], state["tokens"]


def work(rank, args, buffers, shared_norms, steps, barrier):
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    net = model.Nano(buffers.leaves(rank))
    updater = optimizer.Updater(buffers, rank, PROCESSES, shared_norms, barrier)
    step, tokens = resume(args, buffers, updater, rank)
    barrier.wait()
    log = open(args.out / "log.jsonl", "a", buffering=1) if rank == 0 else None
    while step < int(steps):
        report = train_step(net, tokenizer, step, rank, args.seed)
        lr = learning_rate(step, int(steps), args.decay_steps)
        norm = updater.step(lr)
        step, tokens = step + 1, tokens + PROCESSES * report["tokens"]
        if log:
            report |= {"step": step, "tokens": tokens, "lr": lr, "grad_norm": norm,
                       "cpu_seconds": round(PROCESSES * time.process_time(), 1)}
            log.write(json.dumps(report) + "\n")
        if step % SAVE_EVERY == 0 or step == int(steps):
            save(args, step, tokens, buffers, updater, rank, barrier, steps)


def main():
    args = parse_arguments()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "4096"
    mp.set_start_method("fork")
    torch.set_num_threads(1)
    buffers = model.Buffers(PROCESSES, args.seed)
    norms, barrier = torch.zeros(PROCESSES).share_memory_(), mp.Barrier(PROCESSES)
    steps = torch.tensor(planned_steps(args)).share_memory_()
    workers = [mp.Process(target=work, args=(rank, args, buffers, norms, steps, barrier),
                          daemon=True) for rank in range(PROCESSES)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        workers[0].join(1)
        if any(worker.exitcode not in (None, 0) for worker in workers):
            raise SystemExit("a training process failed")


if __name__ == "__main__":
    main()
