"""A model file in ONNX Runtime: opened, its inputs and outputs found by name and checked, and run.

What a file holds is only known once it is open; all that is wrong with it becomes a typed error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from squash.arrays import F32, I64, AnyArray
from squash.encoders.contract import Pooling
from squash.encoders.lazily import load
from squash.errors import InvalidArgumentError
from squash.values import dataclass

TEXT_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
TOKEN_OUTPUTS: Final = ("last_hidden_state", "token_embeddings", "vectors")
VECTOR_OUTPUTS: Final = (
    "sentence_embedding",
    "embedding",
    "embeddings",
    "text_embeds",
    "image_embeds",
    "vectors",
    "pooler_output",
)
_INTEGERS: Final = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_FLOATS: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_BYTES: Final = {"tensor(uint8)": np.uint8}
# What ONNX Runtime raises: classes of its own, which have no base but Exception.
_RUNTIME_ERRORS: Final = (
    "EPFail",
    "EngineError",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
    "NoSuchFile",
    "NotFound",
    "NotImplemented",
    "RuntimeException",
)
_FATAL_ONLY: Final = 4
_MESSAGE_CHARACTERS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model; a size is None where it is not fixed."""

    name: str
    kind: str
    sizes: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.sizes)
        return f"{self.name}: {self.kind} [{sizes}]"


class Session:
    """An open model file.

    Parameters
    ----------
    path:
        The file.
    threads:
        That one run uses.

    Raises
    ------
    InvalidArgumentError
        If it is no ONNX model that this release of ONNX Runtime runs.

    """

    def __init__(self, path: Path, *, threads: int) -> None:
        runtime = load("onnxruntime", extra="encoders")
        self.file = path.name
        self._errors = _errors_of(runtime)
        try:
            # With `enable_fallback` a failure prints to standard output and is tried again.
            self._session = runtime.InferenceSession(
                str(path),
                _options(runtime, threads),
                providers=["CPUExecutionProvider"],
                enable_fallback=0,
            )
            self.inputs = tuple(map(_tensor, self._session.get_inputs()))
            self.outputs = tuple(map(_tensor, self._session.get_outputs()))
        except self._errors as error:
            raise InvalidArgumentError(
                f"{self.file} is no ONNX model that can be run here: {_short(error)}"
            ) from error

    def run(self, output: str, feeds: Mapping[str, AnyArray]) -> AnyArray:
        """Run the model and return one output.

        Raises
        ------
        InvalidArgumentError
            If the model fails, as it does on a token that it has no vector of.

        """
        try:
            (found,) = self._session.run([output], dict(feeds))
        except self._errors as error:
            raise InvalidArgumentError(
                f"{self.file} cannot be run on what it was given: {_short(error)}. Does its "
                "tokenizer belong to it?"
            ) from error
        return np.asarray(found)


class TextModel:
    """A model of texts: tokens in, and out a vector a token or, if it pools, a vector a text.

    Parameters
    ----------
    path, threads:
        See `Session`.
    pooling:
        What is done with its output; tells which output is wanted.
    dimension:
        Of its vectors.

    Raises
    ------
    InvalidArgumentError
        If it cannot be opened, or if its inputs and outputs are not those of such a model.

    """

    def __init__(self, path: Path, *, threads: int, pooling: Pooling, dimension: int) -> None:
        self._session = Session(path, threads=threads)
        self._pooled = pooling is Pooling.NONE
        self._dimension = dimension
        self._kinds, batch = _text_inputs(self._session)
        self._output = _output_of(self._session, pooled=self._pooled, dimension=dimension)
        self.rows_max = batch
        """How many texts a run may hold; None if any number."""

    def run(self, tokens: I64) -> F32:
        """Return float32 [b, t, d], or [b, d] if the model pools, of tokens int64 [b, t].

        Raises
        ------
        InvalidArgumentError
            If the model fails, or its output is not of that shape.

        """
        feeds: dict[str, AnyArray] = {}
        for name, kind in self._kinds.items():
            if name == "input_ids":
                feeds[name] = tokens.astype(kind, copy=False)
            elif name == "attention_mask":
                feeds[name] = np.ones(tokens.shape, kind)
            elif name == "token_type_ids":
                feeds[name] = np.zeros(tokens.shape, kind)
            else:
                places = np.arange(tokens.shape[1], dtype=kind)
                feeds[name] = np.broadcast_to(places, tokens.shape).copy()
        found = self._session.run(self._output, feeds)
        shape = (len(tokens),) if self._pooled else tokens.shape
        return _checked(found, (*shape, self._dimension), self._session.file, self._output)


class ImageModel:
    """A model of images: pixels in, and out a vector an image.

    Parameters
    ----------
    path, threads:
        See `Session`.
    shape:
        Of one image, as the model takes it.
    scaled:
        Whether it takes floats, and not bytes.
    dimension:
        Of its vectors.

    Raises
    ------
    InvalidArgumentError
        If it cannot be opened, or if its input and outputs are not those of such a model.

    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        shape: tuple[int, int, int],
        scaled: bool,
        dimension: int,
    ) -> None:
        self._session = Session(path, threads=threads)
        self._dimension = dimension
        self._input, self._kind, self.rows_max = _image_input(self._session, shape, scaled=scaled)
        self._output = _output_of(self._session, pooled=True, dimension=dimension)

    def run(self, pixels: AnyArray) -> F32:
        """Return float32 [b, d] of pixels [b, *shape], floats or uint8.

        Raises
        ------
        InvalidArgumentError
            If the model fails, or its output is not of that shape.

        """
        feeds = {self._input: pixels.astype(self._kind, copy=False)}
        found = self._session.run(self._output, feeds)
        return _checked(found, (len(pixels), self._dimension), self._session.file, self._output)


def _errors_of(runtime: Any) -> tuple[type[Exception], ...]:
    state = runtime.capi.onnxruntime_pybind11_state
    own = tuple(getattr(state, name) for name in _RUNTIME_ERRORS if hasattr(state, name))
    return (RuntimeError, ValueError, TypeError, *own)


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    # A thread that spins between two runs takes the one processor from who works.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A plan of memory is kept for each shape that was run: texts come in hundreds of lengths.
    options.enable_mem_pattern = False
    options.log_severity_level = _FATAL_ONLY  # the rest is raised
    return options


def _tensor(node: Any) -> Tensor:
    sizes = (size if isinstance(size, int) else None for size in node.shape)
    return Tensor(node.name, node.type, tuple(sizes))


def _text_inputs(session: Session) -> tuple[dict[str, Any], int | None]:
    """Return the types of a text model's inputs by name, and how many texts a run may hold."""
    found = {tensor.name: tensor for tensor in session.inputs}
    if "input_ids" not in found or not found.keys() <= set(TEXT_INPUTS):
        raise _unfit(
            session.file,
            f"takes {_listed(session.inputs)}; a model of texts takes input_ids, and of "
            f"{', '.join(TEXT_INPUTS[1:])} what it needs",
        )
    for tensor in found.values():
        if tensor.kind not in _INTEGERS or not _fits(tensor.sizes, (None, None)):
            raise _unfit(
                session.file, f"takes {tensor}; it should be int64 or int32 [texts, tokens]"
            )
        if tensor.sizes[1] is not None:
            raise _unfit(
                session.file,
                f"takes {tensor}, texts of one length only; export it with a free number of tokens",
            )
    kinds = {name: _INTEGERS[tensor.kind] for name, tensor in found.items()}
    return kinds, _rows_max(session.file, found["input_ids"])


def _image_input(
    session: Session, shape: tuple[int, int, int], *, scaled: bool
) -> tuple[str, Any, int | None]:
    """Return the name and type of an image model's input, and how many images a run may hold."""
    kinds: Mapping[str, Any] = _FLOATS if scaled else _BYTES
    wanted = f"{' or '.join(kinds)} [images, {', '.join(map(str, shape))}]"
    if len(session.inputs) != 1:
        raise _unfit(
            session.file, f"takes {_listed(session.inputs)}; it should take {wanted} alone"
        )
    tensor = session.inputs[0]
    if tensor.kind not in kinds or not _fits(tensor.sizes, (None, *shape)):
        raise _unfit(
            session.file, f"takes {tensor}; by {'mean' if scaled else 'size'} it is {wanted}"
        )
    return tensor.name, kinds[tensor.kind], _rows_max(session.file, tensor)


def _rows_max(file: str, tensor: Tensor) -> int | None:
    rows = tensor.sizes[0]
    if rows not in {None, 1}:
        raise _unfit(file, f"takes {tensor}, {rows} at once only; export it with a free first size")
    return rows


def _output_of(session: Session, *, pooled: bool, dimension: int) -> str:
    """Choose the output: by a name that is well known, or the only one there is."""
    wanted = f"float32 or float16 [{'texts or images' if pooled else 'texts, tokens'}, {dimension}]"
    names = VECTOR_OUTPUTS if pooled else TOKEN_OUTPUTS
    by_name = {tensor.name: tensor for tensor in session.outputs}
    known = [by_name[name] for name in names if name in by_name]
    if not known and len(session.outputs) == 1:
        known = [session.outputs[0]]
    if not known:
        raise _unfit(
            session.file,
            f"gives {_listed(session.outputs)}; none is called {', '.join(names)}, as {wanted} "
            "should be",
        )
    sizes = (None, dimension) if pooled else (None, None, dimension)
    for tensor in known:
        if tensor.kind in _FLOATS and _fits(tensor.sizes, sizes):
            return tensor.name
    advice = (
        "" if len(known[0].sizes) == len(sizes) else "; does `pooling` say what the model does?"
    )
    raise _unfit(session.file, f"gives {_listed(known)}; it should be {wanted}{advice}")


def _fits(sizes: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return len(sizes) == len(wanted) and all(
        size is None or want is None or size == want
        for size, want in zip(sizes, wanted, strict=True)
    )


def _checked(found: AnyArray, shape: tuple[int, ...], file: str, output: str) -> F32:
    """Check what a model gave, since it may promise a shape that it does not keep."""
    if found.shape != shape or found.dtype not in {np.dtype(np.float32), np.dtype(np.float16)}:
        raise _unfit(
            file,
            f"gave {output} as {found.dtype} {list(found.shape)}; it should be float32 or float16 "
            f"{list(shape)}",
        )
    return found.astype(np.float32, copy=False)


def _unfit(file: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{file} {what}")


def _listed(tensors: Sequence[Tensor]) -> str:
    return "; ".join(map(str, tensors)) or "nothing"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:_MESSAGE_CHARACTERS_MAX].rstrip(". ")
