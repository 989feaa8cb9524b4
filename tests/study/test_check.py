"""Every kind of bad input: the message says what, where and how to mend, and nothing is written."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from fairlift.errors import InputError
from fairlift.study import check, latest_outcome, open_study, prepare


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def refused(study) -> str:
    """The problems of a study that prepare refuses, having written nothing."""
    before = files(study.folder)
    with pytest.raises(InputError) as caught:
        prepare(study)
    assert files(study.folder) == before
    return "\n".join(str(one) for one in caught.value.problems if one.severity == "error")


def warned(study) -> str:
    found = check(study)
    found.source.close()
    assert not found.errors, found.errors
    return "\n".join(map(str, found.warnings))


def minimal(shop, **kwargs):
    frames = shop(**kwargs)
    return {name: frames[name] for name in ("customers", "assignments", "orders")}


def with_cell(frame, row, column, value):
    """The frame as text, with one cell of a data row (1-based) changed."""
    frame = frame.copy()
    for name in frame:
        if isinstance(frame[name].dtype, pd.DatetimeTZDtype):
            frame[name] = frame[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    frame = frame.astype(object)
    frame.iloc[row - 1, frame.columns.get_loc(column)] = value
    return frame


def test_a_good_shop_has_no_error(shop, study_of):
    found = check(study_of(shop()))
    assert not found.errors
    assert found.rows["orders"] == 2400
    assert found.set_aside == ()
    assert found.tables["orders"].schema()["ordered_at"].is_timestamp()
    assert found.tables["customers"].schema()["customer_id"].is_string()
    assert "orders.revenue" in found.columns
    found.source.close()


def test_csv_and_parquet_read_the_same(shop, study_of):
    seen = []
    for form in ("csv", "parquet"):
        study = study_of(shop(), form, folder=form)
        prepare(study)
        seen.append(study.table("units"))
    pd.testing.assert_frame_equal(*seen)


@pytest.mark.parametrize("name", ["customers", "assignments", "orders"])
def test_missing_table(shop, study_of, name):
    frames = minimal(shop)
    del frames[name]
    text = refused(study_of(frames))
    assert f"{name}: the table is missing and required" in text
    assert f"put tables/{name}.csv" in text


def test_missing_column_names_the_nearest(shop, study_of):
    frames = minimal(shop)
    frames["orders"] = frames["orders"].rename(columns={"customer_id": "custmer_id", "revenue": "umsatz"})
    text = refused(study_of(frames, "csv"))
    assert "orders.customer_id (tables/orders.csv): the column is missing and required" in text
    assert "did you mean `custmer_id`?" in text
    assert "orders.revenue (tables/orders.csv): the column is missing" in text
    assert "Price paid after all discounts".lower() in text


BAD_CELLS = [
    ("orders", "revenue", "12,50", "decimal comma (such as `99,99`"),
    ("orders", "revenue", "12.50 EUR", "not a number (such as `99.99 aaa`)"),
    ("orders", "revenue", "-3", "the number is negative (such as `-9`)"),
    ("orders", "revenue", "", "the cell is empty or not a number (NaN)"),
    ("orders", "refund", "inf", "the number is infinite"),
    ("orders", "cost_of_goods", "-inf", "the number is infinite"),
    ("orders", "discount", "1.234,50", "decimal comma (such as `9.999,99`)"),
    ("orders", "customer_id", None, "the cell is empty"),
    ("orders", "ordered_at", "2026-03-09 10:00:00", "the time has no zone (such as `9999-99-99 99:99:99`"),
    ("orders", "ordered_at", "09/03/2026", "not a time (such as `99/99/9999`)"),
    ("orders", "ordered_at", "2031-03-09T10:00:00Z", "the time is after the study's `as_of` (2026-05-01 21:59 UTC)"),
    ("customers", "birth_year", "1870", "less than 1900"),
    ("customers", "birth_year", "2210", "more than 2100"),
    ("customers", "birth_year", "1980.5", "not a whole number"),
    ("customers", "loyalty_member", "maybe", "neither true nor false (such as `aaaaa`)"),
    ("customers", "customer_id", "1777.0", "the id was turned into a decimal number"),
    ("complaints", "topic", "parking", "not one of the known values (such as `aaaaaaa`)"),
    ("assignments", "variant", "", "the cell is empty"),
]


def test_bad_cells_all_at_once(shop, study_of):
    frames = shop()
    for row, (table, column, value, _) in enumerate(BAD_CELLS, 11):
        frames[table] = with_cell(frames[table], row, column, value)
    text = refused(study_of(frames, "csv"))
    lines = text.splitlines()
    for row, (table, column, value, said) in enumerate(BAD_CELLS, 11):
        place = f"{table}.{column} (tables/{table}.csv), row {row}: {said}"
        if said == "the number is infinite" and value == "-inf":  # also below zero
            assert any(
                line.startswith(f"{table}.{column} (tables/{table}.csv), row {row}: the number is negative")
                for line in lines
            )
        assert any(line.startswith(place) and "To mend: " in line for line in lines), place
    shown = text.replace("write 12.50", "")
    assert not any(
        value and any(map(str.isdigit, value)) and value in shown for *_, value, _ in BAD_CELLS if value != "-3"
    )


def test_nan_is_no_number(shop, study_of):
    for form in ("csv", "parquet"):
        frames = minimal(shop)
        frames["orders"].loc[6, "revenue"] = np.nan
        text = refused(study_of(frames, form, folder=form))
        assert f"orders.revenue (tables/orders.{form}), row 7: the cell is empty or not a number (NaN)" in text


def test_a_day_alone_has_no_zone(shop, study_of):
    frames = minimal(shop)
    frames["orders"]["ordered_at"] = frames["orders"]["ordered_at"].dt.strftime("%Y-%m-%d")
    text = refused(study_of(frames, "csv"))
    assert "and 2390 more: the time has no zone (such as `9999-99-99`)" in text


def test_how_to_mend_a_decimal_comma(shop, study_of):
    frames = minimal(shop)
    frames["orders"]["revenue"] = frames["orders"]["revenue"].map(lambda x: f"{x:.2f}".replace(".", ","))
    text = refused(study_of(frames, "csv"))
    assert "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2390 more: decimal comma" in text
    assert "write 12.50, or cast with replace(revenue, ',', '.') in the query" in text


def test_future_costs_are_no_error(shop, study_of):
    frames = minimal(shop)
    frames["costs"] = pd.DataFrame(
        {
            "cost_id": ["a"],
            "line": ["x"],
            "kind": ["compute"],
            "amount": [3.0],
            "from_at": ["2026-01-01T00:00:00Z"],
            "until_at": ["2026-12-31T00:00:00Z"],
        }
    )
    assert "costs" not in warned(study_of(frames, "csv"))


def test_times_without_zone_are_read_as_stated(shop, study_of):
    frames = minimal(shop)
    frames["orders"]["ordered_at"] = "2026-03-29T03:30:00"  # after the clocks of Berlin went forward
    frames["assignments"]["assigned_at"] = pd.Timestamp("2026-03-29T01:30:00Z")
    study = study_of(frames, "csv", times_without_zone="Europe/Berlin")
    prepare(study)
    assert study.mart["first_outcome"] == "2026-03-29T01:30:00Z"
    assert study.table("units")["orders"].sum() > 0


def test_parquet_times_without_zone(shop, study_of):
    frames = minimal(shop)
    frames["orders"]["ordered_at"] = frames["orders"]["ordered_at"].dt.tz_localize(None)
    text = refused(study_of(frames))
    assert "orders.ordered_at (tables/orders.parquet), rows 1, 2," in text
    assert "state `times_without_zone: Europe/Berlin`" in text
    assert not check(study_of(frames, folder="stated", times_without_zone="UTC")).errors


def test_parquet_types_of_whole_columns(shop, study_of):
    frames = minimal(shop)
    frames["orders"]["order_id"] = np.arange(2400, dtype=float)
    frames["orders"]["revenue"] = pd.Timestamp("2026-03-09", tz="UTC")
    frames["orders"]["ordered_at"] = 17
    text = refused(study_of(frames))
    assert (
        "orders.order_id (tables/orders.parquet): it holds decimal numbers, so that 1 reads 1.0; an id is text" in text
    )
    assert "orders.revenue (tables/orders.parquet): it holds timestamp" in text
    assert "CAST(revenue AS DOUBLE)" in text
    assert "orders.ordered_at (tables/orders.parquet): it holds int64, not a time" in text


def test_whole_numbers_are_ids(shop, study_of):
    frames = minimal(shop)
    for name in frames:
        frames[name]["customer_id"] = frames[name]["customer_id"].str[1:].astype(int)
    assert "customer" not in refused_or_none(study_of(frames))


def refused_or_none(study) -> str:
    found = check(study)
    found.source.close()
    return "\n".join(map(str, found.errors))


def test_duplicate_ids(shop, study_of):
    frames = minimal(shop)
    frames["orders"] = pd.concat([frames["orders"], frames["orders"].iloc[[4]]])
    frames["customers"] = pd.concat([frames["customers"], frames["customers"].iloc[[0, 1]]])
    text = refused(study_of(frames))
    assert "orders.order_id (tables/orders.parquet), rows 5, 2401: 1 order_id stand more than once" in text
    assert (
        "customers.customer_id (tables/customers.parquet), rows 1, 2, 401, 402: 2 customer_id stand more than once"
        in text
    )


def test_two_arms_at_once_and_assigned_twice(shop, study_of):
    frames = minimal(shop)
    rows = frames["assignments"]
    other = rows.iloc[[2]].assign(variant="none" if rows["variant"].iloc[2] != "none" else "ranker")
    frames["assignments"] = pd.concat([rows, other, rows.iloc[[5]]])
    text = refused(study_of(frames))
    assert "rows 3, 411: 1 customer stands in two variants of `spring` at once" in text
    assert "rows 6, 412: 1 customer stands in `spring` twice, in the same variant" in text


def test_one_arm_only(shop, study_of):
    frames = minimal(shop)
    frames["assignments"] = frames["assignments"].query("experiment == 'spring'").assign(variant="ranker")
    text = refused(study_of(frames))
    assert "there is a single arm" in text
    assert "nobody was assigned to `none`, which study.yml names as holdout" in text


def test_an_arm_without_rows(shop, study_of):
    frames = minimal(shop)
    frames["assignments"] = frames["assignments"].query("variant != 'bestsellers'")
    text = refused(study_of(frames))
    assert "nobody was assigned to `bestsellers`, which study.yml names as control" in text
    assert "single arm" not in text


def test_unknown_variant_has_a_hint(shop, study_of):
    frames = minimal(shop)
    frames["assignments"] = frames["assignments"].replace({"variant": {"bestsellers": "bestseller"}})
    text = refused(study_of(frames))
    assert "the variant `bestseller` (" in text
    assert "did you mean `bestsellers`?" in text


def test_the_experiment_is_not_there(shop, study_of):
    text = refused(study_of(minimal(shop), experiment="sprng"))
    assert (
        "assignments.experiment (tables/assignments.parquet): the experiment `sprng` that study.yml names is not there"
        in text
    )
    assert "did you mean `spring`?" in text


def test_assigned_but_unknown(shop, study_of):
    frames = minimal(shop)
    frames["customers"] = frames["customers"].iloc[3:]
    text = refused(study_of(frames, tolerate=0.05))
    assert "assigned customers are missing from customers" in text
    assert "rows 1, 2, 3:" in text


@pytest.mark.parametrize(("unknown", "tolerate"), [(3, 0.001), (2, 0)])
def test_unknown_customers_above_tolerate(shop, study_of, unknown, tolerate):
    frames = minimal(shop)
    frames["orders"].loc[: unknown - 1, "customer_id"] = "X1"
    text = refused(study_of(frames, tolerate=tolerate))
    rows = ", ".join(str(row + 1) for row in range(unknown))
    assert f"orders (tables/orders.parquet), rows {rows}: customer unknown in {unknown} of 2,400 rows" in text
    assert f"more than `tolerate` ({100 * tolerate:g} %)" in text


def test_unknown_customers_below_tolerate_are_set_aside(shop, study_of):
    frames = shop()
    frames["orders"].loc[[0, 9], "customer_id"] = "X1"
    frames["sessions"].loc[5, "customer_id"] = "X2"
    study = study_of(frames)
    prepare(study)
    assert study.mart["set_aside"] == [
        {"table": "orders", "reason": "customer unknown", "rows": 2},
        {"table": "sessions", "reason": "customer unknown", "rows": 1},
    ]
    filed = pd.read_csv(study.out / "set_aside.csv")
    assert filed.values.tolist() == [
        ["orders", 1, "customer unknown"],
        ["orders", 10, "customer unknown"],
        ["sessions", 6, "customer unknown"],
    ]
    assert study.mart["source_rows"]["orders"] == 2400


def test_orders_before_joining(shop, study_of):
    frames = minimal(shop)
    first = frames["orders"]["customer_id"].iloc[0]
    joined = frames["orders"]["ordered_at"].iloc[0] + timedelta(minutes=1)
    early = (frames["orders"]["customer_id"].eq(first) & frames["orders"]["ordered_at"].lt(joined)).sum()
    frames["customers"].loc[frames["customers"]["customer_id"].eq(first), "joined_at"] = joined
    text = refused(study_of(frames, tolerate=0))
    assert f"ordered before the customer joined in {early} of 2,400 rows" in text
    assert "correct `joined_at`" in text
    study = study_of(frames, folder="tolerant", tolerate=0.05)
    found = check(study)
    assert [(row.table, row.reason, row.count) for row in found.set_aside] == [
        ("orders", "ordered before the customer joined", early)
    ]
    assert found.tables["orders"].count().to_pyarrow().as_py() == 2400 - early
    found.source.close()


def test_lines_without_their_order(shop, study_of):
    frames = shop()
    frames["order_lines"].loc[:0, "order_id"] = "none such"
    found = check(study_of(frames))
    assert [(row.table, row.reason, row.count) for row in found.set_aside] == [("order_lines", "order unknown", 1)]
    found.source.close()


def test_warnings(shop, study_of):
    frames = minimal(shop)
    frames["orders"]["revenue"] = 0.0
    frames["orders"]["channel"] = None
    frames["orders"].loc[0, "cost_of_goods"] = np.nan
    traits = pd.DataFrame(
        1, frames["customers"].index, [*(f"trait_{number}" for number in range(300)), "gender", "regon"]
    )
    frames["customers"] = pd.concat([frames["customers"], traits], axis=1)
    text = warned(study_of(frames, period={"start": date(2026, 3, 1), "end": date(2026, 3, 2)}))
    assert "orders.revenue (tables/orders.parquet): it is 0 in every row: nothing to compare" in text
    assert "orders.channel (tables/orders.parquet): every cell is empty; it counts as absent" in text
    assert "orders.cost_of_goods (tables/orders.parquet): 1 of 2,400 rows have no cost" in text
    assert "302 columns are not in the contract and not read: `trait_0`, `trait_1`" in text
    assert "and 297 more" in text
    assert "of 360 were assigned outside of the period" in text
    assert "the outcome window of 28 days is not over for 50 of 360 customers" in text


def test_empty_columns_are_absent_from_the_mart(shop, study_of):
    frames = minimal(shop)
    frames["customers"]["region"] = None
    study = study_of(frames, "csv")
    prepare(study)
    assert not study.has("customers.region")
    assert "region" not in study.table("units")


def test_lines_that_do_not_add_up(shop, study_of):
    frames = shop()
    total = (
        frames["order_lines"]
        .assign(net=frames["order_lines"].eval("quantity * price"))
        .groupby("order_id")["net"]
        .sum()
    )
    frames["orders"]["revenue"] = frames["orders"]["order_id"].map(total)
    assert "add up" not in warned(study_of(frames))
    frames["orders"].loc[[0, 1], "revenue"] += 1
    assert "in 2 of 2,400 orders the lines do not add up" in warned(study_of(frames, folder="off"))


def test_many_problems_at_once(shop, study_of):
    frames = shop()
    frames["orders"] = with_cell(frames["orders"], 2, "revenue", "-1")
    frames["orders"] = with_cell(frames["orders"], 3, "ordered_at", "yesterday")
    frames["customers"] = pd.concat([frames["customers"], frames["customers"].iloc[[0]]])
    frames["sessions"] = frames["sessions"].drop(columns="started_at")
    frames["assignments"] = frames["assignments"].replace({"variant": {"none": "nobody"}})
    text = refused(study_of(frames, "csv"))
    for said in (
        "row 2: the number is negative",
        "row 3: not a time",
        "stand more than once",
        "sessions.started_at",
        "`nobody`",
    ):
        assert said in text
    assert len(text.splitlines()) >= 6


def test_check_and_prepare_say_the_same_and_write_nothing(shop, study_of):
    frames = minimal(shop)
    frames["orders"].loc[0, "revenue"] = -1
    study = study_of(frames)
    before = files(study.folder)
    found = check(study)
    found.source.close()
    assert files(study.folder) == before
    assert refused(study) == "\n".join(map(str, found.errors))


def raw(study_of, shop, name, content: bytes):
    study = study_of(minimal(shop), "csv")
    (study.folder / "tables" / f"{name}.csv").write_bytes(content)
    return study


def test_latin_1(shop, study_of):
    content = (
        "order_id,customer_id,ordered_at,revenue,channel\n1,C1,2026-03-01T00:00Z,1,web\n2,C1,2026-03-01T00:00Z,1,Köln\n"
    )
    text = refused(raw(study_of, shop, "orders", content.encode("latin-1")))
    assert "orders (tables/orders.csv), row 2: not UTF-8; it looks like Latin-1" in text
    assert "iconv -f WINDOWS-1252 -t UTF-8 orders.csv" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"order_id,customer_id,ordered_at,revenue\n", "there are no rows, only a header"),
        (b"PK\x03\x04\x00\x00binary", "not a CSV file: it is binary"),
        ("order_id,x\n1,2\n".encode("utf-16"), "binary, or text in UTF-16"),
        (b"order_id,customer_id,order_id\n1,2,3\n", "the column `order_id` stands twice"),
        (b"order_id,,customer_id\n1,2,3\n", "column 2 has no name"),
        (b"O1,C000123,2026-03-01T00:00Z,3.50\n", "is there a header row?"),
        (
            b"order_id,customer_id,ordered_at,revenue\n1,C1,2026-03-01T00:00Z,1\n2,C1,2026-03-01T00:00Z,1,9,9\n",
            "row 2: the row has",
        ),
        (b'order_id,customer_id,ordered_at,revenue\n1,"C1,2026-03-01T00:00Z,1\n', "orders (tables/orders.csv)"),
    ],
)
def test_files_that_are_no_table(shop, study_of, content, said):
    text = refused(raw(study_of, shop, "orders", content))
    assert said in text
    assert "orders" in text
    assert "C000123" not in text


def test_delimiters_and_a_byte_order_mark(shop, study_of):
    for delimiter in (";", "\t", "|"):
        frames = minimal(shop)
        study = study_of(frames, "csv", folder=f"with{ord(delimiter)}")
        text = frames["orders"].to_csv(index=False, sep=delimiter)
        (study.folder / "tables" / "orders.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
        assert refused_or_none(study) == ""


def test_two_files_for_one_table(shop, study_of):
    study = study_of(minimal(shop))
    (study.folder / "tables" / "orders.csv").write_text("order_id\n1\n")
    text = refused(study)
    assert "orders: there are two files, tables/orders.parquet and tables/orders.csv" in text
    assert "keep the right one" in text


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "the file is empty"), (b"PAR1 nonsense", "not a Parquet file, or cut off")]
)
def test_parquet_files_that_are_none(shop, study_of, content, said):
    study = study_of(minimal(shop))
    (study.folder / "tables" / "orders.parquet").write_bytes(content)
    assert f"orders (tables/orders.parquet): {said}" in refused(study)


def test_an_optional_table_without_rows_is_noted(shop, study_of):
    study = study_of(minimal(shop), "csv")
    (study.folder / "tables" / "complaints.csv").write_text("complaint_id,customer_id,received_at,topic\n")
    assert "complaints (tables/complaints.csv): there are no rows, only a header" in warned(study)
    prepare(study)
    assert study.table("units")["complained"].eq(0).all()


def test_ids_never_reach_a_message(shop, study_of):
    frames = shop()
    canary = "CANARY778899"
    for name in frames:
        if "customer_id" in frames[name] and name != "customers":
            frames[name].loc[0, "customer_id"] = canary
    frames["orders"].loc[1, "order_id"] = frames["orders"].loc[0, "order_id"] = canary + "1"
    frames["orders"] = with_cell(frames["orders"], 3, "revenue", canary)
    frames["orders"][f"extra_{canary}"] = 1
    frames["assignments"] = with_cell(frames["assignments"], 2, "variant", canary)
    study = study_of(frames, "csv", tolerate=0)
    text = refused(study)
    assert text.count("customer unknown") >= 5
    found = check(study)
    everything = repr(found) + "\n".join(map(str, found.problems)) + repr(found.problems)
    found.source.close()
    assert "778899" not in everything


def test_latest_outcome(shop, study_of, tmp_path):
    frames = minimal(shop)
    study = study_of(frames)
    mine = frames["assignments"].query("experiment == 'spring'")
    both = frames["orders"].merge(mine, on="customer_id")
    expected = both.loc[both["ordered_at"] >= both["assigned_at"], "ordered_at"].max()
    assert latest_outcome(study) == expected.to_pydatetime()
    frames["orders"] = frames["orders"].head(0)
    assert latest_outcome(study_of(frames, folder="no_orders")) is None
    (tmp_path / "no_orders" / "tables" / "orders.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="the file is empty"):
        latest_outcome(open_study(tmp_path / "no_orders"))
    del frames["orders"], frames["assignments"]
    assert latest_outcome(study_of(frames, folder="not_begun")) is None
