"""A real test, mapped by SQL alone: its counts and means are the published ones, its ids the same in every query."""

import gzip
import hashlib
import shutil

import pandas as pd
import pytest

from fairlift.study import check, open_study, prepare
from fairlift.study.source import open_source

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def csv(real_data):
    return real_data("hillstrom/hillstrom.csv.gz")


@pytest.fixture
def folder(root, tmp_path, csv):
    folder = tmp_path / "hillstrom"
    shutil.copytree(root / "examples" / "hillstrom", folder, ignore=shutil.ignore_patterns("exports", "out"))
    (folder / "exports").mkdir()
    shutil.copy(csv, folder / "exports")
    return folder


@pytest.fixture
def frame(csv):
    return pd.read_csv(csv)


def test_check_finds_nothing_wrong(folder):
    found = check(open_study(folder))
    found.source.close()
    assert found.problems == ()
    assert found.rows == {"customers": 64_000, "assignments": 64_000, "orders": 578, "sessions": 9_394}


def test_counts_and_means(folder, frame):
    study = open_study(folder)
    prepare(study)
    units = study.units
    assert {arm: row["complete"] for arm, row in study.mart["arms"].items()} == {
        "personalised/Mens E-Mail": 21_307,
        "personalised/Womens E-Mail": 21_387,
        "holdout": 21_306,
    }
    means = units.groupby("variant")[["visited", "converted", "revenue", "pre_revenue"]].mean()
    expected = frame.groupby("segment")[["visit", "conversion", "spend", "history"]].mean()
    for ours, theirs in zip(means, expected, strict=True):
        pd.testing.assert_series_equal(
            means[ours], expected[theirs], check_names=False, check_index_type=False, rtol=1e-12
        )
    shares = means["visited"].map("{:.5f}".format).to_dict()
    assert shares == {"Mens E-Mail": "0.18276", "Womens E-Mail": "0.15140", "No E-Mail": "0.10617"}
    assert means["revenue"].map("{:.3f}".format).to_dict() == {
        "Mens E-Mail": "1.423",
        "Womens E-Mail": "1.077",
        "No E-Mail": "0.653",
    }


@pytest.mark.parametrize("compressed", [True, False])
def test_the_row_number_is_the_same_customer_in_every_query(folder, frame, csv, compressed):
    if not compressed:
        (folder / "exports" / csv.name).unlink()
        (folder / "exports" / "hillstrom.csv").write_bytes(gzip.decompress(csv.read_bytes()))
    study = open_study(folder)
    frame["id"] = (frame.index + 1).astype(str)
    for _ in range(2):
        source = open_source(study.settings, folder)
        source.con.raw_sql("SET threads = 2")
        read = {name: raw.expr.to_pyarrow().to_pandas() for name, raw in source.tables.items()}
        source.close()
        customers = (
            read["customers"].assign(customer_id=read["customers"]["customer_id"].astype(str)).set_index("customer_id")
        )
        assert customers["pre_revenue"].reindex(frame["id"]).tolist() == frame["history"].tolist()
        variants = read["assignments"].set_index(read["assignments"]["customer_id"].astype(str))["variant"]
        assert variants.reindex(frame["id"]).tolist() == frame["segment"].tolist()
        orders = read["orders"].set_index(read["orders"]["customer_id"].astype(str))["revenue"]
        assert orders.to_dict() == frame[frame["spend"] > 0].set_index("id")["spend"].to_dict()
        assert set(read["sessions"]["customer_id"].astype(str)) == set(frame.loc[frame["visit"] == 1, "id"])


def test_both_forms_give_the_same_mart(folder, csv):
    study = open_study(folder)
    prepare(study)
    units = study.table("units")
    (folder / "exports" / csv.name).unlink()
    (folder / "exports" / "hillstrom.csv").write_bytes(gzip.decompress(csv.read_bytes()))
    again = open_study(folder)
    prepare(again)
    pd.testing.assert_frame_equal(again.table("units"), units)


def test_the_file_is_the_published_one(csv):
    digest = hashlib.sha256(gzip.decompress(csv.read_bytes())).hexdigest()
    assert digest == "0e5893329d8b93cefecc571777672028290ab69865718020c78c7284f291aece"


def test_without_the_file_the_reader_is_told(folder, csv):
    (folder / "exports" / csv.name).unlink()
    found = check(open_study(folder))
    found.source.close()
    text = "\n".join(map(str, found.errors))
    assert text.count("No files found that match the pattern") == 4
    assert "exports/hillstrom.csv*" in text
    assert str(folder) not in text
