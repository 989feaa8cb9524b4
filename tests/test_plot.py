import base64
import re

import matplotlib
import matplotlib.pyplot
import pandas as pd
import pytest

from fairlift.evidence import Evidence, frame
from fairlift.plot import counts, enrolment, figure_html, forest, running_totals

matplotlib.use("Agg")


def row(versus, value, half, unit="money", **more):
    limits = {"low": value - half, "high": value + half} if value is not None else {}
    return Evidence(
        id="sales.incremental.revenue",
        statement="s",
        kind="interval",
        design="randomised",
        arm="personalised",
        versus=versus,
        value=value,
        unit=unit,
        **limits,
        **more,
    )


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


ROWS = [row("holdout", 2.0, 1.0, threshold=0), row("control", -3.0, 1.0), row("others", 0.5, 1.0)]


def drawings():
    days = pd.DataFrame({"personalised": [6, 5, 7], "holdout": [2, 2, 3]}, index=pd.date_range("2026-01-01", periods=3))
    return {
        "forest": (forest(ROWS, {ROWS[0].label: 2.5}), frame(ROWS)),
        "enrolment": (enrolment(days), days),
        "running": (running_totals(days.cumsum().reset_index(drop=True), "Revenue"), days),
        "counts": (counts(pd.Series({"pass": 3, "missing": 1}), "Items"), pd.Series({"pass": 3, "missing": 1})),
    }


@pytest.mark.parametrize("name", ["forest", "enrolment", "running", "counts"])
def test_every_figure_says_what_it_shows_and_carries_its_numbers(name):
    (figure, alt, finding), table = drawings()[name]
    page = figure_html(figure, alt, finding, table)
    assert len(alt) > 30 and finding.endswith(".") and finding.count(".") <= 1 + len(re.findall(r"\d\.\d", finding))
    assert re.search(r'alt="[^"]{30,}"', page) and "<figcaption>" in page and "<table" in page
    drawing = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1]).decode()
    assert "<svg" in drawing and "http" not in re.sub(
        r'xmlns[^=]*="[^"]*"|"http[^"]*dtd"|<metadata>.*?</metadata>', "", drawing, flags=re.S
    )


def test_findings_are_computed_from_the_rows():
    _, alt, finding = forest(ROWS, {ROWS[0].label: 2.5, "other": 9.0})
    assert finding == "Of 3 intervals, 1 lie above zero, 1 below, and 1 include it; 1 of 1 hold the truth."
    assert "personalised − control: −EUR 3.00 (−EUR 4.00 to −EUR 2.00)" in alt
    assert "1 could not be shown" in forest([*ROWS, row("nobody", None, 0)])[2]
    assert "0 of 1 hold the truth" in forest(ROWS, {ROWS[0].label: 9.0})[2]


def test_a_figure_without_words_or_numbers_is_refused():
    (figure, alt, finding), table = drawings()["counts"]
    for wrong in ((figure, " ", finding, table), (figure, alt, "", table), (figure, alt, finding, table.iloc[:0])):
        with pytest.raises(ValueError, match="alt text"):
            figure_html(*wrong)


def test_a_forest_of_two_units_or_of_nothing_is_refused():
    with pytest.raises(ValueError):
        forest([row("a", 1.0, 1.0), row("b", 1.0, 1.0, unit="points")])
    with pytest.raises(ValueError, match="no row has an interval"):
        forest([row("a", None, 0)])


def test_texts_of_the_reader_cannot_break_the_page():
    (figure, _, finding), table = drawings()["counts"]
    page = figure_html(figure, 'Bar chart of "items" <script>', finding, table.rename({"pass": "<b>"}))
    assert "<script>" not in page and "&quot;items&quot;" in page and "&lt;b&gt;" in page


def test_the_same_figure_is_the_same_text():
    first, second = (figure_html(*drawings()["forest"][0], frame(ROWS)) for _ in range(2))
    assert first == second


def test_a_single_day_of_small_sums_can_be_read():
    day = pd.DataFrame({"personalised": [1.42], "holdout": [0.65]}, index=[1])
    figure, alt, finding = running_totals(day, "Revenue per customer", "USD")
    assert finding == "After 1 day personalised stands highest, USD 0.77 above holdout."
    assert "over 1 day since" in alt
    figure.canvas.draw()
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert len(set(ticks)) == len(ticks)
    assert all(line.get_marker() == "o" for line in figure.axes[0].get_lines())
