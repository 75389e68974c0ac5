"""Headers of `.npy` files, read by several threads at once."""

import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bulk_inputs import World, config_of, npy


@pytest.fixture
def often_interrupted():
    """Threads change places wherever garbage is collected, which is nearly anywhere."""

    def collected(*_):
        return sum(range(50))

    threshold, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(collected)
    gc.set_threshold(5)
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.callbacks.remove(collected)


@pytest.mark.usefixtures("often_interrupted")
def test_bulk_npy_headers_in_several_threads():
    # Some releases of Python count for all threads together how deep they parse, and fail.
    world = World(config_of(16))
    world.put("a.npy", npy(np.zeros((7, 16), dtype=np.float32)))

    def probed(deep):
        return probed(deep - 1) if deep else [world.probe("a.npy").rows for _ in range(250)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(probed, (0, 10, 20, 30))) == [[7] * 250] * 4
