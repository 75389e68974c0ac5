"""From the event of an HTTP API or a function's URL to a request, and back to an answer.

Both have payload format 2.0. A URL leaves the path as it was sent; an HTTP API decodes it, and cuts
it at a question mark that was encoded.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from squash import strict_json
from squash.api.members import shown
from squash.api.problems import CONTENT_TYPE, Problem, UnsupportedMediaTypeError
from squash.errors import InvalidArgumentError, TooLargeError
from squash.limits import HTTP_ANSWER_BYTES_MAX, HTTP_BODY_BYTES_MAX, MIB
from squash.values import dataclass

_JSON: Final = "application/json"
_QUERY_FIELDS_MAX: Final = 16
_DEFAULT_STAGE: Final = "$default"
_URL_DOMAIN: Final = ".lambda-url."
_ACCOUNT: Final = re.compile("[0-9]{12}")
# Lambda's own client writes the answer as JSON, of ASCII alone before Python 3.12.
_ASCII_ONLY: Final = sys.version_info < (3, 12)
# Of the base64 characters there are four for three bytes, and the last four may be padding.
_BASE64_CHARACTERS_MAX: Final = 4 * (HTTP_BODY_BYTES_MAX // 3 + 1)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What an event asks; names of headers are in lower case."""

    id: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    body: str = ""
    body_is_base64: bool = False
    authorizer: Mapping[str, Any] = field(default_factory=dict)
    account: str = ""
    """Whose this deployment is, 12 digits; empty where nothing says it."""

    def parameters(self) -> dict[str, str]:
        """Return the query string's parameters.

        Raises
        ------
        InvalidArgumentError
            If one is given twice, or they are not UTF-8.

        """
        try:
            pairs = parse_qsl(
                self.query,
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_QUERY_FIELDS_MAX,
            )
        except ValueError as error:
            raise InvalidArgumentError(
                f"the query string cannot be read: give at most {_QUERY_FIELDS_MAX} parameters, "
                "in UTF-8"
            ) from error
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = shown(next(name for name in names if names.count(name) > 1))
            raise InvalidArgumentError(f"{twice} is given twice: give it once", field=twice)
        return found

    def document(self) -> Any:
        """Parse the body.

        Raises
        ------
        UnsupportedMediaTypeError
            If it does not say that it is JSON, or is compressed.
        TooLargeError
            If it is longer than is taken; it is not looked at then.
        InvalidArgumentError
            If it is not JSON, or null, which no route takes: None is no body at all.

        """
        if not self.says_json():
            raise UnsupportedMediaTypeError(
                f"the body is not said to be JSON: send the header content-type: {_JSON}"
            )
        coding = self.headers.get("content-encoding", "").strip().lower()
        if coding not in {"", "identity"}:
            raise UnsupportedMediaTypeError(
                f"the body is compressed (content-encoding: {shown(coding)}): send it as it is"
            )
        data = self.data()
        if not data:
            raise InvalidArgumentError("the body is empty: send a JSON object")
        try:
            found = strict_json.loads(data)
        except strict_json.JsonError as error:
            # The parser tells where it stopped; what stands there is the caller's own.
            raise InvalidArgumentError(
                f"the body is not JSON: {error}", field=error.place and shown(error.place)
            ) from error
        if found is None:
            raise InvalidArgumentError("the body is null: send a JSON object")
        return found

    def says_json(self) -> bool:
        """Tell if the body is said to be JSON, whether there is one or not."""
        kind, _, parameters = self.headers.get("content-type", "").partition(";")
        words = parameters.replace('"', "").strip().lower()
        return kind.strip().lower() == _JSON and words in {"", "charset=utf-8"}

    def data(self) -> bytes:
        """Return the body as it was sent.

        Raises
        ------
        TooLargeError
            If it is longer than is taken.
        InvalidArgumentError
            If the gateway's base64 cannot be decoded.

        """
        most = _BASE64_CHARACTERS_MAX if self.body_is_base64 else HTTP_BODY_BYTES_MAX
        # As text it has at least as many bytes as characters: a long one need not be encoded.
        data = self.body.encode(errors="replace") if len(self.body) <= most else b""
        if self.body_is_base64:
            try:
                data = base64.b64decode(data, validate=True)
            except binascii.Error as error:
                raise InvalidArgumentError("the body cannot be decoded: send it again") from error
        if len(self.body) > most or len(data) > HTTP_BODY_BYTES_MAX:
            raise TooLargeError(
                f"the body has more than {HTTP_BODY_BYTES_MAX // MIB} MiB: send fewer records "
                "or queries in a request, or vectors as base64"
            )
        return data


@dataclass(frozen=True, slots=True)
class Reply:
    """A result on its way to the caller.

    Parameters
    ----------
    document, status, headers:
        What is answered.
    spent:
        For the log: what it took of what is paid for.

    """

    document: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)


def request_of(
    event: Mapping[str, Any], *, fallback_id: str, function_arn: str = ""
) -> HttpRequest:
    """Read an event.

    Parameters
    ----------
    event:
        Payload format 2.0.
    fallback_id:
        The request's id where the gateway gave none.
    function_arn:
        Of the function that was invoked, if it is one.

    Raises
    ------
    InvalidArgumentError
        If it is no such event.

    """
    try:
        context, body = event["requestContext"], event.get("body") or ""
        path, method = str(event["rawPath"]), str(context["http"]["method"]).upper()
        headers = {name.lower(): str(value) for name, value in (event.get("headers") or {}).items()}
        authorizer = context.get("authorizer") or {}
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_event() from error
    if not (isinstance(body, str) and isinstance(authorizer, dict)):
        raise _no_event()
    if _URL_DOMAIN in str(context.get("domainName")):
        path = unquote(path).partition("?")[0]  # an answer does not hang on which door was taken
    stage = context.get("stage") or _DEFAULT_STAGE
    if stage != _DEFAULT_STAGE and path.startswith(f"/{stage}/"):
        path = path[len(stage) + 1 :]
    return HttpRequest(
        id=str(context.get("requestId") or fallback_id),
        method=method,
        path=path,
        headers=headers,
        query=str(event.get("rawQueryString") or ""),
        body=body,
        body_is_base64=bool(event.get("isBase64Encoded")),
        authorizer=authorizer,
        account=_account(context.get("accountId"), function_arn),
    )


def _no_event() -> InvalidArgumentError:
    return InvalidArgumentError(
        "this is no event of an HTTP API with payload format 2.0: connect the function so"
    )


def _account(said: Any, function_arn: str) -> str:
    """Return the account's digits: a URL that lets everybody in says "anonymous" instead."""
    of_arn = function_arn.split(":")[4:5]
    return next((one for one in (str(said), *of_arn) if _ACCOUNT.fullmatch(one)), "")


def answer_of(reply: Reply, *, request_id: str) -> dict[str, Any]:
    """Write a result as the gateway takes it.

    Raises
    ------
    TooLargeError
        If it is longer than Lambda lets through.

    """
    body = json.dumps(reply.document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    _check_length(body)
    return _answer(reply.status, body, {"content-type": _JSON, **reply.headers}, request_id)


def refuse_longer(least_bytes: int) -> None:
    """Refuse a result that is known to be too long before it is written.

    Raises
    ------
    TooLargeError
        If what it has at least is more than Lambda lets through.

    """
    if least_bytes > HTTP_ANSWER_BYTES_MAX:
        raise too_long()


def problem_answer(problem: Problem, *, request_id: str) -> dict[str, Any]:
    """Write a problem as the gateway takes it; in ASCII, since it may quote half a character."""
    body = json.dumps(problem.document, allow_nan=False, separators=(",", ":"))
    headers = {"content-type": CONTENT_TYPE, **problem.headers}
    return _answer(problem.status, body, headers, request_id)


def _answer(status: int, body: str, headers: Mapping[str, str], request_id: str) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {**headers, "cache-control": "no-store", "x-request-id": request_id},
        "body": body,
        "isBase64Encoded": False,
    }


def _check_length(body: str) -> None:
    if answer_bytes(body) > HTTP_ANSWER_BYTES_MAX:
        raise too_long()


def answer_bytes(body: str) -> int:
    """Return how long an answer's body is to Lambda: as a JSON string, with quotes escaped.

    What surely fits is not measured: it counts as twice its length.
    """
    most = 2 * len(body)
    if most <= HTTP_ANSWER_BYTES_MAX and body.isascii():
        return most
    return len(json.dumps(body, ensure_ascii=_ASCII_ONLY).encode())


def too_long() -> TooLargeError:
    """Return the error of an answer that is longer than Lambda lets through."""
    return TooLargeError(
        f"the answer has more than {HTTP_ANSWER_BYTES_MAX} bytes: ask for fewer records or queries "
        "in a request (top_k, limit, keys, queries), or include less"
    )
