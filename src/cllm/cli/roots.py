"""`cllm roots`: the roots and affixes of words, and the primes that stand for them."""

from __future__ import annotations

import math
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from cllm.cli.completion import ModelName
from cllm.cli.output import JsonFlag, Output
from cllm.cli.tables import facts, heading, listing, remark
from cllm.jobs import roots as jobs
from cllm.jobs.workspace import open_workspace
from cllm.quantities import count, decimals

app = App(
    name="roots",
    help="Roots and affixes of words, found without a dictionary, and their primes.",
    help_format="plaintext",
    help_epilogue="",
    group_commands="Commands",
)

LimitFlag = Annotated[int, Parameter(name="--limit", help="How many to show at most.")]
_LARGEST_NUMBER = 2**63
_SHOWN_WORDS = 12


@app.command
def show(
    model: ModelName,
    word: Annotated[str, Parameter(help="A word, in the model's vocabulary or not.")],
    /,
    *,
    limit: LimitFlag = 12,
    json: JsonFlag = False,
) -> None:
    """Show a word's root, affixes and prime code, and its nearest relatives."""
    output = Output(as_json=json)
    found = jobs.word_roots(open_workspace(), model, word, limit=max(0, limit))
    if json:
        output.result(found)
        return
    output.print(Text(found.word, "head"))
    output.print(
        facts(
            [
                ("parts", " · ".join(found.morphs)),
                ("root", f"{found.root}  ({found.root_prime})"),
                ("affixes", _affixes(found)),
                ("code", _code(found.code)),
            ]
        )
    )
    if not found.is_in_vocabulary:
        output.print(remark("not in the vocabulary; cut with the parts learnt from it", "label"))
    if not found.is_stored:
        output.print(remark("found in the vocabulary just now; the model keeps none", "label"))
    if not found.relatives:
        output.print(remark("no other word of the vocabulary shares a part with it"))
        return
    output.print(heading(f"Nearest of {count(found.num_relatives)} relatives"))
    rows = [
        (
            Text(relative.word, "head"),
            " ".join(relative.shares),
            " · ".join(map(str, relative.factors)),
            decimals(relative.log_gcd, 2),
        )
        for relative in found.relatives
    ]
    output.print(listing(("word", "shares", "factors", "log gcd"), rows, right=("log gcd",)))


@app.command(name="list")
def list_(
    place: Annotated[str, Parameter(help="Name of a model, or a text or word list in a file.")],
    /,
    *,
    limit: LimitFlag = 20,
    json: JsonFlag = False,
) -> None:
    """List the largest families of words that share a root, and the commonest affixes."""
    output = Output(as_json=json)
    found = jobs.largest_families(open_workspace(), place, limit=max(0, limit))
    if json:
        output.result(found)
        return
    totals = f"{count(found.num_words)} words, {count(found.num_roots)} roots"
    output.print(remark(f"{totals}, {count(found.num_affixes)} affixes", "label"))
    rows = [
        (Text(family.root, "head"), str(family.prime), count(len(family.words)), _words(family))
        for family in found.families
    ]
    output.print(listing(("root", "prime", "words", "family"), rows, right=("prime", "words")))
    output.print(heading("Affixes"))
    marks = [(Text(name, "head"), str(prime), count(uses)) for name, prime, uses in found.affixes]
    output.print(listing(("affix", "prime", "words"), marks, right=("prime", "words")))


def _affixes(found: jobs.WordRoots) -> str:
    pairs = zip(found.affixes, found.affix_primes, strict=True)
    return ", ".join(f"{affix}  ({prime})" for affix, prime in pairs)


def _code(factors: list[int]) -> str:
    """`2 · 541 = 1,082`; a product of more than 63 bits is left as its factors."""
    written = " · ".join(map(str, factors))
    product = math.prod(factors)
    is_short = len(factors) > 1 and product < _LARGEST_NUMBER
    return f"{written} = {product:,}" if is_short else written


def _words(family: jobs.Family) -> str:
    more = len(family.words) - _SHOWN_WORDS
    shown = ", ".join(family.words[:_SHOWN_WORDS])
    return f"{shown}, and {count(more)} more" if more > 0 else shown
