"""Read a YAML file into a checked model; whatever is wrong comes back as problems that name the line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fairlift.errors import InputError, Problem, nearest


class Model(BaseModel):
    """A part of a YAML file: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


LOADER = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the same safe reading, ten times as fast where libyaml is there

M = TypeVar("M", bound=BaseModel)

# What pydantic says of the kind of a value, in the words of who writes YAML: what was found, how to mend it.
SAID = {
    "string_too_short": ("it is empty", "write a word there"),
    "string_type": ("it is no text", "write a word there; a number that is meant as a word stands in quotes"),
    "list_type": ("it is no list", "write it in brackets, such as [one, two]"),
    "dict_type": ("it is no list of names and values", "write it in braces, such as {name: value}"),
    "bool_parsing": ("it is neither true nor false", "write true or false"),
    "float_type": ("it is no number", "write a number such as 2.5"),
    "float_parsing": ("it is no number", "write a number such as 2.5"),
    "finite_number": ("it is no finite number", "write a number such as 2.5"),
    "int_type": ("it is no whole number", "write a number such as 1000"),
    "int_parsing": ("it is no whole number", "write a number such as 1000"),
    "int_from_float": ("it is no whole number", "write a number such as 1000"),
    "date_type": ("it is no date", "write it as 2026-03-29"),
    "date_parsing": ("it is no date", "write it as 2026-03-29"),
    "date_from_datetime_parsing": ("it is no date", "write it as 2026-03-29"),
    "date_from_datetime_inexact": ("it is a time and should be a day", "write it as 2026-03-29"),
}


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file; refuses a file that is absent, binary, not YAML or not a mapping."""
    where = path.name
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.load(text, LOADER)
        twice = _twice(text)
    except FileNotFoundError:
        raise InputError(
            Problem(where, f"there is no {where} in {path.parent.name or '.'}/", "make one with `fairlift new`")
        ) from None
    except IsADirectoryError:
        raise InputError(Problem(where, "it is a folder", f"put a file named {where} there")) from None
    except UnicodeDecodeError:
        raise InputError(Problem(where, "not a text file in UTF-8", "save it as UTF-8 text")) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or "the text cannot be read"
        mend = "check indentation, colons and quotes there"
        if mark and text.splitlines()[mark.line : mark.line + 1] and "\t" in text.splitlines()[mark.line]:
            reason, mend = "it is indented by a tab", "indent with spaces"
        raise InputError(Problem(where, f"not YAML: {line}{reason}", mend)) from None
    except ValueError as error:  # a date such as 2024-13-45
        raise InputError(Problem(where, f"a date that is none: {error}", "write dates as 2026-03-29")) from None
    if not isinstance(found, dict):
        raise InputError(
            Problem(where, "it holds no settings", "write `key: value` lines, or start from `fairlift new`")
        )
    if twice:
        raise InputError(
            [
                Problem(where, f"`{key}` stands twice, in line {first} and line {line}", "keep one of them")
                for key, first, line in twice
            ]
        )
    return found


def _twice(text: str) -> list[tuple[str, int, int]]:
    """The keys that stand twice in one mapping, with both lines; YAML itself would silently take the last."""
    found, seen = [], set()
    nodes = [yaml.compose(text, Loader=LOADER)]
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in lines:
                    found.append((name, lines[name], line))
                lines.setdefault(name, line)
                nodes.append(value)
    return found


def read_model(path: Path, model: type[M]) -> M:
    """The file as a `model`; every violation at once, each with its line."""
    found = read_yaml(path)
    return validate(found, model, path.name, path.read_text(encoding="utf-8"))


def validate(found: dict, model: type[M], where: str, text: str) -> M:
    """What was found as a `model`; violations name the lines of `text`, the file it came from."""
    try:
        return model.model_validate(found)
    except ValidationError as error:
        lines = key_lines(text)
        raise InputError([_problem(where, row, model, lines) for row in error.errors()]) from None


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The 1-based line of every key in a YAML text, by its path.

    >>> key_lines("a: 1\\nb:\\n  c: 2")[("b", "c")]
    3
    """
    lines: dict[tuple[str, ...], int] = {}

    def walk(node: yaml.Node, path: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(key.value))
                lines[here] = key.start_mark.line + 1
                walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for place, value in enumerate(node.value):
                lines[(*path, str(place))] = value.start_mark.line + 1
                walk(value, (*path, str(place)))

    walk(yaml.compose(text, Loader=yaml.SafeLoader), ())
    return lines


def _problem(where: str, row: dict, model: type[BaseModel], lines: dict[tuple[str, ...], int]) -> Problem:
    path = tuple(str(part) for part in row["loc"])
    line = next((lines[path[:size]] for size in range(len(path), 0, -1) if path[:size] in lines), None)
    place = f"`{'.'.join(path)}`" + (f", line {line}" if line else "")
    if row["type"] == "extra_forbidden":
        return Problem(where, f"unknown key {place}", nearest(path[-1], _known(model, path[:-1])))
    if row["type"] == "missing":
        return Problem(where, f"{place} is missing", f"add `{path[-1]}:`")
    if row["type"] == "model_type":
        fields = ", ".join(f"`{name}:`" for name in _known(model, path))
        return Problem(where, f"{place + ' ' if path else ''}holds no settings of its own", f"write there {fields}")
    if row["type"] in SAID:
        found, mend = SAID[row["type"]]
        return Problem(where, f"{place}: {found}", mend)
    message = row["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if message.startswith("input should "):
        message = f"{_given(row['input'])}it{message.removeprefix('input')}"
    if not path:  # a rule about several keys: the first it names is where to look
        named = re.match(r"[^`]*`(\w+)", message)
        line = lines.get((named[1],)) if named else None
        return Problem(where, f"line {line}: {message}" if line else message, "correct the value there")
    return Problem(where, f"{place}: {message}", "correct the value there")


def _given(value: object) -> str:
    """A number as it was given; a text is not repeated, because it may be a secret."""
    return f"it is {value:g}, and " if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _known(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    from typing import get_args

    for part in path:
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            continue
        inner = [field.annotation, *get_args(field.annotation)]
        inner += [arg for hint in inner for arg in get_args(hint)]
        model = next((h for h in inner if isinstance(h, type) and issubclass(h, BaseModel)), model)
    return list(model.model_fields)
