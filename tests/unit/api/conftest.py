import pytest
from api_world import World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def papers(world):
    return world.papers()
