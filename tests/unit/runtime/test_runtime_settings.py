"""What the environment says of this machine is read once, and checked."""

import json
from dataclasses import replace

import pytest

import squash
from squash.errors import InvalidArgumentError
from squash.planning import DEFAULT_COSTS
from squash.runtime import read_costs, retained_bytes, tmp_bytes


def test_without_the_variable_costs_are_the_defaults():
    assert read_costs({}) is DEFAULT_COSTS
    assert read_costs({"SQUASH_COSTS": ""}) is DEFAULT_COSTS


def test_costs_are_read_from_the_file_that_the_variable_names(tmp_path):
    costs = replace(DEFAULT_COSTS, exact_row=7.0)
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"measured": "here", "costs": costs.to_json()}), encoding="utf-8")
    assert read_costs({"SQUASH_COSTS": str(path)}) == costs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "it has no object 'costs'"),
        ('{"costs": 1}', "it has no object 'costs'"),
        ('{"costs": {"speed": 1}}', "'speed' is no cost"),
        ('{"costs": {}}', "is missing"),
        ('{"costs": {"exact_row": NaN}}', "is missing"),
    ],
)
def test_a_file_without_costs_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "costs.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match=message) as raised:
        read_costs({"SQUASH_COSTS": str(path)})
    assert str(path) in str(raised.value)


def test_connecting_refuses_a_file_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("SQUASH_COSTS", str(tmp_path / "absent.json"))
    with pytest.raises(InvalidArgumentError, match=r"SQUASH_COSTS=.*absent\.json"):
        squash.connect("memory://costs")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 2_048 << 20),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769"}, 1769 << 19),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1000", "SQUASH_RETAINED_SHARE": "0.25"}, 250 << 20),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "SQUASH_RETAINED_SHARE": ""}, 64 << 20),
    ],
)
def test_a_function_retains_a_share_of_its_memory(environment, expected):
    assert retained_bytes(environment) == expected


@pytest.mark.parametrize("share", ["0", "1", "1.5", "-1", "nan", "inf", "half"])
def test_a_share_out_of_its_range_is_refused_by_name(share):
    with pytest.raises(InvalidArgumentError, match="SQUASH_RETAINED_SHARE"):
        retained_bytes({"SQUASH_RETAINED_SHARE": share})


@pytest.mark.parametrize("value", ["-1", "1.5", "1 GB", "x"])
def test_numbers_of_bytes_are_whole(value):
    with pytest.raises(InvalidArgumentError, match="SQUASH_TMP_BYTES"):
        tmp_bytes({"SQUASH_TMP_BYTES": value})
    with pytest.raises(InvalidArgumentError, match="AWS_LAMBDA_FUNCTION_MEMORY_SIZE"):
        retained_bytes({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": value})


def test_files_have_what_is_free_unless_the_variable_says():
    assert tmp_bytes({}) is None
    assert tmp_bytes({"SQUASH_TMP_BYTES": "0"}) == 0
    assert tmp_bytes({"SQUASH_TMP_BYTES": "1048576"}) == 1 << 20
