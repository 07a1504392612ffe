"""Correctly rounded decimal digits of rationals and of balls."""

from __future__ import annotations

from flint import arb, fmpq, fmpz

from cllm.numbers.precision import working_precision

BITS_PER_DIGIT = 3.3219280948873626
# Up to so many zeros are written between the point and the first digit.
_MOST_ZEROS = 5


def rounded_quotient(exact: fmpq, digits: int) -> tuple[int, fmpz, fmpz]:
    """Sign, `digits` leading digits and decimal exponent of a rational other than 0.

    Nearest, ties to even; |exact| ≈ d.ddd… · 10^exponent.
    """
    size = abs(exact)
    with working_precision(64):
        exponent = _least_exponent(arb(size))
    while True:
        shift = int(digits - 1 - exponent)
        top, bottom = size.p * fmpz(10) ** max(shift, 0), size.q * fmpz(10) ** max(-shift, 0)
        quotient, rest = divmod(2 * top + bottom, 2 * bottom)
        if rest == 0 and quotient % 2 == 1:
            quotient -= 1  # halves were rounded up
        if quotient < fmpz(10) ** digits:
            return (1 if exact > 0 else -1), quotient, exponent
        exponent += 1


def rounded_ball(ball: arb, digits: int) -> tuple[int, fmpz, fmpz] | None:
    """The same for all numbers in a ball, or None where they may not round alike.

    FLINT's working precision must be some bits above `digits`.
    """
    # So narrow that the least exponent of its centre is one of all numbers in it.
    if not ball.is_finite() or ball.rel_accuracy_bits() < digits * BITS_PER_DIGIT + 8:
        return None
    size = abs(ball)
    exponent = _least_exponent(size)
    while True:
        quotient = (size * arb(10) ** (digits - 1 - exponent) + arb(0.5)).floor().unique_fmpz()
        if quotient is None:
            return None
        if quotient < fmpz(10) ** digits:
            return (1 if ball > 0 else -1), quotient, exponent
        exponent += 1


def decimal_text(sign: int, quotient: fmpz, exponent: fmpz) -> str:
    """Digits and exponent as a decimal number: 3.14, 0.00314, 3.14e+9, 3.14e-7."""
    digits = quotient.str()
    minus = "-" if sign < 0 else ""
    if -_MOST_ZEROS - 1 <= exponent < 0:
        return f"{minus}0.{'0' * (int(-exponent) - 1)}{digits}"
    point = int(exponent) + 1 if 0 <= exponent < len(digits) else 1
    places = f".{digits[point:]}" if digits[point:] else ""
    end = "" if 0 <= exponent < len(digits) else f"e{'+' if exponent > 0 else ''}{exponent}"
    return f"{minus}{digits[:point]}{places}{end}"


def _least_exponent(size: arb) -> fmpz:
    """⌊log₁₀ size⌋, or 1 less: never more, for then all digits could be rounded away."""
    centre = size.mid()
    mantissa, exponent = centre.man_exp()
    with working_precision(64 + (abs(exponent) + mantissa.bit_length()).bit_length()):
        logarithm = centre.log() / arb.const_log10()
        # A thousandth below, which is more than the rounding of this and of the ball.
        return (logarithm - arb(2) ** -10).floor().mid().unique_fmpz()
