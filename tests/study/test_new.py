"""A new study explains itself, opens as it is, overwrites nothing, and proposes how CSV files fit."""

import pytest
import yaml

from fairlift.errors import InputError
from fairlift.study import check, data_dictionary, open_study, outcomes, prepare
from fairlift.study.mapping import propose
from fairlift.study.new import new
from fairlift.study.settings import Settings

KUNDEN = """Cust;Gender;YOB;Since;E-Mail
{}
"""


@pytest.fixture
def exports(tmp_path):
    """Three exports as a shop might have them: semicolons, German numbers and dates, names of its own."""
    folder = tmp_path / "exports"
    folder.mkdir()
    people = "\n".join(
        f"1002{n:02d};{'fm'[n % 2]};{1960 + n};{1 + n % 28:02d}.02.2020;person{n}@example.org" for n in range(30)
    )
    (folder / "kunden.csv").write_text(f"Cust;Gender;YOB;Since;E-Mail\n{people}\n")
    sales = "\n".join(f"{n};1002{n % 30:02d};2026-03-{2 + n % 20:02d} 10:00:00;{n},50;x" for n in range(90))
    (folder / "sales_2026.csv").write_text(f"receipt;cust;ts;amount;till\n{sales}\n")
    groups = "\n".join(f"1002{n:02d},{['ranker', 'no offers', 'bestsellers'][n % 3]},2026-03-01" for n in range(30))
    (folder / "test_groups.csv").write_text(f"client,group,date\n{groups}\n")
    return sorted(folder.iterdir())


def test_a_new_study_opens(tmp_path):
    lines = new(tmp_path / "spring-launch")
    study = open_study(tmp_path / "spring-launch")
    assert study.settings.experiment == "spring-launch"
    assert study.plan.contrasts["benefit"].versus == "holdout"
    assert {path.name for path in study.folder.iterdir()} == {
        ".gitignore",
        "README.md",
        "answers.yml",
        "plan.yml",
        "study.yml",
        "tables",
    }
    assert {"out/", "tables/"} <= set((study.folder / ".gitignore").read_text().split())
    assert lines[-1].startswith("Next: fill in study.yml")
    found = check(study)
    found.source.close()
    assert [problem.where for problem in found.errors] == ["customers", "assignments", "orders"]


def test_every_setting_is_explained(tmp_path):
    new(tmp_path / "s")
    text = (tmp_path / "s" / "study.yml").read_text()
    for name in Settings.model_fields:
        assert f"\n{name}:" in text or f"\n# {name}:" in text, name
    assert text.count("FILL IN") <= 8


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=r"s: it is not empty.*nothing is ever overwritten"):
        new(tmp_path / "s")
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="it is a file"):
        new(tmp_path / "s" / "mine.txt")


def test_a_proposal_that_can_be_prepared(tmp_path, exports):
    lines = new(tmp_path / "spring", exports)
    text = (tmp_path / "spring" / "study.yml").read_text()
    assert "strptime(\"Since\", '%d.%m.%Y') AS joined_at,  -- check this" in text
    assert "replace(replace(amount, '.', ''), ',', '.') AS revenue  -- check this" in text
    assert "'spring' AS experiment" in text
    assert "times_without_zone: UTC" in text
    study = open_study(tmp_path / "spring")
    assert study.settings.arms.of_variant() == {
        "ranker": "personalised",
        "bestsellers": "control",
        "no offers": "holdout",
    }
    values = yaml.safe_load(text) | {"as_of": "2026-06-01T00:00:00Z"}
    (tmp_path / "spring" / "study.yml").write_text(yaml.safe_dump(values))
    study = open_study(tmp_path / "spring")
    prepare(study)
    assert study.mart["source_rows"] == {"customers": 30, "assignments": 30, "orders": 90}
    assert study.table("units")["revenue"].sum() == sum(n + 0.5 for n in range(90))
    said = "\n".join(lines)
    assert "sales_2026.csv is taken for orders: order_id ← `receipt` (check this)" in said
    assert "not mapped: `till`" in said
    assert "not mapped: `E-Mail`" in said


def test_no_personal_value_is_shown_or_written(tmp_path, exports):
    said = "\n".join(new(tmp_path / "spring", exports))
    written = "".join(path.read_text() for path in (tmp_path / "spring").iterdir() if path.is_file())
    for value in ("100201", "person1", "example.org", "01.02.2020"):
        assert value not in said
        assert value not in written


def test_numbers_as_variants_are_not_listed(tmp_path):
    path = tmp_path / "assignments.csv"
    path.write_text(
        "customer_id,variant,assigned_at\n" + "\n".join(f"{n},{70000 + n % 2},2026-03-01T00:00:00Z" for n in range(20))
    )
    new(tmp_path / "s", [path])
    assert "70001" not in (tmp_path / "s" / "study.yml").read_text()


def test_contract_names_need_no_check(tmp_path, shop):
    frames = shop(customers=60)
    for name, frame in frames.items():
        path = tmp_path / f"{name}.csv"
        frame.to_csv(path, index=False)
        one = propose(path)
        assert one.table == name
        assert one.missing == ()
        assert one.left == ()
        assert all(match.sure for match in one.matches), name


def test_a_column_that_is_missing_is_named(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("order_id,customer_id,ordered_at\n1,2,2026-03-01T00:00:00Z\n")
    said = "\n".join(new(tmp_path / "s", [path]))
    assert "nothing fits revenue: write it into the query" in said
    assert "-- missing: revenue" in (tmp_path / "s" / "study.yml").read_text()
    assert "Still needed: customers, assignments." in said


def test_files_that_cannot_be_read_all_at_once(tmp_path):
    (tmp_path / "a.csv").write_bytes("name\nKöln\n".encode("latin-1"))
    (tmp_path / "b.csv").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        new(tmp_path / "s", [tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"])
    text = str(caught.value)
    assert "a.csv, row 1: not UTF-8" in text
    assert "b.csv: the file is empty" in text
    assert "c.csv: there is no such file" in text
    assert not (tmp_path / "s").exists()


def test_a_file_like_nothing(tmp_path):
    (tmp_path / "weather.csv").write_text("town,rain\nBern,3\n")
    lines = new(tmp_path / "s", [tmp_path / "weather.csv"])
    assert "weather.csv: no table of the contract resembles it; map it by hand or leave it out." in lines
    assert any("examples/hillstrom/study.yml" in line for line in lines)
    assert open_study(tmp_path / "s").settings.tables == {}


def test_frames_for_the_book():
    words = data_dictionary()
    assert len(words) == len(words.drop_duplicates(["table", "column"]))
    assert words["sentence"].str.endswith(".").all()
    named = set(words["table"] + "." + words["column"])
    frame = outcomes()
    assert frame["outcome"].is_unique
    assert {one for needs in frame["needs"] for one in needs} <= named
    assert {one for uses in frame["uses"] for one in uses} <= named
    assert frame["sentence"].str.len().gt(5).all()


def test_german_names_and_a_flag_beside_the_customers(tmp_path):
    people = "\n".join(f"K{n:04d};80{n:03d};{1 + n % 28:02d}.02.2020;{['Test', 'Kontrolle'][n % 2]}" for n in range(40))
    (tmp_path / "kunden.csv").write_text(f"cust_no;PLZ;anmelde_datum;gruppe\n{people}\n")
    sales = "\n".join(f"R{n:04d};K{n % 40:04d};{1 + n % 28:02d}.03.2026 10:15;{n},50" for n in range(90))
    (tmp_path / "export.csv").write_text(f"receipt;cust_no;bon_datum;betrag\n{sales}\n")
    said = "\n".join(new(tmp_path / "s", [tmp_path / "kunden.csv", tmp_path / "export.csv"]))
    assert "kunden.csv is taken for customers: customer_id ← `cust_no` (check this), joined_at" in said
    assert "export.csv is taken for orders: order_id ← `receipt` (check this), customer_id ← `cust_no`" in said
    assert "ordered_at ← `bon_datum` (check this), revenue ← `betrag` (check this)" in said
    assert "`gruppe` in kunden.csv may say who was in which arm: write a query for assignments over that file." in said


def test_two_files_for_one_table_and_a_folder_for_a_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("customer_id,joined_at\n1,2020-01-01T00:00:00Z\n")
    (tmp_path / "exports").mkdir()
    with pytest.raises(InputError) as caught:
        new(tmp_path / "s", [tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "exports"])
    text = str(caught.value)
    assert "b.csv: it looks like customers, as does a.csv. To mend: give one of them to --from" in text
    assert "exports: it is a folder. To mend: list its files" in text
    assert not (tmp_path / "s").exists()
