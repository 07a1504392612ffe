"""Where the parameters stand: as torch's model has them."""

import ctypes

import pytest

from cllm.errors import SettingsError
from cllm.model.spec import ModelSpec
from cllm.model.transformer import Transformer
from cllm.native import Engine, NgramPart, Parts, parameter_places

SPECS = [
    ModelSpec(11, 12, 2, 3, 1, 4, 10, 8, tied=False),
    ModelSpec(7, 8, 1, 2, 2, 6, 5, 3, tied=True),
]


@pytest.mark.parametrize("spec", SPECS)
def test_names_order_and_shapes_are_those_of_torchs_model(spec):
    named = [(name, tuple(p.shape)) for name, p in Transformer(spec).named_parameters()]
    places = parameter_places(spec)
    assert [(place.name, place.shape) for place in places] == named
    starts = [place.start for place in places]
    assert starts == [0, *(place.stop for place in places)][:-1]


@pytest.mark.parametrize("spec", SPECS)
def test_the_engine_has_as_many(library, spec):
    engine = Engine(library, spec, threads=1, is_bfloat16=False)
    assert engine.parameters.size == parameter_places(spec)[-1].stop == spec.num_parameters


@pytest.mark.parametrize("spec", SPECS)
def test_mechanisms_follow_the_plain_model(library, spec):
    parts = Parts(NgramPart((2, 3), 2, (5, 7, 11, 13), 6), (1, 2, 3), True, "forget", (), 0)
    plain, places = parameter_places(spec), parameter_places(spec, parts)
    assert places[: len(plain)] == plain
    expected = {"mechanisms.ngram.up": (spec.width, 6)}
    for layer in range(spec.layers):
        expected |= {
            f"mechanisms.dampening.{layer}.taps": (3, spec.width),
            f"mechanisms.gamma.{layer}.weight": (spec.heads, spec.width),
            f"mechanisms.schumann.{layer}.gate": (spec.kv_heads, spec.width),
            f"mechanisms.schumann.{layer}.offset": (spec.kv_heads,),
            f"mechanisms.schumann.{layer}.strength": (spec.heads,),
        }
    assert [(p.name, p.shape) for p in places[len(plain) :]] == list(expected.items())
    engine = Engine(library, spec, parts, threads=1, is_bfloat16=False)
    assert engine.parameters.size == places[-1].stop
    assert engine.table.shape == (5 + 7 + 11 + 13, 6)


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        (ModelSpec(7, 8, 1, 2, 2, 3, 5, 3), "model.head-width"),
        (ModelSpec(7, 8, 1, 3, 2, 4, 5, 3), "model.kv-heads"),
        (ModelSpec(7, 0, 1, 2, 2, 4, 5, 3), "model.width"),
    ],
)
def test_parts_that_do_not_fit_are_named(library, spec, where):
    with pytest.raises(SettingsError) as caught:
        Engine(library, spec, threads=1, is_bfloat16=False)
    assert caught.value.where == where


def test_a_shape_too_large_for_memory_is_an_error(library):
    # Asked below the engine, where numpy can't refuse first.
    spec = ModelSpec(5, 4, 1, 1, 1, 2, 4, 4)
    engine = Engine(library, spec, threads=1, is_bfloat16=False)
    rows = 1 << 55
    made = library.functions.cllm_create(
        ctypes.byref(engine._shape),
        ctypes.byref(engine._parts),
        engine.parameters.ctypes.data,
        None,
        None,
        None,
        1,
        rows,
        0,
    )
    assert made is None
