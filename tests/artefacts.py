"""The functions as they are built, for this machine: `make build-local`'s own recipes."""

from __future__ import annotations

import fcntl
import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / ".cache" / "artefacts"


@dataclass(frozen=True)
class Artefacts:
    """A folder with a folder for each function and for the layer, by their logical ids."""

    folder: Path

    @property
    def layer(self):
        """What becomes /opt."""
        return self.folder / "LibraryLayer"

    @property
    def encoder_layer(self):
        """What is laid over it for the encoder function."""
        return self.folder / "EncoderLayer"

    @property
    def builder_layer(self):
        """What is laid over it for the builder function."""
        return self.folder / "BuilderLayer"

    @property
    def note(self):
        """What the layer says of itself."""
        return json.loads((self.layer / "BUILD.json").read_text())

    def function(self, name):
        """What becomes /var/task."""
        return self.folder / name

    def search_path(self, name):
        """Where a function finds its modules."""
        return [self.function(name), *(layer / "python" for layer in self.layers(name))]

    def layers(self, name):
        """Which layers a function has, that on top first."""
        own = {"Encoder": [self.encoder_layer], "Builder": [self.builder_layer]}
        return [*own.get(name, []), self.layer]


@functools.cache
def build_local():
    """Build what has changed since the last time: a minute at first, then an instant."""
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT.parent / "artefacts.lock").open("w") as lock:  # for tests in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        layers = {
            "squash": "LibraryLayer",
            "encoder": "EncoderLayer",
            "builder": "BuilderLayer",
        }
        for folder, layer in layers.items():
            _make(
                f"layers/{folder}/Makefile",
                f"build-{layer}",
                f"SQUASH_PYTHON={sys.executable}",
                "SQUASH_ARCH=here",
                f"ARTIFACTS_DIR={OUT / layer}",
            )
        _make("functions/Makefile", "build-all", f"ARTIFACTS_DIR={OUT}")
    return Artefacts(OUT)


def _make(makefile, *words):
    done = subprocess.run(  # noqa: S603 - our own makefiles
        ["make", "-f", makefile, *words],  # noqa: S607
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
