"""The looks of the pages: style sheet, light or dark, and the colours of charts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from nicegui import Client, app, events, ui

from cllm.server.refusal_page import cookie_theme

Theme = Literal["system", "light", "dark"]

STATIC = Path(__file__).parent / "static"
STATIC_URL = "/static"


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours as they stand in app.css, for what is drawn on a canvas.

    `series` are told apart by people with any kind of colour vision (checked in a simulation of
    the three dichromacies); `ramp` goes from nothing to most.
    """

    paper: str
    card: str
    ink: str
    soft: str
    line: str
    accent: str
    loud: str
    series: tuple[str, ...]
    ramp: tuple[str, ...]


LIGHT = Palette(
    paper="#f8f3e8",
    card="#fdfaf3",
    ink="#22273a",
    soft="#5f6274",
    line="#ddd3bf",
    accent="#2c4f6b",
    loud="#c0492f",
    series=("#2c4f6b", "#c0492f", "#8a6d1f", "#5d8a8a", "#7a4b78"),
    ramp=("#fdfaf3", "#eccbb4", "#d68a6c", "#c0492f", "#6d2417"),
)
DARK = Palette(
    paper="#0c1020",
    card="#12172b",
    ink="#efe6d0",
    soft="#a4a3a6",
    line="#2b3350",
    accent="#8fc1a9",
    loud="#e08a3c",
    series=("#8fc1a9", "#e08a3c", "#d9c27a", "#7aa7d9", "#c795c4"),
    ramp=("#12172b", "#3d3230", "#7d5733", "#e08a3c", "#f8dfb8"),
)

# Runs before anything is drawn, so that no page flashes in the other theme. Another tab, or the
# system at dusk, may change it later.
_SCRIPT = """<script>
(() => {
  const root = document.documentElement, dusk = matchMedia("(prefers-color-scheme: dark)");
  root.dataset.theme = "%s";
  root.lang = "en";
  const tell = () => {
    const dark = root.dataset.theme === "dark" || root.dataset.theme === "system" && dusk.matches;
    root.classList.toggle("is-dark", dark);
    document.cookie = "cllm-dark=" + (dark ? 1 : 0) + "; path=/; SameSite=Strict; Max-Age=31536000";
    if (window.emitEvent && window.cllmIsOn) emitEvent("cllm-dark", dark);
    return dark;
  };
  window.cllmTheme = (name) => { root.dataset.theme = name; return tell(); };
  // The page is connected: what it was drawn for may be wrong.
  window.cllmBegin = () => { window.cllmIsOn = true; tell(); };
  dusk.addEventListener("change", tell);
  tell();
})();
</script>"""


# What each page's browser has said last: what is drawn later is right at once.
_told: WeakKeyDictionary[Client, bool] = WeakKeyDictionary()


def palette(dark: bool) -> Palette:
    """The colours of one theme."""
    return DARK if dark else LIGHT


def is_dark() -> bool:
    """Whether the page of this client is shown dark.

    As its browser said with the request; the very first page of a browser takes it for light
    until `on_dark_change` says otherwise.
    """
    client = ui.context.client
    if client in _told:
        return _told[client]
    request = client.request
    return request is not None and cookie_theme(request.cookies) == "dark"


def on_dark_change(act: Callable[[bool], Any]) -> None:
    """Call `act(dark)` when this page becomes dark or light, also where `is_dark` was wrong."""
    shown = is_dark()

    def changed(event: events.GenericEventArguments) -> None:
        nonlocal shown
        if bool(event.args) != shown:
            shown = bool(event.args)
            act(shown)

    ui.on("cllm-dark", changed)


def chart_theme(dark: bool) -> dict[str, Any]:
    """Options of an ECharts chart in this theme, to be merged with one's own.

    Two axes of values with fine lines, no frame, quiet text, a tooltip like a card; series take
    their colours in order. Lists (`series`, more axes) are the caller's.
    """
    look = palette(dark)
    axis = {
        "axisLine": {"lineStyle": {"color": look.line}},
        "axisTick": {"show": False},
        "axisLabel": {"color": look.soft, "fontSize": 12},
        "nameTextStyle": {"color": look.soft, "fontSize": 12},
        "splitLine": {"lineStyle": {"color": look.line, "width": 1}},
    }
    return {
        "backgroundColor": "transparent",
        "color": list(look.series),
        "textStyle": {"color": look.ink, "fontFamily": "ui-sans-serif, system-ui, sans-serif"},
        "animationDuration": 200,
        "animationDurationUpdate": 200,
        # Its own words would take the place of the label's.
        "aria": {"enabled": False},
        "grid": {"left": 8, "right": 16, "top": 32, "bottom": 8, "containLabel": True},
        "legend": {
            "top": 0,
            "left": 0,
            "icon": "roundRect",
            "itemWidth": 14,
            "itemHeight": 3,
            "textStyle": {"color": look.soft, "fontSize": 12},
        },
        "tooltip": {
            "trigger": "axis",
            "backgroundColor": look.card,
            "borderColor": look.line,
            "textStyle": {"color": look.ink, "fontSize": 12},
            "axisPointer": {"lineStyle": {"color": look.soft}},
        },
        "xAxis": {"type": "value", **axis, "splitLine": {"show": False}},
        "yAxis": {"type": "value", "scale": True, **axis, "axisLine": {"show": False}},
    }


def chart(options: dict[str, Any], *, label: str, height: str = "16rem") -> Any:
    """An ECharts chart in the page's theme that changes with it; `label` is read aloud.

    `options` are merged over `chart_theme`; the returned element's `options` may be changed.
    """
    drawn = ui.echart(merged(chart_theme(is_dark()), options), renderer="svg")
    drawn.classes("cllm-chart").style(f"height: {height}")
    drawn.props["role"], drawn.props["aria-label"] = "img", label

    def repaint(dark: bool) -> None:
        held = dict(drawn.options)
        drawn.options.clear()
        # Only what differs: axes and legend stay as the caller has set them, then or since.
        drawn.options.update(merged(held, _changes(chart_theme(not dark), chart_theme(dark))))

    on_dark_change(repaint)
    return drawn


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Options of `base` with those of `over`, section by section."""
    made = dict(base)
    for key, value in over.items():
        held = made.get(key)
        both = isinstance(held, dict) and isinstance(value, dict)
        made[key] = merged(held, value) if both else value  # type: ignore[arg-type]
    return made


def _changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What of `new` is not so in `old`, section by section."""
    return {
        key: _changes(old[key], value) if isinstance(value, dict) else value
        for key, value in new.items()
        if old[key] != value
    }


def serve_static() -> None:
    """Serve the style sheets and pictures of the pages."""
    app.add_static_files(STATIC_URL, STATIC, max_cache_age=31_536_000)


def add_look(theme: Theme) -> None:
    """Give the page of this client its theme and style sheets: app.css, then one a page."""
    ui.add_head_html(_SCRIPT % theme)
    add_script("frame.js")
    add_script("keyboard.js")
    client = ui.context.client
    ui.on("cllm-dark", lambda event: _told.update({client: bool(event.args)}))
    client.on_connect(lambda: ui.run_javascript("cllmBegin()"))
    for path in sorted(STATIC.glob("*.css"), key=lambda path: (path.name != "app.css", path.name)):
        ui.add_head_html(f'<link rel="stylesheet" href="{static_url(path.name)}">')


def add_script(name: str) -> None:
    """Give the page of this client a script of `static/`, run before its elements are there."""
    ui.add_head_html(f'<script src="{static_url(name)}"></script>')


def static_url(name: str) -> str:
    """The address of a file of `static/`; it changes with the file, so browsers may keep it."""
    return f"{STATIC_URL}/{name}?{(STATIC / name).stat().st_mtime_ns:x}"
