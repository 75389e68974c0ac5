"""What a container is told: Lambda's variables, and where things are on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from squash.limits import MIB
from squash.local.artefacts import Artefact
from squash.local.processes import ContainerSettings
from squash.local.template import Function
from squash.local.template.values import REGION
from squash.values import dataclass

CREDENTIALS: Final = ("local", "local")
# In place of what a template says: there is no Parameter Store on this machine.
_INSTEAD: Final = {"SQUASH_SIGNING_KEY": "store"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all containers share."""

    runtime: Path
    lambda_url: str
    s3_url: str
    states_url: str | None
    credentials: tuple[str, str]
    environment: Mapping[str, str]


def container_settings(
    function: Function,
    artefact: Artefact,
    surroundings: Surroundings,
    *,
    port: int,
    folder: Path,
) -> ContainerSettings:
    """Return what one container is started with.

    Parameters
    ----------
    function, artefact, surroundings:
        What it runs, and where that and all else lies.
    port:
        Where it asks for work.
    folder:
        Its own: for its log, and for what stands for /tmp.

    """
    path = tuple(map(str, (*artefact.search_path, surroundings.runtime)))
    tmp = str(folder / "tmp")
    environment = {
        # In Lambda, what is free of /tmp is what the function has of it; here it is the disk.
        "SQUASH_TMP_BYTES": str(function.tmp_mb * MIB // 4 * 3),
        **function.environment,
        **{name: value for name, value in _INSTEAD.items() if name in function.environment},
        **surroundings.environment,
        **_of_lambda(function),
        **_of_machine(surroundings),
        "AWS_LAMBDA_LOG_STREAM_NAME": folder.name,
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "HOME": tmp,
        "LAMBDA_RUNTIME_DIR": str(surroundings.runtime),
        "LAMBDA_TASK_ROOT": str(artefact.folder),
        "PYTHONPATH": os.pathsep.join(path),
        "TMPDIR": tmp,
    }
    return ContainerSettings(
        environment=environment,
        path=path,
        folder=str(artefact.folder),
        log=str(folder / "log"),
        file_bytes_max=function.tmp_mb * MIB,
    )


def _of_lambda(function: Function) -> Mapping[str, str]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "_HANDLER": function.handler,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_FORMAT": "JSON" if function.json_logs else "Text",
        "LANG": "en_US.UTF-8",
        "PATH": os.defpath,
        "TZ": ":UTC",
    }


def _of_machine(surroundings: Surroundings) -> Mapping[str, str]:
    key, secret = surroundings.credentials
    states = surroundings.states_url
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        # Other services are not here: a call to one is answered 404, and leaves the machine never.
        "AWS_ENDPOINT_URL": surroundings.lambda_url,
        "AWS_ENDPOINT_URL_LAMBDA": surroundings.lambda_url,
        "AWS_ENDPOINT_URL_S3": surroundings.s3_url,
        **({} if states is None else {"AWS_ENDPOINT_URL_SFN": states}),
        "AWS_EC2_METADATA_DISABLED": "true",
        "SQUASH_LOCAL": "1",
    }
