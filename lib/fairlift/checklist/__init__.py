"""The launch checklist: items, answers and the state they add up to."""

from fairlift.checklist.items import DATA, Catalogue, Item, catalogue, requirements

__all__ = ["DATA", "Catalogue", "Item", "catalogue", "requirements"]
