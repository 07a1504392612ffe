"""Take a picture of a page of the app over CLLM_HOME as it is: `app_picture.py OUT.png /inside`."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
_COMMAND = [sys.executable, "-m", "cllm", "app", "--no-browser", "--port", "0", "--json"]
# What is shown is drawn by then, and has ceased to move.
_STILL_MS = 3000


def take(link: str, path: str, *, width: int, height: int, is_dark: bool) -> bytes:
    """A page as PNG; `link` opens the app once."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if is_dark else "light",
        )
        page.goto(link)
        page.goto(link.partition("?")[0].rstrip("/") + path)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(_STILL_MS)
        return page.screenshot()


def main() -> None:
    """Start the app, take the picture, end the app."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("path")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    with subprocess.Popen(_COMMAND, stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        try:
            link = json.loads(app.stdout.readline())["address"]
            picture = take(
                link, given.path, width=given.width, height=given.height, is_dark=given.dark
            )
        finally:
            app.terminate()
    # The pages have few colours: a palette is a third of the size, and looks the same.
    few = Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(given.out, optimize=True)


if __name__ == "__main__":
    main()
