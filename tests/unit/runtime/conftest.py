"""What tests of content share: encoders, and a database that has them."""

from __future__ import annotations

import pytest
from content_world import Letters, open_on

from squash.runtime.encoders import EncoderRegistry
from squash.storage import MemoryStore
from tiny_encoders import make_dual_encoder, make_text_encoder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("encoders")
    make_text_encoder(parent / "tiny")
    make_text_encoder(parent / "other", seed=1)
    make_dual_encoder(parent / "tiny-dual")
    return parent


@pytest.fixture
def letters():
    return Letters()


@pytest.fixture
def db(folders, letters):
    """A database with three encoders, two of one name, and one who encodes for all of them."""
    store = MemoryStore()
    for folder in sorted(folders.iterdir()):
        EncoderRegistry(store, check=lambda folder: None).add(folder)
    return open_on(store, encoding=letters)
