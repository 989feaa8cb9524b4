"""Known answers on a real three-arm e-mail test of 64,000 customers."""

import pandas as pd
import pytest

from fairlift.method import Covariates, Mean, Proportion, balance, effect, lift, moments, srm

pytestmark = pytest.mark.real

MEN, WOMEN, NOBODY = "Mens E-Mail", "Womens E-Mail", "No E-Mail"
SPEND = Mean("spend", covariates=("history",))
VISIT = Proportion("visit")


@pytest.fixture(scope="module")
def hillstrom(real_data):
    rows = pd.read_csv(real_data("hillstrom/hillstrom.csv.gz"))
    return moments(rows, [SPEND, VISIT, Covariates("recency", "history", "mens", "womens", "newbie")], arm="segment")


def test_sample_ratio(hillstrom):
    test = srm(hillstrom.counts, dict.fromkeys(hillstrom.arms, 1))
    assert test.counts == {MEN: 21_307, NOBODY: 21_306, WOMEN: 21_387}
    assert (round(test.statistic, 4), round(test.p, 3)) == (0.2025, 0.904)
    assert not test.failed


def test_balance(hillstrom):
    test = balance(hillstrom, ["recency", "history", "mens", "womens", "newbie"], MEN, NOBODY)
    assert not test.failed
    assert max(map(abs, test.differences.values())) < 0.02


def test_visits(hillstrom):
    men, women = (effect(hillstrom, VISIT, arm, NOBODY) for arm in (MEN, WOMEN))
    assert [round(x, 5) for x in (men.mean_versus, men.mean_arm, women.mean_arm)] == [0.10617, 0.18276, 0.15140]
    assert (round(men.value, 7), round(men.se, 6)) == (0.0765896, 0.003386)
    assert (round(women.value, 7), round(women.se, 6)) == (0.0452331, 0.003234)


@pytest.mark.parametrize(
    ("arm", "adjust", "value", "se"),
    [
        (MEN, None, 0.7698, 0.1452),
        (WOMEN, None, 0.4244, 0.1303),
        (MEN, "lin", 0.7675, 0.1452),
        (WOMEN, "lin", 0.4227, 0.1303),
    ],
)
def test_spend(hillstrom, arm, adjust, value, se):
    got = effect(hillstrom, SPEND, arm, NOBODY, interval="welch", adjust=adjust)
    assert (round(got.value, 4), round(got.se, 4)) == (value, se)


def test_spend_interval(hillstrom):
    got = effect(hillstrom, SPEND, MEN, NOBODY, interval="welch")
    assert (round(got.low, 3), round(got.high, 3)) == (0.485, 1.055)


@pytest.mark.parametrize(("arm", "value", "low", "high"), [(MEN, 117.9, 64.4, 197.7), (WOMEN, 65.0, 22.4, 127.5)])
def test_lift(hillstrom, arm, value, low, high):
    got = lift(effect(hillstrom, SPEND, arm, NOBODY))
    assert [round(100 * x, 1) for x in (got.value, got.low, got.high)] == [value, low, high]
