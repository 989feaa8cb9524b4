"""The book: notebooks executed, pages generated, the whole built; for the demo or as a retailer's report."""

from fairlift.book.build import build_book, build_report, keep_results
from fairlift.book.demo import ready_demo
from fairlift.book.execute import run
from fairlift.book.notebook import keep_outputs

__all__ = ["build_book", "build_report", "keep_outputs", "keep_results", "ready_demo", "run"]
