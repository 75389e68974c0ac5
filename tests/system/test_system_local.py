"""The local cloud does as Lambda and API Gateway do: real processes, the real runtime client."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from local_toys import opened, refused, request, toys_of

from squash import limits
from squash.errors import UnavailableError
from squash.local import Fault, FaultKind
from squash.local.account import Policy
from waiting import until

# Containers ------------------------------------------------------------------------------------


def test_a_container_is_kept_and_knows_what_lambda_would_tell_it(either):
    first = either.call(do="about")
    options = {"ClientContext": base64.b64encode(b'{"custom": {"a": "b"}}').decode()}
    second = json.loads(either.answer(options=options, do="about")["Payload"].read())
    assert (first["pid"], first["calls"], second["calls"]) == (second["pid"], 1, 2)
    assert second["custom"] == {"a": "b"}
    assert first["arn"] == "arn:aws:lambda:us-east-1:000000000000:function:squash-Toy"
    assert 15_000 < first["remaining_ms"] <= 20_000
    environment = first["environment"]
    assert first["memory"] == environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert first["cwd"] == environment["LAMBDA_TASK_ROOT"]
    assert first["tmp"] == environment["TMPDIR"] == first["home"]
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "squash-Toy"
    assert environment["AWS_ENDPOINT_URL_S3"] == either.cloud.s3_url
    assert environment["SQUASH_LOCAL"] == "1"
    assert "VIRTUAL_ENV" not in environment


def test_a_client_context_may_have_several_lines(shared):
    """No header has: the call waited for its time-out."""
    text = json.dumps({"custom": {"a": "b é"}}, indent=2, ensure_ascii=False).encode()
    options = {"ClientContext": base64.b64encode(text).decode()}
    found = json.loads(shared.answer(options=options, do="about")["Payload"].read())
    assert found["custom"] == {"a": "b é"}


def test_code_comes_from_the_artefact_and_its_layers_only(either):
    names = ["boto3", "squash", "numpy", "pytest", "container", "tethered"]
    found = either.call(do="found", names=names)
    assert found == {"word": "from the layer", "boto3": True} | dict.fromkeys(names[1:], False)


def test_calls_at_once_run_in_containers_of_their_own(either):
    with either.running() as _, either.running() as _:
        busy = [one for one in either.cloud.containers() if not one["idle"]]
        assert len({one["pid"] for one in busy}) == 2
        assert len({either.call(do="about")["tmp"] for _ in range(2)}) == 1
    assert len([one for one in either.cloud.containers() if one["idle"]]) == 3


def test_tmp_goes_with_its_container(either):
    about = either.call(do="about")
    assert Path(about["tmp"]).is_dir()
    pidfd = os.pidfd_open(about["pid"])
    assert either.cloud.kill("Toy") == 1
    assert either.call(do="about")["tmp"] != about["tmp"]
    wait_for_end(pidfd)
    either.cloud.evict_idle()


def wait_for_end(*pidfds):
    """Wait until processes have ended."""
    import select

    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(20_000), "a process goes on"
        os.close(pidfd)


def test_an_error_is_the_functions_own_and_its_container_stays(either):
    pid = either.call(do="about")["pid"]
    error = either.error(do="raise")
    assert error["errorType"] == "ZeroDivisionError"
    assert "division" in error["errorMessage"]
    assert any("app.py" in line for line in error["stackTrace"])
    assert either.call(do="about")["pid"] == pid


def test_a_container_that_exits_is_replaced(either):
    pid = either.call(do="about")["pid"]
    error = either.error(do="exit")
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].endswith("Runtime exited with error: exit status 3")
    about = either.call(do="about")
    assert (about["calls"], about["pid"] != pid) == (1, True)


def test_a_module_that_does_not_load_is_said_at_every_call(either):
    for _ in range(2):
        error = either.error("Broken")
        assert error["errorType"] == "Runtime.ImportModuleError"
        assert "a_module_that_nobody_has" in error["errorMessage"]


def test_a_call_that_takes_too_long_ends_with_its_container(either):
    pid = either.call("Hasty", do="about")["pid"]
    error = either.error("Hasty", do="sleep", s=30)
    assert error["errorType"] == "Sandbox.Timedout"
    assert error["errorMessage"].endswith("Task timed out after 1.00 seconds")
    assert either.call("Hasty", do="about")["pid"] != pid


def test_a_container_over_its_memory_is_killed(toys):
    assert toys.call(do="fill", mb=100, hold_s=0) == 100 << 20
    # Held, it is seen while the call runs; and what is over for an instant counts too.
    for seconds in (19, 0):
        error = toys.error(do="fill", mb=300, hold_s=seconds)
        assert error["errorType"] == "Runtime.ExitError"
        assert error["errorMessage"].endswith("signal: killed")
    assert toys.call(do="about")["calls"] == 1


def test_a_file_larger_than_tmp_cannot_be_written(toys):
    toys.call(do="write", mb=20)
    assert toys.error(do="write", mb=600)["errorType"] in {"OSError", "Runtime.ExitError"}


def test_logs_come_with_the_answer_between_lambdas_own_lines(either):
    response = either.answer(options={"LogType": "Tail"}, do="print", text="hello\nthere")
    log = base64.b64decode(response["LogResult"]).decode().splitlines()
    request_id = response["ResponseMetadata"]["RequestId"]
    starts = [line for line in log if line.startswith("START")]
    assert starts == [f"START RequestId: {request_id} Version: $LATEST"]
    assert log[log.index(starts[0]) + 1 :][:3] == ["hello", "there", f"END RequestId: {request_id}"]
    assert "Init Duration" in log[-1]
    assert "Memory Size: 256 MB" in log[-1]
    again = either.answer(options={"LogType": "Tail"}, do="print", text="x" * 9000)
    tail = base64.b64decode(again["LogResult"])
    assert len(tail) == limits.LAMBDA_LOG_TAIL_BYTES
    assert b"Init Duration" not in tail
    assert "hello" in "".join(either.cloud.logs("Toy").values())


def test_an_idle_container_is_evicted_the_longest_unused_first(built):
    with opened(built, policy=Policy(containers_max=2)) as cloud:
        toys = toys_of(cloud)
        pids = [toys.call("Tenants", do="about", tenant=name)["pid"] for name in "abca"]
        assert pids[3] != pids[0]  # a's was the oldest when c's was started, then b's was
        assert [one["tenant"] for one in cloud.containers()] == ["c", "a"]
        assert cloud.evict_idle(older_than_s=1e6) == 0
        assert cloud.evict_idle() == 2
        assert cloud.containers() == []
        counts = cloud.stats()["functions"]["squash-Tenants"]
        assert (counts["evicted"], counts["cold"], counts["calls"]) == (4, 4, 4)


def test_what_a_burst_leaves_is_evicted_to_as_many_as_are_kept(built):
    with opened(built, policy=Policy(containers_max=2)) as cloud:
        toys = toys_of(cloud)
        with toys.running(), toys.running(), toys.running():
            assert len(cloud.containers()) == 3
        until(lambda: len(cloud.containers()) <= 2)
        assert len(cloud.containers()) == 2
        assert cloud.stats()["functions"]["squash-Toy"]["evicted"] == 1


# The invoke API --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "squash-Toy", "squash-Toy:$LATEST", "squash-Toy:live", "function:squash-Toy",
        "000000000000:function:squash-Toy",
        "arn:aws:lambda:us-east-1:000000000000:function:squash-Toy",
        "arn:aws:lambda:us-east-1:000000000000:function:squash-Toy:3",
    ],
)  # fmt: skip
def test_a_function_is_found_by_every_form_of_its_name(shared, name):
    payload = json.dumps({"do": "echo"}).encode()
    response = shared.client.invoke(FunctionName=name, Payload=payload)
    assert json.loads(response["Payload"].read()) == {"do": "echo"}
    assert response["ExecutedVersion"] == "$LATEST"


def test_a_function_that_is_not_there_is_not_found(shared):
    assert refused(shared, "Nobody") == ("ResourceNotFoundException", 404)
    assert request(shared.cloud.lambda_url, "GET", "/2015-03-31/functions")[0] == 404


def test_a_dry_run_runs_nothing(toys):
    before = toys.cloud.stats()
    response = toys.answer(options={"InvocationType": "DryRun"}, do="exit")
    assert (response["StatusCode"], toys.cloud.stats()) == (204, before)


def test_what_is_not_json_is_refused(shared):
    with pytest.raises(ClientError, match="InvalidRequestContentException"):
        shared.client.invoke(FunctionName="squash-Toy", Payload=b"{")
    with pytest.raises(ClientError, match="InvalidRequestContentException"):
        shared.client.invoke(FunctionName="squash-Toy", Payload=b"{}", ClientContext="%")
    with pytest.raises(ClientError, match="InvalidRequestContentException"):
        shared.client.invoke(FunctionName="squash-Toy", Payload=b"[" * 100_000)
    url, path = shared.cloud.lambda_url, "/2015-03-31/functions/squash-Toy/invocations"
    for kind in ("event", "Async"):
        odd = {"X-Amz-Invocation-Type": kind}
        assert request(url, "POST", path, body=b"{}", headers=odd)[0] == 400
    odd = {"X-Amz-Client-Context": b"\xff"}
    assert request(url, "POST", path, body=b"{}", headers=odd)[0] == 400
    json_type = {"Content-Type": "application/json"}
    assert request(url, "POST", "/_local/faults", body=b"[" * 100_000, headers=json_type)[0] == 400


def test_requests_are_limited_to_the_byte(shared):
    frame = len(json.dumps({"do": "echo", "x": ""}))
    largest = limits.LAMBDA_REQUEST_BYTES_MAX - frame
    assert len(shared.call(do="echo", x="x" * largest)["x"]) == largest
    assert refused(shared, do="echo", x="x" * (largest + 1)) == ("RequestTooLargeException", 413)
    later = {"InvocationType": "Event"}
    largest = limits.LAMBDA_ASYNC_REQUEST_BYTES_MAX - frame
    assert shared.answer(options=later, do="echo", x="x" * largest)["StatusCode"] == 202
    too_large = refused(shared, options=later, do="echo", x="x" * (largest + 1))
    assert too_large == ("RequestTooLargeException", 413)
    shared.cloud.settle()


def test_answers_are_limited_to_the_byte(shared):
    largest = limits.LAMBDA_RESPONSE_BYTES_MAX - 2  # the quotes
    assert len(shared.call(do="large", size=largest)) == largest
    error = shared.error(do="large", size=largest + 1)
    assert error["errorType"] == "Function.ResponseSizeTooLarge"


def test_reserved_concurrency_is_held(toys):
    with toys.running("Single"):
        assert refused(toys, "Single", do="echo") == ("TooManyRequestsException", 429)
        assert toys.call(do="echo") == {"do": "echo"}
    assert toys.call("Single", do="echo") == {"do": "echo"}
    # A container that ended counts no more.
    toys.error("Single", do="exit")
    assert toys.call("Single", do="echo") == {"do": "echo"}


def test_the_accounts_concurrency_is_held(toys):
    from contextlib import ExitStack

    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(toys.running())
        with pytest.raises(ClientError) as caught:
            toys.answer("Hasty", do="echo")
        assert caught.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"


def test_a_tenant_has_containers_of_its_own(toys):
    assert refused(toys, "Tenants", do="about") == ("InvalidParameterValueException", 400)
    assert refused(toys, do="about", tenant="a") == ("InvalidParameterValueException", 400)
    assert refused(toys, "Tenants", do="about", tenant="no/way?") == (
        "InvalidParameterValueException",
        400,
    )
    first, second = (toys.call("Tenants", do="about", tenant=name) for name in ("a", "b:r1"))
    assert (first["tenant"], second["tenant"]) == ("a", "b:r1")
    assert first["pid"] != second["pid"]
    assert toys.call("Tenants", do="about", tenant="a")["pid"] == first["pid"]
    tenants = {one["tenant"] for one in toys.cloud.containers() if one["tenant"]}
    assert tenants == {"a", "b:r1"}


def test_a_call_nobody_waits_for_is_tried_three_times_under_one_id(toys, tmp_path):
    for succeeds_at, attempts in ((2, 2), (9, 3)):
        path = tmp_path / f"attempts-{succeeds_at}"
        event = {"do": "attempt", "path": str(path), "until": succeeds_at}
        response = toys.answer(options={"InvocationType": "Event"}, **event)
        assert (response["StatusCode"], response["Payload"].read()) == (202, b"")
        toys.cloud.settle()
        request_id = response["ResponseMetadata"]["RequestId"]
        assert path.read_text().splitlines() == [request_id] * attempts
    assert toys.cloud.stats()["functions"]["squash-Toy"]["async_given_up"] == 1


def failing_starts(launcher, number):
    """Have the next starts of a function's containers fail."""
    start, left = launcher.start, [None] * number

    async def failing(name, settings):
        if left:
            left.pop()
            raise UnavailableError("no container starts")
        return await start(name, settings)

    launcher.start = failing


def test_an_event_whose_container_does_not_start_is_tried_again(toys, tmp_path, monkeypatch):
    """It was lost: neither tried again nor counted."""
    launcher = toys.cloud.cloud.account.pools["squash-Toy"].launcher
    before = toys.cloud.stats()["functions"]["squash-Toy"]["async_given_up"]
    for failures, given_up in ((1, 0), (3, 1)):
        toys.cloud.evict_idle()
        path = tmp_path / str(failures)
        with monkeypatch.context() as patch:
            patch.setattr(launcher, "start", launcher.start)
            failing_starts(launcher, failures)
            event = {"do": "attempt", "path": str(path), "until": 1}
            toys.answer(options={"InvocationType": "Event"}, **event)
            toys.cloud.settle()
        assert path.exists() == (not given_up)
        counts = toys.cloud.stats()["functions"]["squash-Toy"]
        assert counts["async_given_up"] == before + given_up


def test_a_container_that_did_not_start_takes_no_room(toys, monkeypatch):
    """It was counted as busy for ever, and a function of one call at once was throttled then."""
    launcher = toys.cloud.cloud.account.pools["squash-Single"].launcher
    monkeypatch.setattr(launcher, "start", launcher.start)
    failing_starts(launcher, 1)
    assert refused(toys, "Single", do="echo") == ("ServiceException", 500)
    assert toys.cloud.containers() == []
    assert toys.call("Single", do="echo") == {"do": "echo"}


def test_a_container_is_killed_though_it_only_starts(toys, monkeypatch):
    """Its call waited for the function's time-out."""
    account = toys.cloud.cloud.account
    launcher = account.pools["squash-Single"].launcher
    start = launcher.start

    async def killed_meanwhile(name, settings):
        account.kill("Single")
        return await start(name, settings)

    monkeypatch.setattr(launcher, "start", killed_meanwhile)
    assert toys.error("Single", do="echo")["errorType"] == "Runtime.ExitError"


def test_a_schedule_invokes_its_function(toys):
    toys.cloud.run_schedule("ToyHourly")
    toys.cloud.settle()
    assert "scheduled Scheduled Event" in "".join(toys.cloud.logs("Toy").values())


# S3 and faults ---------------------------------------------------------------------------------


def test_a_function_finds_s3_and_its_bucket(either):
    before = either.cloud.stats()["s3"]["requests"]
    assert either.call(do="s3") == "stored"
    assert either.cloud.stats()["s3"]["requests"] == before + 2
    client = boto3.client("s3", **either.cloud.client_arguments("s3"))
    assert client.get_object(Bucket="squash-bucket", Key="k")["Body"].read() == b"stored"


def test_s3_fails_on_demand(toys):
    failing = Fault(FaultKind.S3_FAIL, target="PUT /squash-bucket/*", count=1)
    losing = Fault(FaultKind.S3_DROP, target="PUT *", count=1)
    delaying = Fault(FaultKind.S3_DELAY, delay_ms=1.0)
    before = toys.cloud.stats()["s3"]
    # The client of the function repeats what failed, and what it had no answer to.
    for faults in ([failing], [losing], [delaying]):
        toys.cloud.set_faults(faults)
        assert toys.call(do="s3") == "stored"
    after = toys.cloud.stats()["s3"]
    assert after["failed"] == before["failed"] + 1
    assert after["dropped"] == before["dropped"] + 1
    assert after["requests"] == before["requests"] + 3 + 3 + 2


def test_a_call_is_throttled_killed_delayed_or_lost_on_demand(toys):
    toys.cloud.set_faults([Fault(FaultKind.THROTTLE, target="*-Toy", count=1)])
    assert refused(toys, do="echo") == ("TooManyRequestsException", 429)
    toys.cloud.set_faults([Fault(FaultKind.KILL, count=1)])
    error = toys.error(do="sleep", s=20)
    assert error["errorMessage"].endswith("signal: killed")
    toys.cloud.set_faults([Fault(FaultKind.DELAY, delay_ms=30_000)])
    config = Config(retries={"total_max_attempts": 1}, read_timeout=0.5)
    hasty = boto3.client("lambda", config=config, **toys.cloud.client_arguments("lambda"))

    def calls():
        return toys.cloud.stats()["functions"]["squash-Toy"]["calls"]

    before = calls()
    with pytest.raises(ReadTimeoutError):
        hasty.invoke(FunctionName="squash-Toy", Payload=b'{"do": "echo"}')
    # Its container is a new one, and may take longer to start than the client waits.
    until(lambda: calls() == before + 1)
    toys.cloud.set_faults([Fault(FaultKind.DROP, count=1)])
    with pytest.raises(ConnectionClosedError):
        toys.answer(do="echo")
    assert calls() == before + 2
    assert toys.call(do="echo") == {"do": "echo"}


def test_the_control_calls_speak_json(toys):
    url, json_type = toys.cloud.lambda_url, {"Content-Type": "application/json"}

    def control(method, what, document=None, headers=json_type):
        body = None if document is None else json.dumps(document)
        status, _, text = request(url, method, f"/_local/{what}", body=body, headers=headers)
        return status, json.loads(text)

    toys.call(do="echo")
    assert control("POST", "faults", [{"kind": "throttle", "count": 1}]) == (200, {"faults": 1})
    assert [one["kind"] for one in control("GET", "faults")[1]] == ["throttle"]
    assert refused(toys, do="echo")[1] == 429
    assert control("GET", "faults") == (200, [])
    assert control("POST", "kill", {"function": "Toy"}) == (200, {"killed": 1})
    assert control("POST", "evict", {})[0] == 200
    assert control("POST", "evict", {"older_than_s": 1e6}) == (200, {"evicted": 0})
    assert control("GET", "containers") == (200, [])
    assert control("GET", "stats")[1] == toys.cloud.stats()
    assert control("POST", "schedules/ToyHourly", {}) == (200, {"invoked": "ToyHourly"})
    toys.cloud.settle()
    assert len(control("GET", "logs/Toy")[1]) == 1
    for method, what, document in (
        ("POST", "faults", {"kind": "kill"}), ("POST", "kill", {}),
        ("POST", "kill", {"function": "x"}), ("GET", "anything", None), ("POST", "schedules/x", {}),
        ("POST", "kill", {"function": ["Toy"]}), ("POST", "kill", {"function": "Toy", "all": 1}),
        ("POST", "kill", {"function": "Toy", "container": 1}),
        ("POST", "evict", {"function": "Toy"}), ("POST", "evict", [1]),
        ("POST", "evict", {"older_than_s": None}), ("POST", "evict", {"older_than_s": -1}),
        ("POST", "evict", {"older_than_s": 10**400}),
    ):  # fmt: skip
        assert control(method, what, document)[0] == 400
    # What is too long to be read is not taken for nothing, which would evict all.
    assert control("POST", "evict", {"older_than_s": 1e6, "x": "y" * (1 << 20)})[0] == 413
    # A form of a page in a browser is not taken for an order.
    assert (
        control("POST", "kill", {"function": "Toy"}, headers={"Content-Type": "text/plain"})[0]
        == 415
    )
