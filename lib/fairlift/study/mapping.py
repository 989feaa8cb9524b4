"""Propose how a CSV fits the contract: which table it is, which column is which, and the SQL that says so."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path

from fairlift.study.cells import COMMA, FALSE, TRUE, ZONE
from fairlift.study.contract import Column, Table, contract
from fairlift.study.source import read_header, shown

SAMPLE = 1000
SURE, LIKELY = 0.99, 0.6
FEW = 20  # more different values than this are no category

# Other names under which columns and tables come, after lower case and without separators.
SYNONYMS = {
    "customer_id": "customer cust custid customerid customernumber client clientid user userid member memberid shopper account kunde kundennr person custno customerno kundennummer kundenid kdnr",
    "joined_at": "joined signup signupdate registered registeredat createdat customersince memberfrom since created anmeldedatum anmelde kundeseit registriert",
    "household_id": "household hh householdid",
    "birth_year": "yearofbirth yob birthyear born geburtsjahr",
    "sex": "gender geschlecht",
    "region": "state area county province zone zip zipcode postcode plz bundesland",
    "segment": "customersegment group cluster tier kundengruppe",
    "store_id": "store shop storeid branch outlet filiale",
    "loyalty_member": "loyalty member ismember loyaltymember cardholder",
    "experiment": "test testname campaign experimentname",
    "variant": "arm group segment treatment cell bucket testgroup variation gruppe testgruppe",
    "assigned_at": "assigned assigneddate assignmentdate assignedon enrolledat startdate date ts timestamp time zugewiesen datum",
    "stratum": "strata block",
    "order_id": "order orderid receipt receiptid transaction transactionid basket basketid invoice invoiceno bon ordernumber receiptno orderno bonnr bestellung bestellnr rechnung",
    "ordered_at": "orderdate ordered date ts timestamp time datetime orderedat invoicedate purchasedate transactiondate bondatum kaufdatum bestelldatum datum zeit",
    "revenue": "amount spend total value sales net netamount price paid turnover umsatz betrag nettobetrag",
    "discount": "rebate markdown discountamount rabatt",
    "cost_of_goods": "cogs cost costofgoods wareneinsatz",
    "refund": "refunded returned returns refundamount retoure erstattung",
    "fulfilment_cost": "fulfillment fulfilment shippingcost delivery deliverycost",
    "line": "lineno position linenumber",
    "category": "productcategory department family warengruppe",
    "product_id": "product sku article item itemid productid ean stockcode artikel artikelnr",
    "quantity": "qty units pieces count quantity menge",
    "price": "unitprice priceperunit preis einzelpreis",
    "session_id": "session visit visitid sessionid",
    "started_at": "visitdate start date ts timestamp time startedat sessionstart",
    "seconds": "duration length dwell",
    "pages": "pageviews views pagecount",
    "exposure_id": "exposure impression impressionid send sendid message messageid",
    "offer": "offerid campaign creative coupon promotion",
    "channel": "medium source touchpoint",
    "shown_at": "sentat senddate sent shown date ts timestamp time deliveredat",
    "opened_at": "opened opendate openedat",
    "clicked_at": "clicked clickdate clickedat",
    "complaint_id": "complaint ticket ticketid case caseid",
    "received_at": "received date ts timestamp time createdat receivedat",
    "topic": "reason subject",
    "consent_id": "consent consentid",
    "purpose": "consentpurpose",
    "given": "optin consentgiven granted",
    "recorded_at": "recorded date ts timestamp time changedat",
}
TABLES = {
    "customers": "customer crm client member user kunden people",
    "assignments": "assignment experiment test group arm randomisation randomization split",
    "orders": "order sales transaction receipt purchase invoice till umsatz kasse bon bestellung verkauf",
    "order_lines": "line item basket position orderline",
    "sessions": "session visit web traffic",
    "exposures": "exposure send impression email mailing push offer",
    "complaints": "complaint ticket service",
    "consents": "consent optin permission",
}
DATES = (
    ("%d.%m.%Y %H:%M:%S", r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}:\d{2}"),
    ("%d.%m.%Y %H:%M", r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}"),
    ("%d.%m.%Y", r"\d{1,2}\.\d{1,2}\.\d{4}"),
    ("%d/%m/%Y %H:%M:%S", r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}:\d{2}"),
    ("%d/%m/%Y %H:%M", r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d{2}"),
    ("%d/%m/%Y", r"\d{1,2}/\d{1,2}/\d{4}"),
    ("%Y%m%d", r"(19|20)\d{6}"),
)
ISO = r"\d{4}-\d{1,2}-\d{1,2}([ T]\d{1,2}:\d{2}.*)?"
EPOCH = r"1[0-9]{9}"


@dataclass(frozen=True)
class Seen:
    """One column of a CSV, as its sample shows it: which contract types its values could be, and the categories if few."""

    name: str
    types: frozenset[str]
    comma: bool = False
    date_format: str | None = None
    zoned: bool = True
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """A contract column and the CSV column proposed for it; `score` 1 is certain."""

    column: str
    seen: Seen
    score: float

    @property
    def sure(self) -> bool:
        swapped = self.seen.date_format is not None and "/" in self.seen.date_format  # day or month first?
        return self.score >= SURE and not self.seen.comma and not swapped


@dataclass(frozen=True)
class Proposal:
    """What one CSV is taken for: the table, its columns, what is missing, what is left over."""

    path: Path
    table: str
    matches: tuple[Match, ...]
    missing: tuple[str, ...]
    left: tuple[str, ...]
    flags: tuple[str, ...] = ()  # columns that would do as the variant of assignments

    def match(self, column: str) -> Match | None:
        return next((match for match in self.matches if match.column == column), None)

    @property
    def zoneless(self) -> bool:
        columns = contract()[self.table]
        return any(columns.column(one.column).type == "time" and not one.seen.zoned for one in self.matches)

    def sql(self, file: str, experiment: str) -> str:
        """The SELECT for study.yml; guesses carry `-- check this`."""
        lines = [(_expression(one), one.column, "" if one.sure else "  -- check this") for one in self.matches]
        notes = [f"-- missing: {column}" for column in self.missing if column != "experiment"]
        if "experiment" in self.missing:
            lines.insert(0, (f"'{experiment}'", "experiment", ""))
        selected = []
        for place, (text, column, note) in enumerate(lines):
            comma = "," if place < len(lines) - 1 else ""
            selected.append(f"       {text if text == column else f'{text} AS {column}'}{comma}{note}")
        selected[0] = "SELECT " + selected[0].lstrip()
        literal = file.replace("'", "''")
        return "\n".join([*notes, *selected, f"FROM read_csv('{literal}', all_varchar = true)"])


def propose(path: Path) -> Proposal | None:
    """What a CSV is most likely to be; None where no table of the contract resembles it.

    Reads the header and the first thousand rows.  Refuses what is no CSV in UTF-8 with `InputError`.
    """
    seen = look(path)
    ranked = sorted(
        ((_worth(table, _matches(table, seen), path), name) for name, table in contract().items()),
        key=lambda one: -one[0],
    )
    if ranked[0][0] <= 0:
        return None
    table = contract()[ranked[0][1]]
    matches = _matches(table, seen)
    found = {match.column for match in matches}
    used = {match.seen.name for match in matches}
    missing = tuple(name for name, column in table.columns.items() if column.required and name not in found)
    variant = contract()["assignments"].columns["variant"]
    flags = tuple(one.name for one in seen if "category" in one.types and _score(variant, one) >= LIKELY)
    left = tuple(one.name for one in seen if one.name not in used)
    return Proposal(path, table.name, tuple(matches), missing, left, flags)


def look(path: Path) -> list[Seen]:
    """The columns of a CSV with what their sample shows."""
    header, delimiter = read_header(path, path.name, path.name)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(islice(csv.reader(file, delimiter=delimiter), 1, SAMPLE + 1))
    return [_seen(name, [row[place].strip() for row in rows if place < len(row)]) for place, name in enumerate(header)]


def _seen(name: str, cells: list[str]) -> Seen:
    cells = [cell for cell in cells if cell]
    distinct = set(cells)
    few = tuple(sorted(distinct)) if 0 < len(distinct) <= FEW and len(distinct) <= max(2, len(cells) / 2) else ()
    types, comma, date_format, zoned = {"text", "id"}, False, None, True
    if not cells:
        return Seen(name, frozenset({"text", "id", "category", "number", "money", "integer", "time", "boolean"}))

    def all_are(pattern: str) -> bool:
        return all(re.fullmatch(pattern, cell) for cell in cells)

    if few:
        types.add("category")
    if {cell.lower() for cell in cells} <= {*TRUE, *FALSE}:
        types.add("boolean")
    if all_are(r"[-+]?\d+"):
        types |= {"integer", "number", "money"}
    elif all_are(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?"):
        types |= {"number", "money"}
    elif all(re.match(COMMA, cell) or re.fullmatch(r"[-+]?\d+", cell) for cell in cells):
        types |= {"number", "money"}
        comma = True
    if all_are(ISO):
        types.add("time")
        zoned = all(re.search(ZONE, cell) for cell in cells)
    else:
        date_format = next((form for form, pattern in DATES if all_are(pattern)), None)
        if date_format:
            types.add("time")
            zoned = False
            if date_format.startswith("%d/") and any(int(cell.split("/")[1]) > 12 for cell in cells):
                date_format = date_format.replace("%d/%m", "%m/%d")
    if "time" in types:
        types.discard("id")
    return Seen(name, frozenset(types), comma, date_format, zoned, few)


def _matches(table: Table, seen: list[Seen]) -> list[Match]:
    """The best pairing of columns, greedily from the most certain."""
    scored = [
        (_score(column, one), name, one)
        for name, column in table.columns.items()
        if not name.endswith("*")
        for one in seen
    ]
    taken: dict[str, Match] = {}
    used: set[str] = set()
    for score, name, one in sorted(scored, key=lambda row: -row[0]):
        if score >= LIKELY and name not in taken and one.name not in used:
            taken[name] = Match(name, one, score)
            used.add(one.name)
    found = [taken[name] for name in table.columns if name in taken]
    if table.column("pre_x"):
        found += [Match(one.name, one, 1.0) for one in seen if one.name.startswith("pre_") and "number" in one.types]
    return found


def _score(column: Column, seen: Seen) -> float:
    """How well a CSV column fits: by its name, if its values allow the type at all."""
    if column.type not in seen.types and not (column.type == "category" and "text" in seen.types):
        return 0.0
    name, wanted = _plain(seen.name), _plain(column.name)
    if name == wanted:
        return 1.0
    words = SYNONYMS.get(column.name, "").split()
    if name in words:
        return 0.9 - 0.001 * words.index(name)  # the list is in order of likelihood
    parts = [part for part in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", seen.name).lower()) if part]
    if any(part in words for part in parts):
        return 0.7
    alike = SequenceMatcher(None, name, wanted).ratio()
    return 0.8 * alike if alike > 0.8 else 0.0


def _worth(table: Table, matches: list[Match], path: Path) -> float:
    found = {match.column: match.score for match in matches}
    value = sum(
        score * (2 if table.columns[name].required else 1) for name, score in found.items() if name in table.columns
    )
    # An experiment's name may be written as a constant; everything else that is missing speaks against the table.
    lacking = [n for n, c in table.columns.items() if c.required and n not in found and n != "experiment"]
    hints = [table.name.rstrip("s").replace("_", ""), *TABLES.get(table.name, "").split()]
    named = any(hint in _plain(path.stem) for hint in hints)
    if not any(name in found for name in table.key if name != "experiment"):
        value -= 1
    return value - 2 * len(lacking) + (2 if named else 0) + (0.5 if table.required else 0)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _expression(match: Match) -> str:
    """The SQL of one column; everything is read as text, so only odd dates and decimal commas need words."""
    name = match.seen.name
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in (
        "group",
        "order",
        "select",
        "from",
        "table",
        "time",
        "date",
    )
    text = name if plain else '"' + name.replace('"', '""') + '"'
    if match.seen.comma:
        return f"replace(replace({text}, '.', ''), ',', '.')"
    if match.seen.date_format:
        return f"strptime({text}, '{match.seen.date_format}')"
    return text


def safe_categories(seen: Seen) -> list[str]:
    """The categories of a column, if they may be shown: few, and none that could be somebody's number or address."""
    return list(seen.categories) if all(shown(value) == f"`{value}`" for value in seen.categories) else []
