"""The launch gate: from catalogue, evidence and answers to GO, GO WITH CONDITIONS or NO-GO, with reasons.

It walks the catalogue and never the evidence, so that a row that is gone is missing, not passed; and it judges every row
anew against the threshold it works out itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta

from fairlift.checklist.answers import Answer, State
from fairlift.checklist.items import Catalogue, Item
from fairlift.errors import InputError, Problem, nearest
from fairlift.evidence import VALIDITIES, Evidence, Target
from fairlift.launch.decision import CONDITIONS, GO, KINDS, NO_GO, Condition, Decision, Manifest, Reason
from fairlift.launch.judge import (
    EXPIRED,
    FAIL,
    INCONCLUSIVE,
    LEVEL,
    MISSING,
    PASS,
    STALE,
    Ask,
    Judged,
    Need,
    judge,
    need_of,
    read_again,
    survivors,
)
from fairlift.study.clock import stamp
from fairlift.study.plan import Contrast, Guardrail, Plan, Standing
from fairlift.study.settings import Settings


def decide(
    catalogue: Catalogue,
    evidence: Sequence[Evidence],
    answers: Mapping[str, State],
    settings: Settings,
    plan: Plan | None,
    standing: Standing,
    *,
    clock: datetime,
    manifest: Manifest,
    previous: Decision | None = None,
) -> Decision:
    """The launch decision, from data alone; the same data give the same decision.

    Evidence counts only if the manifest lists it and does not call it stale.  Thresholds are the catalogue's, the plan's for
    the primary metric and the margins, and those of study.yml where they are tighter; a looser one raises InputError.
    Nothing that makes the evidence worse, thinner or older can improve the decision.
    """
    gate = _Gate(catalogue, evidence, answers, settings, plan, standing, clock, manifest, previous)
    items = tuple(gate.walk())
    if gate.problems:
        raise InputError(gate.problems)
    stops = [reason for reason in items if reason.stops]
    conditions = () if stops else tuple(gate.conditions(items))
    kinds = {reason.kind for reason in stops}
    return Decision(
        decision=NO_GO if stops else CONDITIONS if conditions else GO,
        kind=next((kind for kind in KINDS if kind in kinds), ""),
        items=items,
        conditions=conditions,
        planned=len(catalogue.planned),
        catalogue_version=catalogue.version,
        catalogue_size=catalogue.size,
        catalogue_as_of=catalogue.as_of,
        hashes={"catalogue": catalogue.hash, **manifest.hashes},
        plan_hash=standing.first.plan_hash if standing.first else "",
        standing=standing.reason,
        at=stamp(clock),
        reached=gate.reached(),
        conflicts=gate.conflicts(),
        settled=gate.settled(),
    )


class _Gate:
    """One walk through the catalogue; holds what `decide` was given."""

    def __init__(self, catalogue, evidence, answers, settings, plan, standing, clock, manifest, previous):
        self.catalogue: Catalogue = catalogue
        self.answers: Mapping[str, State] = answers
        self.settings: Settings = settings
        self.plan: Plan | None = plan
        self.standing: Standing = standing
        self.clock: datetime = clock
        self.manifest: Manifest = manifest
        self.rows = {row.key: row for row in evidence}
        self.registered = standing.status == "registered" and plan is not None
        same_plan = (
            previous is not None and standing.first is not None and previous.plan_hash == standing.first.plan_hash
        )
        self.once = frozenset(previous.reached) if same_plan else frozenset()
        self.read_before: Mapping[str, int] = previous.settled if same_plan else {}
        self.judged: dict[str, list[Judged]] = {}
        self.problems: list[Problem] = []

    # what is walked

    def walk(self) -> list[Reason]:
        """Every assessed item: first its rows, then families for what fails, then what it means for the launch."""
        self._check_thresholds()
        applying = [item for item in self.catalogue.assessed if self._applies(item)]
        for item in applying:
            if item.verification.rule in _RULES:
                self.judged[item.id] = _RULES[item.verification.rule](self, item)
        self._adjust()
        return [self._reason(item) if item in applying else self._off(item) for item in self.catalogue.assessed]

    def _applies(self, item: Item) -> bool:
        return item.applies.holds(self.settings.markets, self.settings.context)

    def _adjust(self) -> None:
        """A fail must survive Holm's adjustment in its family: all guardrails together, else the rows of one item."""
        families: dict[str, list[tuple[str, int]]] = {}
        for item, found in self.judged.items():
            rule = self.catalogue.items[item].verification.rule
            family = "guardrails" if rule in ("guardrail", "guardrails") else item
            families.setdefault(family, []).extend((item, place) for place in range(len(found)))
        for places in families.values():
            adjusted = survivors([self.judged[item][place] for item, place in places])
            for (item, place), judged in zip(places, adjusted, strict=True):
                self.judged[item][place] = judged

    # the rules that read evidence

    def _primary(self, item: Item) -> list[Judged]:
        if self.plan is None:
            return [_nothing("no plan names a primary metric")]
        metric = self.plan.primary.metric
        ask = self._ask(item, metric, "interval", 0.0, "the gate", pair=self.plan.contrasts[self.plan.primary.contrast])
        return self._contrast(item, metric, self.plan.primary.contrast, ask)

    def _profit(self, item: Item) -> list[Judged]:
        rule = item.verification
        if self.plan is None:
            return [_nothing("no plan names the contrast that profit is judged by")]
        base, source = rule.threshold, "the checklist"
        if self.settings.hurdle < base:
            found = f"`hurdle` is {self.settings.hurdle:g}, below the checklist's {base:g}"
            self.problems.append(Problem("study.yml", found, "a study may only ask for more"))
        elif self.settings.hurdle > base:
            base, source = self.settings.hurdle, "study.yml"
        ask = self._ask(
            item, rule.evidence, "interval", base, source, pair=self.plan.contrasts[self.plan.profit_contrast]
        )
        return self._contrast(item, rule.evidence, self.plan.profit_contrast, ask)

    def _guardrail(self, item: Item) -> list[Judged]:
        metric = item.verification.evidence
        if self.plan is None:
            return [_nothing("no plan names the contrast that it is judged by")]
        stated = [g for g in self.plan.guardrails if g.metric == metric]
        if stated:
            return [judged for guardrail in stated for judged in self._margin(item, guardrail)]
        rule, pair = item.verification, self.plan.contrasts[self.plan.profit_contrast]
        limit = rule.hard_limit if rule.hard_limit is not None else 2 * rule.threshold
        ask = self._ask(item, metric, "interval", rule.threshold, "the checklist", pair=pair, hard_limit=limit)
        return self._contrast(item, metric, self.plan.profit_contrast, ask)

    def _guardrails(self, item: Item) -> list[Judged]:
        if self.plan is None:
            return [_nothing("no plan names guardrails")]
        if not self.plan.guardrails:
            return [_nothing("the plan names no guardrail")]
        own = {i.verification.evidence for i in self.catalogue.assessed if i.verification.rule == "guardrail"}
        others = [guardrail for guardrail in self.plan.guardrails if guardrail.metric not in own]
        return [judged for guardrail in others for judged in self._margin(item, guardrail)]

    def _margin(self, item: Item, guardrail: Guardrail) -> list[Judged]:
        """A guardrail of the plan: the margin lies on the side that harms."""
        pair = self.plan.contrasts[guardrail.contrast]
        keys = self._keys(guardrail.metric, lambda key: (key[2], key[3]) == (pair.arm, pair.versus))
        directions = {self.rows[key].better for key in keys if key in self.rows}
        better = item.verification.better or (directions.pop() if len(directions) == 1 else "up")
        threshold, limit = Target("guardrail", guardrail.margin, guardrail.limit).signed(better)
        ask = self._ask(item, guardrail.metric, "interval", threshold, "plan.yml", better, pair, limit)
        return self._contrast(item, guardrail.metric, guardrail.contrast, ask)

    def _threshold(self, item: Item) -> list[Judged]:
        rule = item.verification
        ask = self._ask(item, rule.evidence, "exact", rule.threshold, "the checklist", hard_limit=rule.hard_limit)
        return self._read(rule.evidence, lambda key: key[1] == "all", ask)

    def _test(self, item: Item) -> list[Judged]:
        rule = item.verification
        ask = self._ask(
            item, rule.evidence, "test", rule.threshold, "the checklist", "down", hard_limit=rule.hard_limit
        )
        return self._read(rule.evidence, lambda key: True, ask)

    def _segments(self, item: Item) -> list[Judged]:
        rule = item.verification
        ask = self._ask(item, rule.evidence, "interval", rule.threshold, "the checklist", hard_limit=rule.hard_limit)
        if not self.settings.protected:
            return [_nothing("study.yml names no attribute under `protected`")]
        listed = self._read(rule.evidence, lambda key: key[1] != "all", ask)
        present = {judged.segment.partition("=")[0] for judged in listed}
        absent = [name for name in self.settings.protected if name not in present]
        return listed + [_nothing(f"no group of {name} was read", segment=name) for name in absent]

    # finding and asking

    def _contrast(self, item: Item, metric: str, name: str, ask: Ask) -> list[Judged]:
        pair = self.plan.contrasts[name]
        wanted = ("all", pair.arm, pair.versus, "assigned")
        return self._read(metric, lambda key: key[1:5] == wanted, ask, f"{metric}, {pair.arm} against {pair.versus}")

    def _keys(self, metric: str, wanted: Callable[[tuple], bool]) -> list[tuple]:
        return sorted(key for key in self.manifest.keys if key[0] == metric and wanted(key))

    def _read(self, metric: str, wanted: Callable[[tuple], bool], ask: Ask, name: str = "") -> list[Judged]:
        """Every row that the run listed under this metric, judged; a listed row that is gone is missing."""
        found = []
        for key in self._keys(metric, wanted):
            label = " ".join(part for part in key[:4] if part and part != "all")
            if key not in self.rows:
                found.append(Judged(label, MISSING, f"{label}: the run left it and it is gone", segment=key[1]))
            elif key in self.manifest.stale:
                found.append(Judged(label, STALE, f"{label}: {self.manifest.stale[key]}", segment=key[1]))
            else:
                once = _line(key) in self.once
                judged = judge(self.rows[key], ask, self.clock, self.registered, once)
                found.append(read_again(judged, self.read_before.get(_line(key)) if ask.causal else None))
        if found:
            return found
        unlisted = any(key[0] == metric and wanted(key) for key in self.rows)
        return [
            _nothing(
                f"{name or metric}: "
                + ("a row is there, but the run does not list it" if unlisted else "there is no such row")
            )
        ]

    def _ask(
        self, item, metric, kind, threshold, source, better=None, pair: Contrast | None = None, hard_limit=None
    ) -> Ask:
        rule = item.verification
        better = better or rule.better or self._direction(metric, pair)
        for name in dict.fromkeys((metric, item.id)):
            stated = self.settings.thresholds.get(name)
            if stated is None or stated == threshold:
                continue
            tighter = stated > threshold if better == "up" or kind == "test" else stated < threshold
            if tighter:
                threshold, source = stated, "study.yml"
            else:
                found = f"`thresholds.{name}` is {stated:g}, looser than the {threshold:g} of {source}"
                self.problems.append(Problem("study.yml", found, "a study may only be stricter; leave it out"))
        return Ask(
            kind=kind,
            threshold=threshold,
            source=source,
            better=better,
            hard_limit=hard_limit,
            causal=pair is not None,
            planned_n=self.plan.planned(pair) if pair else None,
            min_n=rule.min_n,
            final=self.final,
            admits=self._admits(causal=pair is not None),
            level=1 - min(1 - LEVEL, self.plan.alpha) if self.plan and pair else LEVEL,
            currency=self.settings.currency,
        )

    def _direction(self, metric: str, pair: Contrast | None) -> str:
        """Which way is better, as the rows of the metric say; they must agree."""
        said = {
            row.better
            for key, row in self.rows.items()
            if key[0] == metric and (not pair or key[2:4] == (pair.arm, pair.versus))
        }
        return said.pop() if len(said) == 1 else "up"

    def _check_thresholds(self) -> None:
        known = {item.id for item in self.catalogue.assessed if item.verification.rule in _RULES}
        known |= {item.verification.evidence for item in self.catalogue.assessed if item.verification.evidence}
        if self.plan:
            known |= {self.plan.primary.metric, *(guardrail.metric for guardrail in self.plan.guardrails)}
        self.problems += [
            Problem(
                "study.yml", f"`thresholds` names `{name}`, which nothing is judged by", nearest(name, sorted(known))
            )
            for name in self.settings.thresholds
            if name not in known
        ]

    @property
    def final(self) -> bool:
        """Whether the data reach the registered end; without a plan there is none to wait for."""
        return self.weeks_left <= 0

    @property
    def weeks_left(self) -> float:
        if self.plan is None:
            return 0.0
        if self.manifest.measured is None:
            return math.inf
        return (self.plan.end_of(self.settings.timezone) - self.manifest.measured) / timedelta(weeks=1)

    def _admits(self, causal: bool) -> tuple[str, ...]:
        """Which intervals count at this moment: those for which the plan registered when they are read.

        At the end a fixed interval counts where the plan looks once, and always for what compares no arms.
        """
        if self.plan is None:
            return VALIDITIES
        rule = self.plan.validity
        if self.final:
            return VALIDITIES if rule == "end" or not causal else (rule,)
        if self.manifest.measured is None or rule == "end":
            return ()
        return (rule,) if rule == "always" or self._measured_day in self.plan.look_days else ()

    @property
    def _measured_day(self) -> date:
        return self.manifest.measured.astimezone(self.settings.zone()).date()

    @property
    def weeks_to_reading(self) -> float:
        """How long until the plan lets results be read again: its next look, or the registered end."""
        if self.plan is None or self.manifest.measured is None:
            return 0.0
        coming = [day for day in self.plan.look_days if day > self._measured_day]
        until_look = (coming[0] - self._measured_day).days / 7 if coming else math.inf
        return max(0.0, min(until_look, self.weeks_left))

    # what it means

    def _reason(self, item: Item) -> Reason:
        rule = item.verification.rule
        if rule == "attested":
            return self._attested(item)
        if rule == "registered":
            return self._registered(item)
        found = self.judged[item.id]
        covered, open_ = self._split(item)
        settled = all(judged.conditional for judged in open_)
        told = {"rows": tuple(judged.label for judged in found), "technical": self._tell(item)}
        if not open_:
            return _row(item, "waived" if covered else "pass", **told)
        worst = min(open_, key=lambda judged: judged.rank)
        kind = {FAIL: "harm", INCONCLUSIVE: "not_shown"}.get(worst.state, "missing")
        stops = item.severity == "blocker" or (item.severity == "major" and not settled)
        need = self._need(open_) if worst.state == INCONCLUSIVE else None
        state = (
            "not_assessed"
            if worst.state == MISSING and item.verification.notebook in self.manifest.absent
            else worst.state
        )
        settle = f"{str(need)[0].upper()}{str(need)[1:]}." if need else item.to_do
        to_do = {FAIL: item.to_do, INCONCLUSIVE: settle}.get(worst.state, _supply(item, worst))
        return _row(
            item, state, kind=kind, stops=stops, plain=_plain(item, worst, open_), to_do=to_do, need=need, **told
        )

    def _need(self, found: Sequence[Judged]) -> Need | None:
        """What would settle all the inconclusive rows: the largest need, and none if one cannot be computed."""
        window = self.settings.outcome_window_days / 7
        power = self.plan.power if self.plan else 0.8
        left = self.weeks_to_reading
        needs = [need_of(judged, power, self._enrolled_weeks(), window, left) for judged in found]
        needs = [need for need in needs if need]
        unknown = next((need for need in needs if need.customers is None), None)
        return unknown or max(needs, key=lambda need: need.customers, default=None)

    def _enrolled_weeks(self) -> float | None:
        """How long the customers read so far took to enrol: the period without its last outcome window."""
        if self.manifest.measured is None:
            return None
        period, window = self.settings.period, self.settings.outcome_window_days
        days = (min(self.manifest.measured.date(), period.end) - period.start).days + 1
        return max(days - window if days > window else days, 1) / 7

    def _attested(self, item: Item) -> Reason:
        state = self.answers.get(item.id)
        status = state.status if state else "open"
        if status == "met":
            who = state.answer.who.function
            return _row(item, "pass", technical=f"attested by {who} on {state.answer.when}")
        if status == "not_applicable":
            return _row(
                item,
                "not_applicable",
                technical=f"declared not applicable: {state.answer.reason}",
                plain=f"{item.title}: declared not applicable.",
            )
        if status == "waived" and item.waivable and item.severity != "blocker":
            return _row(item, "waived", technical=f"waived until {state.answer.expires_on}: {state.answer.reason}")
        said = {
            "not_met": item.if_fails,
            "expired": f"{item.title}: the proof has expired.",
            "altered": f"{item.title}: the proof was changed after it was vouched for.",
            "in_progress": f"{item.title}: still in progress.",
        }.get(status, f"{item.title}: nobody has answered yet.")
        wrong = "; ".join(str(problem) for problem in state.problems) if state else ""
        technical = f"answer: {status.replace('_', ' ')}" + (f"; {wrong}" if wrong else "")
        to_do = item.to_do if status in ("not_met", "in_progress") else f"Wanted: {item.evidence_wanted}"
        return _row(
            item, status, kind="missing", stops=item.severity != "minor", plain=said, technical=technical, to_do=to_do
        )

    def _registered(self, item: Item) -> Reason:
        if self.registered:
            return _row(item, "pass", technical=self.standing.reason)
        said = "There is no plan." if self.plan is None else item.if_fails
        return _row(
            item, "missing", kind="missing", stops=True, plain=said, technical=self.standing.reason, to_do=item.to_do
        )

    def _off(self, item: Item) -> Reason:
        why = f"study.yml says {item.applies.when}: false" if item.applies.when else "not in these markets"
        return _row(item, "off", technical=f"does not apply: {why}")

    def _waiver(self, item: Item) -> Answer | None:
        state = self.answers.get(item.id)
        valid = state is not None and state.status == "waived" and item.waivable and item.severity != "blocker"
        return state.answer if valid else None

    def _split(self, item: Item) -> tuple[list[Judged], list[Judged]]:
        """The rows that do not pass: those a waiver covers, and the others."""
        waiver, rule = self._waiver(item), item.verification.rule
        unpassed = [judged for judged in self.judged.get(item.id, ()) if judged.state != PASS]
        covered = [judged for judged in unpassed if waiver and _covers(waiver, judged, rule)]
        return covered, [judged for judged in unpassed if judged not in covered]

    def _tell(self, item: Item) -> str:
        """What the rows say: those that do not pass, or else the first."""
        found = self.judged[item.id]
        wanting = [judged for judged in found if judged.state != PASS] or found[:1]
        told = "; ".join(judged.technical for judged in wanting) or "every guardrail of the plan has an item of its own"
        why = self.manifest.absent.get(item.verification.notebook)
        return f"{told} ({why})" if why else told

    def conditions(self, items: Sequence[Reason]) -> list[Condition]:
        """What goes with a launch although it is not settled: a condition for each waiver used and each open item."""
        found = []
        for reason in items:
            item = self.catalogue.items[reason.item]
            covered, open_ = self._split(item)
            if reason.state == "off" or item.severity == "minor":
                continue
            if covered or reason.state == "waived":
                found.append(_waived(item, self.answers[item.id].answer))
            if open_:
                due = (self.clock + timedelta(days=self.settings.outcome_window_days)).date()
                need = self._need(open_)
                what = f"{item.title}: within the limit so far, and not settled" + (f"; {need}." if need else ".")
                rollback = f"Take the launch back if this is shown: {item.if_fails}"
                found.append(Condition(item.id, what, item.owner_role, str(due), item.ramp_cap, rollback))
        return found

    def reached(self) -> tuple[str, ...]:
        now = {
            _line(judged.row.key)
            for found in self.judged.values()
            for judged in found
            if judged.row and judged.ask.planned_n and (judged.row.n or 0) >= judged.ask.planned_n
        }
        return tuple(sorted(now | self.once))

    def settled(self) -> dict[str, int]:
        """The comparisons read at the end that did not pass, with their customers then; not where any day may be read."""
        if self.plan is None or self.plan.validity == "always" or not self.final:
            return dict(self.read_before)
        now = {
            _line(judged.row.key): judged.row.n
            for found in self.judged.values()
            for judged in found
            if judged.row and judged.ask.causal and judged.state in (FAIL, INCONCLUSIVE) and not judged.conditional
            if judged.row.value is not None and (judged.row.n or 0) >= (judged.ask.planned_n or 0)
        }
        return dict(sorted((now | dict(self.read_before)).items()))

    def conflicts(self) -> tuple[str, ...]:
        lines = []
        for name, state in sorted(self.answers.items()):
            for other in state.conflicts:
                who = [given.who.function if given.who else "answers.yml" for given in (state.answer, other)]
                lines.append(
                    f"{name}: {state.answer.status} ({who[0]}) and {other.status} ({who[1]}) contradict each other; {state.status} counts"
                )
            lines += [f"{name}: {problem}" for problem in state.problems]
        return tuple(lines)


_RULES = {
    "primary": _Gate._primary,
    "profit": _Gate._profit,
    "guardrail": _Gate._guardrail,
    "guardrails": _Gate._guardrails,
    "threshold": _Gate._threshold,
    "segments": _Gate._segments,
    "test": _Gate._test,
}


def _nothing(why: str, segment: str = "all") -> Judged:
    return Judged("", MISSING, why, segment=segment)


def _line(key: tuple[str, ...]) -> str:
    return "|".join(key)


def _covers(waiver: Answer, judged: Judged, rule: str) -> bool:
    """A waiver of an item judged by group covers the groups it names, and nobody else."""
    return rule != "segments" or any(
        judged.segment == name or judged.segment.startswith(f"{name}=") for name in waiver.segments
    )


def _waived(item: Item, given: Answer) -> Condition:
    control = given.compensating_control.rstrip(".")
    what = f"{item.title}: waived because {given.reason.rstrip('.')}; meanwhile {control}."
    return Condition(
        item.id,
        what,
        item.owner_role,
        str(given.expires_on),
        given.ramp_cap,
        f"Take the launch back if this no longer holds: {control}.",
    )


def _plain(item: Item, worst: Judged, open_: Sequence[Judged]) -> str:
    groups = ", ".join(judged.segment for judged in open_ if judged.state == worst.state and judged.segment != "all")
    concerned = f" Concerned: {groups}." if groups else ""
    if worst.state == FAIL:
        return item.if_fails + concerned
    if worst.state == INCONCLUSIVE:
        return f"{item.title}: not shown yet.{concerned}"
    if worst.state == STALE:
        return f"{item.title}: the result is out of date."
    if worst.state == EXPIRED:
        return f"{item.title}: the result has expired."
    if worst.row is not None:
        return f"{item.title}: there is a result, but it does not count."
    return f"{item.title}: not assessed."


def _supply(item: Item, worst: Judged) -> str:
    if worst.state in (STALE, EXPIRED):
        return "Run the study again."
    if worst.row is not None:
        return "Plan the next test, register it before its first outcome, and read it when the plan says."
    return f"Wanted: {item.evidence_wanted}"


def _row(item: Item, state: str, **more: object) -> Reason:
    return Reason(item.id, item.title, item.severity, state, owner=item.owner_role, approver=item.approver_role, **more)
