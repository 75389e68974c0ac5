"""`squash keys` and `squash serve`: the grammar, and what they do to a real store."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

import squash
from squash.api import credentials, parameters
from squash.cli.main import main
from squash.cli.values import lifetime_ms, retention_ms, seconds


@pytest.fixture
def store(monkeypatch):
    location = f"memory://{uuid4().hex}"
    monkeypatch.setenv("SQUASH_STORE", location)
    return squash.connect(location).store


@pytest.fixture
def run(capsys):
    def run_command(*words):
        status = main([*words, "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out or captured.err)

    return run_command


def test_a_key_is_made_listed_and_revoked(run, store, capsys):
    """Its token is in the answer to its making alone."""
    status, made = run(
        "keys", "create", "--scopes", "read", "--indexes", "papers,notes-*", "--expires", "30d",
        "--row-filter", '{"team": "red"}', "--description", "for the web page",
    )  # fmt: skip
    assert status == 0
    record = credentials.load_key(store, made["id"])
    assert made["token"].startswith(f"sqk_{made['id']}_")
    assert record.indexes == ("papers", "notes-*")
    assert record.expires_ms - record.created_ms == 30 * 86_400_000
    status, listed = run("keys", "list")
    assert listed == {"keys": [{name: made[name] for name in made if name != "token"}]}
    assert main(["keys", "list"]) == 0
    shown = capsys.readouterr().out
    assert "for the web page" in shown
    # The secret may have any character of base64, "_" among them.
    assert made["token"].removeprefix(f"sqk_{made['id']}_") not in shown
    assert run("keys", "revoke", made["id"]) == (0, {"revoked": made["id"]})
    assert run("keys", "list")[1] == {"keys": []}
    status, problem = run("keys", "revoke", made["id"])
    assert (status, problem["type"]) == (1, "urn:squash:not-found")
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out == "There is no key yet.\n"


def test_an_access_key_is_made_with_a_signing_key_that_stays(run, store, capsys):
    """Its secret is shown this once; the next key is derived from the same signing key."""
    command = ("keys", "create", "--scopes", "read", "--indexes", "media/*", "--access-key")
    status, made = run(*command)
    assert status == 0
    assert made["access_key_id"] == f"SQKA{made['id'].upper()}"
    assert made["token"] == f"sqk_{made['id']}_{made['secret_access_key']}"
    signing_key = store.get("_signing/key")
    assert run(*command)[0] == 0
    assert store.get("_signing/key") == signing_key
    listed = run("keys", "list")[1]["keys"]
    assert made["access_key_id"] in {one["access_key_id"] for one in listed}
    assert not any("secret_access_key" in one for one in listed)
    assert main([*command]) == 0
    lines = capsys.readouterr().out.splitlines()
    token, key_id, secret = lines[:3]
    assert token.startswith("sqk_")
    assert key_id == f"aws_access_key_id = SQKA{token.split('_')[1].upper()}"
    assert secret == f"aws_secret_access_key = {token.split('_', 2)[2]}"


def test_a_key_that_signs_nothing_needs_no_signing_key(run, store):
    assert run("keys", "create", "--scopes", "read")[1]["access_key_id"] is None
    assert store.get("_signing/key") is None


@pytest.mark.parametrize(
    ("option", "variables", "region"),
    [
        (["--region", "eu-central-1"], {"AWS_DEFAULT_REGION": "us-east-1"}, "eu-central-1"),
        ([], {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "us-east-1"}, "eu-west-1"),
        ([], {"AWS_REGION": "eu-west-2"}, "eu-west-2"),
        ([], {}, None),
    ],
)
def test_a_signing_key_is_made_in_the_region_that_is_said(
    run, store, monkeypatch, capsys, option, variables, region
):
    """In another one the functions, who look in their own, would find none."""
    made = {}

    def create(name, value, *, region):
        made.setdefault((name, region), value)
        return True

    monkeypatch.setattr(parameters, "create_parameter", create)
    monkeypatch.setattr(
        parameters, "read_parameter", lambda name, *, region: made.get((name, region))
    )
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SQUASH_SIGNING_KEY", "ssm:/squash/signing-key")
    command = ["keys", "create", "--scopes", "read", "--access-key", *option]
    assert run(*command)[0] == 0
    assert list(made) == [("/squash/signing-key", region)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"ssm:/squash/signing-key{f' in {region}' if region else ''}." in said


def test_a_place_that_is_none_is_refused_before_a_key_is_made(run, store, monkeypatch):
    monkeypatch.setenv("SQUASH_SIGNING_KEY", "file:/x")
    status, problem = run("keys", "create", "--scopes", "read", "--access-key")
    assert (status, problem["type"]) == (1, "urn:squash:invalid-argument")
    assert "SQUASH_SIGNING_KEY" in problem["detail"]
    assert run("keys", "list")[1] == {"keys": []}


def test_a_token_is_shown_to_people_on_a_line_of_its_own(store, capsys):
    assert main(["keys", "create", "--scopes", "read,write"]) == 0
    token, words = capsys.readouterr().out.splitlines()
    assert credentials.parse_token(token)
    assert "read, write *" in words


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["keys"], 2), (["keys", "create"], 2), (["keys", "create", "--indexes", "*"], 2),
        (["keys", "create", "--scopes", "read", "--indexes", "*", "--expires", "soon"], 2),
        (["keys", "create", "--scopes", "read", "--indexes", "*", "--row-filter", "[]"], 2),
        (["keys", "create", "--scopes", "root", "--indexes", "*"], 1),
        (["keys", "create", "--scopes", "read", "--indexes", "A"], 1),
        (["keys", "create", "--scopes", "write", "--indexes", "*", "--row-filter", '{"a": 1}'], 1),
        (["serve", "--port", "x"], 2), (["serve", "--port", "65536"], 2),
        (["serve", "--auth", "iam"], 2),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(run, store, words, status):
    done, problem = run(*words)
    assert done == status
    assert problem["detail"]
    assert not list(store.list(""))


def test_times_are_counted_in_minutes_hours_and_days():
    assert lifetime_ms("90m") == 5_400_000
    assert lifetime_ms("12h") == 43_200_000
    assert lifetime_ms("3650d") == 3_650 * 86_400_000
    import argparse

    for text in ("", "d", "0d", "1", "-1d", "1.5d", "1y", "3651d", "\u00b2d", "9" * 400 + "d"):
        with pytest.raises(argparse.ArgumentTypeError):
            lifetime_ms(text)


def test_who_asks_for_too_long_a_retention_is_not_told_to_leave_it_out():
    """Left out, a key lives for ever, but states are kept for a day."""
    import argparse

    with pytest.raises(argparse.ArgumentTypeError, match="longer than 3650 days: ask for less"):
        retention_ms("3651d")
    with pytest.raises(argparse.ArgumentTypeError, match="leave it out for ever"):
        lifetime_ms("3651d")
    assert retention_ms("3650d") == 3_650 * 86_400_000


def test_seconds_are_from_0_and_end():
    import argparse

    assert seconds("0.5") == 0.5
    for text in ("nan", "inf", "-1", "1e400", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="from 0"):
            seconds(text)
