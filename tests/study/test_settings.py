import pytest

from fairlift.errors import InputError
from fairlift.study.files import read_model, read_yaml
from fairlift.study.settings import Settings, literal_secret, redact

GOOD = """\
retailer: Shop
markets: [EU]
experiment: launch
arms: {personalised: [model], holdout: [none]}
period: {start: 2026-01-05, end: 2026-03-01}
outcome_window_days: 28
"""


def problems(tmp_path, text, name="study.yml"):
    (tmp_path / name).write_text(text) if isinstance(text, str) else (tmp_path / name).write_bytes(text)
    with pytest.raises(InputError) as caught:
        read_model(tmp_path / name, Settings)
    return [str(problem) for problem in caught.value.problems]


def test_the_smallest_study_is_enough(tmp_path):
    (tmp_path / "study.yml").write_text(GOOD)
    settings = read_model(tmp_path / "study.yml", Settings)
    assert settings.arms.of_variant() == {"model": "personalised", "none": "holdout"}
    assert settings.costs is None and settings.hurdle == 0


def test_every_fault_at_once_with_its_line(tmp_path):
    text = GOOD.replace(
        "outcome_window_days: 28", "outcome_window_day: 28\ncurrency: euro\ntimezone: Berlin\nsmall_cell: 2"
    )
    found = problems(tmp_path, text)
    assert len(found) == 5
    assert any(
        "unknown key `outcome_window_day`, line 6" in p and "did you mean `outcome_window_days`?" in p for p in found
    )
    assert any("`outcome_window_days` is missing" in p for p in found)
    assert any("`currency`, line 7" in p for p in found)
    assert any("`Berlin` is not a time zone" in p for p in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "not YAML: line "),
        ("- just\n- a list\n", "holds no settings"),
        ("", "holds no settings"),
        (b"\x00\x01\xff", "not a text file in UTF-8"),
        ("retailer: Caf\xe9".encode("latin-1"), "not a text file in UTF-8"),
        ("a: \x07", "not YAML"),
        ("a:\n\tb: 1", "line 2: it is indented by a tab. To mend: indent with spaces"),
        ("a: 1\nb: {c: 2}\na: 3", "`a` stands twice, in line 1 and line 3"),
        ("a: 2026-13-45", "a date that is none"),
    ],
)
def test_files_that_are_not_settings(tmp_path, text, said):
    assert said in problems(tmp_path, text)[0]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"there is no study\.yml"):
        read_yaml(tmp_path / "study.yml")
    (tmp_path / "study.yml").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        read_yaml(tmp_path / "study.yml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("holdout: [none]", "holdout: [model]", "variant model stands in two arms"),
        (", holdout: [none]", "", "nothing to compare with"),
        ("end: 2026-03-01", "end: 2025-03-01", "ends (2025-03-01) before it starts"),
        ("outcome_window_days: 28", "outcome_window_days: 0", "greater than or equal to 1"),
        ("retailer: Shop", "retailer: Shop\ncurrency: EURO", "`EURO` is not the code of a currency"),
        ("retailer: Shop", "retailer: Shop\nas_of: yesterday", "`as_of`, line 2: not a day; write one such as"),
        ("arms: {", "costs: [cheap]\narms: {", "holds no settings of its own. To mend: write there `line:`"),
        ("retailer: Shop", "retailer: Shop\nas_of: 2026-03-01T10:00:00", "needs its zone"),
        ("retailer: Shop", "retailer: Shop\ntables: {order: SELECT 1}", "unknown table order"),
        ("retailer: Shop", "retailer: Shop\nprotected: [shoe_size]", "unknown attribute shoe_size"),
        ("retailer: Shop", "retailer: Shop\ncontext: {kids: true}", "unknown flag kids"),
        ("retailer: Shop", "retailer: Shop\nmargin: 35", "less than or equal to 1"),
    ],
)
def test_values_that_make_no_sense(tmp_path, old, new, said):
    assert any(said in problem for problem in problems(tmp_path, GOOD.replace(old, new)))


@pytest.mark.parametrize(
    "connect",
    [
        "postgres://shop:hunter2@db/prod",
        "snowflake://u:hunter2@acc/db?warehouse=w",
        "duckdb://md:shop?motherduck_token=hunter2",
        "mssql://db/prod?UID=me&PWD=hunter2",
        "postgres://shop:${PW}x@db/prod",
    ],
)
def test_a_password_in_the_file_is_refused_and_never_repeated(tmp_path, connect):
    found = problems(tmp_path, GOOD + f"connect: '{connect}'\n")
    assert len(found) == 1 and "environment variable" in found[0]
    assert "hunter2" not in found[0]
    assert "hunter2" not in redact(f"could not reach {connect} today")


def test_a_secret_named_by_its_variable_is_fine():
    assert not literal_secret("postgres://shop:${DB_PASSWORD}@db/prod")
    assert not literal_secret("duckdb://")
    assert not literal_secret("duckdb:///data/shop.ddb")


def test_the_clock_of_a_day_is_its_local_end(tmp_path):
    (tmp_path / "study.yml").write_text(GOOD + "as_of: 2026-03-29\ntimezone: Europe/Berlin\n")
    clock = read_model(tmp_path / "study.yml", Settings).clock()
    assert clock.isoformat() == "2026-03-29T21:59:59.999999+00:00"  # summer time began that night
