"""Two small worlds in which customers touch each other, each with a known truth: clusters, and households."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Neighbourhood:
    """Clusters in which everybody gains from what the others get.

    A customer's outcome is `base` + what her cluster adds (standard deviation `between`) + her own noise (`within`)
    + `direct` if she is treated + `indirect` × the share of her cluster that is.  So an untreated customer gains
    `indirect` × s at saturation s, and a roll-out to everybody is worth `direct` + `indirect` each.
    """

    base: float = 20.0
    direct: float = 1.0
    indirect: float = 0.6
    between: float = 0.6
    within: float = 4.0

    def spillover(self, saturation: float) -> float:
        """The true effect on the untreated, against a cluster without any offers."""
        return self.indirect * saturation

    def total(self, saturation: float = 1.0) -> float:
        """The true effect on the treated, against a cluster without any offers; at 1 that of the roll-out.

        >>> Neighbourhood().total(), Neighbourhood().total(0.5)
        (1.6, 1.3)
        """
        return self.direct + self.spillover(saturation)

    def outcomes(self, cluster: np.ndarray, treated: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What customers spend; `cluster` holds whole numbers from 0, `treated` 0 or 1, one entry a customer."""
        saturation = (np.bincount(cluster, treated) / np.bincount(cluster))[cluster]
        level = self.base + self.between * rng.standard_normal(int(cluster.max()) + 1)[cluster]
        gained = self.direct * treated + self.indirect * saturation
        return level + gained + self.within * rng.standard_normal(len(cluster))


def draw_clusters(
    world: Neighbourhood, saturations: Sequence[float], size: int | Sequence[int], rng: np.random.Generator
) -> pd.DataFrame:
    """One row a customer of a two-stage experiment: cluster, saturation, treated, outcome.

    `saturations` has one entry a cluster, as it was drawn; `size` is the customers of each cluster.  Within a cluster the
    nearest whole number of customers is drawn.

    >>> people = draw_clusters(Neighbourhood(), [0, 0.5, 1], 10, np.random.default_rng(1))
    >>> people.groupby("cluster")["treated"].sum().tolist()
    [0, 5, 10]
    """
    sizes = np.broadcast_to(size, len(saturations))
    cluster = np.repeat(np.arange(len(saturations)), sizes)
    rank = np.arange(len(cluster)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # customers of a cluster are alike
    treated = (rank < np.rint(sizes * np.asarray(saturations, dtype=float))[cluster]).astype(int)
    return pd.DataFrame(
        {
            "cluster": cluster,
            "saturation": np.asarray(saturations, dtype=float)[cluster],
            "treated": treated,
            "outcome": world.outcomes(cluster, treated, rng),
        }
    )


@dataclass(frozen=True)
class Homes:
    """Households of one to `len(sizes)` persons, each person drawn into an arm by herself.

    A share `buying` of persons spends a lognormal amount of mean `spend`, times `crowd` for each mate; `like` is the
    log-spread that persons of a household share, `own` their spread beside it.  On average a personalised person spends
    `direct` more, and a person with a personalised mate `indirect` more, all of it among those who buy.
    """

    sizes: tuple[float, ...] = (0.35, 0.35, 0.2, 0.1)
    buying: float = 0.7
    spend: float = 20.0
    crowd: float = 1.0
    like: float = 0.5
    own: float = 0.5
    direct: float = 0.0
    indirect: float = 0.0


def draw_homes(world: Homes, homes: int, share: float, rng: np.random.Generator) -> pd.DataFrame:
    """One row a person: household, arm (personalised with chance `share`, else holdout), outcome."""
    sizes = 1 + rng.choice(len(world.sizes), homes, p=world.sizes)
    home = np.repeat(np.arange(homes), sizes)
    n = len(home)
    treated = rng.random(n) < share
    mate = np.bincount(home, treated)[home] - treated > 0
    log = world.like * rng.standard_normal(homes)[home] + world.own * rng.standard_normal(n)
    mean = np.exp(-(world.like**2 + world.own**2) / 2) * world.spend * world.crowd ** (sizes[home] - 1)
    extra = world.direct * treated + world.indirect * mate
    outcome = np.where(rng.random(n) < world.buying, mean * np.exp(log) + extra / world.buying, 0.0)
    return pd.DataFrame({"household": home, "arm": np.where(treated, "personalised", "holdout"), "outcome": outcome})
