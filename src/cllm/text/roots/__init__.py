"""Roots and affixes of words, found without a dictionary, and the primes that stand for them."""

from cllm.text.roots.learning import learn_segmenter
from cllm.text.roots.morphology import Morphology, learn_morphology
from cllm.text.roots.segmenter import Segmenter, Split
from cllm.text.roots.spelling import word_of
from cllm.text.roots.stored import has_roots, load_roots, save_roots
from cllm.text.roots.token_roots import TokenRoots
from cllm.text.roots.vocabulary import require_words, token_morphology

__all__ = [
    "Morphology",
    "Segmenter",
    "Split",
    "TokenRoots",
    "has_roots",
    "learn_morphology",
    "learn_segmenter",
    "load_roots",
    "require_words",
    "save_roots",
    "token_morphology",
    "word_of",
]
