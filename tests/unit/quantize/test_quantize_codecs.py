"""Codecs: bounds that are never violated, estimates without bias, bytes as promised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash.container import Container, pack
from squash.errors import InvalidArgumentError, UnsupportedFormatError
from squash.quantize import CODECS, load_codec, train_codec
from squash.quantize.osq import allocate_bits

KINDS = ["normal", "skewed", "alike", "twins", "sparse", "far"]


def make_rows(kind: str, rows: int, dimension: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(rows, dimension))
    if kind == "skewed":
        data *= np.geomspace(1, 1e-3, dimension)
    if kind == "alike":
        data[:] = data[0]
    if kind == "twins":
        data = data[rng.integers(rows, size=rows)]
    if kind == "sparse":
        data *= rng.random(data.shape) < 0.1
    if kind == "far":
        data += 30.0
    return data


def encode(name, data, *, space, clusters, seed=0, bits=4, trained_on=None):
    data = data.astype(np.float32)
    member = np.sort(np.random.default_rng(seed).integers(clusters, size=len(data)))
    begins = np.searchsorted(member, np.arange(clusters + 1))
    means = np.stack(
        [
            data[member == c].mean(axis=0) if (member == c).any() else data[0]
            for c in range(clusters)
        ]
    ).astype(np.float32)
    sample = data if trained_on is None else trained_on.astype(np.float32)
    residuals = sample - (means[member] if trained_on is None else means[0])
    codec = train_codec(name, sample=sample, residuals=residuals, space=space, seed=seed, bits=bits)
    projected, centers = codec.project(data), codec.project(means)
    codes = codec.encode(projected, centers=centers, cluster_begins=begins)
    return codec, codes, centers, begins, member


def truth(data, query, space):
    wide, q = data.astype(np.float32).astype(np.float64), query.astype(np.float64)
    return -(wide @ q) if space == "dot" else ((wide - q) ** 2).sum(axis=1)


@settings(max_examples=250, deadline=None)
@given(
    name=st.sampled_from(CODECS),
    space=st.sampled_from(["l2", "dot"]),
    kind=st.sampled_from(KINDS),
    rows=st.sampled_from([1, 2, 31, 33, 64, 150]),
    dimension=st.integers(1, 70),
    clusters=st.integers(1, 4),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e4, 1e12]),
    bits=st.sampled_from([1, 2, 4, 7, 8]),
    near=st.booleans(),
    unseen=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_the_lower_bound_is_never_violated(
    name, space, kind, rows, dimension, clusters, scale, bits, near, unseen, seed
) -> None:
    """No true distance lies below its bound, on any data, also on rows no training saw."""
    rng = np.random.default_rng(seed)
    data = make_rows(kind, rows, dimension, seed) * scale
    trained_on = rng.normal(size=(40, dimension)) * scale if unseen else None
    codec, codes, centers, _, member = encode(
        name, data, space=space, clusters=clusters, seed=seed, bits=bits, trained_on=trained_on
    )
    query = data[rng.integers(rows)] * 1.001 if near else rng.normal(size=dimension) * scale * 2
    query = query.astype(np.float32)
    estimate, bound = codec.full_scan(
        codes,
        rows=np.arange(rows),
        row_clusters=member,
        centers=centers,
        prepared=codec.prepare(query),
    )
    assert not np.isnan(bound).any()
    assert not np.isnan(estimate).any()
    assert (bound <= truth(data, query, space)).all()


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize("name", CODECS)
def test_estimates_rank_nearly_as_distances_do(name: str, space: str) -> None:
    """At four bits, the ten nearest are among the thirty best estimates, and bounds come close."""
    rng = np.random.default_rng(3)
    data = make_rows("skewed", 3000, 48, 3) + 0.2 * rng.normal(size=(3000, 48))
    codec, codes, centers, begins, member = encode(name, data, space=space, clusters=6)
    hits, low_hits, slack = 0, 0, []
    for _ in range(20):
        query = (data[rng.integers(3000)] + 0.1 * rng.normal(size=48)).astype(np.float32)
        prepared = codec.prepare(query)
        estimate, bound = codec.full_scan(
            codes, rows=np.arange(3000), row_clusters=member, centers=centers, prepared=prepared
        )
        true = truth(data, query, space)
        ten = set(np.argsort(true)[:10].tolist())
        hits += len(ten & set(np.argsort(estimate)[:30].tolist()))
        slack.append(np.median(true - bound) / np.std(true))
        rows, low = codec.low_scan(
            codes,
            clusters=np.arange(6),
            cluster_begins=begins,
            centers=centers,
            prepared=prepared,
        )
        assert sorted(rows.tolist()) == list(range(3000))
        share = max(300, int(codec.low_keep_share * 3000))
        low_hits += len(ten & set(rows[np.argsort(low)[:share]].tolist()))
    assert hits >= 196
    assert low_hits >= (195 if name == "residual" else 160)
    assert name == "osq" or np.median(slack) < 0.5


def test_estimates_have_no_bias_near_the_query() -> None:
    """On the nearest rows the rescaled estimate errs to both sides alike, within two percent."""
    rng = np.random.default_rng(5)
    data = rng.normal(size=(4000, 64))
    for name in ("residual", "osq-factors", "osq-residual"):
        codec, codes, centers, _, member = encode(name, data, space="l2", clusters=8)
        errors = []
        for _ in range(30):
            query = rng.normal(size=64).astype(np.float32)
            true = truth(data, query, "l2")
            rows = np.sort(np.argsort(true)[:100])
            estimate, _ = codec.full_scan(
                codes,
                rows=rows,
                row_clusters=member[rows],
                centers=centers,
                prepared=codec.prepare(query),
            )
            errors.append(np.mean(estimate / true[rows] - 1.0))
        assert abs(np.mean(errors)) < 0.02


def test_grid_points_reach_the_known_cosines() -> None:
    """Mean cosine of residual and grid point at 1 to 4 bits, as published for random vectors."""
    data = np.random.default_rng(6).normal(size=(500, 128))
    for bits, expected in ((1, 0.80), (2, 0.94), (3, 0.983), (4, 0.995)):
        codec, codes, *_ = encode("residual", data, space="l2", clusters=1, bits=bits)
        units = codec._unpack(codes["full"]).astype(np.float64) - (2**bits - 1) / 2
        cosine = codes["full_factor"] / np.sqrt((units**2).sum(axis=1))
        assert abs(float(cosine.mean()) - expected) < 0.006


@pytest.mark.parametrize("dimension", [50, 128, 384, 784])
def test_codes_take_at_most_085_bytes_a_dimension(dimension: int) -> None:
    """Low-bit codes, full codes and factors together, as they are really stored."""
    data = np.random.default_rng(7).normal(size=(2048, dimension))
    for name in CODECS:
        codec, codes, *_ = encode(name, data, space="l2", clusters=4)
        assert codec.code_bytes_per_row() <= 0.85 * dimension
        stored = sum(array.nbytes for array in codes.values()) / 2048
        assert stored <= codec.code_bytes_per_row() * 1.04  # blocks that are not full


@pytest.mark.parametrize("name", CODECS)
def test_codecs_and_codes_survive_their_container(name: str) -> None:
    """Read back, a codec scores as it did; training is the same for a seed."""
    data = make_rows("normal", 200, 20, 1)
    codec, codes, centers, _, member = encode(name, data, space="l2", clusters=3)
    again, codes_again, *_ = encode(name, data, space="l2", clusters=3)
    header, arrays = codec.to_arrays()
    data_bytes = pack("x", 1, header={"codec": header}, arrays={**arrays, **codes})
    other_header, other_arrays = again.to_arrays()
    assert data_bytes == pack(
        "x", 1, header={"codec": other_header}, arrays={**other_arrays, **codes_again}
    )
    container = Container(data_bytes, kind="x", versions=(1,), where="x")
    loaded = load_codec(container.header["codec"], container.array)
    query = data[0].astype(np.float32)
    for one, two in zip(
        *(
            c.full_scan(
                {s.name: container.array(s.name) for s in c.specs},
                rows=np.arange(200),
                row_clusters=member,
                centers=centers,
                prepared=c.prepare(query),
            )
            for c in (codec, loaded)
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_bits_go_where_the_variance_is() -> None:
    """Greedy: each bit quarters what is left; at most eight a dimension."""
    assert allocate_bits(np.array([16.0, 1.0, 0.0]), 4).tolist() == [3, 1, 0]
    assert allocate_bits(np.array([1e30, 1.0]), 12).tolist() == [8, 4]
    assert allocate_bits(np.zeros(3), 100).tolist() == [8, 8, 8]


def test_unknown_codecs_are_refused() -> None:
    """By name when training, by version when reading."""
    rows = np.zeros((4, 2), np.float32)
    with pytest.raises(InvalidArgumentError, match="residual"):
        train_codec("pq", sample=rows, residuals=rows, space="l2", seed=0)
    with pytest.raises(UnsupportedFormatError, match="newer"):
        load_codec({"name": "residual", "version": 99}, lambda _: rows)
