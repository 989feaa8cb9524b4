"""The one number formatter: every number a reader sees passes through here, so that an edition in another language changes one file."""

from __future__ import annotations

import math

NOT_ASSESSED = "not assessed"
MINUS = "\N{MINUS SIGN}"
DECIMAL, GROUP = ".", ","

# unit -> (multiply by, text after, decimals); money units are handled apart because they carry the currency
_UNITS = {
    "": (1, "", None),
    "count": (1, "", 0),
    "share": (100, " %", 2),
    "points": (100, " points", 2),
    "lift": (100, " %", 1),
    "per_10k": (1, " per 10,000", 1),
    "p": (1, "", 4),
    "days": (1, " days", 1),
    "seconds": (1, " s", 1),
    "weeks": (1, " weeks", 0),
    "orders": (1, " orders", 3),
    "items": (1, " items", 3),
    "per_session": (1, " per session", 3),
    "times": (1, " times", 1),
    "z": (1, "", 3),
}
_MONEY = {"money": 2, "money_small": 4, "money_round": 0}
UNITS = (*_UNITS, *_MONEY)


def number(value: float | None, unit: str = "", currency: str = "EUR", signed: bool = False) -> str:
    """Write one number for the reader: unit, rounding, grouping and sign in one place.

    `unit` is one of `UNITS`; a share is given as a fraction (.1234 is 12.34 %).  None and NaN read "not assessed".

    >>> number(0.12345, "share"), number(-1234.5, "money", "EUR"), number(0.7698, "money", "USD", signed=True)
    ('12.35 %', '\N{MINUS SIGN}EUR 1,234.50', '+USD 0.77')
    >>> number(None), number(3, "count"), number(0.00002, "p")
    ('not assessed', '3', '< 0.0001')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOT_ASSESSED
    if math.isinf(value):
        return ("" if value > 0 else MINUS) + "\N{INFINITY}"
    if unit in _MONEY:
        scale, before, after, digits = 1, f"{currency} ", "", _MONEY[unit]
    else:
        scale, after, digits = _UNITS[unit]
        before = ""
    size = abs(value) * scale
    if unit == "p" and size < 10**-digits:
        return f"< {_digits(10**-digits, digits)}"
    if digits is None:
        digits = _significant(size)
    text = _digits(size, digits)
    zero = not text.strip("0.,")
    sign = MINUS if value < 0 and not zero else "+" if signed and not zero else ""
    return f"{sign}{before}{text}{after}"


def interval(low: float | None, high: float | None, unit: str = "", currency: str = "EUR", signed: bool = False) -> str:
    """Write an interval; a unit that is a word stands once, and an end that is missing or infinite is said to be open.

    >>> interval(0.285, 1.254, "money", "USD"), interval(.022, .056, "points", signed=True)
    ('USD 0.28 to USD 1.25', '+2.20 to +5.60 points')
    """
    if low is None and high is None:
        return NOT_ASSESSED
    if low is None or math.isinf(low):
        return f"at most {number(high, unit, currency, signed)}"
    if high is None or math.isinf(high):
        return f"at least {number(low, unit, currency, signed)}"
    word = "" if unit in _MONEY else _UNITS[unit][1]
    first = number(low, unit, currency, signed)
    return f"{first.removesuffix(word) if word.strip().isalpha() else first} to {number(high, unit, currency, signed)}"


def estimate(value, low, high, unit: str = "", currency: str = "EUR", signed: bool = True) -> str:
    """Write an estimate with its interval in brackets.

    >>> estimate(1.179, 0.644, 1.977, "lift")
    '+117.9 % (+64.4 % to +197.7 %)'
    """
    return f"{number(value, unit, currency, signed)} ({interval(low, high, unit, currency, signed)})"


def _digits(size: float, digits: int) -> str:
    return f"{size:,.{digits}f}".translate(str.maketrans({",": GROUP, ".": DECIMAL}))


def _significant(size: float, figures: int = 4) -> int:
    if size == 0 or float(size).is_integer():
        return 0
    return max(0, figures - 1 - math.floor(math.log10(size)))


def p_value(p: float) -> str:
    """A p-value in a sentence.

    >>> p_value(0.03), p_value(1e-9)
    ('p = 0.0300', 'p < 0.0001')
    """
    text = number(p, "p")
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def percent(level: float) -> str:
    """A level of confidence, without needless digits.

    >>> percent(0.95), percent(0.999)
    ('95 %', '99.9 %')
    """
    return f"{100 * level:.4g} %"
