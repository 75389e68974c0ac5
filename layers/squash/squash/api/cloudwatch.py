"""Telemetry for CloudWatch: JSON lines, and metrics in the embedded format, by Powertools.

CloudWatch takes fifty cents for a gigabyte: a thousand bytes a request are half a dollar a million.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aws_lambda_powertools import Logger

from squash.api.telemetry import LOGGER, SERVER_ERROR, Told, log_told

NAMESPACE: Final = "Squash"
_CLIENT_ERROR: Final = 400
_THROTTLED: Final = 429


class LambdaTelemetry:
    """Tells CloudWatch, through what the function prints.

    Parameters
    ----------
    service:
        The function's name here, such as "coordinator": a dimension of its metrics.
    metrics:
        Whether it has metrics of its own, beside those that AWS keeps of functions and APIs.

    """

    def __init__(self, service: str, *, metrics: bool = False) -> None:
        self._service = service
        self._metrics = metrics
        self._cold = True
        self._logger = Logger(service=LOGGER, use_rfc3339=True, utc=True, location=None)
        # The group that a line stands in tells of which function it is.
        self._logger.remove_keys(["service"])

    def answered(self, told: Told) -> None:
        """Write a line and the metrics."""
        fields = {
            "request_id": told.request_id,
            "route": told.route,
            "status": told.status,
            "duration_ms": told.duration_ms,
            "caller": told.caller,
            "index": told.index,
            "spent": dict(told.spent) or "",
            "cold_start": self._cold or "",
        }
        log_told(self._logger, told, {name: value for name, value in fields.items() if value != ""})
        if self._metrics:
            self.count(
                {
                    "Requests": 1,
                    "ClientErrors": int(_CLIENT_ERROR <= told.status < SERVER_ERROR),
                    "Throttled": int(told.status == _THROTTLED),
                    "ServerErrors": int(told.status >= SERVER_ERROR),
                    "ColdStarts": int(self._cold),
                },
                duration_ms=told.duration_ms,
            )
        self._cold = False

    def note(self, words: str, **fields: Any) -> None:
        """Write a line that is about no request."""
        self._logger.info(words, extra=fields)

    def count(self, counts: Mapping[str, int], *, duration_ms: int) -> None:
        """Write metrics: counts, and how long it took."""
        # Who has none waits for nothing of them.
        from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit  # noqa: PLC0415

        metrics = EphemeralMetrics(namespace=NAMESPACE, service=self._service)
        for name, value in counts.items():
            metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
        metrics.add_metric(name="Duration", unit=MetricUnit.Milliseconds, value=duration_ms)
        metrics.flush_metrics()
