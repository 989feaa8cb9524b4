"""The mart equals a computation that knows nothing of it, appears whole or not at all, and rests on its fingerprint."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairlift.errors import FairliftError, InputError
from fairlift.study import check, open_study, outcomes, prepare

WINDOW, BEFORE = 28, 20
DAY = pd.Timedelta(days=1)


def by_hand(frames):
    """Units and unit-days by pandas alone, row by row where that is clearer."""
    mine = frames["assignments"].query("experiment == 'spring'").merge(frames["customers"], on="customer_id")
    mine = mine.sort_values("customer_id").reset_index(drop=True)
    mine["unit"] = mine.index
    orders = frames["orders"].copy()
    orders["orders"] = 1
    orders["returned_orders"] = orders["refund"].gt(0).astype(int)
    orders["contribution"] = orders.eval("revenue - cost_of_goods - refund + cost_recovered - fulfilment_cost")
    money = ["orders", "revenue", "discount", "refund", "returned_orders", "contribution"]
    lines = frames["order_lines"].merge(orders[["order_id", "customer_id", "ordered_at"]], on="order_id")
    lines = lines.rename(columns={"quantity": "items"})
    shown = frames["exposures"].assign(
        exposures=1, personalised_exposures=frames["exposures"]["personalised"].fillna(False).astype(int), clicked=1
    )
    sessions = frames["sessions"].assign(sessions=1)
    refusals = frames["consents"].query("not given").copy()
    refusals["opted_out"] = refusals["purpose"].eq("personalisation").astype(int)
    refusals["unsubscribed"] = refusals["purpose"].isin(["email", "push"]).astype(int)
    events = [
        (orders, "ordered_at", money),
        (lines, "ordered_at", ["items"]),
        (shown, "shown_at", ["exposures", "personalised_exposures"]),
        (shown.dropna(subset="clicked_at"), "clicked_at", ["clicked"]),
        (sessions, "started_at", ["sessions", "seconds"]),
        (frames["complaints"].assign(complaints=1), "received_at", ["complaints"]),
        (frames["privacy_requests"].assign(privacy_requests=1), "received_at", ["privacy_requests"]),
        (refusals, "recorded_at", ["opted_out", "unsubscribed"]),
    ]
    daily = []
    for table, when, columns in events:
        rows = table.merge(mine[["customer_id", "unit", "assigned_at"]], on="customer_id")
        rows["day"] = (rows[when] - rows["assigned_at"]) // DAY
        daily.append(rows.loc[rows["day"] >= -BEFORE, ["unit", "day", *columns]])
    days = pd.concat(daily).fillna(0).groupby(["unit", "day"]).sum()
    days = days[days.ne(0).any(axis=1)].reset_index()
    return mine, days


@pytest.fixture(scope="module", params=[1, 2, 3])
def prepared(request, shop, write, tmp_path_factory):
    frames = shop(seed=request.param, customers=300)
    edges(frames)
    study = open_study(write(tmp_path_factory.mktemp("prepared"), frames))
    prepare(study)
    return frames, study


def edges(frames):
    """Orders exactly at the edges of the window and of the period before it."""
    first = frames["assignments"].query("experiment == 'spring'").sort_values("assigned_at").head(6)
    steps = ["0D", "-1us", f"{WINDOW}D", f"{WINDOW - 1}D 23h 59min 59.999999s", f"-{BEFORE}D", f"-{BEFORE + 1}D"]
    for row, (step, (_, one)) in enumerate(zip(steps, first.iterrows(), strict=True)):
        frames["orders"].loc[row, "customer_id"] = one["customer_id"]
        at = one["assigned_at"].as_unit("us") + pd.Timedelta(step)
        frames["orders"]["ordered_at"] = frames["orders"]["ordered_at"].dt.as_unit("us")
        frames["orders"].loc[row, "ordered_at"] = at


def test_unit_days(prepared):
    frames, study = prepared
    _, expected = by_hand(frames)
    found = study.table("unit_days")
    assert list(found.columns[:2]) == ["unit", "day"]
    assert set(found.columns) == set(expected.columns)
    pd.testing.assert_frame_equal(
        found[expected.columns].astype(float),
        expected.astype(float).reset_index(drop=True),
        check_dtype=False,
        rtol=1e-12,
    )


def test_units(prepared):
    frames, study = prepared
    mine, days = by_hand(frames)
    found = study.table("units")
    assert found["unit"].tolist() == list(range(len(mine)))
    arms = {"ranker": "personalised", "bestsellers": "control", "none": "holdout"}
    assert found["arm"].tolist() == mine["variant"].map(arms).tolist()
    assert found["stratum"].tolist() == mine["stratum"].tolist()
    additive = [name for name in days if name not in ("unit", "day")]
    within = days[days["day"].between(0, WINDOW - 1)].groupby("unit")[additive].sum().reindex(mine.index, fill_value=0)
    flags = {"opted_out", "unsubscribed"}
    for name in sorted(set(additive) - flags):
        np.testing.assert_allclose(found[name], within[name], rtol=1e-12, atol=1e-9, err_msg=name)
    shares = {"converted": "orders", "visited": "sessions", "complained": "complaints", "requested": "privacy_requests"}
    for name, of in (shares | {flag: flag for flag in flags}).items():
        assert found[name].tolist() == within[of].gt(0).astype(int).tolist(), name
    before = days[days["day"] < 0].groupby("unit")[["orders", "revenue"]].sum().reindex(mine.index, fill_value=0)
    np.testing.assert_allclose(found["pre_orders"], before["orders"])
    np.testing.assert_allclose(found["pre_revenue"], before["revenue"], rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found["pre_spend"], mine["pre_spend"])
    as_of = pd.Timestamp("2026-05-02", tz="Europe/Berlin")
    assert found["complete"].tolist() == (mine["assigned_at"] + WINDOW * DAY < as_of).tolist()
    local = mine["assigned_at"].dt.tz_convert("Europe/Berlin")
    assert found["enrolled"].tolist() == local.dt.date.tolist()
    age = local.dt.year - mine["birth_year"]
    bands = pd.cut(age, [0, 25, 35, 45, 55, 65, 200], right=False)
    names = ["under 25", "25-34", "35-44", "45-54", "55-64", "65 and over"]
    assert found["age_band"].tolist() == bands.cat.rename_categories(names).astype(str).tolist()
    for code, column in (("household", "household_id"), ("store", "store_id")):
        expected = mine[column].map({name: place for place, name in enumerate(sorted(mine[column].unique()))})
        assert found[code].tolist() == expected.tolist()
    assert found["cluster"].isna().all()
    noted = study.mart
    assert noted["arms"] == {
        arm: {"assigned": len(rows), "complete": int(rows["complete"].sum())} for arm, rows in found.groupby("arm")
    }
    assert noted["tables"] == {"units": len(found), "unit_days": len(study.table("unit_days"))}
    assert noted["first_outcome"] == begin_and_end(frames, mine)[0]
    assert noted["last_outcome"] == begin_and_end(frames, mine)[1]


def begin_and_end(frames, mine):
    times = []
    for table, when in (("orders", "ordered_at"), ("sessions", "started_at"), ("exposures", "clicked_at")):
        rows = frames[table].merge(mine[["customer_id", "assigned_at"]], on="customer_id")
        times.append(rows.loc[rows[when] >= rows["assigned_at"], when])
    times = pd.concat(times)
    return tuple(at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in (times.min(), times.max()))


def test_units_are_an_aggregation_of_unit_days(prepared):
    _, study = prepared
    days, units = study.table("unit_days"), study.table("units")
    assert (days["unit"].diff().dropna() >= 0).all()
    within = days.query("0 <= day < @WINDOW").groupby("unit").sum().reindex(units["unit"], fill_value=0)
    np.testing.assert_allclose(units["revenue"], within["revenue"], rtol=1e-12)


def three(shop):
    frames = shop(customers=60)
    return {name: frames[name] for name in ("customers", "assignments", "orders")}


@pytest.mark.parametrize(
    ("at", "local"),
    [
        ("2026-03-28T22:59:59Z", date(2026, 3, 28)),
        ("2026-03-28T23:00:00Z", date(2026, 3, 29)),  # the night the clocks go forward
        ("2026-03-29T21:59:59Z", date(2026, 3, 29)),
        ("2026-03-29T22:00:00Z", date(2026, 3, 30)),
    ],
)
def test_days_of_enrolment_are_local(shop, study_of, at, local):
    frames = three(shop)
    frames["assignments"]["assigned_at"] = pd.Timestamp(at)
    study = study_of(frames)
    prepare(study)
    assert set(study.table("units")["enrolled"]) == {local}


def test_the_window_counts_elapsed_days_across_a_change_of_clocks(shop, study_of):
    frames = three(shop)
    frames["assignments"]["assigned_at"] = pd.Timestamp("2026-03-28T12:00:00", tz="Europe/Berlin")
    noon = pd.Timestamp("2026-03-29T12:00:00", tz="Europe/Berlin")  # 23 hours later
    frames["orders"] = (
        frames["orders"]
        .head(2)
        .assign(
            customer_id=frames["assignments"]["customer_id"].iloc[0], ordered_at=[noon, noon + pd.Timedelta(hours=1)]
        )
    )
    study = study_of(frames)
    prepare(study)
    assert study.table("unit_days")[["day", "orders"]].values.tolist() == [[0, 1], [1, 1]]


def test_contribution_needs_its_costs_or_a_margin(shop, study_of):
    frames = three(shop)
    frames["orders"] = frames["orders"].drop(columns="fulfilment_cost")
    study = study_of(frames)
    prepare(study)
    assert "contribution" not in study.table("units")
    study = study_of(frames, folder="margin", margin=0.25)
    prepare(study)
    units = study.table("units")
    np.testing.assert_allclose(units["contribution"], 0.25 * (units["revenue"] - units["refund"]), atol=1e-9)


def test_pre_columns_of_customers_come_first(shop, study_of):
    frames = three(shop)
    frames["customers"]["pre_revenue"] = 7.0
    study = study_of(frames)
    prepare(study)
    assert study.table("units")["pre_revenue"].eq(7).all()
    assert study.table("units")["pre_orders"].sum() > 0
    frames["orders"]["ordered_at"] = pd.Timestamp("2026-04-20", tz="UTC")
    study = study_of(frames, folder="none_before")
    prepare(study)
    assert "pre_orders" not in study.table("units")


def test_several_variants_are_arms_of_their_own(shop, study_of):
    frames = three(shop)
    arms = {"personalised": ["ranker", "bestsellers"], "holdout": ["none"]}
    study = study_of(frames, arms=arms)
    prepare(study)
    assert set(study.table("units")["arm"]) == {"personalised/ranker", "personalised/bestsellers", "holdout"}


def test_outcomes_say_what_the_mart_needs(prepared):
    _, study = prepared
    frame = outcomes()
    able = {row.outcome for row in frame.itertuples() if study.has(*row.needs)}
    units = set(study.table("units"))
    assert able == units & set(frame["outcome"])
    assert able == set(frame["outcome"]) - {"opened", "pages"}


def test_no_id_leaves_prepare(shop, study_of):
    frames = shop(customers=60)
    study = study_of(frames, "csv")
    prepare(study)
    ids = (
        set(frames["customers"]["customer_id"])
        | set(frames["orders"]["order_id"])
        | set(frames["customers"]["household_id"])
    )
    for path in study.out.rglob("*"):
        if path.suffix == ".parquet":
            table = pd.read_parquet(path).astype(str)
            assert not ids & set(table.to_numpy().ravel()), path.name
        elif path.is_file():
            assert not any(one in path.read_text() for one in ids if one[0] == "C"), path.name
    assert sorted(path.name for path in study.out.iterdir()) == [".lock", "mart"]


def written(study):
    return (study.out / "mart" / "mart.json").stat().st_mtime_ns


def change_margin(study, frames):
    edit(study, margin=0.5)


def change_as_of(study, frames):
    edit(study, as_of=date(2026, 5, 2))


def change_table(study, frames):
    frames["orders"].assign(revenue=1.0).to_parquet(study.folder / "tables" / "orders.parquet")


def add_table(study, frames):
    frames["sessions"] = pd.DataFrame({"session_id": ["a"], "customer_id": frames["customers"]["customer_id"].iloc[0]})
    frames["sessions"].assign(started_at=pd.Timestamp("2026-03-01", tz="UTC")).to_parquet(
        study.folder / "tables" / "sessions.parquet"
    )


def cut_mart(study, frames):
    path = study.out / "mart" / "units.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def lose_a_table(study, frames):
    (study.out / "mart" / "unit_days.parquet").unlink()


def edit(study, **changes):
    import yaml

    path = study.folder / "study.yml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


@pytest.mark.parametrize("change", [change_margin, change_as_of, change_table, add_table, cut_mart, lose_a_table])
def test_prepare_again_where_something_changed(shop, study_of, change):
    frames = three(shop)
    study = study_of(frames)
    prepare(study)
    at = written(study)
    change(study, frames)
    prepare(open_study(study.folder))
    assert written(study) != at


def test_nothing_is_computed_twice(shop, study_of, monkeypatch):
    frames = three(shop)
    study = study_of(frames)
    prepare(study)
    at, key = written(study), study.mart["fingerprint"]
    for path in (study.folder / "tables").iterdir():  # a copy has other times; its content is the same
        os.utime(path, (1, 1))
    edit(study, hurdle=3.0, small_cell=20)  # settings that do not enter the mart
    monkeypatch.setattr(sys.modules["fairlift.study.prepare"], "check", None)
    again = open_study(study.folder)
    prepare(again)
    assert written(again) == at
    assert again.mart["fingerprint"] == key


def test_a_file_named_in_a_query_counts(shop, study_of):
    frames = three(shop)
    orders = frames.pop("orders")
    study = study_of(frames, tables={"orders": "SELECT * FROM 'exports/sales_*.parquet'"})
    (study.folder / "exports").mkdir()
    orders.head(100).to_parquet(study.folder / "exports" / "sales_1.parquet")
    prepare(study)
    first = open_study(study.folder).mart
    orders.tail(50).to_parquet(study.folder / "exports" / "sales_2.parquet")
    prepare(study)
    second = open_study(study.folder).mart
    assert first["fingerprint"] != second["fingerprint"]
    assert second["source_rows"]["orders"] == first["source_rows"]["orders"] + 50


def test_refused_tables_leave_the_old_mart(shop, study_of):
    frames = three(shop)
    study = study_of(frames)
    prepare(study)
    at = written(study)
    frames["orders"].assign(revenue=-1.0).to_parquet(study.folder / "tables" / "orders.parquet")
    with pytest.raises(InputError):
        prepare(study)
    assert written(study) == at


KILLED = """
import importlib, os, signal, sys
from fairlift.study import open_study, prepare
module, name = sys.argv[2].split(":")
module = importlib.import_module(module) if module != "prepare" else sys.modules["fairlift.study.prepare"]
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, name, die)
prepare(open_study(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    ("place", "before"),
    [("fairlift.study.mart:_units_sql", True), ("fairlift.study.mart:_file_aside", False), ("prepare:_swap", True)],
)
def test_killed(shop, study_of, place, before):
    frames = three(shop)
    study = study_of(frames)
    if before:
        prepare(study)
        change_margin(study, frames)
        old = {path.name: path.read_bytes() for path in (study.out / "mart").iterdir()}
    done = subprocess.run([sys.executable, "-c", KILLED, str(study.folder), place], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(study.out.glob(".mart-*"))
    if before:
        assert {path.name: path.read_bytes() for path in (study.out / "mart").iterdir()} == old
    else:
        assert not (study.out / "mart").exists()
    again = open_study(study.folder)
    prepare(again)
    assert again.table("units").shape[0] == 60 - 40
    assert not list(study.out.glob(".mart-*"))


FULL = """
import resource, signal, sys
from fairlift.errors import FairliftError
from fairlift.study import open_study, prepare
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    prepare(open_study(sys.argv[1]))
except FairliftError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of file size")
@pytest.mark.parametrize("limit", [500, 3000])
def test_no_space_on_the_disk(shop, study_of, limit):
    study = study_of(three(shop))
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(study.folder), str(limit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "There is no space left on the disk; nothing was changed" in done.stdout
    assert "To mend: free" in done.stdout
    assert not (study.out / "mart").exists()
    assert not list(study.out.glob(".mart-*"))
    assert not list(study.out.glob(".spill-*"))


def test_no_space_when_the_notes_are_written(shop, study_of, monkeypatch):
    import errno

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    study = study_of(three(shop))
    monkeypatch.setattr(sys.modules["fairlift.study.prepare"], "_swap", full)
    with pytest.raises(FairliftError, match="no space left"):
        prepare(study)
    assert [path.name for path in study.out.iterdir()] == [".lock"]


@pytest.mark.skipif(sys.platform == "win32", reason="locks are another matter there")
def test_two_runs_at_once(shop, study_of):
    import fcntl

    study = study_of(three(shop))
    study.out.mkdir()
    with (study.out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FairliftError, match="Another run is preparing"):
            prepare(study)


def test_without_as_of_the_mart_is_of_today(shop, study_of):
    frames = three(shop)
    study = study_of(frames, as_of=None)
    prepare(study)
    at = written(study)
    time.sleep(1.1)
    prepare(study)
    assert written(study) == at


def test_notes(shop, study_of):
    frames = three(shop)
    study = study_of(frames)
    (study.folder / "truth.json").write_text("{}")
    path = prepare(study)
    noted = json.loads((path / "mart.json").read_text())
    assert set(noted) == {
        "fingerprint", "as_of", "experiment", "window_days", "tables", "columns", "source_rows", "set_aside", "warnings",
        "first_outcome", "last_outcome", "arms", "synthetic", "costs",
        "customers",
    }  # fmt: skip
    assert noted["synthetic"] is True
    assert noted["as_of"] == "2026-05-01T21:59:59Z"
    assert noted["customers"] == 60
    assert isinstance(path, Path)
    assert check(study).columns == noted["columns"]


FACTORS = {
    "email": {"experiment": "email-draw", "on": ["weekly", "daily"]},
    "push": {"experiment": "push-draw", "on": ["on"]},
}


def with_channels(frames, seed=4):
    """The same customers drawn twice more: e-mail for all of them, push for all but ten."""
    rng = np.random.default_rng(seed)
    mine = frames["assignments"].query("experiment == 'spring'")
    email = mine.assign(experiment="email-draw", variant=rng.choice(["weekly", "daily", "off"], len(mine)))
    push = mine.iloc[10:].assign(experiment="push-draw", variant=rng.choice(["on", "off"], len(mine) - 10))
    return frames | {"assignments": pd.concat([frames["assignments"], email, push], ignore_index=True)}


def test_channels_drawn_beside_the_experiment_become_columns(shop, study_of):
    frames = with_channels(three(shop))
    study = study_of(frames, factors=FACTORS)
    prepare(study)
    units = study.table("units")
    drawn = frames["assignments"].pivot(index="customer_id", columns="experiment", values="variant")
    drawn = drawn[drawn["spring"].notna()].sort_index()
    assert units["factor_email"].tolist() == drawn["email-draw"].isin(["weekly", "daily"]).astype(int).tolist()
    push = drawn["push-draw"].map({"on": 1.0, "off": 0.0})
    np.testing.assert_array_equal(units["factor_push"].astype(float), push)
    assert units["factor_push"].isna().sum() == 10
    assert any("10 of 20 customers were not drawn for the channel `push`" in text for text in study.mart["warnings"])
    held = units.query("arm == 'holdout'")["factor_email"].sum()
    assert any(f"{held} customers of the holdout were drawn to have" in text for text in study.mart["warnings"])


def test_without_channels_the_units_are_the_same_to_the_byte(shop, study_of):
    frames = with_channels(three(shop))
    plain, drawn = study_of(frames), study_of(frames, folder="drawn", factors=FACTORS)
    prepare(plain)
    prepare(drawn)
    assert not [name for name in plain.table("units") if name.startswith("factor_")]
    kept = drawn.table("units").drop(columns=["factor_email", "factor_push"])
    pd.testing.assert_frame_equal(plain.table("units"), kept)
    none = study_of(frames, folder="none", factors={})
    prepare(none)
    bytes_of = [(study.out / "mart" / "units.parquet").read_bytes() for study in (plain, none)]
    assert bytes_of[0] == bytes_of[1]
    assert plain.mart["fingerprint"] != drawn.mart["fingerprint"]


def test_channels_that_cannot_be_read_are_refused(shop, study_of):
    frames = with_channels(three(shop))
    wrong = {
        "email": {"experiment": "email-drawn", "on": ["weekly"]},
        "push": {"experiment": "push-draw", "on": ["yes"]},
    }
    wrong["both"] = {"experiment": "push-draw", "on": ["on", "off"]}
    with pytest.raises(InputError) as error:
        prepare(study_of(frames, factors=wrong))
    said = [str(problem) for problem in error.value.problems]
    assert len(said) == 3
    assert any("no variant `weekly` in the experiment `email-drawn`" in text for text in said)
    assert any("no variant `yes`" in text for text in said)
    assert any("`both` is on for every customer" in text for text in said)
    with pytest.raises(InputError, match="cannot name a channel"):
        study_of(frames, folder="named", factors={"E mail": FACTORS["email"]})


def test_a_channel_drawn_after_the_window_began_is_said(shop, study_of):
    frames = with_channels(three(shop))
    rows = frames["assignments"]
    rows.loc[rows["experiment"] == "email-draw", "assigned_at"] += pd.Timedelta(days=1)
    study = study_of(frames, factors={"email": FACTORS["email"]})
    prepare(study)
    assert any("20 customers were drawn for the channel `email` after" in text for text in study.mart["warnings"])
