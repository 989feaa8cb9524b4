"""The book, built once from a copy of the demo, its pages, and a browser to open them in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
GET_CHROMIUM = (
    "no Chromium found. Get one with `apt-get install chromium` (Debian, Ubuntu), `brew install --cask chromium` (macOS)"
    " or `.venv/bin/playwright install chromium`, or name yours: FAIRLIFT_CHROMIUM=/path/to/chromium"
)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@dataclass
class Page(HTMLParser):
    """One built page, read once: the words a reader sees, and what it links to, names and loads."""

    path: Path
    words: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._silent = 0
        self.source = self.path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self._silent += tag in ("script", "style")
        self.ids.update(found[name] for name in ("id", "name") if found.get(name))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") != "canonical":
            self.loads.append(found.get("href", ""))
        elif "src" in found:
            self.loads.append(found["src"])
        if tag == "img":
            self.images.append(found)

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def find_chromium(own: str) -> str | None:
    """The browser to use: the one named by FAIRLIFT_CHROMIUM, Playwright's `own`, or the system's."""
    if named := os.environ.get("FAIRLIFT_CHROMIUM"):
        return named
    known = [own, *filter(None, map(shutil.which, CHROMIUM)), MAC_CHROME]
    return next((path for path in known if Path(path).exists()), None)


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """A headless Chromium; without one the test is skipped, or fails where FAIRLIFT_STRICT=1."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = find_chromium(playwright.chromium.executable_path)
        if path is None and os.environ.get("FAIRLIFT_STRICT") == "1":
            pytest.fail(GET_CHROMIUM, pytrace=False)
        if path is None:
            pytest.skip(GET_CHROMIUM)
        running = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo study."""
    return Path(
        shutil.copytree(
            ROOT / "data" / "demo", tmp_path_factory.mktemp("study") / "demo", ignore=shutil.ignore_patterns("out")
        )
    )


@pytest.fixture(scope="session")
def built_book(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of HTML; FAIRLIFT_BUILT_BOOK names one already built, which saves the minute while you write."""
    if named := os.environ.get("FAIRLIFT_BUILT_BOOK"):
        return Path(named).resolve()
    from fairlift.book import build_book

    return build_book(demo, tmp_path_factory.mktemp("book")).parent


@pytest.fixture(scope="session")
def pages(built_book: Path) -> dict[str, Page]:
    """Every built page by its path in the book."""
    found = {
        path.relative_to(built_book).as_posix(): Page(path)
        for path in sorted(built_book.rglob("*.html"))
        if not {"_static", "_sources", "_downloads"} & set(path.relative_to(built_book).parts)
    }
    assert "index.html" in found, "the book has no opening page"
    return found


@pytest.fixture(scope="session")
def one_of_each(pages: dict[str, Page]) -> list[str]:
    """The richest page of each template: top, generated, part, chapter, notebook; without the door to the first page."""
    richest: dict[tuple, str] = {}
    for name, page in pages.items():
        if 'http-equiv="refresh"' in page.source:
            continue
        folder, _, file = name.rpartition("/")
        template = (folder.count("/"), folder.split("/")[0], file == "index.html") if folder else (file,)
        if template not in richest or len(page.source) > len(pages[richest[template]].source):
            richest[template] = name
    return sorted(richest.values())


@pytest.fixture
def open_page(browser, built_book: Path) -> Iterator:
    """`open_page(name, scheme)` opens a page from disk, with the outside cut off; what went wrong is in `page.faults`."""
    contexts = []

    def go(name: str, scheme: str = "light", width: int = 1280):
        viewport = {"width": width, "height": 900}
        context = browser.new_context(
            color_scheme=scheme, viewport=viewport, reduced_motion="reduce"
        )  # no half-faded colours
        contexts.append(context)
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(f"{name}: script error: {error}"))
        page.on(
            "console",
            lambda message: page.faults.append(f"{name}: console: {message.text}") if message.type == "error" else None,
        )

        def only_own(route) -> None:
            if route.request.url.startswith((built_book.as_uri(), "data:", "blob:")):
                route.continue_()
            else:
                page.faults.append(f"{name}: outside request: {route.request.url}")
                route.abort()

        page.route("**/*", only_own)
        page.goto((built_book / name).as_uri(), wait_until="load")
        return page

    yield go
    for context in contexts:
        context.close()
