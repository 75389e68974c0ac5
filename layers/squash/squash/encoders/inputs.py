"""What can be a text or an image to encode at all, before a model is asked."""

from __future__ import annotations

from squash.errors import InvalidArgumentError, TooLargeError
from squash.limits import IMAGE_BYTES_MAX, TEXT_BYTES_MAX


def check_text(text: object, field: str) -> None:
    """Check a text; `field` is its place, such as ``texts[3]``.

    Raises
    ------
    InvalidArgumentError
        If it is no string, or no Unicode.
    TooLargeError
        If it has more than `TEXT_BYTES_MAX` bytes.

    """
    if not isinstance(text, str):
        raise InvalidArgumentError(
            f"{field} is a string, not {type(text).__name__}: convert it", field=field
        )
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"{field} is no Unicode text: half of a surrogate pair stands at character "
            f"{error.start}",
            field=field,
        ) from error
    if size > TEXT_BYTES_MAX:
        raise TooLargeError(
            f"{field} has {size} bytes, and at most {TEXT_BYTES_MAX} can be encoded "
            "(TEXT_BYTES_MAX): divide it among several records",
            field=field,
        )


def check_image(image: object, field: str) -> None:
    """Check that an image is bytes, and not too many; `field` is its place, as ``images[3]``.

    Raises
    ------
    InvalidArgumentError
        If it is not bytes.
    TooLargeError
        If it has more than `IMAGE_BYTES_MAX` bytes.

    """
    if not isinstance(image, bytes):
        raise InvalidArgumentError(
            f"{field} is the bytes of an image file, not {type(image).__name__}", field=field
        )
    if len(image) > IMAGE_BYTES_MAX:
        raise TooLargeError(
            f"{field} has {len(image)} bytes, and at most {IMAGE_BYTES_MAX} can be encoded "
            "(IMAGE_BYTES_MAX): scale it down",
            field=field,
        )
