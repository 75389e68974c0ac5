"""What records and queries are made of: vectors as they come; texts and images by the encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from squash.arrays import F32, AnyArray, is_iterable
from squash.attributes import check_metadata
from squash.encoders.encoded import Encoded
from squash.encoders.inputs import check_image, check_text
from squash.errors import InvalidArgumentError, TooLargeError
from squash.index.checking import (
    KEY_CHARACTERS_SHOWN_MAX,
    check_records,
    check_rows,
    check_vector,
    check_vectors,
    rows_with_vectors,
    text_differs,
    text_too_long,
)
from squash.model import (
    EncoderPin,
    EncodingReport,
    IndexConfig,
    InputBatch,
    Inputs,
    Metadata,
    Modality,
    Purpose,
    RowBatch,
)
from squash.runtime.encoder_names import encoder_label, read_reference
from squash.runtime.encoding import Encoding, Told, check_encoded
from squash.search.spending import Spent
from squash.values import dataclass, maker_of

_MANY: Final = {Modality.TEXT: "texts", Modality.IMAGE: "images"}

Asked: TypeAlias = Sequence[Any] | AnyArray | Inputs
"""What queries ask for: vectors as they came, or what is checked and still to be encoded."""


class EncodedRecords(NamedTuple):
    """Records with their vectors, and how they were encoded; None if they came with vectors."""

    rows: RowBatch
    report: EncodingReport | None


class EncodedQueries(NamedTuple):
    """Queries' vectors, float32 [d] each; how each was encoded, and what that spent elsewhere."""

    vectors: Sequence[F32]
    reports: Sequence[EncodingReport] = ()
    """Empty where they came as vectors."""
    spent: Spent | None = None


encoded_at_once: Final = maker_of(EncodedQueries)


@dataclass(slots=True)
class ReportSum:
    """The reports of several batches as one, its places those of the whole."""

    encoder: str | None = None
    tokens: int = 0
    truncated: list[int] = field(default_factory=list)
    chunked: list[int] = field(default_factory=list)

    def add(self, report: EncodingReport | None, before: int) -> None:
        """Add the report of a batch that so many records came before."""
        if report is None:
            return
        self.encoder = report.encoder
        self.tokens += report.tokens
        self.truncated += [before + place for place in report.truncated]
        self.chunked += [before + place for place in report.chunked]

    def report(self) -> EncodingReport | None:
        """Return the sum; None if nothing was encoded."""
        if self.encoder is None:
            return None
        return EncodingReport(self.encoder, self.tokens, tuple(self.truncated), tuple(self.chunked))


class Content:
    """Checks what an index is given, and has texts and images encoded.

    Parameters
    ----------
    config:
        The index's.
    encoding:
        Gives who encodes; asked when the first text or image comes.

    """

    def __init__(self, config: IndexConfig, encoding: Callable[[], Encoding]) -> None:
        self._config = config
        self._encoding = encoding

    def records(
        self,
        keys: Any,
        *,
        vectors: Any,
        texts: Any,
        images: Any,
        metadata: Any,
        encoder: str | None,
    ) -> RowBatch | InputBatch:
        """Check records that are to be put, before anything is encoded."""
        _one_of({"vectors": vectors, "texts": texts, "images": images})
        self._check_encoder(encoder, vectors=vectors is not None)
        if vectors is not None:
            return check_rows(keys, vectors, metadata, self._config, check_metadata=check_metadata)
        return self._inputs(keys, self._check_inputs(texts, images, many=True), metadata)

    def batch(self, batch: RowBatch | InputBatch, encoder: str | None) -> RowBatch | InputBatch:
        """Check a batch of an import, before anything is encoded."""
        if not isinstance(batch, RowBatch | InputBatch):
            raise InvalidArgumentError(
                f"a batch of an import is a RowBatch or an InputBatch, not {type(batch).__name__}: "
                "give an iterable of these",
                field="batches",
            )
        inputs = batch.inputs if isinstance(batch, InputBatch) else None
        text = inputs is not None and inputs.modality is Modality.TEXT
        return self.records(
            batch.keys,
            vectors=batch.vectors if isinstance(batch, RowBatch) else None,
            texts=inputs.items if inputs is not None and text else None,
            images=inputs.items if inputs is not None and not text else None,
            metadata=batch.metadata,
            encoder=encoder,
        )

    def encoded(self, records: RowBatch | InputBatch, told: Told | None = None) -> EncodedRecords:
        """Give checked records their vectors.

        Raises
        ------
        SquashError
            As `Encoding.encode`; or if what was made cannot be kept.

        """
        if isinstance(records, RowBatch):
            return EncodedRecords(records, None)
        pin = self._pin(records.inputs.modality)
        found, _ = self._encode(pin, records.inputs, Purpose.DOCUMENT, told=told)
        rows = rows_with_vectors(
            list(records.keys), found.vectors, [dict(one) for one in records.metadata], self._config
        )
        report = EncodingReport(_label(pin), found.tokens, found.truncated, found.chunked)
        return EncodedRecords(rows, report)

    def document_vectors(self, texts: Sequence[str]) -> F32:
        """Return the vectors of documents' texts, float32 [n, d], by the index's encoder.

        Raises
        ------
        SquashError
            As `Encoding.encode`.

        """
        inputs = Inputs(Modality.TEXT, texts)
        found, _ = self._encode(self._pin(Modality.TEXT), inputs, Purpose.DOCUMENT)
        return found.vectors

    def encoder_of(self, encoder: Any, *, of_texts: bool) -> str | None:
        """Return what makes the vectors of a build, as ``name@digest``.

        None where nothing was said: files may tell themselves which encoder made their vectors.

        Raises
        ------
        InvalidArgumentError
            If files hold texts and the index has no encoder, or another encoder than the index's
            is named.

        """
        self._check_encoder(encoder, vectors=False)
        if of_texts:
            return _label(self._pin(Modality.TEXT))
        pin = self._config.encoder
        return None if pin is None or encoder is None else _label(pin)

    def check_patches(self, keys: Sequence[str], patches: Sequence[Metadata]) -> None:
        """Refuse patches of the text that a record's vector was made of.

        Raises
        ------
        InvalidArgumentError
            With the first such record.

        """
        pin = self._config.encoder
        name = None if pin is None else pin.text_key
        if name is None:
            return
        for i, (key, patch) in enumerate(zip(keys, patches, strict=True)):
            if name in patch:
                raise InvalidArgumentError(
                    f"record {key[:KEY_CHARACTERS_SHOWN_MAX]!r}: {name!r} is the text that its "
                    "vector was made of, and a patch makes no vector: put the record with its new "
                    "text",
                    index=self._config.name,
                    key=key,
                    field=f"metadata[{i}].{name}",
                )

    def query(self, *, vector: Any, text: Any, image: Any, encoder: str | None) -> Asked:
        """Take what one query asks for; a vector is checked when all else is."""
        if vector is None or text is not None or image is not None:
            _one_of({"vector": vector, "text": text, "image": image})
        if encoder is not None:
            self._check_encoder(encoder, vectors=False)
        if vector is not None:
            return [vector]
        given = (None if text is None else [text], None if image is None else [image])
        return self._check_inputs(*given, many=False)

    def queries(self, *, vectors: Any, texts: Any, images: Any, encoder: str | None) -> Asked:
        """Take what several queries ask for; vectors are checked when all else is."""
        _one_of({"vectors": vectors, "texts": texts, "images": images})
        self._check_encoder(encoder, vectors=False)
        if vectors is None:
            return self._check_inputs(texts, images, many=True)
        array = isinstance(vectors, np.ndarray)
        if isinstance(vectors, str) or not (vectors.ndim if array else hasattr(vectors, "__len__")):
            raise InvalidArgumentError("vectors is a list of vectors, [q, d]", field="vectors")
        # An array's rows are checked together.
        return vectors if type(vectors) is np.ndarray else list(vectors)

    def encoded_queries(self, asked: Asked, deadline_ms: int | None) -> EncodedQueries:
        """Return the vectors of what queries ask for, checked.

        The report of each names its place, if something was done to it; tokens, as all that is
        used, are counted in the first.
        """
        if not isinstance(asked, Inputs):
            return encoded_at_once((check_vectors(asked, self._config), (), None))
        pin = self._pin(asked.modality)
        found, spent = self._encode(pin, asked, Purpose.QUERY, deadline_ms=deadline_ms)
        vectors = [check_vector(vector, self._config) for vector in found.vectors]
        truncated, chunked = frozenset(found.truncated), frozenset(found.chunked)
        reports = [
            EncodingReport(
                _label(pin),
                tokens=0 if place else found.tokens,
                truncated=(place,) if place in truncated else (),
                chunked=(place,) if place in chunked else (),
            )
            for place in range(len(asked))
        ]
        return EncodedQueries(vectors, reports, spent)

    def _encode(
        self,
        pin: EncoderPin,
        inputs: Inputs,
        purpose: Purpose,
        *,
        deadline_ms: int | None = None,
        told: Told | None = None,
    ) -> tuple[Encoded, Spent | None]:
        shape = (len(inputs), self._config.dimension)
        if not len(inputs):
            return Encoded(np.empty(shape, np.float32)), None
        found = self._encoding().encode(
            pin,
            inputs,
            purpose=purpose,
            dimension=self._config.dimension,
            deadline_ms=deadline_ms,
            told=told,
        )
        check_encoded(found.encoded, pin, inputs=shape[0], dimension=shape[1])
        return found.encoded, found.spent

    def _inputs(self, keys: Any, inputs: Inputs, metadata: Any) -> InputBatch:
        what = _MANY[inputs.modality]
        pin = self._pin(inputs.modality)
        if inputs.modality is Modality.TEXT and pin.text_key is not None:
            metadata = self._with_texts(inputs.items, metadata, pin.text_key)
        names, checked = check_records(
            keys,
            metadata,
            self._config,
            items=(len(inputs), what),
            check_metadata=check_metadata,
        )
        return InputBatch(names, inputs, checked)

    def _with_texts(self, texts: Sequence[Any], metadata: Any, text_key: str) -> Sequence[Any]:
        """Return metadata with the texts in it; what does not fit together is told elsewhere."""
        notes = [None] * len(texts) if metadata is None else list(metadata)
        if len(notes) != len(texts):
            return notes
        kept: list[Any] = []
        for i, (given, text) in enumerate(zip(notes, texts, strict=True)):
            note = {} if given is None else given
            if not isinstance(note, Mapping):
                kept.append(note)
                continue
            differs = text_differs(note, text, text_key=text_key)
            if differs:
                raise InvalidArgumentError(
                    f"metadata[{i}] {differs}",
                    index=self._config.name,
                    field=f"metadata[{i}].{text_key}",
                )
            too_long = text_too_long(text, text_key=text_key)
            if too_long:
                raise TooLargeError(
                    f"texts[{i}] {too_long}", index=self._config.name, field=f"texts[{i}]"
                )
            kept.append({**note, text_key: text})
        return kept

    def _pin(self, modality: Modality) -> EncoderPin:
        if self._config.encoder is None:
            raise InvalidArgumentError(
                f"index {self._config.name!r} has no encoder, and so takes no {_MANY[modality]}: "
                "give vectors, or create an index with an encoder",
                index=self._config.name,
                field=_MANY[modality],
            )
        return self._config.encoder

    def _check_encoder(self, encoder: Any, *, vectors: bool) -> None:
        """Hold what is said of the encoder against the index's; vectors to be put must say."""
        pin = self._config.encoder
        if encoder is None:
            if pin is not None and vectors:
                raise InvalidArgumentError(
                    f"index {self._config.name!r} holds vectors of the encoder {_label(pin)}, and "
                    "no others can be compared with them: give texts or images, or say "
                    f"encoder={_label(pin)!r} if it made these vectors",
                    index=self._config.name,
                    field="encoder",
                )
            return
        reference = read_reference(encoder)
        if pin is None:
            raise InvalidArgumentError(
                f"index {self._config.name!r} has no encoder, and its vectors may be of any: leave "
                "encoder out, or create an index with one",
                index=self._config.name,
                field="encoder",
            )
        if not reference.fits(pin):
            raise InvalidArgumentError(
                f"index {self._config.name!r} holds vectors of the encoder {_label(pin)}; those of "
                f"{encoder} cannot be compared with them: encode with the index's, or create an "
                "index for the other",
                index=self._config.name,
                field="encoder",
            )

    def _check_inputs(self, texts: Any, images: Any, *, many: bool) -> Inputs:
        if texts is not None:
            self._pin(Modality.TEXT)
            return Inputs(Modality.TEXT, _check_texts(texts, many=many))
        self._pin(Modality.IMAGE)
        return Inputs(Modality.IMAGE, _check_images(images, many=many))


def _label(pin: EncoderPin) -> str:
    return encoder_label(pin.name, pin.digest)


def _one_of(given: Mapping[str, Any]) -> None:
    said = [name for name, value in given.items() if value is not None]
    if len(said) != 1:
        names = list(given)
        raise InvalidArgumentError(
            f"give exactly one of {', '.join(names[:-1])} and {names[-1]}, not "
            f"{' and '.join(said) or 'none'}",
            field=said[1] if said else names[0],
        )


def _listed(items: Any, field: str) -> list[Any]:
    if isinstance(items, str | bytes | bytearray | memoryview | Mapping):
        raise InvalidArgumentError(f"{field} is a single value: give a list", field=field)
    if not is_iterable(items):
        raise InvalidArgumentError(f"{field} is a list, not {type(items).__name__}", field=field)
    return list(items)


def _check_texts(texts: Any, *, many: bool) -> list[str]:
    checked = _listed(texts, "texts")
    for i, text in enumerate(checked):
        check_text(text, f"texts[{i}]" if many else "text")
    return [str.__str__(text) for text in checked]


def _check_images(images: Any, *, many: bool) -> list[bytes]:
    checked: list[bytes] = []
    for i, image in enumerate(_listed(images, "images")):
        plain = bytes(image) if isinstance(image, bytearray | memoryview) else image
        check_image(plain, f"images[{i}]" if many else "image")
        checked.append(plain)
    return checked
