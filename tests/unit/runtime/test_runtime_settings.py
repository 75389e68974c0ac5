"""What the environment says of this machine is read once, and checked."""

import json
from dataclasses import replace

import pytest

import squash
from squash.errors import InvalidArgumentError
from squash.planning import DEFAULT_COSTS
from squash.runtime import read_costs


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
