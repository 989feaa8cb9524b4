"""The built pages: nothing from outside, nothing broken, open to everyone, nothing that must not be seen."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

OUTSIDE = re.compile(r"^(?:https?:)?//")
CSS_OUTSIDE = re.compile(r"""(?:@import\s+|url\()\s*['"]?(?:https?:)?//[^'")\s]+""")
HOME = re.compile(r"(?:/home/|/Users/|/root/|[A-Z]:\\Users\\)[\w.-]*")
TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^\w*(?:Error|Exception): ", re.MULTILINE)
NOT_A_NUMBER = re.compile(r"(?<![\w-])(?:nan|NaN|<NA>|NaT|[-−+]?inf)(?![\w-])")
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


def test_nothing_is_loaded_from_outside(pages, built_book):
    loaded = [f"{name}: {url}" for name, page in pages.items() for url in page.loads if OUTSIDE.match(url)]
    styled = [
        f"{path.name}: {url}" for path in built_book.rglob("*.css") for url in CSS_OUTSIDE.findall(path.read_text())
    ]
    assert loaded + styled == []


@pytest.mark.browser
def test_a_page_opens_without_outside_request_or_script_error(one_of_each, open_page):
    faults = []
    for name in one_of_each:
        page = open_page(name)
        page.wait_for_load_state("networkidle")
        faults += page.faults
    assert faults == []


@pytest.mark.browser
def test_an_outside_request_would_be_seen(open_page, one_of_each):
    page = open_page(one_of_each[0])
    page.evaluate("new Image().src = 'https://example.org/pixel.png'")
    page.wait_for_timeout(200)
    assert any("outside request: https://example.org/pixel.png" in fault for fault in page.faults)


@pytest.mark.browser
def test_mathematics_is_drawn(pages, open_page):
    with_maths = [name for name, page in pages.items() if "math notranslate" in page.source]
    for name in with_maths[:1]:
        page = open_page(name)
        page.wait_for_selector("mjx-container", timeout=10_000)
        assert page.faults == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(one_of_each, open_page, scheme):
    found = [row for name in one_of_each for row in axe(open_page(name, scheme))]
    assert found == []


@pytest.mark.browser
def test_axe_would_find_something(open_page, one_of_each):
    page = open_page(one_of_each[0])
    page.evaluate("document.querySelector('main, article').insertAdjacentHTML('beforeend', '<img src=\"data:,\">')")
    assert any("image-alt" in row for row in axe(page))


@pytest.mark.browser
def test_no_page_is_wider_than_a_phone(one_of_each, open_page):
    wide = {}
    for name in one_of_each:
        over = open_page(name, width=390).evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if over > 0:
            wide[name] = f"{over} px too wide"
    assert wide == {}


@pytest.mark.browser
def test_the_menu_opens_on_a_phone(open_page, one_of_each):
    page = open_page(next(name for name in one_of_each if name.startswith("chapters/")), width=390)
    assert not page.locator("nav.bd-links").is_visible()
    page.locator(".primary-toggle:visible").click()
    page.locator("nav.bd-links").wait_for(state="visible", timeout=5_000)
    assert axe(page) == []
    assert page.faults == []


def axe(page) -> list[str]:
    """WCAG 2.1 AA violations of an open page, one line each."""
    page.evaluate((Path(__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("tags => axe.run(document, {preload: false, runOnly: tags})", WCAG)["violations"]
    where = PurePosixPath(urlsplit(page.url).path).name
    return [f"{where}: {rule['id']} at {node['target']}" for rule in found for node in rule["nodes"]]


def test_links_and_anchors_resolve(pages, built_book):
    assert [fault for name in pages for fault in broken(name, pages, built_book)] == []


def test_a_broken_link_would_be_seen(pages, built_book):
    page = pages["index.html"]
    page.links.extend(["nowhere.html", "#no-such-anchor"])
    try:
        assert broken("index.html", pages, built_book) == ["index.html: nowhere.html", "index.html: #no-such-anchor"]
    finally:
        del page.links[-2:]


def broken(name: str, pages: dict, book: Path) -> list[str]:
    """Links of a page to a file or an anchor that is not there."""
    faults = []
    for link in pages[name].links:
        url = urlsplit(link)
        if url.scheme or url.netloc or link in ("", "#"):
            continue
        target = ((book / name).parent / unquote(url.path)).resolve() if url.path else (book / name).resolve()
        inside = target.relative_to(book.resolve()).as_posix() if target.is_relative_to(book.resolve()) else ""
        known = pages.get(inside)
        if not inside or not target.is_file() or (known and url.fragment and unquote(url.fragment) not in known.ids):
            faults.append(f"{name}: {link}")
    return faults


@pytest.mark.parametrize("rule", [HOME, TRACEBACK, NOT_A_NUMBER], ids=["home path", "traceback", "not a number"])
def test_no_page_shows(pages, rule):
    assert {name: found for name, page in pages.items() if (found := rule.findall(page.text))} == {}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (HOME, "wrote /home/ann/study"),
        (TRACEBACK, "Traceback (most recent call last):"),
        (TRACEBACK, "ValueError: no rows"),
        (NOT_A_NUMBER, "lift nan (nan, nan)"),
        (NOT_A_NUMBER, "-inf to 2"),
    ],
)
def test_it_would_be_seen(rule, text):
    assert rule.search(text)


def test_no_customer_id_in_any_file(built_book, demo):
    if not (ids := customer_ids(demo)):
        pytest.fail("the demo has no customers table, so the search for its ids would be empty")
    files = [
        path
        for path in built_book.rglob("*")
        if path.suffix in (".html", ".js", ".json", ".ipynb", ".md", ".csv", ".txt")
    ]
    words = {
        path.name: set(re.findall(r"[\w-]+", path.read_text(encoding="utf-8", errors="replace"))) for path in files
    }
    assert {name: len(ids & found) for name, found in words.items() if ids & found} == {}


def customer_ids(study: Path) -> set[str]:
    """The ids in the study's customers table."""
    import duckdb

    for name, reader in (("customers.parquet", "read_parquet"), ("customers.csv", "read_csv")):
        if (path := study / "tables" / name).is_file():
            rows = duckdb.execute(f"SELECT customer_id FROM {reader}(?)", [str(path)]).fetchall()
            return {str(row[0]) for row in rows}
    return set()


def test_every_picture_says_what_it_shows(pages):
    assert [f"{name}: {image.get('src')}" for name, page in pages.items() for image in page.images if mute(image)] == []


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"src": "a.png"}, True),
        ({"src": "a.png", "alt": "_images/0a1b.png"}, True),
        ({"src": "a.png", "alt": "plot"}, True),
        ({"src": "a.png", "alt": "Revenue per customer rose in both arms"}, False),
        ({"src": "logo.svg", "alt": "Fairlift - Home", "class": "logo__image"}, False),
        ({"src": "rule.svg", "alt": "", "role": "presentation"}, False),
    ],
)
def test_what_counts_as_saying(image, expected):
    assert mute(image) is expected


def mute(image: dict[str, str]) -> bool:
    """True for a picture whose alternative text is absent, a file name or a single word."""
    if image.get("role") == "presentation" or "logo" in image.get("class", ""):
        return False
    alt = image.get("alt", "").strip()
    return len(alt.split()) < 3 or bool(re.search(r"\.(?:png|svg|jpe?g)\b", alt))


def test_every_figure_has_words_a_finding_and_its_numbers(built_book):
    drawn = 0
    for path in sorted((built_book / "notebooks").rglob("*.html")):
        for image in BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select(".cell_output img"):
            figure = image.find_parent("figure", class_="fl-figure")
            assert figure, f"{path.name}: a picture that `fairlift.plot.show` did not make"
            assert len(image["alt"]) > 30, f"{path.name}: {image['alt']!r} says too little"
            assert figure.figcaption.get_text(strip=True).endswith("."), f"{path.name}: no finding"
            assert figure.select("details table td"), f"{path.name}: no numbers behind the figure"
            drawn += 1
    assert drawn >= 5
