"""Figures that can be read by everybody: one style, computed alt text, one computed finding, and the table behind them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Protocol

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from fairlift.format import estimate, interval, number

INK, TRUTH, REST = "#1f2933", "#b45309", "#5b6770"
ARMS = {"personalised": "#005f9e", "control": "#7a4a00", "holdout": "#4b5563"}
STYLE = {
    "font.size": 11,
    "axes.edgecolor": REST,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e3e7eb",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "fairlift",
    "svg.fonttype": "path",
}
Drawn = tuple[Figure, str, str]  # figure, alt text, finding


class Row(Protocol):
    """What a forest needs of a row; evidence has it."""

    id: str
    segment: str
    arm: str
    versus: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    threshold: float | None

    @property
    def label(self) -> str: ...


def show(figure: Figure, alt: str, finding: str, table: pd.DataFrame | pd.Series) -> None:
    """Display a figure with its alt text, its one-sentence finding and, folded, the numbers behind it."""
    from IPython.display import HTML, display

    display(HTML(figure_html(figure, alt, finding, table)))


def figure_html(figure: Figure, alt: str, finding: str, table: pd.DataFrame | pd.Series) -> str:
    """A figure as one piece of HTML that needs no other file; refuses a figure without words or numbers."""
    if not alt.strip() or not finding.strip() or not len(table):
        raise ValueError("a figure needs alt text, a finding and the table behind it")
    drawing = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(drawing, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    numbers = (table.to_frame() if isinstance(table, pd.Series) else table).to_html(
        border=0, classes="fl-table", na_rep=""
    )
    source = base64.b64encode(drawing.getvalue()).decode()
    return (
        f'<figure class="fl-figure"><img src="data:image/svg+xml;base64,{source}" alt="{html.escape(alt)}">'
        f"<figcaption>{html.escape(finding)}</figcaption>"
        f"<details><summary>The numbers behind this figure</summary>{numbers}</details></figure>"
    )


def forest(rows: Sequence[Row], truth: Mapping[str, float] | None = None, currency: str = "EUR") -> Drawn:
    """Estimates with their intervals, one line each; the known truth as a diamond, the threshold as a tick.

    All rows must share one unit.  Rows without an interval are left out and said to be missing.
    """
    drawn = [row for row in rows if row.low is not None and row.high is not None]
    if not drawn:
        raise ValueError("no row has an interval to draw")
    (unit,) = {row.unit for row in drawn}
    truth = {row.label: truth[row.label] for row in drawn if truth and row.label in truth}
    names = _names(drawn)
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.6, 0.9 + 0.5 * len(drawn)))
        axes.axvline(0, color=REST, linewidth=1)
        for place, row in enumerate(drawn):
            axes.plot(
                [row.low, row.high], [place, place], color=ARMS["personalised"], linewidth=2.5, solid_capstyle="butt"
            )
            axes.plot(row.value, place, "o", color=ARMS["personalised"], markersize=7)
            if row.threshold is not None:
                axes.plot(row.threshold, place, "|", color=INK, markersize=16, markeredgewidth=2)
            if row.label in truth:
                axes.plot(
                    truth[row.label],
                    place,
                    "D",
                    color=TRUTH,
                    markersize=6,
                    markerfacecolor="white",
                    markeredgewidth=1.8,
                )
            shown = estimate(row.value, row.low, row.high, unit, currency)
            axes.annotate(shown, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=10)
        axes.set_yticks(range(len(drawn)), names)
        axes.set_ylim(len(drawn) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(lambda value, _: number(value, unit, currency, signed=True))
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(3))
        axes.set_xlabel("line: interval   bar: threshold" + ("   diamond: truth" if truth else ""))
        axes.grid(axis="y", visible=False)
        sns.despine(figure, left=True)
    lines = [
        f"{name}: {estimate(row.value, row.low, row.high, unit, currency)}"
        for name, row in zip(names, drawn, strict=True)
    ]
    alt = f"Forest plot of {len(drawn)} differences with their intervals. " + ". ".join(lines) + "."
    return figure, alt, _finding(drawn, truth, len(rows) - len(drawn))


def enrolment(drawn: pd.DataFrame) -> Drawn:
    """Customers assigned per day and arm; `drawn` has one row a day and one column an arm."""
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 3.2))
        _lines(axes, drawn)
        axes.set_ylabel("Customers assigned a day")
        axes.set_xlabel("")
        axes.set_ylim(0)
        figure.autofmt_xdate()
        sns.despine(figure)
    totals = ", ".join(f"{arm} {number(total, 'count')}" for arm, total in drawn.sum().items())
    first, last = str(drawn.index.min())[:10], str(drawn.index.max())[:10]
    alt = f"Line chart of customers assigned each day from {first} to {last}, one line an arm. Totals: {totals}."
    shares = drawn.div(drawn.sum(axis=1), axis=0)
    biggest = drawn.sum().idxmax()
    low, high = shares[biggest].min(), shares[biggest].max()
    finding = (
        f"From {first} to {last}, {number(drawn.to_numpy().sum(), 'count')} customers were assigned; the share of {biggest} lay between "
        f"{number(low, 'share')} and {number(high, 'share')} on every day."
    )
    return figure, alt, finding


def running_totals(running: pd.DataFrame, name: str, currency: str = "EUR") -> Drawn:
    """A money total per customer growing by day since assignment, one line an arm; `running` has one row a day."""
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 3.6))
        _lines(axes, running)
        axes.set_xlabel("Days since assignment")
        axes.set_ylabel(f"{name}, running total")
        axes.set_ylim(0)
        unit = "money_round" if axes.get_ylim()[1] >= 10 else "money"
        axes.yaxis.set_major_formatter(lambda value, _: number(value, unit, currency))
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        sns.despine(figure)
    last = running.iloc[-1].sort_values(ascending=False)
    ends = ", ".join(f"{arm} {number(value, 'money', currency)}" for arm, value in last.items())
    days = number(len(running), "count") + (" day" if len(running) == 1 else " days")
    alt = f"Line chart of {name.lower()} adding up over {days} since assignment, one line an arm. At the end: {ends}."
    gap = number(last.iloc[0] - last.iloc[-1], "money", currency)
    finding = f"After {days} {last.index[0]} stands highest, {gap} above {last.index[-1]}."
    return figure, alt, finding


def over_time(
    points: pd.DataFrame,
    name: str,
    along: str = "Days since assignment",
    truth: Mapping[float, float] | None = None,
    currency: str = "EUR",
    unit: str = "money",
) -> Drawn:
    """An effect at several times with its interval at each; the known truth as diamonds.

    `points` has the time as its first column, then `value`, `low` and `high`; a point without limits is drawn hollow.
    """
    when = points.columns[0]
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 3.6))
        axes.axhline(0, color=REST, linewidth=1)
        sure = points.dropna(subset=["low", "high"])
        axes.vlines(sure[when], sure["low"], sure["high"], color=ARMS["personalised"], linewidth=2.5)
        axes.plot(points[when], points["value"], color=ARMS["personalised"], linewidth=1, linestyle=":")
        axes.plot(sure[when], sure["value"], "o", color=ARMS["personalised"], markersize=7)
        bare = points[points["low"].isna()]
        axes.plot(bare[when], bare["value"], "o", color=ARMS["personalised"], markerfacecolor="white", markersize=7)
        known = [(time, truth[time]) for time in points[when] if truth and time in truth]
        if known:
            axes.plot(*zip(*known, strict=True), "D", color=TRUTH, markerfacecolor="white", markeredgewidth=1.8)
        axes.set_xticks(points[when])
        axes.set_xlabel(f"{along}   (line: interval" + ("; diamond: truth)" if known else ")"))
        axes.set_ylabel(name)
        axes.yaxis.set_major_formatter(lambda value, _: number(value, unit, currency, signed=True))
        sns.despine(figure)
    lines = [
        f"{row[0]:g}: {estimate(row.value, row.low, row.high, unit, currency)}" for row in sure.itertuples(index=False)
    ]
    alt = f"{name} at {len(points)} times ({along.lower()}), each with its interval. " + ". ".join(lines) + "."
    above = int((sure["low"] > 0).sum())
    finding = f"{above} of {len(sure)} intervals lie above zero"
    if known:
        limits = sure.set_index(when)
        held = sum(limits.low[time] <= value <= limits.high[time] for time, value in known if time in limits.index)
        finding += f"; {held} of {len(known)} hold the truth"
    return figure, alt, finding + "."


def by_level(means: pd.DataFrame, name: str, currency: str = "EUR") -> Drawn:
    """Mean outcomes of two groups at several levels, with their intervals; the known truth as a diamond where there is one.

    `means` has the columns level (a share), group, value, low, high in money, and truth (may be missing).
    """
    groups, marks = list(dict.fromkeys(means["group"])), ("o", "s", "^")
    shades = (ARMS["personalised"], ARMS["control"], ARMS["holdout"])
    known = "truth" in means and means["truth"].notna().any()
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 3.6))
        for place, group in enumerate(groups):
            rows = means[means["group"] == group]
            where = rows["level"] + 0.02 * (
                place - (len(groups) - 1) / 2
            )  # side by side, so that intervals can be told apart
            axes.vlines(where, rows["low"], rows["high"], color=shades[place], linewidth=2.5)
            axes.plot(where, rows["value"], marks[place], color=shades[place], markersize=7, label=group)
            if known:
                axes.plot(
                    where, rows["truth"], "D", color=TRUTH, markersize=6, markerfacecolor="none", markeredgewidth=1.8
                )
        axes.set_xticks(sorted(means["level"].unique()))
        axes.xaxis.set_major_formatter(lambda value, _: _percent(value))
        axes.yaxis.set_major_formatter(lambda value, _: number(value, "money", currency))
        axes.set_xlabel("Saturation   line: interval" + ("   diamond: truth" if known else ""))
        axes.set_ylabel(name)
        axes.legend(frameon=False)
        sns.despine(figure)
    lines = [
        f"{row.group} at {_percent(row.level)}: {estimate(row.value, row.low, row.high, 'money', currency, signed=False)}"
        for row in means.itertuples()
    ]
    alt = f"Means of {name.lower()} by saturation with intervals, one mark a group. " + "; ".join(lines) + "."
    first, last = means.iloc[means["level"].argmin()], means.iloc[means["level"].argmax()]
    gap = number(last["value"] - first["value"], "money", currency, signed=True)
    ends = [f"the {row['group']} at {_percent(row['level'])}" for row in (first, last)]
    finding = f"From {ends[0]} to {ends[1]}, {name.lower()} moves by {gap}"
    if known:
        held = int(means["truth"].between(means["low"], means["high"]).sum())
        finding += f"; {held} of {len(means)} intervals hold the truth"
    return figure, alt, f"{finding}."


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def counts(numbers: pd.Series, name: str) -> Drawn:
    """How many of something fall into each kind, as bars with their numbers."""
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 0.8 + 0.45 * len(numbers)))
        sns.barplot(x=numbers.to_numpy(), y=[str(kind) for kind in numbers.index], color=ARMS["personalised"], ax=axes)
        for bars in axes.containers:
            axes.bar_label(bars, padding=4)
        axes.set_xlabel(name)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        sns.despine(figure)
    listed = ", ".join(f"{kind} {number(count, 'count')}" for kind, count in numbers.items())
    biggest = numbers.idxmax()
    finding = f"{name}: {number(numbers[biggest], 'count')} of {number(numbers.sum(), 'count')} are {biggest}."
    return figure, f"Bar chart of {name.lower()}: {listed}.", finding


def love(differences: pd.DataFrame, limit: float = 0.1) -> Drawn:
    """What two arms differed in beforehand: standardised differences with their intervals, between limits of concern.

    `differences` has one row a covariate, with `value`, `low` and `high`.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 1.1 + 0.38 * len(differences)))
        axes.axvline(0, color=REST, linewidth=1)
        for edge in (-limit, limit):
            axes.axvline(edge, color=TRUTH, linewidth=1.2, linestyle="--")
        for place, row in enumerate(differences.itertuples()):
            axes.plot([row.low, row.high], [place, place], color=ARMS["personalised"], linewidth=2.5)
            axes.plot(row.value, place, "o", color=ARMS["personalised"], markersize=6)
        axes.set_yticks(range(len(differences)), [str(name) for name in differences.index])
        axes.set_ylim(len(differences) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(lambda value, _: number(value, "z", signed=True))
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.set_xlabel("Standardised difference   line: interval   dashes: limits")
        sns.despine(figure, left=True)
    worst = differences["value"].abs().idxmax()
    most, outside = differences["value"][worst], int((differences["value"].abs() > limit).sum())
    listed = ", ".join(f"{name} {number(value, 'z', signed=True)}" for name, value in differences["value"].items())
    alt = f"Dot plot of {len(differences)} standardised differences with their intervals: {listed}. Dashed lines mark the limits."
    finding = (
        f"The largest standardised difference is {number(most, 'z', signed=True)} ({worst}); "
        f"{outside} of {len(differences)} lie beyond {number(limit, 'z')} in either direction."
    )
    return figure, alt, finding


def watched(
    running: pd.DataFrame, name: str, unit: str = "money", currency: str = "EUR", truth: float | None = None
) -> Drawn:
    """One comparison as its customers come in: the estimate, the usual interval, and the sequence that holds at all times.

    `running` has one row a look, in order, with `day`, `value`, `fixed_low`, `fixed_high`, and `low` and `high` of the
    confidence sequence, missing before its burn-in.
    """
    place = range(1, len(running) + 1)
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 3.8))
        axes.axhline(0, color=REST, linewidth=1)
        axes.fill_between(place, running["low"], running["high"], color=ARMS["personalised"], alpha=0.15, linewidth=0)
        for side in ("low", "high"):
            axes.plot(place, running[side], color=ARMS["personalised"], linewidth=2)
            axes.plot(place, running[f"fixed_{side}"], color=ARMS["control"], linewidth=1.5, linestyle="--")
        axes.plot(place, running["value"], color=INK, linewidth=1.5, marker="o", markersize=3)
        if truth is not None:
            axes.plot(len(running), truth, "D", color=TRUTH, markersize=7, markerfacecolor="white", markeredgewidth=1.8)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(lambda value, _: number(value, unit, currency, signed=True))
        known = running.dropna(subset=["low"])
        room = known if len(known) else running
        edge = float(room[["fixed_low", "fixed_high", "low", "high"]].abs().max(axis=None))
        axes.set_ylim(-1.1 * edge, 1.1 * edge)
        key = "band: confidence sequence   dashes: usual interval   dots: estimate"
        axes.set_xlabel(f"Looks, one a day\n{key}" + ("   diamond: truth" if truth is not None else ""))
        axes.set_ylabel(name)
        sns.despine(figure)
    usual = int(((running["fixed_low"] > 0) | (running["fixed_high"] < 0)).sum())
    always = int(((running["low"] > 0) | (running["high"] < 0)).sum())
    last = running.iloc[-1]
    shown = estimate(last["value"], last["fixed_low"], last["fixed_high"], unit, currency)
    wide = interval(last["low"], last["high"], unit, currency, signed=True) if len(known) else "not there yet"
    alt = (
        f"Line chart of {name.lower()} over {len(running)} daily looks with two intervals. "
        f"At the last look {shown}, confidence sequence {wide}."
    )
    finding = (
        f"Of {len(running)} looks, the usual interval leaves out zero at {usual}, the confidence sequence at {always}"
    )
    if truth is not None and len(known):
        held = bool(((known["low"] <= truth) & (truth <= known["high"])).all())
        finding += f"; the sequence {'holds' if held else 'does not hold'} the truth at every look"
    return figure, alt, finding + "."


def power_curve(curve: pd.DataFrame, wanted: float, planned: int) -> Drawn:
    """The power of each gate and of all together by size; one row a number of customers, the last column all together.

    `wanted` is the power the plan asks for, `planned` the customers it plans.
    """
    together = curve.columns[-1]
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 4.2))
        for name, dashes in zip(
            curve, ("--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1))) * 3, strict=False
        ):
            whole = name == together
            style = {"linestyle": "-" if whole else dashes, "linewidth": 3 if whole else 1.5}
            axes.plot(curve.index, curve[name], color=ARMS["personalised"] if whole else REST, label=name, **style)
        axes.axhline(wanted, color=TRUTH, linewidth=1)
        axes.axvline(planned, color=INK, linewidth=1)
        axes.annotate("planned ", (planned, 0.5), ha="right", fontsize=10)
        axes.annotate("wanted ", (curve.index[0], wanted), va="bottom", fontsize=10, color=TRUTH)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("Customers in all arms")
        axes.set_ylabel("Chance to pass")
        axes.xaxis.set_major_formatter(lambda value, _: number(value, "count"))
        axes.yaxis.set_major_formatter(lambda value, _: number(value, "share").replace(".00", ""))
        axes.legend(loc="lower right", framealpha=1, edgecolor="none", fontsize=9)
        sns.despine(figure)
    nearest = curve.iloc[abs(curve.index - planned).argmin()]
    listed = ", ".join(f"{name} {number(value, 'share')}" for name, value in nearest.items())
    enough = curve.index[curve[together] >= wanted]
    first = f"from about {number(enough[0], 'count')} customers on" if len(enough) else "at no size shown"
    alt = (
        f"Line chart of the chance to pass by number of customers, one line a gate and a thick one for all together, with the "
        f"planned {number(planned, 'count')} marked. There: {listed}."
    )
    finding = f"All gates together reach {number(wanted, 'share')} {first}; {nearest.drop(together).idxmin()} is the weakest at the planned size."
    return figure, alt, finding


def _lines(axes, wide: pd.DataFrame) -> None:
    """One line a column, each named at its end and told apart by dashes as well as colour."""
    palette = {arm: ARMS.get(str(arm).split("/")[0], INK) for arm in wide}
    sns.lineplot(data=wide, ax=axes, palette=palette, linewidth=2, legend=False, marker="o" if len(wide) == 1 else None)
    for arm, place in zip(wide.columns, _apart(wide.iloc[-1], axes), strict=True):
        axes.annotate(
            f" {arm}", (wide.index[-1], place), color=palette[arm], va="center", fontsize=10, annotation_clip=False
        )


def _apart(ends: pd.Series, axes) -> list[float]:
    """Where to write the names so that they do not cover each other."""
    low, high = axes.get_ylim()
    step = (high - min(low, 0)) * 0.08
    places, last = {}, float("-inf")
    for arm, value in ends.sort_values().items():
        last = places[arm] = max(value, last + step)
    return [places[arm] for arm in ends.index]


def _names(rows: Sequence[Row]) -> list[str]:
    """A short name a row: only what tells the rows apart."""
    topics = [row.id.split(".")[1:] for row in rows]
    shared = len({topic for topic, _ in topics}) == 1 and len({metric for _, metric in topics}) > 1
    parts = {
        "id": [" ".join(topic[shared:]).replace("_", " ") for topic in topics],
        "segment": [row.segment.replace("=", " ").replace("_", " ") if row.segment != "all" else "" for row in rows],
        "pair": [f"{row.arm} − {row.versus}" if row.versus else row.arm for row in rows],
    }
    telling = [values for values in parts.values() if len(set(values)) > 1] or [parts["id"]]
    return [": ".join(filter(None, values)) for values in zip(*telling, strict=True)]


def _finding(rows: Sequence[Row], truth: Mapping[str, float], left_out: int) -> str:
    above = sum(row.low > 0 for row in rows)
    below = sum(row.high < 0 for row in rows)
    text = (
        f"Of {len(rows)} intervals, {above} lie above zero, {below} below, and {len(rows) - above - below} include it"
    )
    if truth:
        held = sum(row.low <= truth[row.label] <= row.high for row in rows if row.label in truth)
        text += f"; {held} of {len(truth)} hold the truth"
    return text + (f" ({left_out} could not be shown)." if left_out else ".")
