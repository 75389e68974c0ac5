"""docs/s3vectors.md says what the service's API is here: every operation and every member."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from botocore.session import Session
from test_docs_cli import blocks, commands

from moving_server import serving
from squash import limits
from squash.api.s3vectors import shapes
from squash.cli.arguments import build_parser
from squash.cli.moving.records import wire_records
from squash.model import RowBatch

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "s3vectors.md").read_text(encoding="utf-8")
MODEL = Session().get_service_model("s3vectors")
TABLE = PAGE.split("<!-- operations -->")[1].split("<!-- /operations -->")[0]
ROWS = {
    cells[0].strip(): [set(re.findall(r"`([\w.]+)`", cell)) for cell in cells[1:4]] + [cells[4]]
    for cells in re.findall(
        r"^\| (\w+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \| (.*) \|$", TABLE, re.MULTILINE
    )
    if cells[0] != "operation"
}


def leaves(shape, before=""):
    """The paths of all members that have none below."""
    found = set()
    for name, member in (shape.members if shape is not None else {}).items():
        inner = member
        while inner.type_name == "list":
            inner = inner.member
        document = getattr(inner, "is_document_type", False)
        if inner.type_name == "structure" and inner.members and not document:
            found |= leaves(inner, f"{before}{name}.")
        else:
            found.add(before + name)
    return found


def test_every_operation_of_the_model_has_its_row():
    assert set(ROWS) == set(MODEL.operation_names)


@pytest.mark.parametrize("operation", MODEL.operation_names)
def test_every_member_of_the_model_stands_in_its_row(operation):
    """As the same, or as refused; of answers as answered, or as never answered."""
    model = MODEL.operation_model(operation)
    same, answered, refused, differs = ROWS[operation]
    assert not same & refused
    assert same | refused == leaves(model.input_shape)
    _, _, never = differs.partition("never answered: ")
    assert answered | set(re.findall(r"`([\w.]+)`", never)) == leaves(model.output_shape)


def test_what_the_code_refuses_is_what_the_page_says():
    """Members by their paths; of values that are refused, the value is named."""
    for operation, (_, _, refused, differs) in ROWS.items():
        mine = [one for one in shapes.REFUSED if one.operation == operation]
        paths = {one.member for one in mine if not one.value}
        below = {path for path in refused if any(f"{path}.".startswith(f"{p}.") for p in paths)}
        assert refused == below
        assert all(any(f"{path}.".startswith(f"{p}.") for path in refused) for p in paths)
        for one in mine:
            if one.value:
                assert f"`{one.value}`" in differs or "`ENHANCED`" in differs
    for one in shapes.DIFFERS:
        assert ROWS[one.operation][3] != "–", one


def test_the_commands_parse():
    found = [words for block in blocks(PAGE, "sh") for words in commands(block)]
    assert {words[0] for words in found if not words[0].startswith("-")} >= {"serve", "export"}
    for words in found:
        build_parser().parse_args(words)


def test_the_examples_run(monkeypatch):
    """From top to bottom, by boto3, with the one variable that the page changes."""
    with serving() as service:
        for name, value in {
            "AWS_ENDPOINT_URL_S3VECTORS": service.url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        names: dict[str, object] = {}
        for block in blocks(PAGE, "python"):
            if "my-bucket" not in block:
                exec(compile(block, "s3vectors.md", "exec"), names)  # noqa: S102 - that is the test
        assert service.database.index("media/papers").stats().rows == 4


METADATA = {
    "genre": "documentary",
    "year": 2021,
    "source": "https://example.com/documents/2021/04/17/terns.html",
    "text": "x" * 150,
}
BATCHES = [
    [int(cell.replace(",", "")) for cell in cells]
    for cells in re.findall(r"^" + r"\| ([\d,]+) " * 6 + r"\|", PAGE, re.MULTILINE)
]


def test_batches_are_told_for_the_usual_dimensions():
    assert [row[0] for row in BATCHES] == [
        128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096,
    ]  # fmt: skip


@pytest.mark.parametrize("row", BATCHES, ids=lambda row: row[0])
def test_a_batch_that_is_said_to_fit_fits_into_lambda(row):
    """As botocore writes it, escaped in an event; and no smaller one than need be."""
    dimension, full_bytes, full_fit, short_bytes, short_fit, _ = row
    vectors = np.random.default_rng(1).normal(size=(60, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = [f"{n:036}" for n in range(len(vectors))]
    short = wire_records(RowBatch(keys, vectors, [METADATA] * len(keys)))
    for numbers, size, fit in (
        (vectors.tolist(), full_bytes, full_fit),
        ([json.loads(one.text)["data"]["float32"] for one in short], short_bytes, short_fit),
    ):
        records = [
            {"key": key, "data": {"float32": vector}, "metadata": METADATA}
            for key, vector in zip(keys, numbers, strict=True)
        ]
        escaped = len(json.dumps(json.dumps(records))) / len(records)
        assert escaped == pytest.approx(size, rel=0.01)
        room = limits.LAMBDA_REQUEST_BYTES_MAX - limits.CALL_ENVELOPE_BYTES_MAX
        assert fit == pytest.approx(min(limits.SERVICE_PUT_MAX, room / escaped), rel=0.02)
        assert fit * escaped < limits.LAMBDA_REQUEST_BYTES_MAX


def test_the_limits_are_those_of_the_code():
    mebibytes = limits.MOVE_BATCH_BYTES_MAX // limits.MIB
    for words in (
        f"commits of up to\n  {limits.MOVE_BATCH_ROWS_MAX:,} records and {mebibytes} MiB",
        f"a list of more than {limits.METADATA_LIST_ELEMENTS_MAX} elements",
        f"up to {limits.FILTER_CLAUSES_MAX} clauses",
        f"{limits.FILTER_DEPTH_MAX} levels, {limits.FILTER_LIST_VALUES_MAX:,} values a list",
        f"| dimensions | 4,096 | {limits.DIMENSION_MAX:,} |",
        f"| `topK` | 10,000 | {limits.TOP_K_MAX:,} |",
        f"| elements of a list | not documented | {limits.METADATA_LIST_ELEMENTS_MAX} |",
        f"| non-filterable keys | 10 | {limits.NON_FILTERABLE_KEYS_MAX} |",
        f"`PutVectors` takes up to {limits.SERVICE_PUT_MAX} records",
    ):
        assert words in PAGE, words
