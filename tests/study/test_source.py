"""Where tables come from: queries, databases, secrets; and what a driver's message may show."""

import os
import sqlite3
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from fairlift.errors import FairliftError, InputError
from fairlift.study import check, prepare
from fairlift.study.source import clean, disk_full, expand, files_of

PASSWORD = "hunter2-planted"


def core(shop, customers=80):
    frames = shop(customers=customers)
    return {name: frames[name] for name in ("customers", "assignments", "orders", "sessions")}


def errors(study) -> str:
    found = check(study)
    found.source.close()
    return "\n".join(map(str, found.errors))


def test_queries_and_files_together(shop, study_of, tmp_path, monkeypatch):
    frames = core(shop)
    exports = frames.pop("orders").rename(columns={"order_id": "receipt", "customer_id": "cust", "ordered_at": "ts"})
    query = "SELECT receipt AS order_id, cust AS customer_id, ts AS ordered_at, revenue FROM 'exports/sales.parquet' -- the tills\n;"
    study = study_of(frames, tables={"orders": query})
    (study.folder / "exports").mkdir()
    exports.to_parquet(study.folder / "exports" / "sales.parquet")
    elsewhere = tmp_path / "elsewhere" / "exports"
    elsewhere.mkdir(parents=True)
    exports.head(3).to_parquet(elsewhere / "sales.parquet")  # the same name in the folder we happen to be in
    monkeypatch.chdir(tmp_path / "elsewhere")
    prepare(study)
    assert study.mart["source_rows"]["orders"] == len(exports)
    assert files_of(study.settings, study.folder)[0] == study.folder / "exports" / "sales.parquet"


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT nope FROM 'tables/customers.parquet'", 'Referenced column "nope" not found'),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM 'exports/none.csv'", "No files found that match"),
        ("SELECT 1; DROP TABLE x", "the query is not one SELECT"),
        ("DROP TABLE x", "the query is not one SELECT"),
        ("COPY (SELECT 1) TO 'x.csv'", "the query is not one SELECT"),
        ("SELECT * FROM no_such_table", "no_such_table does not exist"),
    ],
)
def test_errors_in_sql(shop, study_of, sql, said):
    frames = core(shop)
    del frames["orders"]
    study = study_of(frames, tables={"orders": sql})
    text = errors(study)
    assert said in text
    assert text.startswith("orders (study.yml")
    assert "tables.orders" in text
    assert str(study.folder) not in text
    assert text.count("\n") == 0
    assert not (study.folder / "x.csv").exists()


def test_an_error_while_a_query_runs_shows_no_value(shop, study_of):
    frames = core(shop)
    study = study_of(
        frames, tables={"orders": "SELECT * REPLACE (customer_id::INT AS customer_id) FROM 'tables/orders.parquet'"}
    )
    text = errors(study)
    assert "orders (study.yml `tables.orders`): cannot be read: Conversion Error" in text
    assert "`a999999`" in text or "'a999999'" in text
    assert not any(one in text for one in frames["customers"]["customer_id"])


def test_a_duckdb_file_is_only_read(shop, study_of):
    frames = core(shop)
    study = study_of({}, connect="duckdb://shop.db", tables={name: f"SELECT * FROM {name}" for name in frames})
    path = study.folder / "shop.db"
    with duckdb.connect(str(path)) as con:
        for name, frame in frames.items():
            con.register("frame", frame)
            con.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
    path.chmod(0o444)
    before = path.read_bytes()
    prepare(study)
    assert path.read_bytes() == before
    plain = study_of(frames, folder="plain")
    prepare(plain)
    for name in ("units", "unit_days"):
        pd.testing.assert_frame_equal(study.table(name), plain.table(name))


def test_sqlite_gives_the_same_mart_and_sees_no_id(shop, study_of, monkeypatch):
    frames = core(shop)
    for name, columns in {
        "customers": ["joined_at"],
        "assignments": ["assigned_at"],
        "orders": ["ordered_at"],
        "sessions": ["started_at"],
    }.items():
        for column in columns:  # whole seconds: SQLite keeps times as text
            frames[name][column] = frames[name][column].dt.floor("s")
    plain = study_of(frames, folder="plain")
    prepare(plain)
    kinds = {
        "joined_at": "TIMESTAMP",
        "assigned_at": "TIMESTAMP",
        "ordered_at": "TIMESTAMP",
        "started_at": "TIMESTAMP",
        "loyalty_member": "BOOLEAN",
    }
    study = study_of(
        {},
        connect="sqlite://shop.sqlite",
        times_without_zone="UTC",
        tables={name: f"SELECT * FROM {name}" for name in frames},
    )
    con = sqlite3.connect(study.folder / "shop.sqlite")
    for name, frame in frames.items():
        frame = frame.copy()
        for column in frame:
            if isinstance(frame[column].dtype, pd.DatetimeTZDtype):
                frame[column] = frame[column].dt.strftime("%Y-%m-%d %H:%M:%S")
        numbers = {column: "REAL" for column in frame if pd.api.types.is_float_dtype(frame[column])}
        whole = {column: "INTEGER" for column in frame if pd.api.types.is_integer_dtype(frame[column])}
        frame.to_sql(
            name,
            con,
            index=False,
            dtype=dict.fromkeys(frame, "TEXT") | numbers | whole | {c: kinds[c] for c in frame if c in kinds},
        )
    con.close()
    asked = []
    source = sys.modules["fairlift.study.source"]
    connect = source.connect

    def traced(*args):
        con, secrets = connect(*args)
        con.con.set_trace_callback(asked.append)
        return con, secrets

    monkeypatch.setattr(source, "connect", traced)
    prepare(study)
    for name in ("units", "unit_days"):
        pd.testing.assert_frame_equal(study.table(name), plain.table(name), rtol=1e-12)
    assert study.mart["first_outcome"] == plain.mart["first_outcome"]
    statements = "\n".join(asked)
    assert "SELECT" in statements
    ours = [one for one in asked if "ibis_sqlite_metadata" not in one]  # Ibis asks for columns by a temporary view
    assert not [
        one for one in ours if one.split()[0] not in ("SELECT", "WITH", "PRAGMA", "BEGIN", "COMMIT", "ROLLBACK")
    ]
    assert not any(one in statements for one in frames["customers"]["customer_id"])


def test_files_need_duckdb(shop, study_of):
    frames = core(shop)
    study = study_of(frames, connect="sqlite://shop.sqlite")
    sqlite3.connect(study.folder / "shop.sqlite").close()
    text = errors(study)
    assert "orders: tables/orders.parquet stands beside a database in `connect`" in text


def test_a_database_file_that_is_not_there(shop, study_of):
    for scheme in ("duckdb", "sqlite"):
        with pytest.raises(InputError, match=r"study\.yml: `connect`: there is no file shop\.db"):
            check(study_of(core(shop), connect=f"{scheme}://shop.db"))


def test_variables_only_when_connecting(shop, study_of, monkeypatch):
    monkeypatch.delenv("SHOP_PASSWORD", raising=False)
    study = study_of(core(shop), connect="postgres://reader:${SHOP_PASSWORD}@localhost:1/shop")
    with pytest.raises(InputError, match="needs the environment variable SHOP_PASSWORD, not set here"):
        check(study)


@pytest.mark.parametrize("password", [PASSWORD, "p@ss/w0rd:planted"])
def test_a_password_is_in_no_message(shop, study_of, monkeypatch, password, caplog, capsys):
    monkeypatch.setenv("SHOP_PASSWORD", password)
    study = study_of(core(shop), connect="postgres://reader:${SHOP_PASSWORD}@localhost:1/shop")
    import ibis

    def refuse(url):
        raise RuntimeError(f"cannot connect to {url} with password {os.environ['SHOP_PASSWORD']}\nsecond line {url}")

    monkeypatch.setattr(ibis, "connect", refuse)
    with pytest.raises(InputError) as caught:
        check(study)
    text = str(caught.value) + repr(caught.value) + caplog.text + "".join(capsys.readouterr())
    assert "planted" not in text
    assert "second line" not in text
    assert (
        "`connect`: postgres cannot be reached: cannot connect to postgres://reader:***@localhost:1/shop with password ***"
        in text
    )
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_missing_driver_says_what_to_install(shop, study_of, monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError) as caught:
        check(study_of(core(shop), connect="postgres://reader:${SHOP_PASSWORD}@localhost:1/shop"))
    assert "ibis-framework[postgres]" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_password_is_in_no_output(shop, study_of, monkeypatch):
    monkeypatch.setenv("SHOP_FILE", "shop-planted.db")
    frames = core(shop)
    study = study_of(frames, connect="duckdb://${SHOP_FILE}", tables={name: f"SELECT * FROM {name}" for name in frames})
    with duckdb.connect(str(study.folder / "shop-planted.db")) as con:
        for name, frame in frames.items():
            con.register("frame", frame)
            con.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
    prepare(study)
    found = check(study)
    assert "planted" not in repr(found) + (study.out / "mart" / "mart.json").read_text()
    found.source.close()


def test_an_address_that_is_a_variable_is_taken_as_it_is():
    url, secrets = expand("${SHOP}", {"SHOP": "postgres://me:p%40ss@db/shop"})
    assert url == "postgres://me:p%40ss@db/shop"
    assert url in secrets


def test_messages_hide_values_and_homes(tmp_path):
    error = RuntimeError(
        f"Conversion Error: Could not convert string 'C000123' in {tmp_path}/x.csv near 4999123\nLINE 2"
    )
    text = clean(error, tmp_path)
    assert text == "Conversion Error: Could not convert string 'a999999' in x.csv near 9999999"


def test_messages_hide_the_folders_above_a_relative_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    error = RuntimeError(f'IO Error: No files found that match the pattern "{tmp_path}/shop/../exports/x.csv"')
    assert clean(error, Path("shop")) == 'IO Error: No files found that match the pattern "../exports/x.csv"'


def test_an_apostrophe_is_no_quotation_mark(tmp_path):
    assert clean(ValueError("Don't know how to reach 'planted'"), tmp_path) == "Don't know how to reach 'aaaaaaa'"


def test_what_a_full_disk_looks_like():
    assert isinstance(disk_full(OSError(28, "No space left on device")), FairliftError)
    assert disk_full(duckdb.IOException("IO Error: Could not write file: No space left on device"))
    assert disk_full(OSError(2, "No such file")) is None


def test_nothing_temporary_is_left(shop, study_of):
    study = study_of(core(shop))
    found = check(study)
    assert list(study.out.glob(".spill-*"))
    found.source.close()
    assert not study.out.exists()
