"""What every mechanism keeps to, alone and together with every other one."""

import copy
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from cllm.errors import SettingsError
from cllm.model import KeyValueCache, Transformer, load_model, save_model
from cllm.model.files import load_lexicon, to_config
from cllm.model.folding import fold, kept
from cllm.model.mechanisms.catalogue import NAMES
from cllm.model.mechanisms.choose import choose
from cllm.model.spec import ModelSpec

PROGRESS = 0.85


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def loss_of(model: Transformer, ids: torch.Tensor) -> torch.Tensor:
    """What training lowers."""
    return model.loss(ids[:, :-1], ids[:, 1:], PROGRESS)[1]


def gradients(model: Transformer, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.enable_grad():
        torch.autograd.backward(loss_of(model, ids))
    return {
        name: value.grad.to_dense() if value.grad is not None else torch.zeros_like(value)
        for name, value in model.named_parameters()
    }


def largest(values: torch.Tensor) -> float:
    return float(values.abs().max())


def apart(one: torch.Tensor, two: torch.Tensor) -> float:
    """The largest difference of two sets of logits, over the largest logit if that is above 1."""
    return largest(one - two) / max(1.0, largest(two))


def own(model: Transformer) -> dict[str, torch.Tensor]:
    names = model.named_parameters()
    return {name: value for name, value in names if name.startswith("mechanisms.")}


# One mechanism


def test_off_is_free(models):
    """Nothing is there that the plain model has not: its tensors are those of Qwen3."""
    model = Transformer(models.spec())
    block = (
        "attention_norm",
        "attention.qkv",
        "attention.q_norm",
        "attention.k_norm",
        "attention.out",
        "feed_forward_norm",
        "feed_forward.gate_up",
        "feed_forward.down",
    )
    blocks = [f"blocks.{layer}.{part}.weight" for layer in (0, 1) for part in block]
    tables = ["rotary.cos", "rotary.sin"]
    assert list(model.state_dict()) == ["embedding.weight", *blocks, "norm.weight"]
    assert [name for name, _ in model.named_buffers()] == tables


def test_parameters_are_those_that_the_model_has(models, variant):
    for shape in ("grouped", "untied"):
        spec = models.spec(variant, shape)
        found = {name: tuple(value.shape) for name, value in models.begun(spec).named_parameters()}
        assert list(found.items()) == list(spec.parameter_shapes().items())


def test_it_begins_as_the_plain_model(models, variant):
    for shape in ("grouped", "untied"):
        spec, ids = models.spec(variant, shape), models.ids()
        begun = models.begun(spec)(ids)
        assert torch.equal(begun, models.begun(spec)(ids))
        if not spec.mechanisms[0].replaces:
            plain = models.begun(models.spec((), shape))(ids)
            assert apart(begun, plain) < 1e-6


def test_it_can_leave_where_it_begins(models, variant):
    """Of the numbers that begin at 0 some have a gradient; of all others too, once they moved."""
    spec, ids = models.spec(variant), models.ids()
    begun = models.begun(spec)
    found = gradients(begun, ids)
    zeros = {name: bool((value == 0).all()) for name, value in own(begun).items()}
    if any(zeros.values()):
        assert any(largest(found[name]) > 1e-9 for name, is_zero in zeros.items() if is_zero)
    later = gradients(models.stirred(spec), ids)
    still = [name for name in zeros if largest(later[name]) == 0]
    assert still == []


def test_a_later_token_changes_nothing_before_it(models, variant):
    check_causality(models.stirred(models.spec(variant)), models)


def test_it_does_not_know_how_long_the_text_is(models, variant):
    check_prefixes(models.stirred(models.spec(variant)), models)


def test_one_token_at_a_time_equals_all_at_once(models, variant):
    model = models.stirred(models.spec(variant))
    check_cache(model, models)
    model.isolates_documents = True
    check_cache(model, models)


def test_gradients_agree_with_finite_differences(models, variant, monkeypatch):
    lookup = F.embedding
    # The check does not know sparse gradients; the numbers in them are the same.
    monkeypatch.setattr(F, "embedding", lambda ids, table, sparse=False: lookup(ids, table))
    model = models.stirred(models.spec(variant, "least")).double()
    ids = models.ids(rows=1, length=7)
    checked = {name: value for name, value in model.named_parameters() if is_checked(name)}
    values = [value.detach().clone().requires_grad_() for value in checked.values()]

    def loss(*given: torch.Tensor) -> torch.Tensor:
        state = {f"model.{name}": value for name, value in zip(checked, given, strict=True)}
        return functional_call(_Loss(model), state, (ids,))

    with torch.enable_grad():
        assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-6, fast_mode=True)


def is_checked(name: str) -> bool:
    """A mechanism's own and the plain matrices that it may change."""
    return name.startswith("mechanisms.") or "qkv" in name or "embedding" in name


class _Loss(torch.nn.Module):
    """The loss in float64, with what mechanisms add to it."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        parts, embedding = self.model.mechanisms, self.model.embedding
        logits, targets = self.model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()
        table = parts.table(None if embedding is None else embedding.weight)
        extra = list(parts.losses(logits, targets, table, PROGRESS))
        return F.cross_entropy(logits, targets) + sum(extra)


def test_numbers_stay_finite_in_bfloat16(models, variant):
    model = models.stirred(models.spec(variant)).to(torch.bfloat16)
    ids = models.ids()
    assert bool(model(ids[:, :1]).isfinite().all())
    assert bool(model(ids).isfinite().all())
    assert all(bool(value.isfinite().all()) for value in gradients(model, ids).values())


def test_a_document_reads_the_same_after_another_one(models, variant):
    check_documents(models.stirred(models.spec(variant)), models)


def test_it_folds_or_stays(models, variant, tmp_path):
    for shape in ("grouped", "untied"):
        spec = models.spec(variant, shape)
        [part] = spec.mechanisms
        folder = tmp_path / shape
        folder.mkdir()
        folded = check_folding(models.stirred(spec), models, folder)
        assert folded.mechanisms == ((part,) if part.export == "refuses" else ())
        plain_type = "cllm" if part.export == "refuses" else "qwen3"
        assert to_config(folded)["model_type"] == plain_type


def test_its_control_is_as_large_and_begins_as_well(models, variant):
    spec = models.spec(variant)
    placebo = models.spec(control_of(variant))
    sizes = [len(kind.parameters()) for kind in (spec, placebo)]
    assert sizes[0] == sizes[1]
    # Tables of prime sizes stand against powers of two.
    assert placebo.num_parameters == pytest.approx(spec.num_parameters, rel=0.5)
    if not placebo.mechanisms[0].replaces:
        ids = models.ids()
        begun = models.begun(placebo)(ids)
        assert apart(begun, models.begun(models.spec())(ids)) < 1e-6


def test_its_control_is_another_function(models, variant):
    """With the same numbers, or the same moves away from where each begins."""
    if "reduction.kind=svd" in variant:
        # Of full rank it keeps every table, in whatever basis.
        variant = (*variant, "reduction.rank=4")
    spec, placebo, ids = models.spec(variant), models.spec(control_of(variant)), models.ids()
    real, control = models.stirred(spec), models.stirred(placebo)
    losses = [float(loss_of(model, ids)) for model in (real, control)]
    factors = [model.mechanisms[0].step_factor(1e-3) for model in (spec, placebo)]
    # A change of basis is seen in the finished weights alone.
    tables = [
        fold(model.spec, model.weights(), models.lexicon)[1]["embedding.weight"]
        for model in (real, control)
    ]
    is_other = largest(real(ids) - control(ids)) > 1e-4
    assert (
        is_other
        or abs(losses[0] - losses[1]) > 1e-3
        or factors[0] != factors[1]
        or np.abs(tables[0] - tables[1]).max() > 1e-2
    )


def control_of(items: tuple[str, ...]) -> tuple[str, ...]:
    return (*items, f"{choose(items)[0].name}.placebo=true")


# Two mechanisms


def test_two_that_exclude_each_other_are_refused_by_name():
    for one, two in itertools.combinations([choose([name])[0] for name in NAMES], 2):
        names = [one.name, two.name]
        if excluded(one, two):
            with pytest.raises(SettingsError, match="can't be on together") as refused:
                choose(names)
            assert all(name in refused.value.message for name in names)
        else:
            assert [part.name for part in choose(names[::-1])] == names


def test_two_together_keep_the_contract(models, pair, tmp_path):
    one, two = (choose(items)[0] for items in pair)
    if excluded(one, two):
        return
    spec, ids = models.spec([*pair[0], *pair[1]], "plain"), models.ids()
    begun = models.begun(spec)(ids)
    replacing = [items for items, part in zip(pair, (one, two), strict=True) if part.replaces]
    if len(replacing) < 2:
        # What is left beside a mechanism that replaces something is as good as off.
        alone = models.begun(models.spec(sum(replacing, ()), "plain"))(ids)
        assert apart(begun, alone) < 1e-6
    model = models.stirred(spec)
    check_causality(model, models)
    check_prefixes(model, models, lengths=(9,))
    check_cache(model, models, last=10)
    check_documents(model, models)
    check_folding(model, models, tmp_path)


def excluded(one, two) -> bool:
    return one.name in two.excludes or two.name in one.excludes


def test_every_mechanism_is_in_the_suite(models):
    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        [part] = choose([name])
        assert (part.name, type(part).__name__.lower()) == (name, name.replace("_", ""))


# The points of the contract, on any model


def check_causality(model: Transformer, models) -> None:
    ids = models.ids()
    changed = ids.clone()
    changed[:, 20] = changed[:, 20] % 63 + 1
    before, after = model(ids), model(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])


def check_prefixes(model: Transformer, models, lengths: tuple[int, ...] = (1, 5, 31)) -> None:
    ids = models.ids()
    whole = model(ids)
    for length in lengths:
        assert apart(model(ids[:, :length]), whole[:, :length]) < 1e-5


def check_cache(model: Transformer, models, last: int = 14) -> None:
    """Seven tokens at once, then one by one, then all from `last` on."""
    ids = models.ids(rows=1)
    ids[:, [4, 8, 20]] = model.spec.eos_id
    cache = KeyValueCache(model.spec)
    parts = [model(ids[:, :7], cache)]
    # What was taken back leaves no trace.
    model(models.ids(rows=1, length=3, seed=5), cache)
    cache.truncate(7)
    parts += [model(ids[:, i : i + 1], cache) for i in range(7, last)]
    parts += [model(ids[:, last:], cache)]
    assert apart(torch.cat(parts, 1), model(ids)) < 1e-5


def check_documents(model: Transformer, models) -> None:
    model.isolates_documents = True
    first, second = models.ids(length=11), models.ids(length=12, seed=4)
    first[:, -1] = model.spec.eos_id
    both = model(torch.cat((first, second), 1))
    model.isolates_documents, alone = False, [model(first), model(second)]
    assert apart(both, torch.cat(alone, 1)) < 1e-4


def check_folding(model: Transformer, models, folder) -> ModelSpec:
    """What is saved says the same, and so does what is loaded."""
    spec, weights = fold(model.spec, model.weights(), models.lexicon)
    assert spec.mechanisms == kept(model.spec)
    ids = models.ids()
    save_model(folder, spec, weights, models.lexicon)
    again = load_model(folder)
    assert again.spec == spec
    assert (load_lexicon(folder, spec) is None) == (not any(p.needs for p in spec.mechanisms))
    # In float64: sums in float32 alone may differ by so much, and do on some processors.
    assert apart(again.double()(ids), copy.deepcopy(model).double()(ids)) < 1e-5
    return spec


def test_points_of_the_contract_can_fail(models):
    """A model that looks ahead, or knows its length, is found out."""
    model = models.stirred(models.spec())
    forward = model.forward

    def looks_ahead(ids: torch.Tensor, cache: KeyValueCache | None = None) -> torch.Tensor:
        return forward(ids, cache) + ids[:, -1:, None] * ids.shape[1] * 1e-3

    model.forward = looks_ahead
    checks: Sequence = (check_prefixes, check_cache)
    for check in checks:
        with pytest.raises(AssertionError):
            check(model, models)
