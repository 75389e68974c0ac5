"""What Lambda says to a call that nobody waits for."""

from __future__ import annotations

import pytest
from botocore.session import Session
from botocore.stub import Stubber

from squash.api import calling
from squash.errors import InternalError, ThrottledError, UnavailableError

ASKED = {"FunctionName": "compactor", "InvocationType": "Event", "Payload": b"{}"}


@pytest.fixture
def answers(monkeypatch):
    """What Lambda answers, to both ways of calling."""
    client = Session().create_client(
        "lambda",
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - nobody is asked
        config=calling._CONFIG.merge(calling.Config(retries={"total_max_attempts": 1})),
    )
    for name in ("_client", "_brief_client"):
        monkeypatch.setattr(calling, name, lambda: client)
    with Stubber(client) as stubber:
        yield stubber


@pytest.mark.parametrize("call", [calling.call_later, calling.call_soon])
def test_a_call_that_is_taken(answers, call):
    answers.add_response("invoke", {"StatusCode": 202}, ASKED)
    call("compactor", b"{}")
    answers.assert_no_pending_responses()


@pytest.mark.parametrize("call", [calling.call_later, calling.call_soon])
@pytest.mark.parametrize(
    ("code", "status", "kind", "told"),
    [
        ("TooManyRequestsException", 429, ThrottledError, "slow down"),
        ("ServiceException", 500, UnavailableError, "failed"),
        ("ResourceNotFoundException", 404, InternalError, "deployed"),
        ("AccessDeniedException", 403, InternalError, "allow lambda:InvokeFunction"),
    ],
)
def test_a_call_that_is_not_taken_says_what_is_to_be_done(answers, call, code, status, kind, told):
    answers.add_client_error("invoke", code, http_status_code=status, expected_params=ASKED)
    with pytest.raises(kind, match=f"^function compactor: Lambda .*{told}"):
        call("compactor", b"{}")


def test_a_call_that_nobody_hears_may_be_made_again(monkeypatch):
    """Nothing listens there."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
    calling._brief_client.cache_clear()
    try:
        with pytest.raises(UnavailableError, match="did not answer"):
            calling.call_soon("compactor", b"{}")
    finally:
        calling._brief_client.cache_clear()
