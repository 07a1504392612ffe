"""`cllm numbers lattice`, `kissing` and `reduce`: lattices, their pictures, short bases."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from cllm.cli.numbers import DarkFlag, PictureFlag, show_path
from cllm.cli.output import JsonFlag, Output
from cllm.cli.tables import facts, heading, remark
from cllm.errors import InputError
from cllm.jobs import lattice_pictures, lattices, reduction
from cllm.jobs import number_pictures as pictures

LatticeName = Annotated[str, Parameter(help="A2, D4, E8 or Leech.")]


def lattice(
    name: LatticeName,
    /,
    *,
    nearest: Annotated[
        str | None,
        Parameter(
            name="--nearest",
            allow_leading_hyphen=True,
            help='Find the lattice point nearest to this one, such as "0.1,0.2".',
        ),
    ] = None,
    output: PictureFlag = None,
    dark: DarkFlag = False,
    json: JsonFlag = False,
) -> None:
    """Show a lattice, find its point nearest to a given one, or draw a slice through it."""
    out = Output(as_json=json)
    if nearest is not None and output is not None:
        raise InputError("--nearest draws no picture", hint="Leave out --output.")
    if nearest is not None:
        found = lattices.nearest_point(name, lattices.read_point(nearest))
        out.print(" ".join(f"{value:.10g}" for value in found.nearest))
        out.print(facts([("distance", f"{found.distance:.10g}")]))
        out.result(found)
        return
    about = lattices.lattice_facts(name)
    if output is not None:
        pictures.check_picture_path(output)
        lattice_pictures.draw_slice(output, name, dark=dark)
    out.print(Text(f"{about.name}, a lattice in {about.dimension} dimensions", "head"))
    out.print(
        facts(
            [
                ("minimal norm", str(about.minimal_norm)),
                ("kissing number", f"{about.kissing_number:,}"),
                ("volume of a cell", f"{about.cell_volume:.10g}"),
                ("packing radius", f"{about.packing_radius:.10g}"),
                ("covering radius", f"{about.covering_radius:.10g}"),
                ("density", f"{about.density:.6f} of space is filled"),
            ]
        )
    )
    out.print(heading("Vectors of each norm"))
    out.print(facts((str(norm), f"{number:,}") for norm, number in about.shells.items()))
    out.print(heading(f"A basis, times {about.scale:.6g}"))
    for row in about.basis:
        out.print(remark(" ".join(f"{value:>2}" for value in row)))
    show_path(out, output)
    out.result({"lattice": about, "picture": output})


def kissing(
    name: LatticeName,
    /,
    *,
    output: PictureFlag = None,
    dark: DarkFlag = False,
    json: JsonFlag = False,
) -> None:
    """Show how many spheres touch one in a lattice's packing, and draw where."""
    out = Output(as_json=json)
    about = lattices.lattice_facts(name)
    if output is not None:
        pictures.check_picture_path(output)
        lattice_pictures.draw_kissing(output, name, dark=dark)
    balls = f"{about.kissing_number:,} spheres touch one"
    out.print(f"{about.name}: {balls} in {about.dimension} dimensions.")
    show_path(out, output)
    out.result(
        {
            "lattice": about.name,
            "dimension": about.dimension,
            "kissing_number": about.kissing_number,
            "minimal_norm": about.minimal_norm,
            "picture": output,
        }
    )


def reduce(
    file: Annotated[
        str,
        Parameter(
            name="FILE",
            allow_leading_hyphen=True,
            help="One vector a line, or JSON; - reads standard input.",
        ),
    ] = "-",
    /,
    *,
    delta: Annotated[
        float, Parameter(name="--delta", help="How well: above 0.25, below 1; more is shorter.")
    ] = 0.99,
    json: JsonFlag = False,
) -> None:
    """Make the basis of a lattice short (LLL), exactly."""
    output = Output(as_json=json)
    found = reduction.reduce_text(reduction.read_file(file), delta)
    for row in found.basis:
        output.print(" ".join(map(str, row)))
    before = "–" if found.defect_before_bits is None else f"2^{found.defect_before_bits:.2f}"
    output.print(heading("What it gained"))
    output.print(
        facts(
            [
                ("rows", f"{found.num_rows} given, of rank {found.rank}"),
                ("shortest row", _length(found.squared_shortest_after)),
                ("before", _length(found.squared_shortest_before)),
                ("∏‖bᵢ‖ / volume", f"2^{found.defect_after_bits:.2f}"),
                ("before", before),
            ]
        )
    )
    output.result(found)


def _length(square: int | Fraction) -> str:
    """√n, and what that is about."""
    bits = reduction.log2(square) / 2
    about = f"{2.0**bits:,.6g}" if abs(bits) < 50 else f"2^{bits:.2f}"
    return f"√{square} ≈ {about}" if square.denominator == 1 else about
