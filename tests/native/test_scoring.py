"""Scores and logits against torch in float64."""

import numpy as np
import pytest

from cllm.errors import SettingsError
from cllm.model.spec import ModelSpec
from cllm.native import Engine

SPEC = ModelSpec(77, 40, 2, 4, 2, 10, 60, 50)


def looking(library, parameters, threads=1):
    return Engine(
        library, SPEC, threads=threads, is_bfloat16=False, learns=False, parameters=parameters
    )


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("learns", [False, True])
def test_score_is_the_summed_nats_of_the_targets(library, draw, by_torch, threads, learns):
    parameters, (ids, targets) = draw.parameters(SPEC), draw.batch(SPEC, 5, 43)
    targets[2] = -1
    engine = Engine(
        library,
        SPEC,
        threads=threads,
        is_bfloat16=False,
        learns=learns,
        parameters=parameters,
    )
    logits = by_torch(SPEC, parameters, ids, targets).logits
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(log_p, np.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    expected = -chosen[targets >= 0].sum()
    assert engine.score(ids, targets) == pytest.approx(expected, rel=1e-6)


def test_changed_parameters_count_once_they_are_told(library, draw):
    parameters, (ids, targets) = draw.parameters(SPEC), draw.batch(SPEC, 2, 9)
    engine = looking(library, parameters)
    engine.score(ids, targets)
    parameters[:] = draw.parameters(SPEC, seed=1)
    engine.changed()
    assert engine.score(ids, targets) == looking(library, parameters).score(ids, targets)


def test_ids_that_are_not_in_the_vocabulary_are_refused(library, draw):
    engine = looking(library, draw.parameters(SPEC))
    good = np.zeros((2, 3), np.int32)
    for value, which in ((77, "ids"), (-1, "ids"), (77, "targets")):
        bad = good.copy()
        bad[1, 2] = value
        with pytest.raises(ValueError, match="77"):
            engine.score(*((bad, good) if which == "ids" else (good, bad)))


def test_more_than_the_context_is_refused(library, draw):
    engine = looking(library, draw.parameters(SPEC))
    with pytest.raises(ValueError, match="context of 50"):
        engine.score(*np.zeros((2, 1, 51), np.int32))


def test_parameters_of_another_size_are_refused(library):
    with pytest.raises(ValueError, match="float32"):
        looking(library, np.zeros(5, np.float32))


def test_bfloat16_is_refused_where_there_is_none(library, monkeypatch):
    monkeypatch.setattr(library, "has_bfloat16", False)
    with pytest.raises(SettingsError) as caught:
        Engine(library, SPEC, threads=1, is_bfloat16=True)
    assert caught.value.where == "train.precision"
