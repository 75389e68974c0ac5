"""Vectors over the wire API against a dict: what was put is there at once, and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from s3vectors_face import Service

_KEYS = st.sampled_from([f"k{i}" for i in range(12)] + ["é" * 512, "a b", "\x01", "𝄞"])
_VALUES = st.integers(-3, 3).map(float)
_VECTORS = st.lists(_VALUES, min_size=2, max_size=2)
_METADATA = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "n": st.integers(0, 3),
            "word": st.sampled_from(["a", "b"]),
            "list": st.lists(st.integers(0, 3), max_size=2),
            "text": st.recursive(
                st.one_of(st.none(), st.booleans(), st.text(max_size=3)),
                lambda inner: st.lists(inner, max_size=2),
                max_leaves=3,
            ),
        },
    ),
)


class Vectors(RuleBasedStateMachine):
    """One index with its dict; each call may meet a container that comes cold."""

    @initialize(metric=st.sampled_from(["euclidean", "cosine"]))
    def create(self, metric):
        self.metric = metric
        self.service = Service(dimension=2, metric=metric, non_filterable=["text"])
        self.rows = {}

    @rule()
    def come_cold(self):
        self.service = Service(store=self.service.store, clock=self.service.clock)

    @rule()
    def fold(self):
        self.service.index.optimize()

    @rule(records=st.lists(st.tuples(_KEYS, _VECTORS, _METADATA), min_size=1, max_size=6))
    def put(self, records):
        vectors = [
            {"key": key, "data": {"float32": vector}}
            | ({} if metadata is None else {"metadata": metadata})
            for key, vector, metadata in records
        ]
        answer = self.service.ask("PutVectors", vectors=vectors)
        zero = next((key for key, vector, _ in records if not any(vector)), None)
        if self.metric == "cosine" and zero is not None:
            assert answer.code == "ValidationException"
            assert "zero norm" in answer.message
        else:
            assert answer.document == {}
            self.rows |= {key: (vector, metadata or {}) for key, vector, metadata in records}

    @rule(keys=st.lists(_KEYS, min_size=1, max_size=4))
    def delete(self, keys):
        assert self.service.do("DeleteVectors", keys=keys) == {}
        for key in keys:
            self.rows.pop(key, None)

    @rule(keys=st.lists(_KEYS, min_size=1, max_size=6), data=st.booleans(), metadata=st.booleans())
    def get(self, keys, data, metadata):
        found = self.service.do("GetVectors", keys=keys, returnData=data, returnMetadata=metadata)
        wanted = [key for key in dict.fromkeys(keys) if key in self.rows]
        assert found["vectors"] == [self.document(key, data, metadata) for key in wanted]

    @rule(size=st.integers(1, 7), data=st.booleans(), metadata=st.booleans())
    def list(self, size, data, metadata):
        found = self.service.listed(
            "ListVectors", maxResults=size, returnData=data, returnMetadata=metadata
        )
        assert len(found) == len(self.rows)
        by_key = {one["key"]: one for one in found}
        assert by_key == {key: self.document(key, data, metadata) for key in self.rows}

    @rule(vector=_VECTORS, top_k=st.integers(1, 20), n=st.none() | st.integers(0, 3))
    def query(self, vector, top_k, n):
        if self.metric == "cosine" and not any(vector):
            return
        members = {} if n is None else {"filter": {"n": {"$gte": n}}}
        found = self.service.query(vector, top_k, returnDistance=True, **members)
        passing = [
            key for key, (_, note) in self.rows.items() if n is None or note.get("n", -1) >= n
        ]
        wanted = sorted(self.distance(vector, key) for key in passing)[:top_k]
        np.testing.assert_allclose([one["distance"] for one in found], wanted, atol=1e-6)
        assert len({one["key"] for one in found} & set(passing)) == len(found) == len(wanted)
        for one in found:
            assert abs(one["distance"] - self.distance(vector, one["key"])) < 1e-6
        assert found == sorted(found, key=lambda one: (one["distance"], one["key"]))

    def document(self, key, data, metadata):
        vector, note = self.rows[key]
        return (
            {"key": key}
            | ({"data": {"float32": vector}} if data else {})
            | ({"metadata": note} if metadata else {})
        )

    def distance(self, vector, key):
        q, x = np.array(vector), np.array(self.rows[key][0])
        if self.metric == "euclidean":
            return float(np.linalg.norm(q - x))
        return float(1 - q @ x / np.linalg.norm(q) / np.linalg.norm(x))


TestVectors = Vectors.TestCase
TestVectors.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
