"""How the `squash` command begins, and what Ctrl-C does until it can answer for itself."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from templates import ROOT

BEGIN = "import sys; from squash.cli.entry import main; sys.exit(main())"
LIBRARY = str(ROOT / "layers" / "squash")


def test_an_interrupt_while_it_loads_is_not_told(tmp_path):
    """It ends as what never heard of the signal does, wherever it was."""
    (tmp_path / "numpy.py").write_text(
        "import time\nprint('loading', flush=True)\ntime.sleep(60)\n", encoding="utf-8"
    )
    command = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", BEGIN, "list"],
        env={"PYTHONPATH": f"{tmp_path}:{LIBRARY}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with command:
        assert command.stdout.readline() == "loading\n"
        command.send_signal(signal.SIGINT)
        assert command.communicate(timeout=30) == ("", "")
    assert command.returncode == -signal.SIGINT


@pytest.mark.parametrize("name", ["default_int_handler", "SIG_IGN"])
def test_what_becomes_of_interrupts_afterwards_is_as_it_was(name):
    program = (
        "import signal, sys\n"
        "from squash.cli.entry import main\n"
        f"before = signal.{name}\n"
        "signal.signal(signal.SIGINT, before)\n"
        "main()\n"
        "sys.exit(signal.getsignal(signal.SIGINT) is not before)\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, "--version"],
        env={"PYTHONPATH": LIBRARY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("squash ")


def test_the_package_run_as_a_module_is_the_command():
    """Its words, its answers and its status are the same."""
    for words, status in ((["--version", "--json"], 0), (["qery"], 2)):
        scripted, run = (
            subprocess.run(  # noqa: S603
                [sys.executable, *begin, *words],
                env={"PYTHONPATH": LIBRARY},
                capture_output=True,
                text=True,
                check=False,
            )
            for begin in (["-c", BEGIN], ["-m", "squash"])
        )
        assert (run.stdout, run.stderr) == (scripted.stdout, scripted.stderr)
        assert run.returncode == scripted.returncode == status
