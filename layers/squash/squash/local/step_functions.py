"""The Step Functions of the local cloud: moto's interpreter, with the template's state machines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from squash.errors import InvalidArgumentError, UnavailableError
from squash.local.processes import INSIDE
from squash.local.servers import Server, free_port, start_server
from squash.local.template import StateMachine
from squash.local.template.values import ACCOUNT_ID, REGION

_ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/state-machine"


async def start_step_functions(
    folder: Path, *, lambda_url: str, s3_url: str, credentials: tuple[str, str]
) -> Server:
    """Start Step Functions on a free port of loopback.

    Parameters
    ----------
    folder:
        For its log.
    lambda_url, s3_url:
        Where its tasks find functions, and its maps their items.
    credentials:
        For S3.

    Raises
    ------
    UnavailableError
        If it does not answer.

    """
    port = free_port()
    key, secret = credentials
    return await start_server(
        [sys.executable, str(INSIDE / "step_functions.py"), str(port), lambda_url, s3_url, REGION],
        what="the Step Functions of the local cloud",
        port=port,
        log=folder / "step-functions.log",
        environment={
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_EC2_METADATA_DISABLED": "true",
            "MOTO_ACCOUNT_ID": ACCOUNT_ID,
        },
    )


def make_state_machines(
    machines: Sequence[StateMachine], *, url: str, credentials: tuple[str, str]
) -> None:
    """Make the state machines.

    Raises
    ------
    InvalidArgumentError
        If a definition is not understood; `field` names the state machine.
    UnavailableError
        If Step Functions does not answer.

    """
    key, secret = credentials
    client: Any = boto3.client(
        "stepfunctions",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
    for machine in machines:
        try:
            client.create_state_machine(
                name=machine.name, definition=machine.definition, roleArn=_ROLE, type=machine.kind
            )
        except ClientError as error:
            problem = error.response.get("Error", {}).get("Message", str(error))
            raise InvalidArgumentError(
                f"the definition of the state machine {machine.logical_id} is not understood: "
                f"{problem[:2000]}",
                field=f"Resources.{machine.logical_id}",
            ) from error
        except BotoCoreError as error:
            raise UnavailableError(
                f"the Step Functions of the local cloud does not answer: {error}"
            ) from error
