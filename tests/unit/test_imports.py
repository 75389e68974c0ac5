"""What a processor loads: the modules it needs, and none that cost it a cold start."""

import json
import subprocess
import sys

import pytest

PROCESSOR = (
    "squash.search",
    "squash.search.messages",
    "squash.search.processing",
    "squash.storage",
    "squash.index.reader",
    "squash.runtime.retained",
)

FORBIDDEN = {
    "asyncio",
    "boto3",
    "botocore",
    "concurrent.futures.process",
    "email",
    "http",
    "logging",
    "multiprocessing",
    "pickletools",
    "pyarrow",
    "rich",
    "shutil",
    "socket",
    "sqlite3",
    "squash.cli",
    "squash.database",
    "squash.maintain",
    "squash.runtime.session",
    "squash.storage.s3",
    "squash.training",
    "ssl",
    "subprocess",
    "tempfile",
    "unittest",
    "xml",
}

# Modules are compared with a Python that loaded the same hooks of its environment and NumPy.
PROGRAM = """
import json, sys
import numpy
before = set(sys.modules)
import {modules}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded(*modules: str) -> set[str]:
    """Return what importing some modules loads beyond NumPy, in a fresh process."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM.format(modules=", ".join(modules))],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def processor() -> set[str]:
    return loaded(*PROCESSOR)


def test_imports_processor_third_party(processor):
    """Beyond the standard library a processor loads Squash and NumPy alone."""
    tops = {name.partition(".")[0] for name in processor}
    assert tops - sys.stdlib_module_names - {"numpy"} == {"squash"}


def test_imports_processor_forbidden(processor):
    """A processor loads no client, no builder, no face and nothing that starts processes."""
    found = {
        name
        for name in processor
        if any(name == bad or name.startswith(bad + ".") for bad in FORBIDDEN)
    }
    assert found == set()


def test_imports_processor_rooms(processor):
    """A processor loads exactly these rooms."""
    rooms = {name.split(".")[1] for name in processor if name.startswith("squash.")}
    assert rooms == {
        "arrays",
        "attributes",
        "clock",
        "container",
        "drafts",
        "errors",
        "index",
        "kernels",
        "limits",
        "model",
        "planning",
        "quantize",
        "runtime",
        "search",
        "segment",
        "storage",
        "values",
    }


def test_imports_package_is_lazy():
    """`import squash` alone loads its errors and nothing else of it."""
    squash = {name for name in loaded("squash") if name.startswith("squash")}
    assert squash == {"squash", "squash.errors"}


def test_imports_connect_needs_no_s3():
    """Opening a local database loads no client, no builder and not the command line."""
    modules = loaded("squash.database")
    bad = {"boto3", "botocore", "rich", "pyarrow", "squash.cli", "squash.maintain"}
    assert not (bad | {"squash.training", "squash.runtime.maintenance"}) & modules


def test_imports_s3_reads_without_botocore():
    """A store in S3 reads by obstore alone: botocore would take ten times as long to load."""
    modules = loaded("squash.storage.s3")
    assert "obstore" in modules
    assert not {"botocore", "urllib3", "http", "ssl", "email", "asyncio"} & modules


def test_imports_s3_writes_without_boto3():
    """What writes loads botocore alone: boto3 would add a third to that."""
    modules = loaded("squash.storage.s3_writes")
    assert "botocore" in modules
    assert not {"boto3", "s3transfer", "multiprocessing", "asyncio"} & modules


def test_imports_cli_without_the_local_cloud():
    """The command line loads nothing of the local cloud before it is asked to start one."""
    names = loaded("squash.cli.main", "squash.cli.commands")
    assert not {name for name in names if name.startswith(("squash.local", "aiohttp", "yaml"))}
