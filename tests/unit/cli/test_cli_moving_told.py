"""What a copy checks, refuses and tells, beside a live server."""

from __future__ import annotations

import numpy as np
import pytest
from cli_moving_world import PLACE

from moving_server import contents
from squash import errors
from squash.cli.main import main


@pytest.mark.parametrize("direction", ["import", "export"])
def test_a_check_finds_every_kind_of_difference(world, direction):
    """A vector's last bit, a value's type, a key more or less on either side."""
    ours, theirs = world.ours(30), world.theirs(30)
    assert world.run(direction, "papers", PLACE, "--check-only")[0] == 0
    vectors = np.array([one.vector for one in ours.get(keys=["k4", "k7"])])
    metadata = [one.metadata for one in ours.get(keys=["k4", "k7"])]
    vectors[0, 1] = np.nextafter(vectors[0, 1], np.float32(9))
    metadata[1] = dict(metadata[1]) | {"even": 0}
    theirs.put(keys=["k4", "k7", "new"], vectors=[*vectors, [1, 1, 1]], metadata=[*metadata, {}])
    theirs.delete(keys=["k5"])
    status, told = world.run(direction, "papers", PLACE, "--check-only")
    found = told["check"]
    assert (status, found["same"]) == (1, False)
    assert {"k4", "k7"} <= set(found["differing_keys"]) <= {"k4", "k7", "k5", "new"}
    ours_only, theirs_only = found["only_in_source_keys"], found["only_in_target_keys"]
    if direction == "import":
        ours_only, theirs_only = theirs_only, ours_only
    assert (ours_only, theirs_only) == (["k5"], ["new"])
    assert "rows" not in told


@pytest.mark.parametrize(
    ("settings_", "words"),
    [({"dimension": 4}, "dimension 4"), ({"metric": "cosine"}, "metric cosine")],
)
def test_indexes_that_cannot_hold_the_same_are_refused_before_anything_moves(
    world, settings_, words
):
    world.ours(5)
    world.theirs(5, **settings_)
    for direction in ("import", "export"):
        status, told = world.run(direction, "papers", PLACE)
        assert (status, told["type"]) == (1, "urn:squash:invalid-argument")
        assert words in told["detail"]
    assert "/PutVectors" not in world.cloud.paths()
    assert "/ListVectors" not in world.cloud.paths()


def test_the_metric_dot_is_refused_with_its_reason(world):
    world.ours(5, metric="dot")
    status, told = world.run("export", "papers", PLACE, "--create")
    assert (status, told["type"]) == (1, "urn:squash:invalid-argument")
    assert "metric dot" in told["detail"]
    assert world.cloud.asked == []


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("import", "papers", PLACE), "not-found"),
        (("export", "papers", PLACE), "not-found"),
        (("import", "papers", PLACE, "--state", "/no/such/folder/x"), "failed"),
    ],
)
def test_what_is_not_there_is_said(world, words, kind):
    world.ours(1)
    if kind == "failed":
        world.theirs(1)
    status, told = world.run(*words)
    assert (status, told["type"]) == (1, f"urn:squash:{kind}")


def test_a_file_that_keeps_no_state_is_refused(world):
    world.ours(1)
    world.theirs(1)
    for text in ("", "[]", "{}", '{"format": "squash-move", "version": 2}', "\0"):
        (world.folder / "s.json").write_text(text)
        status, told = world.run("import", "papers", PLACE, "--state", "s.json")
        assert (status, told["type"]) == (1, "urn:squash:damaged-data"), text
    assert world.run("import", "papers", PLACE, "--state", "s.json", "--restart")[0] == 0


def test_an_index_with_an_encoder_wants_to_know_whose_vectors_come(world, tmp_path):
    from tiny_encoders import make_text_encoder

    make_text_encoder(tmp_path / "encoder", name="tiny")
    world.patch.setenv("SQUASH_ENCODER_CACHE", str(tmp_path / "cache"))
    world.database.encoders.add(tmp_path / "encoder")
    index = world.database.create_index("papers", encoder="tiny")
    world.theirs(5, dimension=index.config.dimension, metric=str(index.config.metric))
    status, told = world.run("import", "papers", PLACE)
    assert (status, told["type"]) == (1, "urn:squash:invalid-argument")
    assert "--encoder" in told["detail"]
    assert world.run("import", "papers", PLACE, "--encoder", "tiny")[0] == 0


def test_older_snapshots_and_filters_are_copied_alone(world):
    index = world.ours(20)
    before = index.stats().snapshot
    index.put(keys=["late"], vectors=[[1, 2, 3]])
    words = ("--as-of", before, "--filter", '{"even": true}')
    status, told = world.run("export", "papers", PLACE, "--create", *words)
    assert (status, told["check"]["same"]) == (0, True)
    keys = {key for key, (_, metadata) in contents(index).items() if '"even": true' in metadata}
    assert set(contents(world.copied())) == keys
    assert told["rows"] == len(keys)


def test_people_are_told_what_was_done(world, capsys):
    world.ours(20)
    assert main(["export", "papers", PLACE, "--create", "--service-url", world.cloud.url,
                 "--parallel", "1"]) == 0  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out == (
        f"Moved 20 records from papers to {PLACE}.\n"
        f"Checked: 20 keys in papers, 20 in {PLACE}, 20 records compared whole.\n"
        "They are the same.\n"
    )
    world.copied().delete(keys=["k1"])
    assert main(["export", "papers", PLACE, "--check-only", "--service-url", world.cloud.url,
                 "--parallel", "1"]) == 1  # fmt: skip
    assert "Only in papers: 1 key, as k1." in capsys.readouterr().out


def test_without_vectors_nothing_can_be_put(world):
    world.ours(1)
    assert world.run("export", "papers", PLACE, "--no-vectors")[0] == 2


def test_the_error_of_a_service_that_is_not_there_names_it(world, monkeypatch):
    world.ours(1)
    monkeypatch.setattr("squash.cli.moving.service.MOVE_ATTEMPTS_MAX", 1)
    world.cloud = type("Nowhere", (), {"url": "http://127.0.0.1:9"})()
    status, told = world.run("export", "papers", PLACE)
    assert (status, told["type"]) == (1, "urn:squash:unavailable")
    assert "127.0.0.1:9" in told["detail"]


def test_errors_are_ours():
    """So that the command words them like all others."""
    from squash.cli.moving import service

    assert issubclass(service.RefusedError, errors.InvalidArgumentError)
    assert issubclass(service.ServiceTooLargeError, errors.TooLargeError)
