"""The launch: the gate, its decision, the record a person signs."""

from fairlift.launch.decision import CONDITIONS, GO, NO_GO, Condition, Decision, Manifest, Reason
from fairlift.launch.gate import decide

__all__ = ["CONDITIONS", "GO", "NO_GO", "Condition", "Decision", "Manifest", "Reason", "decide"]
