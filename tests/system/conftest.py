"""Local clouds of toys, which the tests of a module share."""

from __future__ import annotations

import pytest
from local_toys import build, opened, toys_of

from squash.local.account import Policy


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def shared(built):
    """One cloud for the tests that leave nothing behind but warm containers."""
    policy = Policy(async_retry_s=(0.0, 0.0), concurrency=6)
    with opened(built, s3_proxy=True, policy=policy) as cloud:
        yield toys_of(cloud)


@pytest.fixture
def toys(shared):
    """That cloud, with no fault in force and no container left of an earlier test."""
    shared.cloud.set_faults([])
    shared.cloud.evict_idle()
    yield shared
    shared.cloud.set_faults([])


@pytest.fixture(scope="module")
def spawning(built):
    """A cloud that starts each container from nothing."""
    with opened(built, fork_server=False, s3_proxy=True) as cloud:
        yield toys_of(cloud)


@pytest.fixture(params=["forked", "spawned"])
def either(request):
    """Both ways to start containers, for what must not depend on them."""
    toys = request.getfixturevalue("toys" if request.param == "forked" else "spawning")
    toys.cloud.evict_idle()
    return toys
