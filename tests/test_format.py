import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlift.format import MINUS, NOT_ASSESSED, UNITS, estimate, interval, number


@pytest.mark.parametrize("unit", UNITS)
@given(value=st.floats(-1e9, 1e9))
def test_every_unit_writes_every_number(unit, value):
    text = number(value, unit, signed=True)
    assert "nan" not in text and "e+" not in text
    assert "-" not in text  # a minus is a minus sign, so that it survives line breaks and screen readers


@pytest.mark.parametrize("value", [None, math.nan])
def test_what_is_missing_is_said_to_be_missing(value):
    assert number(value, "money") == NOT_ASSESSED


def test_a_rounded_zero_has_no_sign():
    assert number(-0.001, "money", signed=True) == "EUR 0.00"
    assert number(-0.00001, "share") == "0.00 %"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234567.891, "money", "EUR 1,234,567.89"),
        (-0.5, "money", f"{MINUS}EUR 0.50"),
        (0.0036, "points", "0.36 points"),
        (9.9, "per_10k", "9.9 per 10,000"),
        (0.904, "p", "0.9040"),
        (1e-9, "p", "< 0.0001"),
        (123456.0, "", "123,456"),
        (0.00012345, "", "0.0001234"),
        (math.inf, "money", "\N{INFINITY}"),
    ],
)
def test_known_forms(value, unit, text):
    assert number(value, unit) == text


def test_open_and_missing_intervals():
    assert interval(None, None, "money") == NOT_ASSESSED
    assert interval(None, 2.0, "money") == "at most EUR 2.00"
    assert interval(1.0, math.inf, "money") == "at least EUR 1.00"
    assert estimate(0.01, 0.0, 0.02, "points") == "+1.00 points (0.00 to +2.00 points)"
