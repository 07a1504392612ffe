"""Beam search against all texts there are, and against transformers."""

import itertools
import math

import numpy as np
import pytest
import torch

from cllm.errors import SettingsError
from cllm.infer.beam import BeamSettings, search
from cllm.infer.torch_decoder import TorchDecoder
from cllm.model import ModelSpec, initial_weights, save_model
from cllm.native.stream import Choice

EOS = 0


def table_of(size, seed=0):
    random = np.random.default_rng(seed)
    chances = random.random((size, size)) ** 3 + 0.01
    return chances / chances.sum(axis=1, keepdims=True)


def every_text(table, first, max_tokens, alpha):
    """{text: (log-probability, score)} of all texts that end, or reach the number."""
    found = {}
    others = [token for token in range(len(table)) if token != EOS]
    for length in range(max_tokens + 1):
        for text in itertools.product(others, repeat=length):
            path = [first, *text]
            total = sum(math.log(table[a][b]) for a, b in itertools.pairwise(path))
            count = length
            if length < max_tokens:
                total += math.log(table[path[-1]][EOS])
                count += 1
            found[text] = (total, total / ((5 + count) / 6) ** alpha)
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("seed", range(3))
def test_with_enough_beams_it_finds_the_best_of_all_texts(by_table, alpha, seed):
    table = table_of(4, seed)
    decoder = by_table(table, num_slots=81)
    settings = BeamSettings(beams=81, length_penalty=alpha, max_tokens=4)
    tree = search(decoder, [2], settings, eos_id=EOS)
    every = every_text(table, 2, 4, alpha)
    best = sorted((score for _, score in every.values()), reverse=True)
    # Texts of the same pairs in another order are equally likely, so scores are compared.
    assert len({found.ids for found in tree.hypotheses}) == len(tree.hypotheses) == 81
    np.testing.assert_allclose([found.score for found in tree.hypotheses], best[:81], atol=1e-5)
    for found in tree.hypotheses:
        total, score = every[found.ids]
        assert found.log_probability == pytest.approx(total, abs=1e-5)
        assert found.score == pytest.approx(score, abs=1e-5)


def test_the_tree_leads_from_each_text_back_to_the_prompt(by_table):
    table = table_of(6)
    tree = search(
        by_table(table, num_slots=3), [2], BeamSettings(beams=3, max_tokens=6), eos_id=EOS
    )
    assert len(tree.hypotheses) == 3
    scores = [found.score for found in tree.hypotheses]
    assert scores == sorted(scores, reverse=True)
    for found in tree.hypotheses:
        path, total, node = [], 0.0, found.node
        while node is not None:
            step = tree.nodes[node]
            path.append(step.token_id)
            total += step.log_probability
            node = step.parent
        assert tuple(reversed(path)) == found.ids
        if found.finish == "end of text":
            total += math.log(table[path[0] if path else 2][EOS])
        assert found.log_probability == pytest.approx(total, abs=1e-5)


def test_one_beam_is_greedy(counting):
    tree = search(counting(), [3], BeamSettings(beams=1, max_tokens=5), eos_id=EOS)
    assert [found.ids for found in tree.hypotheses] == [(4, 5, 6, 7, 8)]


def test_groups_avoid_each_others_tokens(by_table):
    """Two groups of one beam: the second is another text as soon as the penalty outweighs."""
    table = np.full((5, 5), 0.01)
    table[:, 1:] = [0.5, 0.3, 0.1, 0.08]
    table /= table.sum(axis=1, keepdims=True)

    def texts(diversity):
        settings = BeamSettings(beams=2, groups=2, diversity=diversity, max_tokens=3)
        tree = search(by_table(table, num_slots=2), [1], settings, eos_id=EOS)
        return {found.group: found.ids for found in tree.hypotheses}

    assert texts(0.0) == {0: (1, 1, 1), 1: (1, 1, 1)}
    # ln(0.5 / 0.3) = 0.51 nats is what the likeliest token is ahead of the next.
    assert texts(0.5) == {0: (1, 1, 1), 1: (1, 1, 1)}
    assert texts(0.52) == {0: (1, 1, 1), 1: (2, 2, 2)}


def test_an_ended_search_feeds_no_further(by_table):
    """Certain to end after one token: no text that is still followed can do better."""
    table = np.array([[1.0, 0, 0], [0.98, 0.01, 0.01], [0.98, 0.01, 0.01]])
    decoder = by_table(table + 1e-12, num_slots=2)
    search(decoder, [1], BeamSettings(beams=1, length_penalty=0.0, max_tokens=50), eos_id=EOS)
    assert len(decoder.fed) == 1


def test_what_is_ruled_out_is_not_followed(by_table):
    decoder = by_table(table_of(6), num_slots=3)
    choice = Choice(bias={4: -math.inf, 5: -math.inf})
    settings = BeamSettings(beams=3, max_tokens=5)
    tree = search(decoder, [2], settings, eos_id=EOS, choice=choice)
    assert {node.token_id for node in tree.nodes} <= {1, 2, 3}


@pytest.mark.parametrize(("beams", "groups"), [(0, 1), (4, 3), (4, 0)])
def test_beams_that_can_not_be_dealt_out_are_refused(beams, groups):
    with pytest.raises(SettingsError):
        BeamSettings(beams=beams, groups=groups)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    spec = ModelSpec(
        vocab_size=61,
        width=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=8,
        mlp_width=64,
        context=32,
    )
    weights = initial_weights(spec, 0)
    random = np.random.default_rng(0)
    for name, values in weights.items():
        if values.ndim == 2:
            weights[name] = (values + 0.2 * random.standard_normal(values.shape)).astype(np.float32)
    save_model(path, spec, weights)
    return path


@pytest.mark.parametrize("prompt", [[5, 17, 42], [9], [3, 3, 3, 8]])
@pytest.mark.parametrize("beams", [2, 5])
def test_transformers_finds_the_same(folder, prompt, beams):
    """Without a length penalty both add up log-probabilities alone."""
    transformers = pytest.importorskip("transformers")
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = peer.generate(
        torch.tensor([prompt]),
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=0.0,
        early_stopping=False,
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=EOS,
        pad_token_id=EOS,
        return_dict_in_generate=True,
        output_scores=True,
    )
    settings = BeamSettings(beams=beams, length_penalty=0.0, max_tokens=12)
    tree = search(TorchDecoder.load(folder, beams), prompt, settings, eos_id=EOS)
    expected = [
        tuple(itertools.takewhile(lambda token: token != EOS, row[len(prompt) :].tolist()))
        for row in theirs.sequences
    ]
    assert [found.ids for found in tree.hypotheses] == expected
    np.testing.assert_allclose(
        [found.log_probability for found in tree.hypotheses],
        theirs.sequences_scores.tolist(),
        atol=1e-4,
    )
