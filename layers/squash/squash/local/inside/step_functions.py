"""moto's Step Functions: ``step_functions.py PORT LAMBDA_URL S3_URL REGION``.

moto interprets the state language. What it does unlike Step Functions, and what our machines would
notice, is mended here: it calls functions of its own, forgets their errors' names, takes a
distributed map with a failed item for a success, and so on; docs/local.md lists what is left.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from typing import Any, Final

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.core.config import default_user_config
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple

LOOPBACK: Final = "127.0.0.1"
CONNECTIONS_MAX: Final = 1000
FUNCTION_SECONDS_MAX: Final = 900 + 60
# A worker of a map calls itself for each item, and Step Functions has maps of many thousands.
FRAMES_MAX: Final = 100_000
WAIT_SECONDS: Final = 0.01
STATE: Final = "asl.component.state.exec"
ERROR: Final = "asl.component.common.error_name"


def interpreter(name: str) -> Any:
    """Return a module of moto's interpreter."""
    return importlib.import_module(f"moto.stepfunctions.parser.{name}")


class Clients:
    """Clients of what the local cloud has, each made once: it is slow, and not safe in threads."""

    def __init__(self, urls: dict[str, str], region: str) -> None:
        session = botocore.session.get_session()
        config = Config(
            retries={"total_max_attempts": 1},
            read_timeout=FUNCTION_SECONDS_MAX,
            max_pool_connections=CONNECTIONS_MAX,
            parameter_validation=False,
        )
        self._clients = {
            service: session.create_client(
                service, endpoint_url=url, region_name=region, config=config
            )
            for service, url in urls.items()
        }

    def find(self, region: str, service: str, state_credentials: Any = None) -> Any:  # noqa: ARG002
        """Stand for moto's `boto_client_for`."""
        if service not in self._clients:
            raise ValueError(f"the local cloud has no {service} for a state machine to call")
        return self._clients[service]


class Forgetful(list[Any]):
    """In place of moto's list of all threads there ever were, which it keeps for nobody."""

    def append(self, item: Any) -> None:
        """Forget it."""


def call_functions(clients: Clients) -> None:
    """Have tasks invoke our functions, and know their failures by the names AWS gives them."""
    calls = interpreter(f"{STATE}.state_task.lambda_eval_utils")
    task = interpreter(f"{STATE}.state_task.state_task_lambda").StateTaskLambda
    failures = interpreter(f"{ERROR}.failure_event")
    names = interpreter(f"{ERROR}.custom_error_name")
    events = interpreter("api").HistoryEventType

    def invoke(parameters: dict[str, Any], region: str, state_credentials: Any) -> Any:
        client = clients.find(region, "lambda", state_credentials)
        try:
            answer = client.invoke(**parameters)
            # As in the original: JSON if it is, else text.
            answer["Payload"] = calls._from_payload(answer["Payload"])  # noqa: SLF001
        except BotoCoreError as error:  # the answer was lost on its way
            problem: Any = {
                "Error": {"Code": "SdkClientException", "Message": str(error)},
                "ResponseMetadata": {"HTTPStatusCode": 0, "RequestId": ""},
            }
            raise ClientError(problem, "Invoke") from error
        return answer

    original = task._from_error  # noqa: SLF001

    def from_error(self: Any, env: Any, ex: Exception) -> Any:
        if not isinstance(ex, ClientError):
            return original(self, env=env, ex=ex)
        # The original calls them all "Exception" where a task is a function's ARN.
        error, cause = f"Lambda.{ex.response['Error']['Code']}", ex.response["Error"]["Message"]
        return failures.FailureEvent(
            env=env,
            error_name=names.CustomErrorName(error),
            event_type=events.LambdaFunctionFailed,
            event_details={"lambdaFunctionFailedEventDetails": {"error": error, "cause": cause}},
        )

    calls._invoke_lambda_function = invoke  # noqa: SLF001
    task._from_error = from_error  # noqa: SLF001


def fail_maps() -> None:
    """Have a distributed map fail when more items failed than it tolerates; all are run first."""
    component = interpreter(
        f"{STATE}.state_map.iteration.distributed_iteration_component"
    ).DistributedIterationComponent
    failures = interpreter(f"{ERROR}.failure_event")
    names = interpreter(f"{ERROR}.states_error_name")
    kinds = interpreter(f"{ERROR}.states_error_name_type").StatesErrorNameType
    events = interpreter("api").HistoryEventType

    original = component._map_run  # noqa: SLF001

    def map_run(self: Any, env: Any, eval_input: Any) -> None:
        original(self, env=env, eval_input=eval_input)
        if not env.is_running():  # items of an execution that was stopped count as failed
            return
        record = eval_input.map_run_record
        items = record.item_counter
        failed, total = items.failed.get() + items.timed_out.get(), items.total.get()
        count, percent = record.tolerated_failure_count, record.tolerated_failure_percentage
        over = [failed > count, 100 * failed > percent * total]
        # Of the two, one that is not given is zero, and tolerates what the other does.
        if not (any(over) if count and percent else all(over)):
            return
        kind = kinds.StatesExceedToleratedFailureThreshold
        details = {
            "error": kind.to_name(),
            "cause": "The specified tolerated failure threshold was exceeded",
        }
        raise failures.FailureEventException(
            failures.FailureEvent(
                env=env,
                error_name=names.StatesErrorName(typ=kind),
                event_type=events.MapRunFailed,
                event_details={"mapRunFailedEventDetails": details},
            )
        )

    component._map_run = map_run  # noqa: SLF001


def start_and_stop() -> None:
    """Have executions named that are not, and stopped as soon as that is asked for."""
    backend = interpreter("models").StepFunctionsParserBackend
    execution = interpreter("backend.execution").Execution
    status = interpreter("api").ExecutionStatus
    start, stop = backend.start_execution, execution.stop

    def started(self: Any, state_machine_arn: str, name: str | None = None, *rest: Any) -> Any:
        return start(self, state_machine_arn, name or os.urandom(16).hex(), *rest)

    def stopped(self: Any, **why: Any) -> None:
        while self.exec_worker.env is None:  # its thread is about to make it
            time.sleep(WAIT_SECONDS)
        stop(self, **why)
        # The original says so only when the task that runs, or waits to be repeated, is over.
        if self.exec_status == status.RUNNING:
            self.exec_status, self.stop_date = status.ABORTED, why["stop_date"]

    backend.start_execution = started
    execution.stop = stopped


def serve(port: int, urls: dict[str, str], region: str) -> None:
    """Serve Step Functions until ended."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sys.setrecursionlimit(FRAMES_MAX)
    clients = Clients(urls, region)
    # Before the other modules are loaded, which take these into their own.
    interpreter("asl.utils.boto_client").boto_client_for = clients.find
    interpreter("utils").TMP_THREADS = Forgetful()
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    call_functions(clients)
    fail_maps()
    start_and_stop()
    run_simple(
        LOOPBACK,
        port,
        DomainDispatcherApplication(create_backend_app),
        threaded=True,
        request_handler=MotoRequestHandler,
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), {"lambda": sys.argv[2], "s3": sys.argv[3]}, sys.argv[4])
