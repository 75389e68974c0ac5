"""How the tables of a data set are to be read."""

from __future__ import annotations

from typing import Final

NOTES: Final = """## How to read the speed tables

All contestants run in one process on one thread, everything in memory, and answer the same \
questions. Recall is against brute force in float64, ties counted by distance; a row that fails \
the filter, or stands twice in an answer, would stop the run.

- **Filters** differ from query to query: half are a random range of one attribute, half of two, \
drawn so that the stated share of the rows passes in expectation. Faiss and brute force are \
handed the rows that pass for free, as bits and as a list; hnswlib as bytes that its callable \
looks into. Squash, zvec, LanceDB and the paper's method evaluate the filter inside the timed \
part; Squash also looks for newer commits and fetches the answers' keys. The second summary is \
of these alone: it says what somebody takes who comes with a filter and not with its rows.
- **Call** is one query a Python call. **Batch** is one call for all questions: `query_many` with \
a filter each, or one `search` on a matrix, which the peers offer without filters (faiss takes \
one selector for a whole call). zvec and LanceDB are not measured in batches.
- **CPU µs** is the mean CPU time of the process for a query, p50 and p99 are of the wall time of \
calls; answers are judged when all have been given. Everybody's chosen efforts are asked in \
{rounds} rounds, one contestant after the other, and the round with the least CPU time counts.
- **Effort**: on other queries every few steps of all settings are tried; the two settings that \
met a target most cheaply are then bisected on the measured queries, in steps of about 6 %, for \
the least that meets it there. So a peer's recall is never above what it had to be by more than \
such a step, which favours it: nobody knows that step beforehand.
- ***Squash, as asked*** is what a caller gets from `recall_target`, which was calibrated when \
the index was built, on its own rows. ***Least that does*** is found like a peer's effort.
- **x Squash** divides the peer's cost by that of Squash's least that does: like with like, call \
by call and batch by batch. In the summary the *best peer* is the cheapest that met the recall; \
*ratio at that recall* sets Squash as asked against the cheapest peer at the recall that Squash \
reached. Between two measured efforts of a peer the logarithm of its cost is taken to be linear \
in the logarithm of the share that its recall misses; beyond its best recall there is no figure.
- NumPy's brute force is no peer in the summary: it is handed the very rows that pass. It \
shows how much there is to win.
- Who takes more than {cost_ms:g} ms a query, or gains no recall from more effort, is not driven \
further: *not reached*. The paper's method gets {paper} questions and {paper_cost_ms:g} ms, \
LanceDB {lance} questions, and neither is asked for 100 answers; for these the others get \
{part:.0%} of the questions.
- *Warm* follows the same question with another filter that the same rows pass: filters that come \
again are known, as most are not. In the *cold* column 64 MB are swept through the processor's \
cache before each question. What of a warm answer is in kernels is counted of another one like it, \
by which they are called through ctypes; what that leaves of the warm one is Python's.
- **Build** is on one thread, in a process of its own; *MiB more* is the peak of anonymous memory \
above what held the vectors. *Bytes a row* is all that a query may read, vectors included."""
