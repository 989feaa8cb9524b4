"""A Sphinx extension: a page loads only the scripts it uses, all from the book's own folder."""

from __future__ import annotations


def setup(app) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("config-inited", drop_vendored_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def drop_vendored_scripts(_app, config) -> None:
    """Leave vendored scripts to the extension that needs them.

    Jupyter Book puts every script under `_static/` on every page, MathJax's megabyte included, and Sphinx then adds
    MathJax once more where there is mathematics.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(html_js_files=["fairlift.js", "mathjax/tex-mml-chtml.js"])
    >>> drop_vendored_scripts(None, config)
    >>> config.html_js_files
    ['fairlift.js']
    """
    config.html_js_files = [entry for entry in config.html_js_files if not _name(entry).startswith("mathjax/")]


def _name(entry: str | tuple[str, dict]) -> str:
    return entry if isinstance(entry, str) else entry[0]
