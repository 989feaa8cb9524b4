"""The decision record: gathered from a study, written whole, kept in a history, and signed by people."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from fairlift.checklist import altered, catalogue, fold, pending, read_log
from fairlift.errors import InputError, Problem
from fairlift.evidence import Evidence, from_json
from fairlift.launch.decision import Decision, Manifest
from fairlift.launch.gate import decide
from fairlift.study import Standing, Study
from fairlift.study.clock import now, stamp
from fairlift.study.leave import code_version, study_files

RECORD, HISTORY, SIGNATURES = "decision.json", "decisions.jsonl", "signatures.jsonl"


@dataclass(frozen=True)
class Signature:
    """Who signed which record, in which function, when."""

    name: str
    function: str
    at: str
    record: str

    def __str__(self) -> str:
        return f"{self.name}, {self.function}, {self.at} (record {self.record[:12]})"


def decide_study(study: Study) -> Decision:
    """Decide a study from what its last run left, and write the record to STUDY/out/decision.json.

    What is absent (a run, a mart, a plan, an answer) counts as missing.  Raises InputError for what is wrong in study.yml or
    in the answers, every problem at once.
    """
    book = catalogue()
    rows, manifest = gather(study)
    entries = [*read_log(study.folder), *pending(study.folder, book)]
    clock = study.settings.clock()
    decision = decide(
        book,
        rows,
        fold(entries, book, clock, altered(study.folder, entries)),
        study.settings,
        study.plan,
        _standing(study),
        clock=clock,
        manifest=manifest,
        previous=previous(study),
    )
    write_record(study, decision)
    return decision


def gather(study: Study) -> tuple[list[Evidence], Manifest]:
    """The evidence in a study's folder and what its last run vouches for.

    Evidence counts only with the present hashes of data, code, settings and plan, and as the run left it, byte for byte.
    """
    found = _manifest(study.out)
    prepared = _prepared(study)
    changed = _changed(study, found, prepared)
    rows, keys, stale, absent = [], set(), {}, {}
    for name, entry in sorted(found.get("notebooks", {}).items()):
        if not entry.get("evidence"):
            absent[name] = _why_absent(entry)
            continue
        path = study.out / "evidence" / Path(entry["evidence"]).name
        try:
            raw = path.read_bytes()
            left = from_json(raw.decode("utf-8"), path.name)
        except (OSError, UnicodeDecodeError, InputError):
            absent[name] = "its evidence is gone or cannot be read"
            continue
        whole = hashlib.sha256(raw).hexdigest() == entry.get("evidence_sha")
        whole &= sorted(row.label for row in left) == sorted(entry.get("labels", ()))
        for row in left:
            rows.append(row)
            keys.add(row.key)
            why = changed or ("" if whole else "its file was changed after the run") or _outdated(row, found)
            if why:
                stale[row.key] = why
    hashes = {name: found[name] for name in ("mart", "code", "lock", "run") if found.get(name)}
    hashes |= study_files(study.folder)
    hashes |= {
        name: entry["evidence_sha"] for name, entry in found.get("notebooks", {}).items() if entry.get("evidence_sha")
    }
    return rows, Manifest(frozenset(keys), study.clock() if prepared else None, stale, absent, hashes)


def _manifest(out: Path) -> dict:
    try:
        found = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("notebooks"), dict) else {}


def _prepared(study: Study) -> bool:
    return (study.out / "mart" / "mart.json").exists()


def _changed(study: Study, found: dict, prepared: bool) -> str:
    """Why nothing the run left counts any longer, or nothing."""
    if not prepared or found.get("mart") != study.mart["fingerprint"]:
        return "the tables changed since the run"
    if found.get("code") != code_version():
        return "Fairlift changed since the run"
    then, present = found.get("study", {}), study_files(study.folder)
    changed = sorted(name for name in {*then, *present} if then.get(name) != present.get(name))
    return f"{', '.join(changed)} changed since the run" if changed else ""


def _outdated(row: Evidence, found: dict) -> str:
    same = (row.data_hash, row.code_version) == (found.get("mart"), found.get("code"))
    return "" if same else "it rests on other data or another version"


def _why_absent(entry: dict) -> str:
    if entry.get("missing"):
        return "not assessed: lacks " + "; ".join(" or ".join(need) for need in entry["missing"])
    return "its notebook failed" if entry.get("status") == "failed" else "its notebook left no evidence"


def _standing(study: Study) -> Standing:
    if study.plan is None:
        return Standing("no_plan", "There is no plan.")
    if not _prepared(study):
        return Standing("exploratory", "The tables are not prepared, so nobody knows when the first outcome was.")
    return study.standing


def previous(study: Study) -> Decision | None:
    """The decision last recorded; None where there is none that can be read."""
    try:
        found = json.loads((study.out / RECORD).read_text(encoding="utf-8"))
        return Decision.from_dict(found["record"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_record(study: Study, decision: Decision) -> Path:
    """Write out/decision.json whole or not at all, and add it to out/decisions.jsonl if it says something new."""
    study.out.mkdir(parents=True, exist_ok=True)
    row = {"hash": decision.hash, "record": decision.to_dict()}
    history = study.out / HISTORY
    last = history.read_text(encoding="utf-8").splitlines()[-1:] if history.exists() else []
    if not last or f'"{decision.hash}"' not in last[0]:
        _add(history, row)
    signed = [asdict(signature) for signature in signatures(study, decision)]
    path, draft = study.out / RECORD, study.out / f"{RECORD}.part"
    draft.write_text(json.dumps(row | {"signatures": signed}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, path)
    return path


def sign_record(study: Study, *, name: str, function: str) -> Signature:
    """Sign the decision last recorded, by its hash; a later decision on other facts is not signed with it.

    Signatures are a person's act, so they stand beside the plan's register in STUDY/signatures.jsonl and are only ever
    added to.  Raises InputError when nothing was decided or the record was changed by hand.
    """
    decision = previous(study)
    if decision is None:
        raise InputError(
            Problem(RECORD, "there is no decision to sign", f"run `fairlift decide {study.folder.name}` first")
        )
    stated = json.loads((study.out / RECORD).read_text(encoding="utf-8"))["hash"]
    if stated != decision.hash:
        raise InputError(
            Problem(RECORD, "its content does not have the hash it states", "decide again; never edit the record")
        )
    if not (name.strip() and function.strip()):
        raise InputError(Problem("signature", "it lacks a name or a function", "state both"))
    signature = Signature(name.strip(), function.strip(), stamp(now()), decision.hash)
    _add(study.folder / SIGNATURES, asdict(signature))
    write_record(study, decision)
    return signature


def signatures(study: Study, decision: Decision) -> list[Signature]:
    """Who signed this very decision."""
    path = study.folder / SIGNATURES
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(Signature(**json.loads(line)))
        except (ValueError, TypeError):
            problem = Problem(SIGNATURES, f"line {number} is not a signature", "restore the file from your backup")
            raise InputError(problem) from None
    return [signature for signature in found if signature.record == decision.hash]


def _add(path: Path, row: dict) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
