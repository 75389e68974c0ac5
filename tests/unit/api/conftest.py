import logging
from uuid import uuid4

import pytest
from api_world import World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def papers(world):
    return world.papers()


@pytest.fixture
def environment():
    """A function's environment, with a store of its own."""
    return {"SQUASH_STORE": f"memory://{uuid4().hex}"}


@pytest.fixture
def logger_put_back():
    """Powertools configures the library's logger once a process: it is put back as it was.

    Where another test had it configured, it would print to what was captured there.
    """
    logger = logging.getLogger("squash")
    before = dict(vars(logger)) | {"handlers": list(logger.handlers)}
    logger.handlers = []
    for name in ("init", "powertools_handler"):
        vars(logger).pop(name, None)
    yield
    vars(logger).clear()
    vars(logger).update(before)
