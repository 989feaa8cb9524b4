"""The launch checklist: items, answers and the state they add up to."""

from fairlift.checklist.answers import (
    Answer,
    Entry,
    Person,
    Proof,
    State,
    altered,
    answer,
    fold,
    ingest,
    pending,
    read_log,
)
from fairlift.checklist.items import DATA, Catalogue, Item, catalogue, requirements

__all__ = [
    "DATA",
    "Answer",
    "Catalogue",
    "Entry",
    "Item",
    "Person",
    "Proof",
    "State",
    "altered",
    "answer",
    "catalogue",
    "fold",
    "ingest",
    "pending",
    "read_log",
    "requirements",
]
