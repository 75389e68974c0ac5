"""What a scan keeps depends on neither the order of the clusters nor their division.

So several processes may each scan some clusters of a query, and their merged answer is the one that
a single process gives, to the bit.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from scan_scenes import Scene, prepared_query, random_query, random_scene
from squash import kernels
from squash.kernels import native
from squash.kernels.tables import PreparedQuery, Ranked

EVERY_ROW = 5_000
# Of signs' factors: the secant's and the shift's places behind a block's signs, and odd halves.
SECANT_AT, SHIFT_AT = 128, 192
ODD_HALVES = np.array([np.nan, np.inf, -np.inf, 65504, -65504, -0.0], dtype=np.float16)


@dataclass
class Case:
    """A scene, a query, which rows are admitted, and how they are scanned."""

    scene: Scene
    query: PreparedQuery
    possible: np.ndarray
    keep: int
    reach: float
    share_min: float

    def scan(self, clusters, keep=None) -> Ranked:
        """Scan some clusters."""
        return kernels.scan(
            self.scene.table, np.array(clusters, dtype=np.int64), self.possible, self.query,
            keep=self.keep if keep is None else keep, reach=self.reach,
            share_min=self.share_min, bounds=True,
        )  # fmt: skip

    def kept(self, ranked: Ranked):
        """Return global rows, the bits of rank values and bounds, in their order."""
        places = self.scene.table.row_base[ranked.partition] + ranked.row
        return (
            places.tolist(),
            ranked.estimates.view(np.uint32).tolist(),
            ranked.lower_bounds.view(np.uint32).tolist(),
        )

    def merged(self, parts: list[Ranked]):
        """Return the same of the least `keep` rows of several scans."""
        places = np.concatenate([self.scene.table.row_base[p.partition] + p.row for p in parts])
        values = np.concatenate([part.estimates for part in parts])
        bounds = np.concatenate([part.lower_bounds for part in parts])
        order = np.lexsort((places, values))[: self.keep]
        return (
            places[order].tolist(),
            values[order].view(np.uint32).tolist(),
            bounds[order].view(np.uint32).tolist(),
        )


def spoil(rng, scene):
    """Give the signs of some rows factors that no encoder writes."""
    signs = kernels.low_groups(scene.table.dimension) * 16
    for blocks in scene.table.blocks:
        for at in (SECANT_AT, SHIFT_AT):
            halves = blocks[:, signs + at : signs + at + 64]
            odd = rng.choice(ODD_HALVES, (len(blocks), 32))
            some = np.repeat(rng.random((len(blocks), 32)) < 0.1, 2, axis=1)
            halves[some] = odd.view(np.uint8)[some]


@st.composite
def cases(draw):
    """Draw a case; clusters are dense and sparse, and many rows tie."""
    seed = draw(st.integers(0, 2**32 - 1))
    scale = draw(st.sampled_from([1e-20, 1e-3, 1.0, 1e12]))
    scene = random_scene(
        seed,
        dimension=draw(st.sampled_from([1, 2, 5, 8, 31, 33, 65, 130])),
        space=draw(st.sampled_from(["l2", "dot"])),
        kind=draw(st.sampled_from(["clustered", "duplicate", "zero", "far"])),
        scale=scale,
    )
    rng = np.random.default_rng(seed)
    if draw(st.booleans()):
        spoil(rng, scene)
    table = scene.table
    thinned = table.alive & rng.integers(0, 2**32, len(table.alive)).astype(np.uint32)
    return Case(
        scene,
        prepared_query(scene, random_query(seed, scene, scale)),
        draw(st.sampled_from([table.alive, thinned])),
        keep=draw(st.sampled_from([0, 1, 2, 8, 31, 100, EVERY_ROW])),
        reach=draw(st.sampled_from([0.0, 0.3, 0.8, 1e6])),
        share_min=draw(st.sampled_from([0.0, 0.5, 0.75, 2.0])),
    )


@pytest.mark.parametrize("name", native.variants())
@settings(max_examples=examples(60, least=25), deadline=None)
@given(case=cases(), data=st.data())
def test_what_is_kept_has_no_order(name, case, data):
    """Whatever the order of the clusters: the same rows, rank values and bounds."""
    clusters = list(range(len(case.scene.table.rows)))
    with native.use(name):
        wanted = case.scan(clusters)
        got = case.scan(data.draw(st.permutations(clusters)))
    assert case.kept(got) == case.kept(wanted)
    assert (got.admitted, got.low_scanned) == (wanted.admitted, wanted.low_scanned)


@pytest.mark.parametrize("name", native.variants())
@settings(max_examples=examples(60, least=25), deadline=None)
@given(case=cases(), data=st.data())
def test_scans_of_parts_merge_to_the_scan_of_all(name, case, data):
    """However clusters are divided, the least of what the parts keep is what one scan keeps."""
    count = len(case.scene.table.rows)
    owners = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    order = data.draw(st.permutations(range(count)))
    with native.use(name):
        wanted = case.scan(range(count))
        parts = [case.scan([c for c in order if owners[c] == owner]) for owner in range(4)]
    assert case.merged(parts) == case.kept(wanted)
    assert sum(part.admitted for part in parts) == wanted.admitted
    assert sum(part.low_scanned for part in parts) == wanted.low_scanned


@pytest.mark.parametrize("name", native.variants())
@settings(max_examples=examples(60, least=25), deadline=None)
@given(case=cases())
def test_what_is_pruned_could_not_have_been_kept(name, case):
    """A scan that keeps few keeps the first of one that keeps, and so prunes, nothing less."""
    clusters = range(len(case.scene.table.rows))
    with native.use(name):
        every, few = case.scan(clusters, keep=EVERY_ROW), case.scan(clusters)
    assert every.pruned == 0
    assert len(every.row) == every.admitted
    for all_of, first in zip(case.kept(every), case.kept(few), strict=True):
        assert first == all_of[: case.keep]


@settings(max_examples=examples(60, least=25), deadline=None)
@given(case=cases())
def test_variants_agree_on_odd_factors(case):
    """The rank values, bounds and counts of every variant are the twin's, NaN and all."""
    clusters = range(len(case.scene.table.rows))
    with native.use(native.NUMPY):
        wanted = case.scan(clusters)
    for name in native.variants():
        with native.use(name):
            got = case.scan(clusters)
        assert case.kept(got) == case.kept(wanted)
        for count in ("admitted", "low_scanned", "ranked", "pruned", "least_left"):
            assert getattr(got, count) == getattr(wanted, count)


@settings(max_examples=examples(40, least=25), deadline=None)
@given(case=cases())
def test_rank_values_are_estimates_that_signs_hold_back(case):
    """A sparse cluster's rows have their estimates; a dense one's never less than those."""
    clusters = range(len(case.scene.table.rows))
    case.share_min = 2.0
    gathered = case.scan(clusters, keep=EVERY_ROW)
    case.share_min = 0.0
    scanned = case.scan(clusters, keep=EVERY_ROW)
    base = case.scene.table.row_base
    estimates = dict(zip((base[gathered.partition] + gathered.row).tolist(),
                         gathered.estimates.tolist(), strict=True))  # fmt: skip
    for place, value in zip((base[scanned.partition] + scanned.row).tolist(),
                            scanned.estimates.tolist(), strict=True):  # fmt: skip
        assert value >= estimates[place]
    assert (gathered.low_scanned, scanned.low_scanned) == (0, scanned.admitted)
