"""The launch: the gate, its decision, the record a person signs, and page one."""

from fairlift.launch.decision import CONDITIONS, GO, NO_GO, Condition, Decision, Manifest, Reason
from fairlift.launch.gate import decide
from fairlift.launch.page import PageOne, explain, page_one
from fairlift.launch.record import Signature, decide_study, gather, sign_record, signatures

__all__ = [
    "CONDITIONS",
    "GO",
    "NO_GO",
    "Condition",
    "Decision",
    "Manifest",
    "PageOne",
    "Reason",
    "Signature",
    "decide",
    "decide_study",
    "explain",
    "gather",
    "page_one",
    "sign_record",
    "signatures",
]
