"""Pages that stand alone, for whoever is not let in or lost: what happened, and what to do."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape

from cllm.server.access import Refusal

# Where the pages remember the theme that they were shown in.
_DARK = "cllm-dark"

# Colours and measures of web/static/app.css, which such a browser may not read.
_STYLE = """
:root{color-scheme:light;--paper:#f8f3e8;--card:#fdfaf3;--ink:#22273a;--soft:#5f6274;
--line:#ddd3bf;--sunk:#f1eadb;--accent:#2c4f6b;--loud:#b3422a;
--serif:"Iowan Old Style","Palatino Linotype",Palatino,"Book Antiqua","P052",
"URW Palladio L","Source Serif 4",Georgia,"DejaVu Serif",serif;
--sans:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;
--mono:ui-monospace,"SF Mono","Cascadia Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media(prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;
--paper:#0c1020;--card:#12172b;--ink:#efe6d0;--soft:#a4a3a6;--line:#2b3350;--sunk:#090c18;
--accent:#8fc1a9;--loud:#e08a3c}}
:root[data-theme=dark]{color-scheme:dark;--paper:#0c1020;--card:#12172b;--ink:#efe6d0;
--soft:#a4a3a6;--line:#2b3350;--sunk:#090c18;--accent:#8fc1a9;--loud:#e08a3c}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:flex;flex-direction:column;background:var(--paper);
color:var(--ink);font:1rem/1.55 var(--sans);-webkit-font-smoothing:antialiased}
header{display:flex;align-items:center;gap:8px;height:56px;padding:0 clamp(12px,2vw,24px);
border-bottom:1px solid var(--line);font:1.35rem/1 var(--serif)}
header svg{color:var(--loud)}
main{width:100%;max-width:38rem;margin:auto;padding:32px 16px 12vh}
h1{margin:0 0 12px;font:400 clamp(1.8rem,4vw,2.2rem)/1.15 var(--serif)}
p{margin:0 0 16px}
.soft{color:var(--soft);font-size:.9rem}
section{margin:24px 0;padding:16px 20px 4px;background:var(--card);border:1px solid var(--line);
border-radius:10px}
h2{margin:0 0 8px;font:600 1rem/1.3 var(--sans)}
a{color:var(--accent);text-underline-offset:3px}
code{padding:2px 7px;border-radius:6px;background:var(--sunk);font:.9em var(--mono);
white-space:nowrap}
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# Nothing is fetched, nothing runs, nobody frames it.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
MARK = (
    '<svg viewBox="0 0 34 22" width="34" height="22" aria-hidden="true" fill="none" '
    'stroke="currentColor" stroke-width="1.6" stroke-linecap="round">'
    '<path d="M1 21A20 20 0 0 1 21 1A12.4 12.4 0 0 1 33 13.4A7.6 7.6 0 0 1 25.4 21'
    'A4.7 4.7 0 0 1 20.7 16.3A2.9 2.9 0 0 1 23.6 13.4"/></svg>'
)
_AGAIN = (
    "Run <code>cllm app</code> once more. It finds the app that runs, and opens it in your "
    "browser with a new link."
)
_KEPT = '<p class="soft">Models, conversations and trainings are all as you left them.</p>'
_START = 'Go <a href="/">to the start</a>: everything is found from there.'
# Title, what happened, what to do, and a last word, by the reason of a refusal.
_WORDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "link": (
        "This link has been used",
        "The address that <code>cllm app</code> says lets in one browser, once. It was opened "
        "before: perhaps in another browser, or in a window that is closed by now.",
        (_AGAIN, "Or go on in the browser that opened it first."),
        _KEPT,
    ),
    "cookie": (
        "This browser is not let in",
        "The app answers only to the browser that it was opened in. This one shows no key, or an "
        "old one: the app may have been started anew since, or the browser has forgotten it.",
        (
            _AGAIN,
            "Or open the address that it printed when it started, if nobody has opened it yet.",
        ),
        _KEPT,
    ),
    "key": (
        "A key is needed here",
        "This is a server for programs. They show the key that it was started with, as "
        "<code>Authorization: Bearer …</code>.",
        ("For pages in the browser run <code>cllm app</code>.",),
        "",
    ),
    "name": (
        "Not by this name",
        "The server answers only to its own names, so that no other site can pass for it.",
        (
            "Open the address that it printed when it started, such as "
            "<code>http://127.0.0.1:…</code>.",
            "For one more name start <code>cllm serve</code> with <code>--allow-host NAME</code>.",
        ),
        "",
    ),
    "site": (
        "Not from another site",
        "Another page tried to show this one inside itself, or to send something here.",
        ("Type the address yourself, or use your own bookmark.",),
        "",
    ),
}


def refusal_page(refusal: Refusal, *, theme: str | None, is_app: bool) -> str:
    """The whole page; without a `theme` it is as the system's. Nothing of the request is in it."""
    reason = "cookie" if refusal.reason == "key" and is_app else refusal.reason
    title, happened, steps, last = _WORDS[reason]
    return _page(title, happened, steps, last, theme)


def cookie_theme(cookies: Mapping[str, str]) -> str | None:
    """The theme that a browser was last shown in, by its cookies; None where it has none yet."""
    return {"1": "dark", "0": "light"}.get(cookies.get(_DARK, ""))


def unknown_page(*, theme: str | None) -> str:
    """The whole page for an address that leads nowhere; `theme` as above."""
    title = "There is no such page"
    happened = "Nothing is at this address: it may be mistyped, or of an older version."
    return _page(title, happened, (_START,), "", theme)


def _page(title: str, happened: str, steps: tuple[str, ...], last: str, theme: str | None) -> str:
    told = "".join(f"<p>{step}</p>" for step in steps)
    chosen = f' data-theme="{escape(theme)}"' if theme else ""
    return (
        f'<!doctype html><html lang="en"{chosen}><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{title} · cllm</title>'
        f"<style>{_STYLE}</style></head><body><header>{MARK}cllm</header><main>"
        f"<h1>{title}</h1><p>{happened}</p>"
        f"<section><h2>What to do</h2>{told}</section>"
        f"{last}</main></body></html>"
    )
