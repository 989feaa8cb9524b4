"""A small shop made at random, as frames: what a reader might bring, with every table that feeds an outcome."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

SETTINGS = {
    "retailer": "Corner shop",
    "markets": ["DE"],
    "experiment": "spring",
    "arms": {"personalised": ["ranker"], "control": ["bestsellers"], "holdout": ["none"]},
    "period": {"start": date(2026, 3, 1), "end": date(2026, 4, 10)},
    "outcome_window_days": 28,
    "pre_period_days": 20,
    "timezone": "Europe/Berlin",
    "as_of": date(2026, 5, 1),
}
START = pd.Timestamp("2026-03-01", tz="UTC")


def times(rng, size, first=-40, last=60):
    return START + pd.to_timedelta(rng.integers(first * 86_400_000, last * 86_400_000, size), unit="ms")


def make_shop(seed=1, customers=400):
    """Frames by table name; ids are text, times UTC."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"C{number:06d}" for number in rng.permutation(customers)])
    people = pd.DataFrame(
        {
            "customer_id": ids,
            "joined_at": START - pd.Timedelta(days=400),
            "household_id": rng.choice([f"H{n}" for n in range(customers // 2)], customers),
            "birth_year": rng.choice([1950, 1961, 1975, 1990, 2001, 2005], customers),
            "sex": rng.choice(["female", "male", None], customers),
            "store_id": rng.choice(["S1", "S2", "S10"], customers),
            "loyalty_member": rng.random(customers) < 0.5,
            "pre_spend": np.where(rng.random(customers) < 0.1, np.nan, rng.gamma(2, 20, customers)),
        }
    )
    assigned = ids[: customers - 40]
    assignments = pd.DataFrame(
        {
            "experiment": "spring",
            "customer_id": assigned,
            "variant": rng.choice(["ranker", "bestsellers", "none"], len(assigned), p=[0.5, 0.3, 0.2]),
            "assigned_at": times(rng, len(assigned), 0, 40),
            "stratum": rng.choice(["a", "b"], len(assigned)),
        }
    )
    other = assignments.head(50).assign(experiment="autumn", variant="x")
    n = customers * 6
    orders = pd.DataFrame(
        {
            "order_id": [f"O{number}" for number in range(n)],
            "customer_id": rng.choice(ids, n),
            "ordered_at": times(rng, n),
            "revenue": rng.gamma(2, 20, n).round(2),
            "discount": rng.gamma(1, 2, n).round(2),
            "cost_of_goods": rng.gamma(2, 10, n).round(2),
            "refund": np.where(rng.random(n) < 0.2, rng.gamma(1, 10, n).round(2), 0),
            "cost_recovered": rng.gamma(1, 1, n).round(2),
            "fulfilment_cost": rng.gamma(2, 2, n).round(2),
        }
    )
    lines = pd.DataFrame({"order_id": np.repeat(orders["order_id"].to_numpy(), 2), "line": np.tile([1, 2], n)})
    lines = lines.assign(category="food", quantity=rng.integers(0, 4, 2 * n), price=1.0)
    m = customers * 4
    shown = times(rng, m)
    exposures = pd.DataFrame(
        {
            "exposure_id": [f"E{number}" for number in range(m)],
            "customer_id": rng.choice(ids, m),
            "offer": "o",
            "channel": rng.choice(["email", "app"], m),
            "shown_at": shown,
            "personalised": rng.choice([True, False, None], m),
            "clicked_at": (shown + pd.to_timedelta(rng.integers(1, 3_000, m), unit="min")).where(rng.random(m) < 0.4),
        }
    )
    exposures["clicked_at"] = exposures["clicked_at"].where(exposures["clicked_at"] < "2026-05-01T00:00Z")
    exposures["personalised"] = exposures["personalised"].astype("boolean")
    sessions = pd.DataFrame({"session_id": range(m), "customer_id": rng.choice(ids, m), "started_at": times(rng, m)})
    sessions["seconds"] = rng.gamma(2, 60, m)
    small = customers // 2
    complaints = pd.DataFrame(
        {"complaint_id": range(small), "customer_id": rng.choice(ids, small), "received_at": times(rng, small)}
    )
    complaints["topic"] = "offer"
    requests = pd.DataFrame(
        {"request_id": range(small), "customer_id": rng.choice(ids, small), "received_at": times(rng, small)}
    )
    requests["type"] = "access"
    consents = pd.DataFrame({"consent_id": range(m), "customer_id": rng.choice(ids, m), "recorded_at": times(rng, m)})
    consents["purpose"] = rng.choice(["personalisation", "email", "push", "sharing"], m)
    consents["given"] = rng.random(m) < 0.7
    return {
        "customers": people,
        "assignments": pd.concat([assignments, other], ignore_index=True),
        "orders": orders,
        "order_lines": lines,
        "exposures": exposures,
        "sessions": sessions,
        "complaints": complaints,
        "privacy_requests": requests,
        "consents": consents,
    }


def write_study(folder: Path, frames, form="parquet", **settings) -> Path:
    """A study folder with these tables and settings."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    given = {key: value for key, value in (SETTINGS | settings).items() if value is not None}
    (folder / "study.yml").write_text(yaml.safe_dump(given), encoding="utf-8")
    for name, frame in frames.items():
        if form == "parquet":
            frame.to_parquet(folder / "tables" / f"{name}.parquet")
        else:
            frame.to_csv(folder / "tables" / f"{name}.csv", index=False, date_format="%Y-%m-%dT%H:%M:%S.%f%z")
    return folder


@pytest.fixture(scope="session")
def shop():
    """`shop(seed, customers)` makes the tables of a small shop."""
    return make_shop


@pytest.fixture(scope="session")
def write():
    """`write(folder, frames, form, **settings)` writes a study folder."""
    return write_study


@pytest.fixture
def study_of(tmp_path):
    """`study_of(frames, form, **settings)` writes and opens a study; a setting of None is left out."""
    from fairlift.study import open_study

    def make(frames, form="parquet", folder="shop", **settings):
        return open_study(write_study(tmp_path / folder, frames, form, **settings))

    return make
