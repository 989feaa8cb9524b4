"""How much of the study's data had to be set aside, as evidence."""

from __future__ import annotations

from fairlift.evidence import Evidence
from fairlift.format import number
from fairlift.study.folder import Study


def quality_evidence(study: Study) -> list[Evidence]:
    """The largest share of rows set aside in any one table, against what the study tolerates."""
    mart, tolerate = study.mart, study.settings.tolerate
    rows = mart["source_rows"]
    aside = dict.fromkeys(rows, 0)
    for entry in mart["set_aside"]:
        aside[entry["table"]] += entry["rows"]
    shares = {table: aside[table] / count for table, count in rows.items() if count}
    worst = max(shares, key=shares.get)
    statement = (
        f"{number(sum(aside.values()), 'count')} of {number(sum(rows.values()), 'count')} rows were set aside; "
        f"at most {number(shares[worst], 'share')} of one table ({worst})."
    )
    return [
        Evidence(
            id="study.data.set_aside",
            requirement="method.ab",
            statement=statement,
            kind="exact",
            design="descriptive",
            value=shares[worst],
            unit="share",
            n=sum(rows.values()),
            threshold=tolerate,
            threshold_from="study.yml",
            better="down",
            tables=tuple(rows),
        )
    ]
