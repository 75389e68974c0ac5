"""Codecs on known data: sizes, quality, naive formulas, errors."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from squash import kernels
from squash.errors import DataError, InvalidArgumentError, UnsupportedFormatError
from squash.kernels import native
from squash.quantize import is_of_preset, load_codec, train_codec

OSQ_OPTIONS = [
    {"factors": factors, "residual": residual}
    for factors in (False, True)
    for residual in (False, True)
]


def clustered(rows=600, dimension=48, clusters=6, seed=0, spread=3.0):
    """Return rows sorted by cluster, where clusters begin, their means."""
    rng = np.random.default_rng(seed)
    lengths = rng.multinomial(rows, np.ones(clusters) / clusters)
    begins = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    middles = rng.standard_normal((clusters, dimension)) * spread + 5
    vectors = np.repeat(middles, lengths, axis=0) + rng.standard_normal((rows, dimension))
    vectors = vectors.astype(np.float32)
    means = np.array([vectors[a:b].mean(axis=0) for a, b in pairwise(begins)])
    return vectors, begins, means.astype(np.float32)


def encoded(name, space="l2", data=None, **options):
    """Train and encode; return codec, codes, centers, begins, vectors."""
    vectors, begins, means = data or clustered()
    residuals = vectors - np.repeat(means, np.diff(begins), axis=0)
    codec = train_codec(name, sample=vectors, space=space, seed=1, residuals=residuals, **options)
    centers = codec.project(means)
    codes = codec.encode(codec.project(vectors), centers=centers, cluster_begins=begins)
    return codec, codes, centers, begins, vectors


def labels_of(begins):
    """Return each row's cluster."""
    return np.repeat(np.arange(len(begins) - 1), np.diff(begins))


@pytest.mark.parametrize("dimension", [50, 128, 384, 784])
def test_default_codec_stays_within_its_bytes(dimension):
    """Low-bit code, full code and factors take at most 0.85 byte a dimension."""
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((64, dimension)).astype(np.float32)
    codec = train_codec("residual", sample=sample, space="l2", seed=0)
    assert codec.code_bytes_per_row() <= 0.85 * dimension
    codes = codec.encode(
        codec.project(sample),
        centers=np.zeros((1, dimension), dtype=np.float32),
        cluster_begins=np.array([0, 64]),
    )
    stored = sum(codes[spec.name].nbytes for spec in codec.specs)
    assert stored == codec.code_bytes_per_row() * 64


@pytest.mark.parametrize("options", OSQ_OPTIONS)
def test_osq_takes_the_bytes_it_says(options):
    """The paper's codec stores one bit and four bits a dimension, and its factors."""
    codec, codes, *_ = encoded("osq", **options)
    stored = sum(codes[spec.name].nbytes for spec in codec.specs if spec.per == "row")
    assert stored == codec.code_bytes_per_row() * 600
    assert codec.code_bytes_per_row() == 6 + 24 + 8 * options["factors"]


@pytest.mark.parametrize(("bits", "mean"), [(1, 0.80), (2, 0.94), (3, 0.983), (4, 0.995)])
def test_mean_cosine_of_codes_is_the_known_one(bits, mean):
    """Codes of random directions have the cosines that extended RaBitQ's have."""
    rows = np.random.default_rng(2).standard_normal((800, 128)).astype(np.float32)
    codec = train_codec("residual", sample=rows, space="l2", seed=3, bits=bits)
    codes = codec.encode(
        codec.project(rows),
        centers=np.zeros((1, 128), dtype=np.float32),
        cluster_begins=np.array([0, 800]),
    )
    sines = kernels.split_blocks(codes["blocks"], 128)[4].reshape(-1).astype(float)
    assert np.sqrt(1 - sines**2).mean() == pytest.approx(mean, abs=0.003)


@pytest.mark.parametrize("bits", range(1, 9))
def test_stored_fields_are_the_papers_letters(bits):
    """Every field equals its formula on the rows, and the sign plane is the codes' top bit."""
    codec, codes, centers, begins, vectors = encoded("residual", bits=bits)
    labels = labels_of(begins)
    residuals = codec.project(vectors).astype(float) - centers[labels]
    unpacked = kernels.unpack_grid(codes["full"], bits=bits, dimension=48)
    u = unpacked - ((1 << bits) - 1) / 2
    s = np.where(residuals >= 0, 1.0, -1.0)
    norms = np.linalg.norm(residuals, axis=1)
    np.testing.assert_array_equal(unpacked >> (bits - 1), residuals >= 0)
    low, *factors = kernels.split_blocks(codes["blocks"], 48)
    inside = np.concatenate(
        [
            np.arange(first, first + count)
            for first, count in zip(
                kernels.block_begins(begins)[:-1] * 32, np.diff(begins), strict=True
            )
        ]
    )
    norm, secant, shift, sine = (factor.reshape(-1)[inside] for factor in factors)
    signs = kernels.unpack_low(low, 48)
    for cluster, first in enumerate(kernels.block_begins(begins)[:-1] * 32):
        a, b = begins[cluster], begins[cluster + 1]
        np.testing.assert_array_equal(signs[first : first + b - a], residuals[a:b] >= 0)
    np.testing.assert_allclose(norm, norms, rtol=1e-6)
    heights = (residuals * s).sum(axis=1)
    np.testing.assert_allclose(secant, norms * math.sqrt(48) / heights, rtol=1e-3)
    slants = (centers[labels].astype(float) * s).sum(axis=1)
    np.testing.assert_allclose(shift, slants / heights, rtol=1e-3, atol=1e-6)
    cosines = (residuals * u).sum(axis=1) / norms / np.linalg.norm(u, axis=1)
    np.testing.assert_allclose(sine, np.sqrt(1 - cosines**2), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("space", ["l2", "dot"])
def test_low_estimates_equal_the_naive_formula(space):
    """Low-bit estimates are the rescaled products with the signs, to the tables' rounding."""
    codec, codes, centers, begins, vectors = encoded("residual", space)
    labels = labels_of(begins)
    query = vectors[17] + np.float32(0.1)
    prepared = codec.prepare(query)
    order = np.array([4, 0, 2])
    rows, estimates = codec.low_scan(
        codes, clusters=order, cluster_begins=begins, centers=centers, prepared=prepared
    )
    assert rows.tolist() == [r for c in order for r in range(begins[c], begins[c + 1])]
    residuals = codec.project(vectors).astype(float)[rows] - centers[labels[rows]]
    s = np.where(residuals >= 0, 1.0, -1.0)
    factors = (residuals**2).sum(axis=1) / (residuals * s).sum(axis=1)
    q = prepared.projected
    if space == "l2":
        gaps = q - centers[labels[rows]]
        products = factors * (gaps * s).sum(axis=1)
        naive = (gaps**2).sum(axis=1) + (residuals**2).sum(axis=1) - 2 * products
    else:
        naive = -(query.astype(float) @ codec.mean) - centers[labels[rows]] @ q
        naive = naive - factors * (s @ q)
    table = prepared.signs
    rounding = factors * len(table.entries) * table.step
    stored = 2.0**-10 * factors * (np.abs(q).sum() + np.abs(centers[labels[rows]]).sum(axis=1))
    assert (np.abs(estimates - naive) <= rounding + stored).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("space", ["l2", "dot"])
def test_full_estimates_equal_the_naive_formula(space, bits):
    """Estimates rescale the product with the code by |r|^2 / <r, u>."""
    codec, codes, centers, begins, vectors = encoded("residual", space, bits=bits)
    labels = labels_of(begins)
    query = vectors[5] * np.float32(1.1)
    prepared = codec.prepare(query)
    rows = np.random.default_rng(0).integers(0, 600, 100)
    got, _ = codec.full_scan(
        codes,
        rows=rows,
        row_clusters=labels[rows],
        cluster_begins=begins,
        centers=centers,
        prepared=prepared,
    )
    c = centers[labels[rows]].astype(float)
    r = codec.project(vectors).astype(float)[rows] - c
    u = kernels.unpack_grid(codes["full"][rows], bits=bits, dimension=48) - ((1 << bits) - 1) / 2
    factors = (r**2).sum(axis=1) / (r * u).sum(axis=1)
    q = prepared.projected
    if space == "l2":
        naive = ((q - c) ** 2).sum(axis=1) + (r**2).sum(axis=1)
        naive -= 2 * factors * ((q - c) * u).sum(axis=1)
    else:
        naive = -(query.astype(float) @ codec.mean) - c @ q - factors * (u @ q)
    np.testing.assert_allclose(got, naive, rtol=2e-3, atol=0.2)


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize("options", OSQ_OPTIONS)
def test_osq_scores_equal_naive_formulas(options, space):
    """Centroid estimates, cell bounds and Hamming counts are what plain loops give."""
    codec, codes, centers, begins, vectors = encoded("osq", space, **options)
    labels = labels_of(begins)
    prepared = codec.prepare(vectors[3])
    arguments = {"centers": centers, "prepared": prepared}
    rows = np.arange(600)
    estimates, bounds = codec.full_scan(
        codes, rows=rows, row_clusters=labels, cluster_begins=begins, **arguments
    )
    c = centers[labels].astype(float) * options["residual"]
    r = (codec.project(vectors) - c).astype(np.float32).astype(float)
    cells = codec.cells.codes(r.astype(np.float32))
    x = codec.cells.values(cells).astype(float)
    q = prepared.projected - c if space == "l2" else np.broadcast_to(prepared.projected, x.shape)
    base = -(c @ prepared.projected) - prepared.offset
    if options["factors"]:
        products = (q * x).sum(axis=1) * (r**2).sum(axis=1) / (r * x).sum(axis=1)
        lengths = (q**2).sum(axis=1) + (r**2).sum(axis=1)
        naive = lengths - 2 * products if space == "l2" else base - products
    else:
        at = codec.cells.begins[:-1] + cells
        lower, upper = codec.cells.lower[at], codec.cells.upper[at]
        if space == "l2":
            naive = ((q - x) ** 2).sum(axis=1)
            nearest = (np.clip(q, lower, upper) - q) ** 2
            np.testing.assert_allclose(bounds, nearest.sum(axis=1), rtol=1e-3, atol=1e-2)
        else:
            naive = base - (q * x).sum(axis=1)
            ends = np.array([np.abs(r[labels == i]).max(axis=0) for i in range(6)])[labels]
            np.testing.assert_allclose(codes["reach"][labels], ends, rtol=1e-6)
            best = np.where(q >= 0, np.minimum(upper, ends), np.maximum(lower, -ends))
            np.testing.assert_allclose(bounds, base - (q * best).sum(axis=1), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(estimates, naive, rtol=1e-4, atol=1e-2)
    found, counts = codec.low_scan(codes, clusters=np.arange(6), cluster_begins=begins, **arguments)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_array_equal(counts, ((q >= 0) != (r >= 0)).sum(axis=1))


@pytest.mark.parametrize(
    ("name", "options"),
    [("residual", {}), ("osq", {"residual": True}), ("osq", {"residual": False})],
)
@pytest.mark.parametrize("space", ["l2", "dot"])
def test_estimates_of_near_neighbours_have_little_bias(name, options, space):
    """Near a row, estimates are right on average, and bounds are not loose."""
    data = clustered(rows=1500, dimension=64, seed=4)
    codec, codes, centers, begins, vectors = encoded(name, space, data=data, **options)
    rng = np.random.default_rng(5)
    errors, gaps, scales = [], [], []
    for row in rng.integers(0, 1500, 150):
        query = (vectors[row] + 0.3 * rng.standard_normal(64)).astype(np.float32)
        cluster = labels_of(begins)[row]
        estimates, bounds = codec.full_scan(
            codes,
            rows=np.array([row]),
            row_clusters=np.array([cluster]),
            cluster_begins=begins,
            centers=centers,
            prepared=codec.prepare(query),
        )
        r = codec.project(vectors[row : row + 1]).astype(float)[0] - centers[cluster]
        x, q = vectors[row].astype(float), query.astype(float)
        true = ((x - q) ** 2).sum() if space == "l2" else -(x @ q)
        errors.append(float(estimates[0]) - true)
        gaps.append(true - float(bounds[0]))
        scales.append((r**2).sum())
    # Four standard errors of the mean are chance; what is beyond would be bias.
    chance = 4 * np.std(errors) / math.sqrt(len(errors))
    assert abs(np.mean(errors)) < chance + 0.002 * np.mean(scales)
    assert (
        0
        <= np.mean(gaps)
        < (0.2 if name == "residual" and space == "l2" else 1.0) * np.mean(scales)
    )


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize(("name", "options"), [("residual", {}), ("osq", {"residual": True})])
def test_a_row_on_its_center_is_as_far_as_the_center(name, options, space):
    """A residual of zero gives the center's distance as estimate, and as bound but for slack."""
    vectors = np.repeat(np.arange(1, 4, dtype=np.float32)[:, None], 7, axis=1)
    data = (vectors, np.array([0, 1, 2, 3]), vectors)
    codec, codes, centers, *_ = encoded(name, space, data=data, **options)
    prepared = codec.prepare(np.full(7, 0.5, dtype=np.float32))
    rows = np.arange(3)
    estimates, bounds = codec.full_scan(
        codes,
        rows=rows,
        row_clusters=rows,
        cluster_begins=np.arange(len(rows) + 1),
        centers=centers,
        prepared=prepared,
    )
    np.testing.assert_allclose(estimates, prepared.distances_to(centers), rtol=1e-5)
    np.testing.assert_allclose(bounds, prepared.distances_to(centers), rtol=1e-5)


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize(("name", "seeded"), [("residual", True), ("osq", False)])
def test_projection_keeps_distances_and_seeds_decide(name, seeded, space):
    """Projected distances are the distances, and equal seeds give equal codecs."""
    vectors, _, _ = clustered()
    codec = train_codec(name, sample=vectors, space=space, seed=1)
    again = train_codec(name, sample=vectors, space=space, seed=1)
    other = train_codec(name, sample=vectors, space=space, seed=2)
    for key, values in codec.to_arrays()[1].items():
        np.testing.assert_array_equal(again.to_arrays()[1][key], values)
    axes = "rotation" if seeded else "axes"
    same = np.array_equal(codec.to_arrays()[1][axes], other.to_arrays()[1][axes])
    assert same is not seeded
    prepared = codec.prepare(vectors[9])
    got = prepared.distances_to(codec.project(vectors))
    wide = vectors.astype(float)
    true = ((wide - wide[9]) ** 2).sum(axis=1) if space == "l2" else -(wide @ wide[9])
    np.testing.assert_allclose(got, true, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["residual", "osq"])
def test_no_rows_and_no_clusters_are_fine(name):
    """Nothing to encode or to scan gives empty arrays."""
    codec, _, centers, _, vectors = encoded(name)
    none = np.zeros(0, dtype=np.int64)
    codes = codec.encode(
        np.zeros((0, 48), dtype=np.float32), centers=centers[:0], cluster_begins=np.array([0])
    )
    arguments = {"centers": centers[:0], "prepared": codec.prepare(vectors[0])}
    for got in (
        codec.low_scan(codes, clusters=none, cluster_begins=np.array([0]), **arguments),
        codec.full_scan(
            codes, rows=none, row_clusters=none, cluster_begins=np.array([0]), **arguments
        ),
    ):
        assert [len(part) for part in got] == [0, 0]


def test_clusters_that_do_not_cover_the_rows_are_refused():
    """Encoding names what is wrong with cluster_begins."""
    codec, _, centers, begins, vectors = encoded("residual")
    for wrong in (begins[:-1], begins + 1, begins[::-1].copy()):
        with pytest.raises(InvalidArgumentError, match="cluster_begins"):
            codec.encode(codec.project(vectors), centers=centers, cluster_begins=wrong)


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("pq", {}, "codec"),
        ("residual", {"bits": 9}, "bits"),
        ("residual", {"bits": True}, "bits"),
        ("residual", {"factors": True}, "factors"),
        ("osq", {"bits_per_dimension": 0}, "bits_per_dimension"),
        ("osq", {"factors": 1}, "factors"),
        ("osq", {"residual": True}, "residuals"),
        ("osq", {"space": "cosine"}, "space"),
    ],
)
def test_wrong_options_are_named(name, options, field):
    """An unknown codec, option or value is refused by its name."""
    sample = np.zeros((3, 2), dtype=np.float32)
    arguments = {"space": "l2", **options}
    with pytest.raises(InvalidArgumentError) as caught:
        train_codec(name, sample=sample, seed=0, **arguments)
    assert caught.value.field == field


def test_unknown_stored_codecs_are_refused():
    """A name or version that this release does not know is an UnsupportedFormatError."""
    codec, *_ = encoded("residual")
    header, arrays = codec.to_arrays()
    for change in ({"codec": "saq"}, {"codec_version": 4}, {"codec": None}):
        with pytest.raises(UnsupportedFormatError, match="Install a newer release"):
            load_codec({**header, **change}, arrays.__getitem__)


@pytest.mark.parametrize(("dimension", "version"), [(63, 2), (64, 3), (100, 3)])
def test_rotations_are_stored_as_they_are(dimension, version):
    """Few dimensions are turned by a matrix, more without; either is read as it was trained."""
    codec, codes, *_, vectors = encoded("residual", data=clustered(dimension=dimension))
    header, arrays = codec.to_arrays()
    assert header["codec_version"] == codec.version == version
    assert set(arrays) == {"mean", "rotation" if version == 2 else "flips"}
    again = load_codec(header, arrays.__getitem__)
    assert again.project(vectors).tobytes() == codec.project(vectors).tobytes()
    assert again.readable(codes, np.array([0, len(vectors)])) is codes
    with native.use(native.NUMPY):
        turned = codec.project(vectors)
    np.testing.assert_allclose(turned, codec.project(vectors), atol=1e-5)
    gaps = np.linalg.norm(vectors[1:].astype(float) - vectors[:-1], axis=1)
    np.testing.assert_allclose(np.linalg.norm(np.diff(turned, axis=0), axis=1), gaps, rtol=1e-5)


@pytest.mark.parametrize("dimension", [48, 72])
def test_what_need_not_be_trained_anew(dimension):
    """What training gives fits, and an older rotation; older codes and other codecs do not."""
    codec, *_ = encoded("residual", data=clustered(dimension=dimension))
    assert is_of_preset(codec, "residual")
    matrix = np.eye(dimension, dtype=np.float32)
    older = replace(codec, rotation=matrix, version=2)
    assert is_of_preset(older, "residual")
    assert not is_of_preset(replace(older, version=1), "residual")
    assert not is_of_preset(codec, "osq")
    assert not is_of_preset(encoded("osq")[0], "residual")


@pytest.mark.parametrize(("name", "dimension"), [("residual", 48), ("residual", 72), ("osq", 48)])
def test_damaged_stored_codecs_are_refused(name, dimension):
    """A header or array that is not what it must be is a DataError, never a wrong answer."""
    codec, *_ = encoded(name, data=clustered(dimension=dimension))
    header, arrays = codec.to_arrays()
    for key in set(header) - {"codec", "codec_version"}:
        with pytest.raises(DataError):
            load_codec({**header, key: "x"}, arrays.__getitem__)
    for key, values in arrays.items():
        for wrong in (values[:-1], values.astype(np.float64)):
            with pytest.raises(DataError, match=key):
                load_codec(header, {**arrays, key: wrong}.__getitem__)
    if name == "osq":
        with pytest.raises(DataError, match="widths"):
            load_codec(header, {**arrays, "widths": arrays["widths"] + 9}.__getitem__)
