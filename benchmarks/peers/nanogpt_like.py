"""A GPT on characters in plain PyTorch, in the shape of nanoGPT's recipe for processors.

4 layers, 4 heads, 128 wide, context 64, batch 12; LayerNorm without bias, learned positions,
tied head, AdamW with 100 steps of warm-up and a cosine to a tenth. `python -m
peers.nanogpt_like TRAIN HELD_OUT` prints one JSON line for each time it measured itself: the
step, the seconds since `--began` without those that measuring took, and nats per character.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from window_loss import window_nats

WIDTH, LAYERS, HEADS, CONTEXT = 128, 4, 4, 64


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the two peers differ in."""

    steps: int
    batch_size: int
    learning_rate: float
    final_fraction: float
    warmup_steps: int
    beta2: float = 0.99
    weight_decay: float = 0.1
    initial_std: float = 0.02
    is_fused: bool = False


RECIPES = {
    # The numbers of nanoGPT's README, for a processor.
    "default": Recipe(2000, 12, 1e-3, 0.1, 100),
    # Found by trying rates, steps and initial weights: the latter matter most here.
    "tuned": Recipe(850, 12, 4e-3, 0.0, 50, initial_std=0.06, is_fused=True),
}


class Block(nn.Module):
    """Attention and a GELU layer four times as wide, each after a norm without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        heads = self.qkv(self.norm1(x)).view(rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    """Token ids [B, T] to logits [B, T, V]."""

    def __init__(self, vocab_size: int, std: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                is_last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=std / math.sqrt(2 * LAYERS) if is_last else std)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def learning_rate(recipe: Recipe, step: int, done: float | None) -> float:
    """A line up, then half a cosine down; `done` is the share of the run, else from the steps."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / (recipe.warmup_steps + 1)
    if done is None:
        done = min(1.0, (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps))
    lowest = recipe.final_fraction * recipe.learning_rate
    return lowest + 0.5 * (1 + math.cos(math.pi * done)) * (recipe.learning_rate - lowest)


class Loop:
    """The training loop: random windows, one step at a time."""

    def __init__(self, recipe: Recipe, text: Tensor, vocab_size: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.recipe, self.step, self._text = recipe, 0, text
        self.model = Model(vocab_size, recipe.initial_std)
        weights = list(self.model.parameters())
        groups = [
            {"params": [w for w in weights if w.dim() == 2], "weight_decay": recipe.weight_decay},
            {"params": [w for w in weights if w.dim() == 1], "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, betas=(0.9, recipe.beta2), fused=recipe.is_fused
        )

    def advance(self, done: float | None) -> None:
        """One step; `done` as in `learning_rate`."""
        places = torch.randint(len(self._text) - CONTEXT, (self.recipe.batch_size, 1))
        windows = self._text[places + torch.arange(CONTEXT + 1)]
        logits = self.model(windows[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step, done)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()
        self.step += 1


def run(options: argparse.Namespace, recipe: Recipe) -> None:
    """Train to the recipe's end or for some seconds; measure at chosen places, off the clock."""
    text, held_out = (Path(p).read_text(encoding="utf-8") for p in options.files)
    alphabet = {c: number for number, c in enumerate(sorted(set(text) | set(held_out)))}
    ids = [torch.tensor([alphabet[c] for c in part]) for part in (text, held_out)]
    loop = Loop(recipe, ids[0], len(alphabet), options.seed)
    times, budget_s = sorted(options.eval_times, reverse=True), options.seconds
    last_step = recipe.steps + options.extra_steps
    clock_s, paused_s, is_last = time.monotonic() - options.began, 0.0, False
    while not is_last:
        before_s = clock_s
        loop.advance(None if budget_s is None else min(1.0, clock_s / budget_s))
        clock_s = time.monotonic() - options.began - paused_s
        # The next step would end about here.
        next_s = 2 * clock_s - before_s
        is_last = loop.step >= last_step if budget_s is None else next_s > budget_s
        is_due = loop.step >= options.eval_from and loop.step % options.eval_every == 0
        while times and next_s > times[-1]:
            times.pop()
            is_due = True
        if not (is_due or is_last):
            continue
        nats = window_nats(loop.model, ids[1], CONTEXT)
        paused_s = time.monotonic() - options.began - clock_s
        row = {"step": loop.step, "clock_s": round(clock_s, 3), "nats": round(nats, 5)}
        print(json.dumps(row), flush=True)
        if options.until is not None and nats <= options.until:
            return
        if options.eval_times and not times:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs=2, metavar="FILE", help="training text, held-out text")
    parser.add_argument("--recipe", choices=list(RECIPES), default="default")
    parser.add_argument("--began", type=float, default=time.monotonic())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eval-every", type=int, default=1 << 30, help="steps")
    parser.add_argument("--eval-from", type=int, default=0, help="first step that is measured")
    parser.add_argument(
        "--eval-times", type=float, nargs="*", default=[], help="seconds; ends there"
    )
    parser.add_argument("--seconds", type=float, help="of training, instead of the recipe's steps")
    parser.add_argument("--extra-steps", type=int, default=0, help="at the last learning rate")
    parser.add_argument("--until", type=float, help="stop at this loss")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="of the recipe")
    options = parser.parse_args()
    recipe = RECIPES[options.recipe]
    for name, _, value in (pair.partition("=") for pair in options.set):
        recipe = replace(recipe, **{name: type(getattr(recipe, name))(value)})
    run(options, recipe)


if __name__ == "__main__":
    main()
