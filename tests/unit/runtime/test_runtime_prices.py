"""What AWS asks, at list prices."""

import pytest

from squash.planning.prices import (
    HTTP_REQUEST_USD,
    architecture_of,
    invocation_cost_usd,
    logging_cost_usd,
    request_cost_usd,
    storage_cost_usd,
)


def test_prices_of_requests():
    """Reads are cheap, writes and lists twelve times as dear, deletions free."""
    assert request_cost_usd({"get": 2_000_000, "range": 500_000}) == pytest.approx(1.0)
    assert request_cost_usd({"put": 100_000, "list": 100_000}) == pytest.approx(1.0)
    assert request_cost_usd({"delete": 1_000_000}) == 0.0


def test_prices_of_invocations():
    """A million calls of 100 ms with 1 GB: 20 cents, and 100,000 GB-seconds."""
    for architecture, gb_second in (("arm64", 13.3334e-6), ("x86_64", 16.6667e-6)):
        found = invocation_cost_usd(1_000_000, 100_000, architecture=architecture)
        assert found == pytest.approx(0.20 + 100_000 * gb_second)


def test_prices_by_bytes():
    """A gigabyte of logs, a terabyte kept for two months, a million requests of the HTTP API."""
    assert logging_cost_usd(1e9) == pytest.approx(0.50)
    assert storage_cost_usd(1e12, months=2) == pytest.approx(46.0)
    assert round(HTTP_REQUEST_USD * 1e6, 9) == 1.0


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("aarch64", "arm64"), ("ARM64", "arm64"), ("x86_64", "x86_64"), ("amd64", "x86_64")],
)
def test_architectures(machine, architecture):
    """Machines go by Lambda's names."""
    assert architecture_of(machine) == architecture
