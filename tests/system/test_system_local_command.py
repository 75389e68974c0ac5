"""`squash local` leaves no process behind, however it ends, and keeps what was stored."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import boto3
import pytest
from botocore.config import Config
from local_toys import Toys

from children import all_end, descendants
from squash.cli.main import main
from squash.local.s3_server import find_ministack

CREDENTIALS = {
    "region_name": "us-east-1",
    "aws_access_key_id": "local",
    "aws_secret_access_key": "local",
}


@contextmanager
def command(built, data, *options):
    """Run `squash local`; gives its process, and what it says of itself."""
    template, artefacts = built
    words = ["local", "--template", template, "--build", artefacts, "--data", data, "--json"]
    words += ["--api-port", "0", "--lambda-port", "0", "--url-port", "0", *options]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "squash.cli.main", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize(
    "forking", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["forked", "spawned"]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(built, tmp_path, number, forking):
    options = ["--s3-memory"] + ([] if forking else ["--no-fork-server"])
    with command(built, tmp_path, *options) as (process, places):
        client = boto3.client(
            "lambda",
            endpoint_url=places["lambda_url"],
            config=Config(retries={"total_max_attempts": 1}),
            **CREDENTIALS,
        )
        toys = Toys(None, client)
        with toys.running() as answers:  # one works, one is idle
            toys.call(do="echo")
            below = descendants(process.pid)
            assert len(below) == (4 if forking else 3)  # S3, two containers, and their server
            process.send_signal(number)
            assert process.wait(timeout=120) == (0 if number != signal.SIGKILL else -number)
            assert all_end(below)
    assert len(answers) == 1  # an error, or that the connection broke
    left = [path.name for path in tmp_path.glob("run-*")]
    assert len(left) == (1 if number == signal.SIGKILL else 0)


@pytest.mark.skipif(find_ministack() is None, reason="MiniStack is not installed")
def test_a_folder_of_objects_is_for_one_at_a_time(built, tmp_path, capsys):
    """Two would not know what the other writes: each took the other's keys for free ones."""
    template, artefacts = built
    words = ["local", "--template", template, "--build", artefacts, "--data", tmp_path]
    words += ["--api-port", "0", "--lambda-port", "0", "--url-port", "0"]
    with command(built, tmp_path):
        assert main([str(word) for word in words]) == 1
        assert "name another folder with --data" in capsys.readouterr().err
        with command(built, tmp_path, "--s3-memory"):  # it keeps nothing there
            pass
    with command(built, tmp_path):  # a killed one holds it no longer
        pass


def test_a_port_that_is_none_is_refused(built, tmp_path, capsys):
    """A second URL has the port after the first one's."""
    text = built[0].read_text()
    url = "{FunctionUrlConfig: {AuthType: NONE}}"
    for name in ("One", "Two"):
        folder = built[1] / name
        folder.mkdir(exist_ok=True)
        (folder / "app.py").write_text("")
        text += f"  {name}: {{Type: AWS::Serverless::Function, Properties: {url}}}\n"
    template = tmp_path / "urls.yaml"
    template.write_text(text)
    words = ["local", "--template", template, "--build", built[1], "--data", tmp_path]
    words += ["--s3-memory", "--api-port", "0", "--lambda-port", "0", "--url-port", "65535"]
    assert main([str(word) for word in words]) == 1
    assert "the port 65536 cannot be had" in capsys.readouterr().err


def test_it_says_what_it_is_and_where(built, tmp_path):
    store = "SQUASH_STORE=s3://squash-bucket/below"
    with command(built, tmp_path, "--s3-memory", "--environment", store) as (process, places):
        for name in ("api_url", "lambda_url", "s3_url"):
            assert places[name].startswith("http://127.0.0.1:")
        assert "moto, in memory" in places["s3"]
        assert places["buckets"] == ["squash-bucket"]
        assert places["stores"] == ["s3://squash-bucket/below"]
        assert "squash-Toy" in places["functions"]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == ""


def test_a_request_that_cannot_be_read_leaves_no_traceback(built, tmp_path):
    """Who sent it is answered; it would quote a header, which may be a credential."""
    request = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\0b\r\n\r\n"
    with command(built, tmp_path, "--s3-memory") as (process, places):
        for name in ("api_url", "lambda_url"):
            port = int(places[name].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(request)
                assert b" 400 " in connection.recv(1024).splitlines()[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == ""


def test_what_it_cannot_run_is_said_at_once(built, tmp_path, capsys):
    template, _ = built
    words = ["local", "--template", str(template), "--data", str(tmp_path)]
    assert main([*words, "--build", str(tmp_path / "nowhere")]) == 1
    assert "make build-local" in capsys.readouterr().err
    assert main(["local", "--template", str(tmp_path / "nowhere.yaml")]) == 1
    assert "--template" in capsys.readouterr().err
    faults = tmp_path / "faults.json"
    faults.write_text('[{"kind": "s3-fail"}]')
    assert main([*words, "--build", str(built[1]), "--faults", str(faults)]) == 1
    assert "--s3-proxy" in capsys.readouterr().err
    for wrong in (["--parameter", "A"], ["--api-port", "99999"], ["--containers", "0"]):
        assert main([*words, *wrong]) == 2
        assert wrong[0] in capsys.readouterr().err


@pytest.mark.skipif(find_ministack() is None, reason="MiniStack is not installed: make local")
def test_ministack_keeps_its_objects_through_a_kill(built, tmp_path):
    for body in (b"", b"kept"):
        with command(built, tmp_path) as (process, places):
            assert "MiniStack" in places["s3"]
            client = boto3.client("s3", endpoint_url=places["s3_url"], **CREDENTIALS)
            if body:
                stored = client.get_object(Bucket="squash-bucket", Key="k")["Body"].read()
                assert stored == body
            client.put_object(Bucket="squash-bucket", Key="k", Body=b"kept")
            process.kill()
