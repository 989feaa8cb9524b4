"""The data dictionary: every table and column of the contract, and which result needs which column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from fairlift.book.markup import code, page, plain, table
from fairlift.study.contract import contract
from fairlift.study.outcomes import data_dictionary, outcomes

INTRO = (
    "These are all the tables and columns Fairlift can read. Ids are text and never shown in any output; times are in UTC; money is "
    "in the currency of study.yml. Three tables are required, each other one opens more topics. What a study lacks is *not assessed*."
)


class Measure(Protocol):
    """What the page needs of a KPI."""

    id: str
    name: str
    formula: str
    pitfall: str


def dictionary_page(kpis: Iterable[Measure]) -> str:
    """The data dictionary as a page."""
    columns = data_dictionary()
    blocks = [INTRO, "## Which result needs which column", kpi_table(kpis), "## Tables"]
    for name, spec in contract().items():
        rows = [
            [
                code(row.column),
                row.need,
                row.type,
                plain("; ".join(filter(None, (row.unit, row.rule)))),
                plain(row.sentence),
            ]
            for row in columns[columns.table == name].itertuples()
        ]
        blocks += [
            f"### {code(name)}" + (" (required)" if spec.required else ""),
            plain(spec.sentence),
            table(["Column", "Need", "Type", "Unit and rule", "Meaning"], rows),
        ]
    return page("Data dictionary", *blocks)


def kpi_table(kpis: Iterable[Measure]) -> str:
    """Which KPI needs which contract columns, how it is computed and what goes wrong with it."""
    needs = outcome_needs()
    rows = [
        [
            plain(kpi.name),
            plain(kpi.formula),
            ", ".join(map(code, columns_of(kpi.metric.outcomes, needs))),
            plain(kpi.pitfall),
        ]
        for kpi in kpis
    ]
    return table(["Result", "How it is computed", "Needs, besides customers and assignments", "What goes wrong"], rows)


def outcome_needs() -> dict[str, tuple[str, ...]]:
    """The contract columns each outcome of the mart needs, the customer's own id left out."""
    frame = outcomes()
    return {
        row.outcome: tuple(name for name in row.needs if not name.endswith(".customer_id"))
        for row in frame.itertuples()
    }


def columns_of(wanted: Sequence[str], needs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The contract columns that outcomes need together, each once."""
    return list(dict.fromkeys(column for outcome in wanted for column in needs.get(outcome, (outcome,))))
