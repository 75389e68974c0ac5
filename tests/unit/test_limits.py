"""How the limits relate: each relation is one that code or a stored format relies on."""

import re

import numpy as np
import pytest

from squash import limits
from squash.container import ALIGNMENT, HEADER_BYTES_MAX
from squash.index.opening import STALE_AFTER_MS
from squash.kernels.packing import low_groups
from squash.maintain import BuildOptions
from squash.storage import ranges


def test_names():
    """The pattern of index names admits as many characters as the limit says, and no path."""
    pattern = re.compile(limits.INDEX_NAME_PATTERN)
    assert pattern.fullmatch("a" * limits.INDEX_NAME_CHARACTERS_MAX)
    assert not pattern.fullmatch("a" * (limits.INDEX_NAME_CHARACTERS_MAX + 1))
    assert not any(pattern.fullmatch(name) for name in ("", ".", "a/b", "-a", "a-", "A", "a\n"))


def test_object_keys_fit():
    """The longest key that is stored fits S3's, with room for a prefix of the user's."""
    longest = (
        f"{'a' * limits.INDEX_NAME_CHARACTERS_MAX}/{'0' * 32}/segments/{'0' * 32}/deleted-{0:020}"
    )
    assert len(longest) < limits.OBJECT_KEY_BYTES_MAX // 4


def test_metadata():
    """What is filterable is part of what is stored; names and filters can hold each other."""
    assert limits.METADATA_FILTERABLE_BYTES_MAX <= limits.METADATA_BYTES_MAX
    assert limits.ATTRIBUTE_NAME_BYTES_MAX < limits.METADATA_FILTERABLE_BYTES_MAX
    assert limits.NON_FILTERABLE_KEYS_MAX <= limits.METADATA_KEYS_MAX
    # Any stored string can be asked for, and any stored list be named whole.
    assert limits.FILTER_STRING_BYTES_MAX >= limits.METADATA_FILTERABLE_BYTES_MAX
    assert limits.FILTER_LIST_VALUES_MAX >= limits.METADATA_LIST_ELEMENTS_MAX


def test_numbers():
    """Integers are exact as doubles; squared distances of the largest vectors stay finite."""
    assert float(limits.INTEGER_MAGNITUDE_MAX) == limits.INTEGER_MAGNITUDE_MAX
    assert float(limits.INTEGER_MAGNITUDE_MAX + 1) != limits.INTEGER_MAGNITUDE_MAX + 1
    with np.errstate(over="raise"):
        furthest = np.float32(2 * limits.VECTOR_VALUE_MAGNITUDE_MAX) ** 2
        assert np.isfinite(furthest * np.float32(limits.DIMENSION_MAX))


def test_cells():
    """A cell's code fits a byte with 0 for missing; a signature fits an integer."""
    assert limits.CELLS_MAX + 1 == 1 << 8
    assert limits.SIGNATURE_BITS == 64


def test_rows():
    """Pages and blocks divide as the formats rely on; partitions hold clusters, and fit u32."""
    assert limits.ROW_PAGE_ROWS % limits.CODE_BLOCK_ROWS == 0
    assert limits.CLUSTER_ROWS_TARGET % limits.CODE_BLOCK_ROWS == 0
    assert limits.CLUSTER_ROWS_TARGET < limits.PARTITION_ROWS_TARGET < limits.PARTITION_ROWS_MAX
    assert max(limits.PARTITION_ROWS_MAX, limits.FLAT_SEGMENT_ROWS_MAX) < 1 << 32
    assert limits.EXACT_ROWS_MAX <= limits.FLAT_SEGMENT_ROWS_MAX
    assert limits.SCAN_ALL_MATCHES_MAX <= limits.EXACT_ROWS_MAX
    # A page of vectors starts aligned, whatever the dimension.
    assert limits.ROW_PAGE_ROWS * 4 % ALIGNMENT == 0


def test_objects():
    """The largest objects of the largest segment fit one put."""
    rows = limits.PARTITION_ROWS_MAX
    assert rows * limits.DIMENSION_MAX * 4 < limits.OBJECT_BYTES_MAX
    assert rows * (limits.METADATA_BYTES_MAX + limits.KEY_BYTES_MAX) < limits.OBJECT_BYTES_MAX * 8
    assert rows * low_groups(limits.DIMENSION_MAX) < limits.OBJECT_BYTES_MAX
    assert HEADER_BYTES_MAX < limits.OBJECT_BYTES_MAX


def test_commits():
    """A commit fits memory and a snapshot's period; large puts have somewhere to go."""
    assert limits.INLINE_COMMIT_ROWS_MAX <= limits.FLAT_SEGMENT_ROWS_MAX
    assert limits.INLINE_COMMIT_BYTES_MAX <= limits.SNAPSHOT_EVERY_LOG_BYTES
    assert limits.DIMENSION_MAX * 4 + limits.METADATA_BYTES_MAX < limits.INLINE_COMMIT_BYTES_MAX
    assert limits.SNAPSHOT_EVERY_COMMITS > 1
    assert limits.COMMIT_ATTEMPTS_MAX > 1


def test_garbage():
    """Who is about to name an object commits before it may be taken, whatever clocks drift."""
    assert limits.COMMIT_WITHIN_MS + 3_600_000 < limits.GC_GRACE_MS
    assert limits.GC_RETENTION_S_MIN <= limits.GC_RETENTION_S_DEFAULT
    # Numbers of the log, and the state that a reader knows, are used for less than is kept.
    assert STALE_AFTER_MS < limits.GC_RETENTION_S_MIN * 1000 < limits.GC_GRACE_MS
    assert limits.QUERY_TIMEOUT_MS_MAX < limits.GC_RETENTION_S_MIN * 1000
    # Who goes by the log of a dropped index finds the end of it.
    assert STALE_AFTER_MS <= limits.CATALOGUE_TRUSTED_MS <= 3_600_000
    assert 2 * limits.CATALOGUE_TRUSTED_MS <= limits.DROPPED_LOG_MS < limits.GC_GRACE_MS
    assert limits.DELETE_BATCH_KEYS <= 1_000


def test_settings():
    """A version that a reader goes by is not removed meanwhile; a listing has all in one page."""
    assert limits.SETTINGS_TRUSTED_MS * 2 < limits.SETTINGS_KEPT_MS <= limits.GC_GRACE_MS
    assert limits.SETTINGS_VERSIONS_MAX + limits.SETTINGS_ATTEMPTS_MAX < 1_000
    assert limits.SETTINGS_ATTEMPTS_MAX > 1


def test_the_fresh_part():
    """Who flattens does so when a snapshot is due; limits are beyond what a writer keeps to."""
    assert limits.FLATTEN_COMMITS + 1 == limits.SNAPSHOT_EVERY_COMMITS
    assert limits.INLINE_COMMIT_BYTES_MAX < limits.FLATTEN_BYTES
    # What is flattened by a writer fits with the commit that made it due.
    assert limits.FLATTEN_BYTES + limits.INLINE_COMMIT_BYTES_MAX < limits.FLATTEN_SEGMENT_BYTES_MAX
    soon = limits.FRESH_FOLD_SHARE
    assert soon * limits.FRESH_COMMITS_MAX > limits.FLATTEN_COMMITS + limits.FLATTEN_AGAIN_COMMITS
    assert limits.FLAT_SEGMENT_ROWS_MAX < soon * limits.FRESH_ROWS_MAX < limits.FRESH_ROWS_MAX
    assert soon * limits.FRESH_BYTES_MAX > limits.FLATTEN_SEGMENT_BYTES_MAX
    # The compactor, if it looks often enough, is there before it is asked.
    assert soon * limits.FRESH_ROWS_MAX > limits.FOLD_ROWS_MIN
    assert soon * limits.FRESH_COMMITS_MAX > limits.FOLD_COMMITS_MIN


def test_folding():
    """A fold that is begun has time to stop; a claim outlasts any that a function makes."""
    assert limits.FOLD_STOP_MS_MIN < limits.FOLD_GROUP_MS_MIN < limits.FOLD_BEGIN_MS_MIN
    assert limits.FOLD_CLAIM_MS > limits.LAMBDA_TIMEOUT_S_MAX * 1_000
    assert limits.FOLD_CLAIM_MS < limits.COMMIT_WITHIN_MS
    assert limits.EXACT_ROWS_MAX < limits.FOLD_CLAIM_ROWS_MIN < limits.FOLD_REBUILD_ROWS_MAX


def test_calls():
    """What one call of the command line sends, the library takes."""
    assert limits.PUT_FILE_ROWS_MAX <= limits.KEYS_PER_CALL_MAX
    assert limits.IMPORT_BATCH_ROWS_MAX <= limits.FLAT_SEGMENT_ROWS_MAX
    assert limits.LIST_PAGE_MAX <= limits.KEYS_PER_CALL_MAX
    # A line holds the longest vector as text, its key and its metadata.
    text_bytes = 25 * limits.DIMENSION_MAX + limits.KEY_BYTES_MAX + limits.METADATA_BYTES_MAX
    assert text_bytes < limits.IMPORT_LINE_BYTES_MAX < limits.IMPORT_BATCH_BYTES_MAX


def test_reads():
    """Gaps that are read through are shorter than reads."""
    assert ranges.GAP_BYTES_MAX < ranges.READ_BYTES_MAX


def test_defaults_of_a_build():
    """A build's defaults are the limits, and agree among themselves."""
    options = BuildOptions()
    assert options.exact_rows_max == limits.EXACT_ROWS_MAX
    assert options.partition_rows_max == limits.PARTITION_ROWS_MAX
    assert options.calibration_queries < options.exact_rows_max
    assert options.sample_bytes_max >= limits.DIMENSION_MAX * 4 * options.exact_rows_max


@pytest.mark.parametrize(
    "name",
    [name for name in dir(limits) if name.isupper() and not name.endswith("_PATTERN")],
)
def test_positive(name):
    """Every limit is a positive number."""
    assert getattr(limits, name) > 0


def test_lambda():
    """A call waits no longer than its gateway or its function may; an answer's frame fits too."""
    assert limits.LAMBDA_ASYNC_REQUEST_BYTES_MAX < limits.LAMBDA_REQUEST_BYTES_MAX
    assert limits.LAMBDA_REQUEST_BYTES_MAX < limits.LAMBDA_RESPONSE_BYTES_MAX
    assert limits.LAMBDA_RESPONSE_BYTES_MAX < limits.HTTP_API_BODY_BYTES_MAX
    assert limits.HTTP_API_BODY_BYTES_MAX < limits.SERVED_BODY_BYTES_MAX
    assert limits.SERVED_BODY_BYTES_MAX < limits.PASSED_BODY_BYTES_MAX
    assert limits.LAMBDA_TIMEOUT_S_DEFAULT < limits.HTTP_API_TIMEOUT_S < limits.LAMBDA_TIMEOUT_S_MAX
    assert limits.LAMBDA_MEMORY_MB_MIN <= limits.LAMBDA_MEMORY_MB_DEFAULT
    assert limits.LAMBDA_CONCURRENCY_MAX < limits.LAMBDA_TENANT_CONTAINERS_MAX


def test_calls_between_functions():
    """A body in base64, in its envelope, is a call; a query's time is within a function's."""
    written = -(-limits.REQUEST_BODY_BYTES_MAX // 3) * 4 + limits.CALL_ENVELOPE_BYTES_MAX
    assert written <= limits.CALL_BYTES_MAX
    assert limits.ANSWER_BODY_BYTES_MAX <= limits.REQUEST_BODY_BYTES_MAX
    # What is delivered with an answer leaves room for its rows.
    assert 2 * limits.TASK_DOCUMENTS_BYTES_MAX <= limits.ANSWER_BODY_BYTES_MAX
    assert limits.QUERY_TIMEOUT_MS < 30_000 <= limits.QUERY_TIMEOUT_MS_MAX
    # Lambda's environments by tenant, for each 1,000 that may run: a slot and its replica each.
    assert 2 * limits.SLOTS_MAX <= 2_500


def test_trees():
    """All that one node calls at once has a thread, with a hedge for some of it."""
    assert limits.TREE_BRANCHES_MAX < limits.CALLS_AT_ONCE_MAX
    assert limits.TREE_BRANCHES_MAX <= limits.TREE_NODES_MAX


def test_policies():
    """As many statements as may be fit a policy; a pattern of one takes any ARN, and is part of it.

    A process that keeps as many policies as it may holds little of what a function has.
    """
    shortest = '{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"},'
    assert limits.POLICY_STATEMENTS_MAX * len(shortest) < limits.POLICY_BYTES_MAX
    longest = f"arn:aws-us-gov:s3vectors:{'a' * 20}:{'0' * 12}:bucket/{'b' * 63}/index/{'i' * 63}"
    assert len(longest) < limits.POLICY_PATTERN_CHARACTERS_MAX < limits.POLICY_BYTES_MAX
    assert limits.POLICIES_KEPT_MAX * limits.POLICY_BYTES_MAX <= 8 * limits.MIB


def test_signatures():
    """A secret is what HMAC-SHA256 gives; who is lost is looked for again before who is known."""
    assert limits.SIGNING_KEY_BYTES == limits.KEY_SECRET_BYTES == 32
    assert limits.SIGNING_KEY_ABSENT_KEPT_MS_MAX <= limits.KEY_KEPT_MS_MAX
    # Refusals tell it in minutes, and a key that is revoked outlives no signature.
    assert limits.SIGNATURE_SKEW_S_MAX % 60 == 0
    assert limits.KEY_KEPT_MS_MAX <= 1000 * limits.SIGNATURE_SKEW_S_MAX


def test_pages():
    """Pages of vectors and matches fit an answer, however long their numbers are when written."""
    number, around = len("-1.1754943508222875e-38,"), 64
    most = limits.VECTORS_PAGE_BYTES // 4 * number + limits.LIST_PAGE_MAX * around
    assert most <= limits.HTTP_ANSWER_BYTES_MAX
    # A page has one vector at least, be it the largest: quotes are escaped, and once more.
    record = limits.DIMENSION_MAX * number + 7 * (limits.METADATA_BYTES_MAX + limits.KEY_BYTES_MAX)
    assert limits.MATCHES_PAGE_BYTES + record <= limits.HTTP_ANSWER_BYTES_MAX
    assert limits.VECTORS_PAGE_DEFAULT <= limits.LIST_PAGE_MAX
    assert limits.MATCHES_PAGE_MAX <= limits.TOP_K_MAX


def test_input_files_of_builds():
    """A chunk is a part of a piece; requests are as long as pays, whatever is held of a file."""
    assert limits.BUILD_CHUNK_BYTES_MAX <= limits.BUILD_PIECE_BYTES_MAX
    assert (
        limits.BUILD_CHUNK_TEXTS_MAX <= limits.BUILD_CHUNK_ROWS_MAX <= limits.BUILD_PIECE_ROWS_MAX
    )
    # The longest vector is a chunk at least, and so is a row with the largest metadata.
    assert 8 * limits.DIMENSION_MAX + limits.METADATA_BYTES_MAX < limits.BUILD_CHUNK_BYTES_MAX
    assert limits.BUILD_READ_BYTES_MIN <= limits.BUILD_READ_BYTES
    assert 8 * limits.BUILD_READ_BYTES <= limits.BUILD_READ_AHEAD_BYTES_MAX
    # What encodes stops while there is time to say so.
    assert limits.BUILD_STOP_MS_MIN < 1000 * limits.LAMBDA_TIMEOUT_S_MAX


def test_copies_of_indexes():
    """A commit of a copy is one of an import; what is asked of the service is what it takes."""
    assert limits.MOVE_BATCH_ROWS_MAX <= limits.IMPORT_BATCH_ROWS_MAX
    assert limits.MOVE_BATCH_BYTES_MAX <= limits.IMPORT_BATCH_BYTES_MAX
    # One record always fits, escaped and with a vector of the longest numbers.
    longest = 24 * limits.DIMENSION_MAX + 6 * (limits.KEY_BYTES_MAX + limits.METADATA_BYTES_MAX)
    assert longest < limits.LAMBDA_REQUEST_BYTES_MAX < limits.SERVICE_BODY_BYTES_MAX
    assert limits.SERVICE_KEYS_GET_MAX <= limits.SERVICE_PUT_MAX <= limits.SERVICE_LIST_PAGE_MAX
    # The records that are left out are named in one answer; the sample is held whole.
    assert limits.MOVE_BAD_ROWS_MAX < limits.MOVE_SAMPLE_MAX < limits.MOVE_DIFFERENCES_KEYS_MAX


def test_pieces_of_builds():
    """A task that encodes has one piece; keys of a range fit a function's memory, sorted."""
    assert limits.BUILD_ENCODE_ROWS <= limits.BUILD_PIECE_ROWS_MAX
    assert limits.BUILD_PIECE_BYTES_MAX <= limits.BUILD_BATCH_BYTES
    assert limits.BUILD_PIECE_BYTES_MAX >= 4 * limits.DIMENSION_MAX
    # A hash and a number, twice while they are sorted, with the order of both halves.
    assert 2 * 24 * limits.BUILD_KEY_RANGE_ROWS + 16 * limits.BUILD_KEY_RANGE_ROWS < 1 << 30
    # Every task of `assemble` knows the replaced rows.
    assert 8 * limits.BUILD_REPLACED_ROWS_MAX <= 32 * limits.MIB
    # A piece's number is at most eight digits of a key, a batch's six.
    assert limits.BUILD_BATCHES_MAX < 10**6


def test_matches():
    """One query is searched whole; a full answer over HTTP is not told by more than one search."""
    assert limits.TOP_K_MAX <= limits.MATCHES_AT_ONCE_MAX
    least = len('{"key":"a","distance":0.0},')
    assert limits.HTTP_ANSWER_BYTES_MAX // least <= limits.MATCHES_AT_ONCE_MAX
