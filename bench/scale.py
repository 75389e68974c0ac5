"""How far Squash goes: builds and queries of a million to ten thousand million vectors, modelled.

    python bench/scale.py --out docs/scale.md
    python bench/scale.py --check .cache/bench/bulk.json --out docs/scale.md
    python bench/scale.py --asked .cache/bench/deployment-sift.json --out docs/scale.md

Without `--check`: what a bulk build and queries would take on AWS, and which limit is met first,
from `bench/scale.json` (what was measured; `bench/bulk.py --save` writes it anew) and, of queries,
`bench/cost_fitted.json`. With it: the model against builds that ran. With `--asked`: against
queries of `bench/deployment.py`. Each writes a section of its own, and leaves the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cost_fit import FITTED_PATH, Fitted, load
from cost_steps import Asked, Deployed
from report import write_section
from scale_inputs import PATH, Inputs, runs_of
from scale_platform import LOCAL, MB_PER_VCPU
from scale_queries import waits
from scale_text import HEAD, Model, checked, modelled, queried
from squash.planning.shape import FAN_OUT


def asked_of(fitted: Fitted, found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield queries as measured and as predicted, from a file of `bench/deployment.py`."""
    figures = found["shapes"].get("fan-out")
    if figures is None:
        return
    deployed = Deployed(found["slots"], MB_PER_VCPU, MB_PER_VCPU)
    warm, cold = (
        waits(
            fitted.assumptions,
            deployed,
            Asked(found["rows"], warm=share, dimension=found["dimension"]),
            LOCAL,
            shape=FAN_OUT,
        )
        for share in (1.0, 0.0)
    )
    frozen = figures["cold"]
    yield {
        "name": f"{found['name']}, {found['rows']:,} x {found['dimension']}, fan-out",
        "measured warm p50 ms": figures["all"]["p50_ms"],
        "predicted warm p50 ms": warm.p50,
        "measured warm p99 ms": figures["all"]["p99_ms"],
        "predicted warm p99 ms": warm.p99,
        "measured cold p50 ms": frozen["ms"],
        "predicted cold p50 ms": cold.p50,
        "measured requests, cold": frozen["store_requests"],
        "predicted requests, cold": cold.requests,
        "measured rounds, cold": frozen["store_rounds"],
        "predicted rounds, cold": cold.rounds,
    }


def main() -> None:
    """Print the section, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=Path, default=PATH)
    parser.add_argument("--fitted", type=Path, default=FITTED_PATH, help="what queries take")
    parser.add_argument("--check", type=Path, nargs="*", help="files of builds that ran")
    parser.add_argument("--asked", type=Path, nargs="*", default=[], help="files of queries")
    parser.add_argument("--out", type=Path, help="write a section of this document")
    parser.add_argument("--no-plots", action="store_true", help="where there is no matplotlib")
    arguments = parser.parse_args()
    inputs, fitted = Inputs.load(arguments.inputs), load(arguments.fitted)
    if arguments.asked:
        told = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.asked]
        name, text = (
            "scale-queries",
            queried(one for each in told for one in asked_of(fitted, each)),
        )
    elif arguments.check:
        runs = [run for path in arguments.check for run in runs_of(path)]
        name, text = "scale-check", checked(inputs, runs)
    else:
        plotted = arguments.out is not None and not arguments.no_plots
        plots = arguments.out.parent / "plots" if plotted else None
        name, text = "scale", modelled(Model(inputs, fitted), plots)
    print(text)
    if arguments.out is not None:
        write_section(arguments.out, name, text, head=HEAD)


if __name__ == "__main__":
    main()
