"""Losses are measured as they are defined, and a bound that is passed is said."""

import numpy as np

from squash.encoders.export.judge import BOUNDS, NEIGHBOURS, Bounds, compare_vectors
from squash.encoders.export.texts import varied_texts

VECTORS = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)


def test_nothing_is_lost_by_the_same_vectors_at_other_lengths():
    found = compare_vectors(VECTORS, VECTORS * 3)
    assert (found.texts, found.recall) == (40, 1.0)
    assert found.cosine_min > 1 - 1e-6
    assert found.drift_max < 1e-6
    assert not any(found.losses(bounds) for bounds in BOUNDS.values())


def test_a_turn_of_the_whole_space_loses_no_neighbour_and_a_flip_of_one_text_does():
    turn, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))
    turned = compare_vectors(VECTORS, (VECTORS @ turn).astype(np.float32))
    assert turned.recall == 1
    assert turned.drift_max < 1e-5
    assert turned.cosine_min < 0.9
    flipped = VECTORS.copy()
    flipped[3] *= -1
    lost = compare_vectors(VECTORS, flipped)
    assert lost.cosine_min < -0.999
    assert lost.recall < 1
    assert lost.drift_max > 0.5


def test_texts_with_one_vector_are_neighbours_as_good_as_each_other():
    same = np.repeat(VECTORS[:2], 2 * NEIGHBOURS, axis=0)
    order = np.random.default_rng(3).standard_normal(same.shape).astype(np.float32) * 1e-7
    assert compare_vectors(same, same + order).recall == 1


def test_every_bound_that_is_passed_is_named_with_its_figure():
    found = compare_vectors(VECTORS, np.roll(VECTORS, 1, axis=0))
    lines = found.losses(Bounds(0.9, 0.9, 0.01, 0.01, 0.9))
    names = ("cosine_mean", "cosine_min", "drift_mean", "drift_max", "recall")
    assert [line.split(" ")[0] for line in lines] == list(names)
    assert f"{found.recall:.4f} and should be at least 0.9" in lines[-1]


def test_the_texts_are_many_different_and_always_the_same():
    texts = varied_texts()
    assert texts == varied_texts()
    assert len(texts) == len(set(texts)) >= 200
    assert {"", "a", "\x00"} <= set(texts)
    assert max(map(len, texts)) > 5_000
    for text in texts:
        text.encode()  # none holds half a character
