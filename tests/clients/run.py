"""Run the suites of clients against one live server, and print what came of each as a table.

    .venv-clients/bin/python tests/clients/run.py [--only WORD]

Suites that others publish are fetched as source packages, pinned by their sums, and run where
they are unpacked, below `.cache/clients`. The server is `squash serve` of `.venv`, in a process
of its own and with its store in a new folder; SQUASH_COMMAND names another.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import live
from suites import BUCKET, NODE, OWN, PUBLISHED, Own, Published

_HERE: Final = Path(__file__).resolve().parent
_CACHE: Final = _HERE.parents[1] / ".cache" / "clients"
_BIN: Final = Path(sys.executable).parent
# As each suite's own settings, or none: not those of whoever runs them.
_PLAIN: Final = ("-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "asyncio_mode=auto")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a suite: counts of cases, and (case, reason) of those that do not apply."""

    name: str
    passed: int
    failed: int
    excepted: tuple[tuple[str, str], ...]

    @property
    def cases(self) -> int:
        """How many there are, with those that do not apply."""
        return self.passed + self.failed + len(self.excepted)


def main() -> int:
    """Run all that was asked for; give 0 if no case failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="suites whose name has it")
    wanted = parser.parse_args().only.lower()
    published = [suite for suite in PUBLISHED if wanted in suite.name.lower()]
    own = [suite for suite in OWN if wanted in suite.name.lower()]
    node = [suite for suite in NODE if wanted in suite.name.lower()]
    _CACHE.mkdir(parents=True, exist_ok=True)
    if published:
        _fetch()
    if node:
        _install_node()
    with live.served() as environment:
        os.environ.update(environment)
        _make_bucket()
        outcomes = [_run_published(suite) for suite in published]
        outcomes += [_run_own(suite) for suite in own]
        outcomes += [_run_node(suite) for suite in node]
    print("\n".join(_table(outcomes)))
    return 1 if any(outcome.failed or not outcome.cases for outcome in outcomes) else 0


def _fetch() -> None:
    """Download the source packages, whose sums pip checks, and unpack them."""
    packages = _CACHE / "packages"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-binary", ":all:", "--require-hashes"]
    command += ["--dest", str(packages), "--requirement", str(_HERE / "sdists.txt")]
    if not all((packages / f"{suite.package}.tar.gz").exists() for suite in PUBLISHED):
        subprocess.run(command, check=True)
    for suite in PUBLISHED:
        if not (_CACHE / suite.package).exists():
            with tarfile.open(packages / f"{suite.package}.tar.gz") as archive:
                archive.extractall(_CACHE, filter="data")


def _install_node() -> None:
    """Install the packages of Node.js beside a copy of the tests, which look for them there."""
    folder = _CACHE / "node"
    folder.mkdir(exist_ok=True)
    for file in (_HERE / "node").iterdir():
        shutil.copy(file, folder)
    command = [str(_BIN / "npm"), "install", "--no-audit", "--no-fund", "--prefer-offline"]
    command += ["--loglevel=error"]
    subprocess.run(command, cwd=folder, env=_with_node(), check=True)


def _with_node() -> dict[str, str]:
    return dict(os.environ) | {"PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}"}


def _make_bucket() -> None:
    import boto3

    boto3.client("s3vectors").create_vector_bucket(vectorBucketName=BUCKET)


def _run_published(suite: Published) -> Outcome:
    folder = _CACHE / suite.package
    report = _CACHE / f"{suite.package}.xml"
    command = [sys.executable, "-m", "pytest", suite.tests, *_PLAIN]
    for case in suite.excepted:
        command += ["--deselect", case]
    print(f"\n=== {suite.name}", flush=True)
    environment = dict(os.environ) | dict(suite.settings)
    _write_report([*command, f"--junitxml={report}"], report, cwd=folder, env=environment)
    return _read_report(suite.name, report, tuple(suite.excepted.items()))


def _run_own(suite: Own) -> Outcome:
    report = _CACHE / f"{suite.tests.replace('::', '-')}.xml"
    print(f"\n=== {suite.name}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", suite.tests, f"--junitxml={report}"]
    _write_report(command, report, cwd=_HERE, env=dict(os.environ))
    return _read_report(suite.name, report)


def _run_node(suite: Own) -> Outcome:
    report = _CACHE / f"{suite.tests}.xml"
    print(f"\n=== {suite.name}", flush=True)
    command = [str(_BIN / "node"), "--test", "--test-reporter=spec"]
    command += ["--test-reporter-destination=stdout", "--test-reporter=junit"]
    command += [f"--test-reporter-destination={report}", suite.tests]
    _write_report(command, report, cwd=_CACHE / "node", env=_with_node())
    return _read_report(suite.name, report)


def _write_report(command: list[str], report: Path, *, cwd: Path, env: dict[str, str]) -> None:
    """Run a suite; what it says of its cases is in the report, whatever its exit code."""
    report.unlink(missing_ok=True)
    subprocess.run(command, cwd=cwd, env=env, check=False)
    if not report.exists():
        raise SystemExit(f"{' '.join(command)} wrote no report: see above what it said")


def _read_report(name: str, report: Path, excepted: tuple[tuple[str, str], ...] = ()) -> Outcome:
    # Written just now by pytest or Node.js on this machine.
    cases = list(ET.parse(report).getroot().iter("testcase"))  # noqa: S314 - see above
    failed = sum(any(case.find(tag) is not None for tag in ("failure", "error")) for case in cases)
    left_out = tuple(_left_out(cases))
    passed = len(cases) - failed - len(left_out)
    return Outcome(name, passed=passed, failed=failed, excepted=(*excepted, *left_out))


def _left_out(cases: list[ET.Element]) -> Iterator[tuple[str, str]]:
    for case in cases:
        skipped = case.find("skipped")
        if skipped is not None:
            yield case.get("name", ""), skipped.get("message", "")


def _table(outcomes: list[Outcome]) -> Iterator[str]:
    yield ""
    yield "| suite | cases | passed | do not apply | failed |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for outcome in outcomes:
        counts = (outcome.cases, outcome.passed, len(outcome.excepted), outcome.failed)
        yield f"| {outcome.name} | {' | '.join(map(str, counts))} |"
    for outcome in outcomes:
        for case, reason in outcome.excepted:
            yield f"\n{outcome.name}: {case} does not apply: {reason}"
    passed = sum(outcome.passed for outcome in outcomes)
    yield f"\n{passed} passed, {sum(outcome.failed for outcome in outcomes)} failed"


if __name__ == "__main__":
    sys.exit(main())
