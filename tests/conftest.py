"""What the tests share: the repository, the browser and the real data, each of which may be absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
GET_CHROMIUM = (
    "no Chromium found. Get one with `apt-get install chromium` (Debian, Ubuntu), `brew install --cask chromium` (macOS)"
    " or `.venv/bin/playwright install chromium`, or name it: FAIRLIFT_CHROMIUM=/path/to/chromium"
)


def absent(reason: str) -> None:
    """Skip, or fail where FAIRLIFT_STRICT=1 says that nothing may be missing."""
    if os.environ.get("FAIRLIFT_STRICT") == "1":
        pytest.fail(f"{reason} (FAIRLIFT_STRICT=1 makes this a failure)", pytrace=False)
    pytest.skip(reason)


def find_chromium(own: str) -> str | None:
    """The browser to use: the one named by FAIRLIFT_CHROMIUM, Playwright's `own`, or the system's."""
    if named := os.environ.get("FAIRLIFT_CHROMIUM"):
        return named
    known = [own, *filter(None, map(shutil.which, CHROMIUM_NAMES)), MAC_CHROME]
    return next((path for path in known if Path(path).exists()), None)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("hillstrom/hillstrom.csv.gz")` is that file of FAIRLIFT_REAL_DATA; skips where it is absent."""

    def file(name: str) -> Path:
        folder = os.environ.get("FAIRLIFT_REAL_DATA")
        if not folder:
            absent(f"FAIRLIFT_REAL_DATA is not set, so {name} is not at hand")
        path = Path(folder) / name
        if not path.is_file():
            absent(f"FAIRLIFT_REAL_DATA holds no {name}")
        return path

    return file


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A headless Chromium; skips with the way to get one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = find_chromium(playwright.chromium.executable_path)
        if path is None:
            absent(GET_CHROMIUM)
        running = playwright.chromium.launch(
            executable_path=path, args=[*CHROMIUM.split(), "--disable-sync", "--no-first-run"]
        )
        yield running
        running.close()
