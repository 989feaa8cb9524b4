"""The tables fit the contract, their money adds up to the cent, and they are the same study that `draw_units` draws."""

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from fairlift.errors import InputError
from fairlift.simulate import draw_unit_days, draw_units, read_scenario, simulate
from fairlift.study import contract, open_study, registrations
from fairlift.study.clock import moment

CUSTOMERS = 21_500  # two chunks
KINDS = {
    "id": pd.api.types.is_string_dtype,
    "text": pd.api.types.is_string_dtype,
    "category": pd.api.types.is_string_dtype,
    "boolean": pd.api.types.is_bool_dtype,
    "integer": pd.api.types.is_numeric_dtype,
    "number": pd.api.types.is_numeric_dtype,
    "money": pd.api.types.is_numeric_dtype,
    "time": lambda column: str(column.dtype) in ("datetime64[us, UTC]", "datetime64[ms, UTC]"),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "study"
    simulate(folder, "demo", seed=4, customers=CUSTOMERS)
    return folder


@pytest.fixture(scope="module")
def tables(study):
    return {path.stem: pd.read_parquet(path) for path in sorted((study / "tables").glob("*.parquet"))}


def cents(column: pd.Series) -> pd.Series:
    whole = (column * 100).round()
    assert np.allclose(column * 100, whole, atol=1e-6), "an amount is not in whole cents"
    return whole.astype("int64")


def test_every_table_and_column_of_the_contract_is_there(tables):
    assert set(tables) == set(contract())
    for name, spec in contract().items():
        declared = {column for column in spec.columns if not column.endswith("*")}
        left_out = declared - set(tables[name].columns)
        assert left_out <= {"stratum", "cluster"}, f"{name} lacks {left_out}"  # the draw knows neither
        assert all(spec.column(column) for column in tables[name].columns), name
        assert len(tables[name]) > 0, name


def test_every_column_has_the_type_and_the_range_of_the_contract(tables):
    for name, spec in contract().items():
        table = tables[name]
        assert not table.duplicated(list(spec.key)).any(), name
        for column in table.columns:
            declared, values = spec.column(column), table[column]
            assert KINDS[declared.type](values), f"{name}.{column} is {values.dtype}"
            assert not (declared.required and values.isna().any()), f"{name}.{column}"
            if declared.values:
                assert set(values.dropna()) <= set(declared.values), f"{name}.{column}"
            for bound, sign in ((declared.low, 1), (declared.high, -1)):
                assert bound is None or (sign * (values.dropna() - bound) >= 0).all(), f"{name}.{column}"


def test_rows_refer_to_rows_that_exist(tables):
    customers = set(tables["customers"]["customer_id"])
    for name, table in tables.items():
        if "customer_id" in table:
            assert set(table["customer_id"]) <= customers, name
        if "store_id" in table and name != "stores":
            assert set(table["store_id"].dropna()) <= set(tables["stores"]["store_id"]), name
    assert set(tables["order_lines"]["order_id"]) == set(tables["orders"]["order_id"])
    in_store = tables["orders"]["channel"] == "store"
    assert tables["orders"]["store_id"].notna().equals(in_store)


def test_every_order_adds_up_to_the_cent(tables):
    orders, lines = tables["orders"].set_index("order_id"), tables["order_lines"]
    lines = lines.assign(list=cents(lines["price"]) * lines["quantity"])
    for column in ("discount", "cost"):
        lines[column] = cents(lines[column])
    total = lines.groupby("order_id")[["list", "discount", "cost"]].sum().loc[orders.index]
    assert (cents(orders["revenue"]) == total["list"] - total["discount"] - cents(orders["reward"])).all()
    assert (cents(orders["discount"]) == total["discount"]).all()
    assert (cents(orders["cost_of_goods"]) == total["cost"]).all()
    assert (lines["discount"] <= lines["list"]).all()


def test_returns_are_whole_lines_and_refund_what_was_paid(tables):
    orders, lines = tables["orders"].set_index("order_id"), tables["order_lines"]
    assert lines["returned_quantity"].isin([0]).mean() > 0.8
    assert ((lines["returned_quantity"] == 0) | (lines["returned_quantity"] == lines["quantity"])).all()
    paid = cents(lines["price"]) * lines["quantity"] - cents(lines["discount"])
    back = paid.where(lines["returned_quantity"] > 0, 0).groupby(lines["order_id"]).sum().loc[orders.index]
    refund = cents(orders["refund"])
    plain = orders["reward"] == 0
    assert (refund[plain] == back[plain]).all()
    assert (refund <= cents(orders["revenue"])).all()
    assert ((orders["cost_recovered"] > 0) <= (orders["refund"] > 0)).all()
    assert (orders["cost_recovered"] <= orders["cost_of_goods"]).all()


def test_nothing_happens_before_joining_or_after_the_study_s_clock(study, tables):
    clock = pd.Timestamp(open_study(study).settings.clock())
    joined = tables["customers"].set_index("customer_id")["joined_at"]
    for name, table in tables.items():
        moments = table.select_dtypes("datetimetz")
        if name != "costs":
            assert all(moments[column].dropna().max() <= clock for column in moments), name
        if "customer_id" in table:
            for column in moments:
                known = table[column].notna()
                assert (table[column][known] >= table["customer_id"].map(joined)[known]).all(), f"{name}.{column}"


def test_every_window_is_complete_and_its_returns_are_in(study, tables):
    settings = open_study(study).settings
    last = tables["assignments"]["assigned_at"].max() + timedelta(days=settings.outcome_window_days)
    assert last + timedelta(days=read_scenario("demo").basket.return_days[1]) < pd.Timestamp(settings.clock())


def test_offers_stop_with_the_consent(tables):
    consents = tables["consents"][~tables["consents"]["given"]]
    shown = tables["exposures"]
    for purpose, still in (("personalisation", shown["personalised"]), ("email", shown["channel"] == "email")):
        left = consents[consents["purpose"] == purpose].groupby("customer_id")["recorded_at"].min()
        after = shown["customer_id"].map(left) <= shown["shown_at"]
        assert left.size > 20
        assert not (after & still).any(), purpose


def test_only_customers_who_agreed_are_assigned(tables):
    agreed = tables["model_scores"].set_index("customer_id")["eligible"]
    assert agreed.loc[tables["assignments"]["customer_id"]].all()
    assert 0.9 < agreed.mean() < 0.97


def test_few_answer_surveys_and_the_silent_are_counted(tables):
    answered = tables["surveys"]["answered_at"].notna()
    assert 0.2 < answered.mean() < 0.45
    assert tables["surveys"].loc[~answered, ["nps", "csat"]].isna().all(axis=None)
    assert set(tables["surveys"]["wave"]) == {"before", "after"}


def aggregated(tables: dict[str, pd.DataFrame], days: int, before: int) -> pd.DataFrame:
    """The units as any reader of the contract would make them, with pandas and nothing of fairlift."""
    assigned = tables["assignments"].set_index("customer_id")["assigned_at"].sort_index()

    def inside(name: str, column: str) -> pd.DataFrame:
        table = tables[name]
        since = table[column] - table["customer_id"].map(assigned)
        return table[(since >= pd.Timedelta(0)) & (since < pd.Timedelta(days=days))]

    def counted(table: pd.DataFrame) -> pd.Series:
        return table.groupby("customer_id").size().reindex(assigned.index, fill_value=0).astype(float)

    def summed(table: pd.DataFrame, values: pd.Series) -> pd.Series:
        return values.groupby(table["customer_id"]).sum().reindex(assigned.index, fill_value=0.0).astype(float)

    orders, visits, shown = (
        inside("orders", "ordered_at"),
        inside("sessions", "started_at"),
        inside("exposures", "shown_at"),
    )
    units = pd.DataFrame(index=assigned.index)
    units["orders"] = counted(orders)
    for column in ("revenue", "discount", "refund"):
        units[column] = summed(orders, orders[column])
    lost = orders["cost_of_goods"] + orders["refund"] + orders["fulfilment_cost"]
    units["contribution"] = summed(
        orders, orders["revenue"] - lost + orders["cost_recovered"] + orders["supplier_funding"]
    )
    units["items"] = summed(orders, orders["order_id"].map(tables["order_lines"].groupby("order_id")["quantity"].sum()))
    units["returned_orders"] = counted(orders[orders["refund"] > 0])
    units["sessions"] = counted(visits)
    units["seconds"], units["pages"] = summed(visits, visits["seconds"]), summed(visits, visits["pages"])
    units["exposures"] = counted(shown)
    units["personalised_exposures"] = counted(shown[shown["personalised"]])
    units["opened"], units["clicked"] = (
        counted(shown[shown["opened_at"].notna()]),
        counted(shown[shown["clicked_at"].notna()]),
    )
    units["complaints"] = counted(inside("complaints", "received_at"))
    units["privacy_requests"] = counted(inside("privacy_requests", "received_at"))
    left = inside("consents", "recorded_at").query("not given")
    units["opted_out"] = (counted(left[left["purpose"] == "personalisation"]) > 0) * 1.0
    units["unsubscribed"] = (counted(left[left["purpose"].isin(["email", "push"])]) > 0) * 1.0
    for flag, count in (("converted", "orders"), ("visited", "sessions"), ("complained", "complaints")):
        units[flag] = (units[count] > 0) * 1.0
    units["requested"] = (units["privacy_requests"] > 0) * 1.0
    since = tables["orders"]["ordered_at"] - tables["orders"]["customer_id"].map(assigned)
    earlier = tables["orders"][(since < pd.Timedelta(0)) & (since >= -pd.Timedelta(days=before))]
    units["pre_orders"], units["pre_revenue"] = counted(earlier), summed(earlier, earlier["revenue"])
    return units


def test_the_tables_add_up_to_the_units_drawn_without_them(tables):
    drawn = draw_units("demo", seed=4, customers=CUSTOMERS)
    units = aggregated(tables, days=56, before=84)
    assert len(units) == len(drawn)
    for column in units:
        assert np.allclose(units[column], drawn[column], rtol=0, atol=1e-6), column
    customers = tables["customers"].set_index("customer_id").loc[units.index].reset_index()
    assigned = tables["assignments"].set_index("customer_id").loc[units.index].reset_index()
    local = assigned["assigned_at"].dt.tz_convert("Europe/Berlin")
    assert (assigned["variant"].to_numpy() == drawn["variant"].to_numpy()).all()
    assert (local.dt.date.to_numpy() == drawn["enrolled"].to_numpy()).all()
    for column in ("sex", "region", "segment", "income_band", "ethnicity", "loyalty_member", "pre_spend_year"):
        assert (customers[column].to_numpy() == drawn[column].to_numpy()).all(), column
    ages = local.dt.year - customers["birth_year"]
    bands = pd.cut(
        ages, [0, 24, 34, 44, 54, 64, 200], labels=["under 25", "25-34", "35-44", "45-54", "55-64", "65 and over"]
    )
    assert (bands.astype(str).to_numpy() == drawn["age_band"].to_numpy()).all()
    for column in ("household_id", "store_id"):
        codes = np.unique(customers[column], return_inverse=True)[1]
        assert (codes == drawn[column.removesuffix("_id")]).all(), column


def test_orders_by_day_since_assignment_are_those_of_the_tables(tables):
    """Over two chunks and beyond the outcome window, as any reader of the contract would count them."""
    assigned = tables["assignments"].set_index("customer_id")["assigned_at"].sort_index()
    orders = tables["orders"].assign(since=lambda rows: rows["ordered_at"] - rows["customer_id"].map(assigned))
    orders = orders[(orders["since"] >= pd.Timedelta(0)) & (orders["since"] < pd.Timedelta(days=70))]
    unit = orders["customer_id"].map(pd.Series(range(len(assigned)), index=assigned.sort_index().index))
    keys = [unit.rename("unit"), (orders["since"] // pd.Timedelta(days=1)).rename("day")]
    found = orders.groupby(keys)["revenue"].agg(["size", "sum"]).reset_index()
    drawn = draw_unit_days("demo", seed=4, customers=CUSTOMERS, days=70)
    assert (drawn[["unit", "day", "orders"]].to_numpy() == found[["unit", "day", "size"]].to_numpy()).all()
    assert np.allclose(drawn["revenue"], found["sum"])


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(study, tmp_path):
    simulate(tmp_path / "again", "demo", seed=4, customers=CUSTOMERS)
    for path in sorted((study / "tables").glob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "again" / "tables" / path.name).read_bytes(), path.name
    assert (study / "truth.json").read_bytes() == (tmp_path / "again" / "truth.json").read_bytes()
    one, two = (draw_units("demo", seed=seed, customers=500) for seed in (4, 5))
    assert not one["revenue"].equals(two["revenue"])


def test_more_customers_leave_the_first_chunk_as_it_is():
    few, many = (draw_units("demo", seed=2, customers=n) for n in (20_000, 25_000))
    pd.testing.assert_frame_equal(
        few.drop(columns=["household", "store"]), many.iloc[: len(few)].drop(columns=["household", "store"])
    )


def test_the_study_opens_and_its_plan_was_registered_before_the_first_assignment(study, tables):
    opened = open_study(study)
    [entry] = registrations(study)
    assert moment(entry.at) < tables["assignments"]["assigned_at"].min()
    assert opened.plan.planned_n["holdout"] < (tables["assignments"]["variant"] == "no_offers").sum()
    assert json.loads((study / "truth.json").read_text())["customers"] == CUSTOMERS


def test_yaml_that_is_there_is_kept_and_its_costs_count(tmp_path):
    folder = tmp_path / "study"
    plain = simulate(folder, "demo", customers=400)["population"]
    text = (folder / "study.yml").read_text().replace("amount: 90000.0", "amount: 190000.0")
    (folder / "study.yml").write_text(text)
    dearer = simulate(folder, "demo", customers=400)["population"]
    assert (folder / "study.yml").read_text() == text
    label = "sales.incremental.profit@all:personalised-vs-holdout"
    assert plain[label] - dearer[label] == pytest.approx(100_000 / 400 * 56 / 365)
    assert len(registrations(folder)) == 1


def test_a_study_yml_that_the_tables_would_not_fit_is_refused(tmp_path):
    folder = tmp_path / "study"
    simulate(folder, "demo", customers=400)
    before = (folder / "tables" / "orders.parquet").read_bytes()
    text = (folder / "study.yml").read_text()
    changed = text.replace("outcome_window_days: 56", "outcome_window_days: 28").replace("Europe/Berlin", "Asia/Tokyo")
    (folder / "study.yml").write_text(changed)
    with pytest.raises(InputError) as refused:
        simulate(folder, "demo", seed=2, customers=400)
    assert {"outcome_window_days", "timezone"} == {p.found.split("`")[1] for p in refused.value.problems}
    assert (folder / "tables" / "orders.parquet").read_bytes() == before


def test_numbers_that_make_no_study_are_refused_together(tmp_path):
    with pytest.raises(InputError) as refused:
        simulate(tmp_path / "study", "demo", seed=-1, customers=0)
    assert [problem.where for problem in refused.value.problems] == ["customers", "seed"]
    assert not (tmp_path / "study").exists()


def test_a_run_that_breaks_off_leaves_the_old_tables_whole(tmp_path, monkeypatch):
    from fairlift.simulate import write

    folder = tmp_path / "study"
    simulate(folder, "demo", customers=400)
    before = {path.name: path.read_bytes() for path in (folder / "tables").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "whole_tables", full)
    with pytest.raises(OSError, match="No space"):
        simulate(folder, "demo", seed=2, customers=400)
    assert {path.name: path.read_bytes() for path in (folder / "tables").iterdir()} == before


def test_git_ignores_what_can_be_simulated_again(study):
    ignored = (study / ".gitignore").read_text().split()
    assert {"tables/", "out/", "truth.json", "registrations.jsonl"} <= set(ignored)


def test_the_demo_s_yaml_is_what_simulate_writes(root, tmp_path):
    from fairlift.simulate.write import answers_yaml, plan_yaml, study_yaml

    s = read_scenario("demo")
    written = {"study": study_yaml(s, s.customers), "plan": plan_yaml(s, s.customers), "answers": answers_yaml(s)}
    for name, text in written.items():
        assert (root / "data" / "demo" / f"{name}.yml").read_text(encoding="utf-8") == text
