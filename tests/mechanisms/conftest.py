"""Every mechanism in its variants and every pair of them, and tiny models to try them on."""

import itertools
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from cllm.model import Lexicon, ModelSpec, Transformer, initial_weights
from cllm.model.mechanisms.catalogue import NAMES
from cllm.model.mechanisms.choose import choose, with_mechanisms

VOCABULARY, EOS = 64, 0

# Each mechanism in the settings that take other paths through the code; the first is also the
# one that meets the others in pairs. Those that are not here have only one.
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "residues": {"product": ("residues",), "sum": ("residues.combine=sum",)},
    "reduction": {
        "scratch": ("reduction.rank=3",),
        # Of full rank, as a lower one is another model once it is finished.
        "svd": ("reduction.kind=svd", "reduction.rank=16"),
    },
    "kissing_codes": {
        "e8": ("kissing_codes",),
        "leech": ("kissing_codes.lattice=leech",),
        "whole": ("kissing_codes.whole=true", "kissing_codes.uniformity=0.5"),
    },
    "roots": {
        "sum": ("roots",),
        "rotation": ("roots.rotation=true",),
        "binding": ("roots.binding=true",),
        "mobius": ("roots.mobius_start=true",),
        "frequent": ("roots.own=frequent", "roots.rank=2"),
        "none": ("roots.own=none",),
    },
    "locality": {
        "frequency": ("locality",),
        "root": ("locality.kind=root",),
        "ulam": ("locality.kind=ulam",),
    },
    "ngram": {"small": ("ngram.rows=11", "ngram.row_width=4")},
    "symmetry": {
        "turns": ("symmetry.rank=2",),
        "reflections": ("symmetry.rank=1", "symmetry.reflections=true"),
    },
    "resonance": {
        "all": ("resonance",),
        "root": ("resonance.terms=root",),
        "phase": ("resonance.terms=phase",),
        "only": ("resonance.only=true",),
    },
    "schumann": {"forget": ("schumann",), "static": ("schumann.kind=static",)},
    "gamma": {"gate": ("gamma",), "clock": ("gamma.kind=clock",)},
    "additive_head": {"own": ("additive_head.rank=2",), "sum": ("additive_head.rank=0",)},
    "root_loss": {
        "root": ("root_loss",),
        "frequency": ("root_loss.kind=frequency",),
        "gcd": ("root_loss.kind=gcd",),
    },
    "lattice_transform": {
        "hadamard": ("lattice_transform",),
        "givens": ("lattice_transform.kind=givens",),
    },
}


def variants_of(name: str) -> dict[str, tuple[str, ...]]:
    return VARIANTS.get(name, {"default": (name,)})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        found = {
            f"{name}-{kind}": items for name in NAMES for kind, items in variants_of(name).items()
        }
        metafunc.parametrize("variant", found.values(), ids=found)
    if "pair" in metafunc.fixturenames:
        first = {name: next(iter(variants_of(name).values())) for name in NAMES}
        pairs = list(itertools.combinations(NAMES, 2))
        metafunc.parametrize(
            "pair", [(first[a], first[b]) for a, b in pairs], ids=["-".join(pair) for pair in pairs]
        )


SHAPES = {
    "plain": {"heads": 2, "kv_heads": 2},
    "grouped": {"heads": 4, "kv_heads": 2},
    "untied": {"heads": 4, "kv_heads": 2, "tied": False},
    # For finite differences: as few numbers as there can be.
    "least": {"heads": 2, "kv_heads": 1, "head_width": 4, "layers": 1, "mlp_width": 4},
}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return generator.standard_normal(shape, np.float32)


class Models:
    """Makes tiny models with mechanisms; the same ones each time."""

    def __init__(self) -> None:
        generator = np.random.default_rng(7)
        ranks = 1 + generator.permutation(VOCABULARY)
        # Twenty roots; each word has up to two of five affixes, some the same one twice.
        roots = generator.permutation(np.arange(VOCABULARY) % 20)
        affixes = generator.integers(0, 6, (VOCABULARY, 2))
        primes = np.array([p for p in range(2, 120) if all(p % q for q in range(2, p))])
        self.lexicon = Lexicon(
            ranks.astype(np.int32),
            roots.astype(np.int32),
            affixes.astype(np.int32),
            primes[5:25].astype(np.int64),
            np.concatenate([[1], primes[:5]]).astype(np.int64),
        )

    def spec(self, items: Sequence[str] = (), shape: str = "grouped") -> ModelSpec:
        plain = {
            "vocab_size": VOCABULARY,
            "width": 16,
            "layers": 2,
            "head_width": 8,
            "mlp_width": 24,
            "context": 32,
            "eos_id": EOS,
        }
        spec = ModelSpec(**(plain | SHAPES[shape]))
        return with_mechanisms(spec, choose([*items, "none"]), self.lexicon)

    def begun(self, spec: ModelSpec) -> Transformer:
        """As training begins, but for gains that are not 1 and blocks that already write."""
        weights = initial_weights(spec, 0, self.lexicon)
        for name, value in weights.items():
            if name.endswith(("attention.out.weight", "feed_forward.down.weight")):
                weights[name] = 0.2 * draw(name, value.shape)
            elif name.startswith("blocks.") and value.ndim == 1:
                weights[name] = value + 0.2 * draw(name, value.shape)
        return self.built(spec, weights)

    def stirred(self, spec: ModelSpec) -> Transformer:
        """Every number moved at random, mechanisms' too, so that none is 0."""
        weights = self.begun(spec).weights()
        for name, parameter in spec.parameters().items():
            noise = 0.2 * draw(name, parameter.shape)
            weights[name] += noise if parameter.lowest is None else np.abs(noise)
        return self.built(spec, weights)

    def built(self, spec: ModelSpec, weights: dict[str, np.ndarray]) -> Transformer:
        model = Transformer(spec, self.lexicon).eval()
        model.load_weights(weights)
        return model

    @staticmethod
    def ids(rows: int = 2, length: int = 32, *, seed: int = 3) -> torch.Tensor:
        """Random tokens, no document's end among them."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(1, VOCABULARY, (rows, length), generator=generator)


@pytest.fixture(scope="session")
def models() -> Models:
    return Models()
