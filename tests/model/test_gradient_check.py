"""The check of gradients finds right ones right, and wrong ones wrong."""

import json

import pytest
import torch

from cllm.model.gradient_check import check_gradients
from cllm.model.layers import FeedForward
from cllm.model.mechanisms.catalogue import NAMES
from cllm.model.mechanisms.choose import choose

VARIANTS = ["gamma.kind=clock", "schumann.kind=static", "mobius.placebo=true", "ngram.placebo=true"]


def test_every_part_of_the_plain_model_is_right():
    parts = check_gradients()
    assert len(parts) == 2 * 8 + 3
    assert all(part.is_right and part.largest_gradient > 1e-3 for part in parts)


@pytest.mark.parametrize("item", [*NAMES, *VARIANTS])
def test_every_mechanism_is_right_and_has_a_gradient(item):
    parts = check_gradients(choose([item]), most_numbers=6)
    wrong = [(part.name, part.largest_error) for part in parts if not part.is_right]
    assert wrong == []
    silent = [part.name for part in parts if part.largest_gradient == 0.0]
    assert silent == []


def test_a_wrong_gradient_is_found(monkeypatch):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 1.001

    forward = FeedForward.forward
    monkeypatch.setattr(FeedForward, "forward", lambda self, x: Wrong.apply(forward(self, x)))
    wrong = {part.name for part in check_gradients() if not part.is_right}
    assert "blocks.1.feed_forward.down.weight" in wrong
    assert "head.weight" not in wrong


def test_the_command_shows_each_part_and_fails_where_one_is_wrong(cllm_command):
    done = cllm_command("check", "gradients", "--with", "gamma")
    assert done.returncode == 0, done.stderr
    assert "mechanisms.gamma.1.weight" in done.stdout
    assert "wrong" not in done.stdout
    done = cllm_command("check", "gradients", "--json")
    records = json.loads(done.stdout)
    assert {"name", "shape", "largest_error", "is_right"} <= records[0].keys()


def test_an_unknown_mechanism_is_refused(cllm_command):
    done = cllm_command("check", "gradients", "--with", "gama")
    assert done.returncode == 2
    assert "Did you mean 'gamma'" in done.stderr
