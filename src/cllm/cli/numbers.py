"""`cllm numbers`: primes, factors, constants, the lattice formula, spirals, lattices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from cllm.cli.output import JsonFlag, Output
from cllm.cli.tables import facts, heading, listing, remark
from cllm.cli.whole_numbers import WholeNumber, parse_whole
from cllm.errors import InputError
from cllm.jobs import number_pictures as pictures
from cllm.jobs import numbers as jobs

app = App(
    name="numbers",
    help="Primes, lattices, spirals and constants, exactly.",
    help_format="plaintext",
    help_epilogue="",
    group_commands="Commands",
)
for _name, _help in {
    "lattice": "Show a lattice, find its point nearest to a given one, or draw a slice through it.",
    "kissing": "Show how many spheres touch one in a lattice's packing, and draw where.",
    "reduce": "Make the basis of a lattice short (LLL), exactly.",
}.items():
    app.command(f"cllm.cli.lattices:{_name}", name=_name, help=_help)

PictureFlag = Annotated[
    Path | None,
    Parameter(name=["--output", "-o"], help="Draw a picture into this PNG file."),
]
DarkFlag = Annotated[
    bool,
    Parameter(name="--dark", negative="", show_default=False, help="Draw on a dark ground."),
]
DigitsFlag = Annotated[int, Parameter(name="--digits", help="Significant decimal digits.")]


@app.command
def prime(
    number: WholeNumber | None = None,
    /,
    *,
    nth: Annotated[
        str | None, Parameter(name="--nth", help="Show the prime of this index, 2 being the first.")
    ] = None,
    count: Annotated[
        str | None, Parameter(name="--count", help="Count the primes up to this number.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Say whether a number is prime, with its neighbours; find the n-th prime; count primes."""
    output = Output(as_json=json)
    if sum(given is not None for given in (number, nth, count)) != 1:
        hint = "Such as: cllm numbers prime 97, or: cllm numbers prime --nth 1e6"
        raise InputError("give one of a number, --nth and --count", hint=hint)
    if nth is not None:
        index = parse_whole(nth, "--nth")
        found = jobs.nth_prime(index)
        output.print(f"The {_ordinal(index)} prime is {found:,}.")
        output.result({"index": index, "prime": found})
    elif count is not None:
        limit = parse_whole(count, "--count")
        found = jobs.count_primes(limit)
        output.print(f"There are {found:,} primes up to {limit:,}.")
        output.result({"limit": limit, "primes": found})
    elif number is not None:
        _show_prime(output, jobs.prime_facts(parse_whole(number, "NUMBER")))


@app.command
def factor(number: WholeNumber, /, *, json: JsonFlag = False) -> None:
    """Factor a number; show its totient φ, Möbius μ and divisors."""
    output = Output(as_json=json)
    found = jobs.factor(parse_whole(number, "NUMBER"))
    product = " · ".join(
        f"{prime:,}^{power}" if power > 1 else f"{prime:,}"
        for prime, power in found.factors.items()
    )
    output.print(Text(f"{found.number:,} = {product or '1'}", "head"))
    divisors = " ".join(map(str, found.divisors)) if found.divisors else "–"
    output.print(
        facts(
            [
                ("totient φ", f"{found.totient:,}"),
                ("Möbius μ", str(found.mobius)),
                ("divisors", f"{found.num_divisors:,}"),
                ("their sum σ", f"{found.divisor_sum:,}"),
                ("all of them", divisors),
            ]
        )
    )
    output.result(found)


@app.command
def constant(
    name: Annotated[str, Parameter(help="pi, e, phi, log2, sqrt2, sqrt3 or sqrt5.")],
    /,
    *,
    digits: DigitsFlag = 50,
    json: JsonFlag = False,
) -> None:
    """Print a constant to any number of digits, the last one correctly rounded."""
    output = Output(as_json=json)
    text = jobs.constant(name, digits)
    if json:
        output.result({"constant": name, "digits": digits, "value": text})
    else:
        output.line(text)


@app.command
def formula(
    rank: WholeNumber,
    /,
    *,
    digits: DigitsFlag = 30,
    json: JsonFlag = False,
) -> None:
    """Evaluate the master lattice formula at a rank: its seven components and the value."""
    output = Output(as_json=json)
    found = jobs.formula(parse_whole(rank, "RANK"), digits)
    output.print(Text(f"L({found.rank:,}) = ({found.value[0]}, {found.value[1]})", "head"))
    output.print(
        facts(
            [
                ("1  exponent O", found.exponent),
                ("3  twist Γ", str(found.twist)),
                ("4  phonetic ν", str(found.phonetic)),
                ("5  Einstein Λ", found.einstein),
                ("6  ratios Ψ", f"({found.ratios[0]}, {found.ratios[1]})"),
                ("7  density", f"{found.density}   the prime is {found.prime:,}"),
            ]
        )
    )
    output.print(heading("2  waves cos(θ·φᵢ)"))
    output.print(facts((str(frequency), wave) for frequency, wave in found.waves.items()))
    output.result(found)


@app.command
def plimpton(
    *,
    limit: Annotated[
        str, Parameter(name="--limit", help="Draw the triples with diagonals up to this.")
    ] = "10_000",
    output: PictureFlag = None,
    dark: DarkFlag = False,
    json: JsonFlag = False,
) -> None:
    """Show the tablet Plimpton 322 with the scribe's errors, or draw all Pythagorean triples."""
    out = Output(as_json=json)
    if output is not None:
        pictures.check_picture_path(output)
        pictures.draw_triples(output, parse_whole(limit, "--limit"), dark=dark)
    lines = jobs.tablet()
    columns = ("row", "(diagonal/long)²", "short", "diagonal", "triangle")
    rows = [
        (
            str(line.number),
            _marked(line.ratio, "ratio", line.errors),
            _marked(line.short_written, "short", line.errors),
            _marked(line.diagonal_written, "diagonal", line.errors),
            f"{line.short}² + {line.long}² = {line.diagonal}²",
        )
        for line in lines
    ]
    out.print(listing(columns, rows, right=("row", "short", "diagonal")))
    out.print(heading("* What the scribe got wrong"))
    out.print(facts((f"row {line.number}", error) for line in lines for error in line.errors))
    out.print(
        remark("\nThe first column is shown as it should be, the others as written.", "label")
    )
    show_path(out, output)
    out.result({"rows": lines, "picture": output})


@app.command
def spiral(
    kind: Annotated[jobs.Spiral, Parameter(help="ulam or golden.")],
    /,
    *,
    points: Annotated[
        str, Parameter(name="--points", help="So many numbers, from 1 on.")
    ] = "40_000",
    output: PictureFlag = None,
    dark: DarkFlag = False,
    json: JsonFlag = False,
) -> None:
    """Lay the numbers on a spiral and see where the primes are."""
    out = Output(as_json=json)
    number = parse_whole(points, "--points")
    if output is not None:
        pictures.check_picture_path(output)
        draw = pictures.draw_ulam if kind == "ulam" else pictures.draw_golden
        draw(output, number, dark=dark)
    found = jobs.spiral_facts(kind, number)
    if kind == "ulam":
        sign = "−" if found.line < 0 else "+"
        line = f"y = {'x' if found.slope == 1 else '−x'} {sign} {abs(found.line)}"
        best = ("best diagonal", f"{line}: {found.line_primes} of {found.line_points} are prime")
    else:
        arm = f"n ≡ {found.line} (mod {found.arms})"
        best = ("best arm", f"{arm}: {found.line_primes:,} of {found.line_points:,} are prime")
    share = (
        f"{found.primes:,} of {found.points:,}, one in {found.points / max(found.primes, 1):.2f}"
    )
    out.print(facts([("primes", share), best]))
    show_path(out, output)
    out.result({"spiral": found, "picture": output})


def _show_prime(output: Output, found: jobs.PrimeFacts) -> None:
    verdict = "is prime" if found.is_prime else "is not prime"
    output.print(Text(f"{found.number:,} {verdict}", "good" if found.is_prime else "head"))
    before = "–" if found.previous_prime is None else f"{found.previous_prime:,}"
    index = "" if found.index is None else f"the {_ordinal(found.index)} prime"
    output.print(facts([("index", index), ("before", before), ("after", f"{found.next_prime:,}")]))
    output.result(found)


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if number % 100 in (11, 12, 13) else ending}"


def _marked(text: str, column: str, errors: list[str]) -> Text:
    is_wrong = any(error.startswith(f"{column}:") for error in errors)
    return Text(f"{text} *" if is_wrong else text, "warn" if is_wrong else "")


def show_path(output: Output, path: Path | None) -> None:
    """Say where a picture was drawn, if one was."""
    if path is not None:
        output.print(f"\nDrawn: {path}")
