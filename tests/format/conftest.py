"""What the tests of the stored format share."""

import pytest

from squash.runtime.retained import RetainedObjects


@pytest.fixture
def checksums_hold(monkeypatch):
    """Let whole objects that lie in the store pass for what their snapshot names."""
    monkeypatch.setattr(RetainedObjects, "_checked", lambda self, ref: self._store.get(ref.key))
