"""How sizes, times and counts are written for people."""

from __future__ import annotations

import datetime
import time


def count(value: float | int | None) -> str:
    """`1,234,567`, or a dash where there is nothing to tell."""
    return "–" if value is None else f"{value:,.0f}"


def short_count(value: float | int | None) -> str:
    """`950`, `12.3k`, `4.56M`: three digits at most."""
    if value is None:
        return "–"
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        # 999,999 reads 1.00M, not 1000k.
        if value >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def size(num_bytes: float | int | None) -> str:
    """`950 bytes`, `12.3 kB`, `4.56 MB`: powers of a thousand."""
    if num_bytes is None:
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale * 0.9995:
            return f"{num_bytes / scale:.3g} {unit}"
    return f"{num_bytes:.0f} bytes"


def duration(seconds: float | int | None) -> str:
    """`0.4 s`, `42 s`, `3 min 12 s`, `2 h 5 min`."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s".removesuffix(" 0 s")
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min".removesuffix(" 0 min")


def clock(seconds: float | int) -> str:
    """`3:07` or `1:03:07`, for what counts down."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def decimals(value: float | int | None, digits: int = 3) -> str:
    """A number with fixed decimals, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def moment(iso: str) -> str:
    """An ISO time as people read it: `14:32` today, else `2026-11-22 14:32`."""
    when = datetime.datetime.fromisoformat(iso)
    today = datetime.datetime.now(when.tzinfo).date()
    return f"{when:%H:%M}" if when.date() == today else f"{when:%Y-%m-%d %H:%M}"


def clock_time(seconds_from_now: float | int) -> str:
    """The time of day that lies so many seconds ahead: `14:32`."""
    return time.strftime("%H:%M", time.localtime(time.time() + seconds_from_now))
