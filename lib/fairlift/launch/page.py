"""Page one of the decision: for the people who sign it, in plain words, without a word of statistics."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import NormalDist

from fairlift.evidence import Evidence
from fairlift.format import NOT_ASSESSED, number
from fairlift.launch.decision import NO_GO, Decision, Reason
from fairlift.launch.record import Signature, gather, signatures
from fairlift.study import Study
from fairlift.study.costs import DAYS_A_YEAR

# a gap that more customers do not close (a paper, a table, a drill) is due after this many weeks
WEEKS_FOR_A_GAP = 4
KINDS = {
    "harm": "harm was shown",
    "not_shown": "what must be shown is not shown yet",
    "missing": "something is missing",
    "": "",
}
# where these fail nobody was harmed: the test itself does not hold
OF_THE_TEST = ("method.srm.share", "method.balance.omnibus", "method.contamination.share")


@dataclass(frozen=True)
class Range:
    """A number as a manager needs it: the likely one between a low and a high one."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> Range:
        return Range(self.low * factor, self.likely * factor, self.high * factor)

    def text(self, unit: str, currency: str) -> str:
        low, likely, high = (number(n, unit, currency, signed=True) for n in (self.low, self.likely, self.high))
        return f"likely {likely}, between {low} and {high}"


@dataclass(frozen=True)
class Gap:
    """One thing that stands in the way: what, what to do, whose it is, by when."""

    item: str
    what: str
    to_do: str
    owner: str
    due: str


@dataclass(frozen=True)
class Section:
    """A heading and its sentences."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class PageOne:
    """Page one as data; `text()` writes it.  The effect stands apart from the decision."""

    headline: str
    effect: Section
    profit_a_year: Range | None
    extra_per_10k: dict[str, Range | None]
    holdout: Section
    gaps: tuple[Gap, ...]
    next_decision: Section
    conditions: Section
    notes: Section
    signed: tuple[tuple[str, str], ...]
    footer: tuple[str, ...]

    def text(self) -> str:
        """The page as plain text."""
        gaps = []
        for gap in self.gaps:
            gaps += [f"- {gap.what}", f"  {gap.to_do}", f"  Whose: {gap.owner}. By when: {gap.due}."]
        blocks = [f"LAUNCH DECISION: {self.headline}", _block(self.effect)]
        blocks += [_block(Section("What stands in the way", tuple(gaps)))] if gaps else []
        blocks += [
            _block(section)
            for section in (self.conditions, self.next_decision, self.holdout, self.notes)
            if section.lines
        ]
        blocks.append(_block(Section("Signatures", tuple(f"{function}: {state}" for function, state in self.signed))))
        return "\n\n".join([*blocks, "\n".join(self.footer)])


def page_one(study: Study, decision: Decision) -> PageOne:
    """Page one of a study's decision."""
    rows, manifest = gather(study)
    counted = [row for row in rows if row.key not in manifest.stale]
    return explain(study, decision, counted, signatures(study, decision))


def explain(study: Study, decision: Decision, rows: Sequence[Evidence], signed: Sequence[Signature] = ()) -> PageOne:
    """Page one from the rows that count: what personalisation did, and apart from it what is decided and why."""
    comparable = not any(r.item.startswith("method.srm.") and r.state == "fail" for r in decision.items)
    customers = _customers(study)
    seen = _profit(study, rows) if comparable else None
    scale = customers * DAYS_A_YEAR / study.settings.outcome_window_days if customers else None
    a_year = _range(seen).times(scale) if seen and scale else None
    extra = {name: _extra(study, rows, metric) if comparable else None for name, metric in _HARMS.items()}
    each = [_weeks_for(study, reason) for reason in decision.reasons]
    weeks = None if None in each else max(each, default=0.0)
    gaps = tuple(_gap(study, reason) for reason in _by_weight(decision.reasons))
    return PageOne(
        headline=_headline(decision),
        effect=_effect(study, decision, rows, comparable, a_year, extra, customers, seen),
        profit_a_year=a_year,
        extra_per_10k=extra,
        holdout=_holdout(study, seen, scale),
        gaps=gaps,
        next_decision=_next(study, decision, weeks),
        conditions=_conditions(decision),
        notes=Section("Notes", tuple(note.plain for note in decision.notes if note.plain)),
        signed=_signed(decision, signed),
        footer=_footer(decision),
    )


def _headline(decision: Decision) -> str:
    harms = [reason.item for reason in decision.reasons if reason.kind == "harm"]
    return decision.decision + (f", because {because(decision.kind, harms)}" if decision.kind else "")


def because(kind: str, harms: Collection[str]) -> str:
    """What a NO-GO of this kind means, in plain words; `harms` are the items that failed.

    >>> because("harm", ["method.srm.share"]), because("harm", ["risk.complaints.rate"])
    ('the test itself cannot be trusted', 'harm was shown')
    """
    return "the test itself cannot be trusted" if harms and set(harms) <= set(OF_THE_TEST) else KINDS[kind]


_HARMS = {"customers who complained": "risk.complaints.rate", "customers who opted out": "risk.optout.rate"}


def _effect(study, decision, rows, comparable, a_year, extra, customers, seen) -> Section:
    title, currency, days = (
        "What personalisation did (the effect, apart from the decision)",
        study.settings.currency,
        study.settings.outcome_window_days,
    )
    if not comparable:
        return Section(
            title,
            (
                "Nothing can be said: customers did not land in the groups as planned, so the groups cannot be compared.",
            ),
        )
    lines = []
    if any(r.item == "method.contamination.share" and r.state == "fail" for r in decision.items):
        lines.append(
            "Customers who should get no personal offers were sent some: what follows compares mixed groups and is most likely too "
            "close to zero."
        )
    if a_year:
        lines.append(f"Net profit a year at full roll-out: {a_year.text('money_round', currency)}.")
        lines.append(
            f"That is carried over from {number(days, 'count')} days and {number(_tested(study, rows), 'count')} customers to a year and "
            f"{number(customers, 'count')} customers, as if all of the year went like these days."
        )
    else:
        lines.append(f"Net profit a year at full roll-out: {NOT_ASSESSED}.")
        lines += _sales(study, rows)
    for name, found in extra.items():
        text = found.text("per_10k", currency) if found else NOT_ASSESSED
        lines.append(f"Extra {name}, because of personalisation: {text}.")
    late = any(r.item == "method.plan.registered" and r.state != "pass" for r in decision.items)
    if seen is not None and seen.validity != "end" and not late:
        lines.append(
            "When results may be read was fixed beforehand, and the ranges are wide enough for every such reading."
        )
    if late:
        lines.append("The plan was not fixed before these results were there: read them as a hint and not as proof.")
    return Section(title, tuple(lines))


def _sales(study: Study, rows: Sequence[Evidence]) -> list[str]:
    """Where profit is not assessed: what customers spent more, before any cost."""
    found = [
        row
        for row in rows
        if row.id == "sales.incremental.revenue" and row.versus and row.arm.startswith("personalised")
    ]
    return [
        f"Sales per customer in {number(study.settings.outcome_window_days, 'count')} days, {row.arm} against {row.versus}, before any cost: "
        f"{_range(row).text('money', study.settings.currency)}."
        for row in found
        if row.segment == "all" and _range(row)
    ]


def _holdout(study: Study, seen: Evidence | None, scale: float | None) -> Section:
    """What keeping some customers without personal offers costs at full roll-out, and what it buys."""
    title = "What the customers kept without offers cost and buy"
    share = _holdout_share(study)
    if not seen or not scale or share is None or seen.value is None:
        return Section(title, (f"What they cost: {NOT_ASSESSED}.", f"What they buy: {NOT_ASSESSED}."))
    currency, forgone = study.settings.currency, seen.value * scale * share
    kept = f"Keeping {number(share, 'share')} of all customers without personal offers"
    cost = (
        f"{kept} gives up about {number(forgone, 'money_round', currency)} of profit a year."
        if forgone > 0
        else f"{kept} gives nothing up: as far as was seen, personal offers earn nothing."
    )
    se = seen.se if seen.se is not None else (seen.high - seen.low) / 2 / NormalDist().inv_cdf(0.975)
    power = study.plan.power if study.plan else 0.8
    smallest = (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(power)) * se * scale
    buys = (
        "It buys the only way to see whether the offers still pay: a group of this size would show a gain or loss of "
        f"{number(smallest, 'money_round', currency)} a year or more."
    )
    return Section(title, (cost, buys))


def _next(study: Study, decision: Decision, weeks: float | None) -> Section:
    """How many weeks and how much money lie before the next decision."""
    if decision.decision != NO_GO:
        return Section("The next decision", ())
    if weeks is None:
        return Section(
            "The next decision",
            ("When the next decision can be taken cannot be computed: see what stands in the way.",),
        )
    whole = math.ceil(weeks)
    if not whole:
        return Section("The next decision", ("At once: run the study again, then decide again.",))
    lines = [f"In about {number(whole, 'weeks')}, on {_day(study, weeks)}."]
    weekly = _weekly_cost(study)
    if weekly is None:
        lines.append(f"What it costs until then: {NOT_ASSESSED}, because no costs are stated.")
    else:
        spent = number(whole * weekly, "money_round", study.settings.currency)
        lines.append(f"Running personalisation until then costs about {spent}, before the cost of single offers.")
    return Section("The next decision", tuple(lines))


def _conditions(decision: Decision) -> Section:
    lines = []
    for c in decision.conditions:
        lines.append(f"- {c.what}")
        lines.append(
            f"  Whose: {c.owner}. By when: {c.due}. Until then at most {number(c.ramp_cap, 'share')} of customers. {c.rollback}"
        )
    return Section("Conditions", tuple(lines))


def _signed(decision: Decision, signed: Sequence[Signature]) -> tuple[tuple[str, str], ...]:
    """Each function that approves a blocker, and whoever else signed."""
    wanted = dict.fromkeys(item.approver for item in decision.items if item.severity == "blocker" and item.approver)
    known = {function.casefold(): function for function in wanted}
    by = {known.get(s.function.casefold(), s.function): f"{s.name}, {s.at}" for s in signed}
    return tuple((function, by.get(function, "not signed")) for function in dict.fromkeys([*wanted, *by]))


def _footer(decision: Decision) -> tuple[str, ...]:
    planned = f"{number(decision.planned, 'count')} further items are planned and were not looked at"
    plan = f"Plan first registered as {decision.plan_hash[:12]}." if decision.plan_hash else "No plan was registered."
    return (
        f"Checklist {decision.catalogue_version} of {decision.catalogue_as_of}: {number(len(decision.items), 'count')} items; {planned}.",
        *(f"Contradiction: {text}" for text in decision.conflicts),
        f"{plan} Decided {decision.at}.",
    )


def _gap(study: Study, reason: Reason) -> Gap:
    weeks = _weeks_for(study, reason)
    due = "not known" if weeks is None else _day(study, weeks)
    return Gap(reason.item, reason.plain, reason.to_do, reason.owner, due)


def _weeks_for(study: Study, reason: Reason) -> float | None:
    """How long it takes to close one gap: more customers, a new test (for shown harm or want of a plan), a run, a paper."""
    if reason.need:
        return reason.need.weeks
    if reason.state == "fail" or reason.item == "method.plan.registered":
        period = study.settings.period
        return max(WEEKS_FOR_A_GAP, ((period.end - period.start).days + 1) / 7)
    return 0.0 if reason.state == "stale" else float(WEEKS_FOR_A_GAP)


def _by_weight(reasons: Sequence[Reason]) -> list[Reason]:
    """Blockers before majors, shown harm before gaps."""
    kinds = ("harm", "missing", "not_shown")
    return sorted(reasons, key=lambda r: (r.severity != "blocker", kinds.index(r.kind)))


def _day(study: Study, weeks: float) -> str:
    there = study.settings.clock().astimezone(study.settings.zone()) + timedelta(weeks=math.ceil(weeks))
    return there.date().isoformat()


def _profit(study: Study, rows: Sequence[Evidence]) -> Evidence | None:
    """The row that states net profit: the plan's contrast, or else personalised against holdout."""
    if study.plan:
        pair = study.plan.contrasts[study.plan.profit_contrast]
        wanted = (pair.arm, pair.versus)
    else:
        wanted = ("personalised", "holdout")
    return _row(rows, "sales.incremental.profit", wanted)


def _extra(study: Study, rows: Sequence[Evidence], metric: str) -> Range | None:
    pair = study.plan.contrasts[study.plan.profit_contrast] if study.plan else None
    row = _row(rows, metric, (pair.arm, pair.versus) if pair else ("personalised", "holdout"))
    found = _range(row)
    return found.times(10_000) if found else None


def _row(rows: Sequence[Evidence], metric: str, pair: tuple[str, str]) -> Evidence | None:
    found = [row for row in rows if (row.id, row.segment, row.arm, row.versus) == (metric, "all", *pair)]
    return next((row for row in found if _range(row)), None)


def _range(row: Evidence | None) -> Range | None:
    if row is None or row.value is None or row.low is None or row.high is None:
        return None
    return Range(row.low, row.value, row.high)


def _customers(study: Study) -> int | None:
    """How many customers a full roll-out reaches: as study.yml says, or those in the tables."""
    if study.settings.rollout_customers:
        return study.settings.rollout_customers
    return study.mart["customers"] if (study.out / "mart" / "mart.json").exists() else None


def _tested(study: Study, rows: Sequence[Evidence]) -> int | None:
    row = _profit(study, rows)
    return row.n if row else None


def _holdout_share(study: Study) -> float | None:
    if not study.plan:
        return None
    weights = study.plan.weights
    kept = sum(weight for arm, weight in weights.items() if arm.startswith("holdout"))
    return kept / sum(weights.values()) if kept else None


def _weekly_cost(study: Study) -> float | None:
    """What personalisation costs in a week of the test, single offers apart."""
    prepared = (study.out / "mart" / "mart.json").exists()
    costs = study.costs if prepared else study.settings.costs
    if costs is None:
        return None
    arms = study.mart["arms"].items() if prepared else ()
    served = sum(found["assigned"] for arm, found in arms if arm.startswith("personalised"))
    a_year = {
        "year": lambda c: c.amount,
        "once": lambda c: c.amount / c.years,
        "customer_year": lambda c: c.amount * served,
    }
    return sum(a_year[cost.per](cost) for cost in costs if cost.per in a_year) * 7 / DAYS_A_YEAR


def _block(section: Section) -> str:
    return "\n".join([section.title, *(f"  {line}" for line in section.lines)])
