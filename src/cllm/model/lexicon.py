"""What is known of a vocabulary's entries besides their ids: how frequent, and of which roots."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from cllm.errors import IntegrityError
from cllm.files import write_atomic

LEXICON = "lexicon.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """Facts by token id, which mechanisms make their fixed tables from.

    `ranks` [V] counts from 1, the most frequent token first. `roots` [V] numbers each token's
    root from 0. `affixes` [V, A] lists each token's affixes from 1 on, and is filled up with 0.
    `root_primes` [R] and `affix_primes` [A + 1] (the first is 1: no affix) are the primes
    that stand for them. `roots` and what belongs to it is None where words have not been
    segmented.
    """

    ranks: Int32[np.ndarray, " V"]
    roots: Int32[np.ndarray, " V"] | None = None
    affixes: Int32[np.ndarray, "V A"] | None = None
    root_primes: Int64[np.ndarray, " R"] | None = None
    affix_primes: Int64[np.ndarray, " N"] | None = None

    @property
    def vocab_size(self) -> int:
        """Number of entries."""
        return len(self.ranks)

    @property
    def num_roots(self) -> int:
        """Number of different roots; words must have been segmented."""
        assert self.root_primes is not None
        return len(self.root_primes)

    @property
    def num_affixes(self) -> int:
        """Number of different affixes; words must have been segmented."""
        assert self.affix_primes is not None
        return len(self.affix_primes) - 1

    def dealt_out(self, order: Int64[np.ndarray, " V"]) -> Lexicon:
        """The lexicon in which token i has the facts of token order[i]: for controls."""
        roots, affixes = self.roots, self.affixes
        return replace(
            self,
            ranks=self.ranks[order],
            roots=None if roots is None else roots[order],
            affixes=None if affixes is None else affixes[order],
        )

    def save(self, folder: Path) -> None:
        """Write `lexicon.safetensors` into an existing folder."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        present = {name: value for name, value in arrays.items() if value is not None}
        packed = save({name: np.ascontiguousarray(value) for name, value in present.items()})
        write_atomic(folder / LEXICON, packed)

    @classmethod
    def load(cls, folder: Path, vocab_size: int) -> Lexicon:
        """Read it back, sizes checked. Raises: IntegrityError."""
        path = folder / LEXICON
        try:
            arrays = load_file(path)
            lexicon = cls(**arrays)
        except FileNotFoundError:
            raise IntegrityError("the file is missing", where=path) from None
        except (SafetensorError, OSError, TypeError) as error:
            raise IntegrityError(f"the file is damaged: {error}", where=path) from error
        problem = _problem(lexicon, vocab_size)
        if problem is not None:
            raise IntegrityError(f"the file does not fit the model: {problem}", where=path)
        return lexicon


def _problem(lexicon: Lexicon, vocab_size: int) -> str | None:
    if lexicon.ranks.shape != (vocab_size,):
        return f"ranks have shape {lexicon.ranks.shape}, not ({vocab_size},)"
    if np.any(np.sort(lexicon.ranks) != np.arange(1, vocab_size + 1)):
        return "ranks are not the numbers from 1 on"
    parts = (lexicon.roots, lexicon.affixes, lexicon.root_primes, lexicon.affix_primes)
    if all(part is None for part in parts):
        return None
    roots, affixes, root_primes, affix_primes = parts
    if roots is None or affixes is None or root_primes is None or affix_primes is None:
        return "a part of the roots is missing"
    if roots.shape != (vocab_size,) or affixes.ndim != 2 or len(affixes) != vocab_size:
        return "roots or affixes are not one for each entry"
    if roots.min() < 0 or roots.max() >= len(root_primes):
        return "a root has no prime"
    if affixes.size and (affixes.min() < 0 or affixes.max() >= len(affix_primes)):
        return "an affix has no prime"
    return None
