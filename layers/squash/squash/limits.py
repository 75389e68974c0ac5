"""Every limit in one place; `tests/unit/test_limits.py` holds how they relate."""

from __future__ import annotations

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20

# Names and records
ID_PATTERN: Final = "[0-9a-f]{32}"  # of what an `IdSource` makes
INDEX_NAME_PATTERN: Final = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
INDEX_NAME_CHARACTERS_MAX: Final = 63
BUCKET_NAME_PATTERN: Final = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"  # and of an index inside
DIMENSION_MAX: Final = 4096
KEY_BYTES_MAX: Final = 1024
METADATA_BYTES_MAX: Final = 40 * KIB
METADATA_FILTERABLE_BYTES_MAX: Final = 2 * KIB
METADATA_KEYS_MAX: Final = 50
METADATA_DEPTH_MAX: Final = 64  # of a non-filterable value: far from where any JSON reader stops
ATTRIBUTE_NAME_BYTES_MAX: Final = 63
NON_FILTERABLE_KEYS_MAX: Final = 10
METADATA_LIST_ELEMENTS_MAX: Final = 256
# Numbers are IEEE doubles, as JSON's are between programs: beyond this, integers are not exact.
INTEGER_MAGNITUDE_MAX: Final = 1 << 53
# Of arguments, such as an index's seed: Python writes no integers of thousands of digits out.
WHOLE_NUMBER_BITS_MAX: Final = 128
# A squared float32 distance must stay finite: |x| this large in every dimension still does.
VECTOR_VALUE_MAGNITUDE_MAX: Final = 1e15
# Squared lengths, with room for float32's rounding, from which that follows, and that a vector has
# a direction: no value exceeds the length, and a length above 1e-10 is none that float32 loses.
VECTOR_SQUARE_SURE_MIN: Final = 1e-20
VECTOR_SQUARE_SURE_MAX: Final = 1e-2 * VECTOR_VALUE_MAGNITUDE_MAX**2

# Filters
FILTER_DEPTH_MAX: Final = 16
FILTER_CLAUSES_MAX: Final = 256
FILTER_LIST_VALUES_MAX: Final = 1024
FILTER_STRING_BYTES_MAX: Final = 2 * KIB
FILTER_NODES_KEPT: Final = 64

# Queries
TOP_K_MAX: Final = 10_000
QUERIES_PER_CALL_MAX: Final = 10_000
# Of queries searched together, if all rows pass, where the answer holds only so many matches; more
# where few do. A match with small metadata takes some 640 bytes until it is written.
MATCHES_AT_ONCE_MAX: Final = 250_000
VIEWS_KEPT_MAX: Final = 3  # snapshots held open: queries of some moments ago may be under way

# Calls between functions. Lambda takes 6 MiB of JSON in each direction; a body is written in
# base64, four characters for three bytes, and the envelope around it is given room.
CALL_BYTES_MAX: Final = 6 * MIB
CALL_ENVELOPE_BYTES_MAX: Final = 16 * KIB
REQUEST_BODY_BYTES_MAX: Final = (CALL_BYTES_MAX - CALL_ENVELOPE_BYTES_MAX) // 4 * 3
ANSWER_BODY_BYTES_MAX: Final = REQUEST_BODY_BYTES_MAX
CALLS_AT_ONCE_MAX: Final = 512  # of one process; Lambda allows a function 1,024 threads
QUERY_TIMEOUT_MS_MAX: Final = 900_000  # Lambda's own longest
ANSWER_MS: Final = 500  # of a function's time, to answer in
QUERY_TIMEOUT_MS: Final = 25_000  # if none is given: the HTTP API cuts off at 30 s
WARM_INDEXES_MAX: Final = 64  # that a container keeps something of; they share what is retained
SLOTS_MAX: Final = 1_024
TREE_BRANCHES_MAX: Final = 256
TREE_DEPTH_MAX: Final = 4
TREE_NODES_MAX: Final = 1_000  # what an account may run at once, if nobody has asked for more

# Messages between functions
TASK_DOCUMENTS_BYTES_MAX: Final = 2 * MIB  # what an answer delivers; the rest is read on merging
JOINT_QUERIES_MAX: Final = 1_000  # whose plans and rows one process holds at once
DOCUMENTS_AHEAD_BYTES_MAX: Final = (
    256 * KIB
)  # of one segment, read before they are known to be wanted
LOCAL_WHOLE_BYTES_MAX: Final = 512 * MIB  # a segment's vectors, where no request is paid for
JOINT_READ_BYTES_MAX: Final = 256 * MIB  # vectors of several segments, before they are measured
LOT_BYTES_MAX: Final = 64 * MIB  # codes or vectors of several segments, for a lot of queries
SLOT_SEGMENTS_MAX: Final = 1_024  # whose clusters a processor keeps in one table

# Attributes
CELLS_MAX: Final = 255  # codes 1..255; code 0 is missing
SIGNATURE_BITS: Final = 64

# Segments and partitions
ROW_PAGE_ROWS: Final = 64  # rows of one page of vectors and of documents: the unit of ranged reads
CODE_BLOCK_ROWS: Final = 32  # rows of one low-bit block
PARTITION_ROWS_TARGET: Final = 32_768
PARTITION_ROWS_MAX: Final = 65_536
# Of a partition's vectors; what makes one holds some four such. Up to 1,024 dimensions it is the
# rows that count.
PARTITION_BYTES_MAX: Final = 256 * MIB
CLUSTER_ROWS_TARGET: Final = 512
OBJECT_BYTES_MAX: Final = 5_000 * MIB  # what one S3 PutObject takes
OBJECT_KEY_BYTES_MAX: Final = 1024  # S3's

# Commits
INLINE_COMMIT_BYTES_MAX: Final = 4 * MIB  # larger puts write flat segments first
INLINE_COMMIT_ROWS_MAX: Final = 4_096
FLAT_SEGMENT_ROWS_MAX: Final = 32_768
SNAPSHOT_EVERY_COMMITS: Final = 64
SNAPSHOT_EVERY_LOG_BYTES: Final = 16 * MIB
COMMIT_ATTEMPTS_MAX: Final = 64
# A writer brings so many commits, or bytes of them, into one flat segment: a reader that comes
# cold asks for each. Then the commit that does so is the one at which a snapshot is due.
FLATTEN_COMMITS: Final = SNAPSHOT_EVERY_COMMITS - 1
FLATTEN_AGAIN_COMMITS: Final = 32  # later, if whose turn it was did not
FLATTEN_BYTES: Final = 16 * MIB
FLATTEN_SEGMENT_BYTES_MAX: Final = 32 * MIB  # a writer holds it in memory, beside what it reads
KEYS_PER_CALL_MAX: Final = 1_000_000
LIST_PAGE_MAX: Final = 1_000
# Whose reading of an index's log, or of the catalogue, is older looks into the catalogue before it
# goes by the log: so long at most is an index answered that a release dropped which left no
# tombstone.
CATALOGUE_TRUSTED_MS: Final = 10 * 60_000
DROPPED_LOG_MS: Final = 2 * CATALOGUE_TRUSTED_MS  # of a dropped index's log its last so long stays
COMMIT_TIMES_KEPT_MAX: Final = 65_536  # that a handle remembers, to find what was when

# Garbage collection
GC_RETENTION_S_DEFAULT: Final = 86_400
GC_RETENTION_S_MIN: Final = 3_600  # readers and writers rely on what is younger
GC_GRACE_MS: Final = 24 * 3_600_000  # so long what no commit names is left, by the store's clock
RESTORE_WITHIN_MS: Final = 30 * 60_000  # from saying what it will name to naming it
COMMIT_WITHIN_MS: Final = 20 * 3_600_000  # of the first object it names, or the reading it rests on
DELETE_BATCH_KEYS: Final = 1_000  # what one request to S3 removes

# Vector buckets and settings
SETTINGS_BYTES_MAX: Final = 512 * KIB  # of one version: all escaped, tags take 230 and a policy 60
SETTINGS_KEPT_MS: Final = 3_600_000  # what a version that another followed stays, by the store
SETTINGS_TRUSTED_MS: Final = 600_000  # who knew the newest then asks for the next number alone
SETTINGS_VERSIONS_MAX: Final = 900  # that were not kept long enough: one listing has them all
SETTINGS_ATTEMPTS_MAX: Final = 64
BUCKETS_KEPT_MAX: Final = 1_024  # whose newest version a process remembers
ENTRIES_AT_ONCE: Final = 16  # read side by side where many are listed

# Files on the command line
PUT_FILE_ROWS_MAX: Final = 100_000  # `squash put` is one commit; more rows go by `squash import`
IMPORT_BATCH_ROWS_MAX: Final = 32_768
IMPORT_BATCH_BYTES_MAX: Final = 64 * MIB
IMPORT_BATCH_INPUTS_MAX: Final = 1_024  # encoded together, and durable once they are in
PUT_FILE_BYTES_MAX: Final = 256 * MIB  # of texts or images, which `squash put` holds in memory
IMPORT_LINE_BYTES_MAX: Final = 8 * MIB  # an image in base64, or a text all escapes, with room

# Copies of indexes from and to Amazon S3 Vectors: its limits, and ours
SERVICE_PUT_MAX: Final = 500  # records of one PutVectors
SERVICE_KEYS_GET_MAX: Final = 100
SERVICE_LIST_PAGE_MAX: Final = 1_000
SERVICE_BODY_BYTES_MAX: Final = 20 * MIB - 64 * KIB  # with room for what stands around records
MOVE_SEGMENTS_MAX: Final = 16  # of one listing
MOVE_ATTEMPTS_MAX: Final = 10  # of one request
MOVE_BATCH_ROWS_MAX: Final = 8_192  # of one commit of an import: what a kill has read again
MOVE_BATCH_BYTES_MAX: Final = 16 * MIB  # of its vectors
MOVE_BAD_ROWS_MAX: Final = 10_000  # that are named, and kept in memory
MOVE_SAMPLE_MAX: Final = 100_000
MOVE_DIFFERENCES_KEYS_MAX: Final = 1_000_000  # that are held to say which keys differ

# Reading an index out: memory holds a batch and a segment, a Parquet file's writer a row group
EXPORT_BATCH_ROWS_MAX: Final = 4_096
EXPORT_BATCH_BYTES_MAX: Final = 16 * MIB  # of vectors; metadata adds at most 160 MiB
EXPORT_GROUP_ROWS_MAX: Final = IMPORT_BATCH_ROWS_MAX
EXPORT_GROUP_BYTES_MAX: Final = IMPORT_BATCH_BYTES_MAX

# Below this many rows an index is searched exactly: training would cost more than it saves.
EXACT_ROWS_MAX: Final = 4_096
# When about this many rows pass a filter, or fewer, all of them are measured: recall is certain.
# Of more, they are if that costs less than a walk.
SCAN_ALL_MATCHES_MAX: Final = 256
# How many clusters a filter of several comparisons is sampled on, of each a block's worth of rows.
FILTER_SAMPLE_CLUSTERS: Final = 256
# From so many rows on, rows of an attribute may be listed in memory, for filters that few pass; of
# fewer, a filter of all rows takes some microseconds. What a list may take: about 4 bytes a row.
LISTED_ROWS_MIN: Final = 65_536
LISTED_BYTES_MAX: Final = 128 * MIB

# Encoders
ENCODER_FILES_MAX: Final = 16
ENCODER_CONFIG_BYTES_MAX: Final = 64 * KIB
ENCODER_FILE_NAME_CHARACTERS_MAX: Final = 128
ENCODER_FILE_BYTES_MAX: Final = 2_000 * MIB  # ONNX takes no more in one file
ENCODER_PARITY_INPUTS_MAX: Final = 1_000
ENCODER_TOKENS_MAX: Final = 32_768  # of one text
ENCODER_PREFIX_BYTES_MAX: Final = 4 * KIB
ENCODER_IMAGE_PIXELS_MAX: Final = 1_024  # of a side of what a model takes
ENCODERS_MAX: Final = 256  # of one store
ENCODERS_OPEN_MAX: Final = 4  # of one process; the least lately used is closed
ENCODE_BATCH_TOKENS: Final = 2_048  # of one run of a model: more need memory and save no time
ENCODE_IMAGES: Final = 8  # of one run of a model
ENCODE_CALL_TOKENS: Final = 16_384  # of one call of the encoder function: some seconds of a core
ENCODE_CALLS_AT_ONCE_MAX: Final = 16
ENCODE_IMAGE_TOKENS: Final = 256  # as many as an image is taken to be worth, where work is divided
TEXT_BYTES_MAX: Final = MIB
IMAGE_BYTES_MAX: Final = 4 * MIB
IMAGE_PIXELS_MAX: Final = 64_000_000  # once unpacked: a small file can hold a huge picture
QUERY_VECTORS_BYTES_MAX: Final = 8 * MIB  # of query vectors that a process remembers

# Lambda and API Gateway, as AWS sets them and the local cloud holds them
LAMBDA_REQUEST_BYTES_MAX: Final = 6_291_456
LAMBDA_RESPONSE_BYTES_MAX: Final = 6_291_556
LAMBDA_ASYNC_REQUEST_BYTES_MAX: Final = MIB
LAMBDA_MEMORY_MB_MIN: Final = 128
LAMBDA_MEMORY_MB_MAX: Final = 10_240
LAMBDA_MEMORY_MB_DEFAULT: Final = 128
LAMBDA_TIMEOUT_S_MAX: Final = 900
LAMBDA_TIMEOUT_S_DEFAULT: Final = 3
LAMBDA_INIT_S_MAX: Final = 10
LAMBDA_TMP_MB_DEFAULT: Final = 512
LAMBDA_TMP_MB_MAX: Final = 10_240
LAMBDA_CONCURRENCY_MAX: Final = 1_000
LAMBDA_TENANT_CONTAINERS_MAX: Final = 2_500
LAMBDA_TENANT_ID_CHARACTERS_MAX: Final = 256
LAMBDA_ASYNC_ATTEMPTS: Final = 3
LAMBDA_LOG_TAIL_BYTES: Final = 4 * KIB
HTTP_API_BODY_BYTES_MAX: Final = 10 * MIB
HTTP_API_HEADERS_BYTES_MAX: Final = 10_240
HTTP_API_TIMEOUT_S: Final = 30

# The HTTP interface
HTTP_BODY_BYTES_MAX: Final = 6 * MIB  # Lambda takes no more, and gives no more
HTTP_ANSWER_BYTES_MAX: Final = 6 * MIB - 16 * KIB  # with room for the headers
PROBLEM_CHARACTERS_MAX: Final = 8_192  # of each text in a problem, which quotes what was sent
# What `squash serve` reads: all that S3 Vectors takes; its handlers say what is too large.
SERVED_BODY_BYTES_MAX: Final = 20 * MIB
PASSED_BODY_BYTES_MAX: Final = 64 * MIB  # of a larger one, read and forgotten
VECTORS_PER_REQUEST_MAX: Final = 1_000
KEYS_PER_REQUEST_MAX: Final = 1_000
QUERIES_PER_REQUEST_MAX: Final = 1_000
LIST_PAGE_DEFAULT: Final = 100
TIMEOUT_MS_MAX: Final = 29_000  # API Gateway waits for 30 seconds
DECLARED_ATTRIBUTES_MAX: Final = METADATA_KEYS_MAX
OPEN_INDEXES_MAX: Final = 4  # kept open between calls

# The wire API of S3 Vectors
TAGS_MAX: Final = 50  # of a vector bucket or an index
VALIDATION_ERRORS_TOLD_MAX: Final = 16  # of one request; all are counted
LISTED_MAX: Final = 500  # vector buckets or indexes of one page
VECTORS_PAGE_DEFAULT: Final = 500
VECTORS_PAGE_BYTES: Final = 1_000_000  # a float counts four, and takes 24 when written at most
MATCHES_PAGE_MAX: Final = 1_000
MATCHES_PAGE_BYTES: Final = 4 * MIB

# Credentials
KEY_SECRET_BYTES: Final = 32
KEY_ID_BYTES: Final = 8
KEY_INDEXES_MAX: Final = 64
KEY_DESCRIPTION_BYTES_MAX: Final = 256
KEY_LIFETIME_DAYS_MAX: Final = 3_650
KEY_KEPT_MS_MAX: Final = 60_000  # so long at most does a revoked key go on working
KEY_ABSENT_KEPT_MS_MAX: Final = 5_000
KEYS_KEPT_MAX: Final = 1_024
SIGNING_KEY_BYTES: Final = 32
SIGNING_KEYS_MAX: Final = 4  # side by side, while one takes another's place
SIGNING_KEY_ABSENT_KEPT_MS_MAX: Final = 5_000
SIGNATURE_SKEW_S_MAX: Final = 300  # by which clocks may differ; so long can a request be repeated
SIGNED_HEADERS_MAX: Final = 64

# Policies of vector buckets
POLICY_BYTES_MAX: Final = 20 * KIB  # as S3's of buckets
POLICY_STATEMENTS_MAX: Final = 100
POLICY_PATTERN_CHARACTERS_MAX: Final = 256  # of one action or resource: longer than any ARN of ours
POLICIES_KEPT_MAX: Final = 256  # of a process; as long as keys

# The fresh part: rows that no partition holds. Every query measures them all: 512 MiB take some
# 50 ms of a core, and 5 s of one stream of a reader that comes cold; 1,024 commits are as many
# requests to it. Beyond these a put or patch is refused, beyond the share a fold is asked for.
FRESH_COMMITS_MAX: Final = 1_024
FRESH_ROWS_MAX: Final = 262_144
FRESH_BYTES_MAX: Final = 512 * MIB
FRESH_FOLD_SHARE: Final = 0.25
# An import is mostly followed by a fold of all of it: to fold before would be to build twice.
IMPORT_FRESH_TIMES: Final = 8
FRESH_RETRY_AFTER_MS: Final = 30_000  # a fold takes about as long, or longer
FOLD_ASKED_MS_MIN: Final = 60_000  # a container asks the compactor no more often, of one index

# When the compactor folds an index
FOLD_ROWS_MIN: Final = 1_024  # so many rows outside of partitions, and
FOLD_ROWS_ROOT: Final = 4  # times the root of those inside: see `pending_rows_max`
FOLD_COMMITS_MIN: Final = 2 * SNAPSHOT_EVERY_COMMITS  # or so many commits not yet in a segment
FOLD_REBUILD_ROWS_MAX: Final = 2_000_000  # beyond, only who asks for it has all trained anew
FOLD_CLAIM_MS: Final = 30 * 60_000  # writers leave what a fold has claimed for so long,
FOLD_CLAIM_ROWS_MIN: Final = 200_000  # and one of so many rows claims it before it loses a race
FOLD_BEGIN_MS_MIN: Final = 60_000  # none is begun with less time left,
FOLD_GROUP_MS_MIN: Final = 40_000  # no further partitions are begun with less,
FOLD_STOP_MS_MIN: Final = 10_000  # and one that runs is given up with less
RETENTION_DAYS_MAX: Final = 3_650  # of what is collected on a schedule

# The bulk build
BUILD_PIECE_ROWS_MAX: Final = 262_144  # of one run: a task holds one in memory
BUILD_PIECE_BYTES_MAX: Final = 96 * MIB  # of its vectors
BUILD_GROUP_BYTES_MAX: Final = 256 * MIB  # of what one task of `assemble` brings to its disk
BUILD_BATCH_BYTES: Final = 512 * MIB  # of input vectors of one task
# Of a stage, where tasks stay within their time: each has a report.
BUILD_BATCHES_MAX: Final = 2_000
BUILD_ENCODE_ROWS: Final = 16_384  # texts of one piece, which is one task's: some minutes
BUILD_SAMPLE_PIECES_MAX: Final = 1_024  # that are looked at; of more, these are drawn
BUILD_KEY_RANGE_ROWS: Final = 8_000_000  # of one task of `keys`, at 24 bytes
BUILD_REPLACED_ROWS_MAX: Final = 4_000_000  # by later rows of the same key: every task knows them
BUILD_BAD_ROWS_LISTED_MAX: Final = 100_000  # of one task; all are counted
BUILD_WORKERS_MAX: Final = 256  # processes of one machine
BUILD_CHUNK_BYTES_MAX: Final = 16 * MIB  # of a piece, that is read and looked at together
BUILD_CHUNK_ROWS_MAX: Final = 32_768
BUILD_CHUNK_TEXTS_MAX: Final = 1_024  # encoded together, and durable once they are
BUILD_STOP_MS_MIN: Final = 60_000  # a task that encodes begins no further chunk with less
BUILD_LOOK_MS: Final = 5_000  # a task that writes looks so often whether it is still wanted
BUILD_READ_BYTES: Final = 4 * MIB  # of one request for a part of a Parquet file
BUILD_READ_BYTES_MIN: Final = 256 * KIB  # where a file has very many columns
BUILD_READ_AHEAD_BYTES_MAX: Final = 64 * MIB  # of such parts that are held, a few a column
BUILD_FILES_MAX: Final = 100_000
BUILD_CLAIM_MS: Final = 6 * 3_600_000  # a build keeps others from folding, unless renewed
BUILD_INPUTS_PER_REQUEST_MAX: Final = 1_000  # over HTTP; a folder names as many files as it has
BUILD_URL_BYTES_MAX: Final = 2_048  # of an input; S3's keys have 1,024 at most
BUILD_COLUMN_BYTES_MAX: Final = 1_024  # of the name of a column of Parquet files
BUILD_UNBEGUN_MS_MAX: Final = 120_000  # from a first note of it until something runs it
BUILD_RESTS_MS_MAX: Final = 20 * 3_600_000  # who has rested longer is started anew: see gc
BUILD_KEPT_MS: Final = 7 * 24 * 3_600_000  # after its last task a build's own objects stay
