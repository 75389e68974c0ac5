"""Images to vectors: from files as cameras and programs write them, and from broken ones."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from encoders_world import images_of, texts_of
from hypothesis import given, settings
from PIL import Image, ImageOps

from amounts import examples
from squash.encoders.contract import ImagePart
from squash.encoders.encoder import open_encoder
from squash.encoders.images import FORMATS, read_pixels
from squash.errors import InvalidArgumentError, SquashError, TooLargeError
from squash.limits import ENCODE_IMAGES, IMAGE_BYTES_MAX, IMAGE_PIXELS_MAX
from squash.model import Inputs, Modality, Purpose
from tiny_encoders import DIMENSION, make_dual_encoder

PART = ImagePart("image.onnx", 8, 8)
TURNS = range(1, 9)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dual")
    make_dual_encoder(folder)
    return open_encoder(folder)


def file_of(image, kind="PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(colour, size=(20, 10), mode="RGB"):
    return Image.new(mode, size, colour)


def quarters(width=32, height=32):
    """A picture whose quarters are red, green, blue and white, from the left above."""
    pixels = np.zeros((height, width, 3), np.uint8)
    half, middle = height // 2, width // 2
    pixels[:half, :middle, 0] = pixels[:half, middle:, 1] = pixels[half:, :middle, 2] = 255
    pixels[half:, middle:] = 255
    return Image.fromarray(pixels)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_that_says(width: int, height: int) -> bytes:
    """A PNG file of some bytes that says it is so large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_colours(encoder):
    """A picture of one colour lies nearer to that colour's name than to others'."""
    names = ("red", "green", "blue")
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    images = images_of(encoder, [file_of(plain(colour)) for colour in colours]).vectors
    words = texts_of(encoder, names).vectors
    assert (images @ words.T).argmax(axis=1).tolist() == [0, 1, 2]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), max_size=3 * ENCODE_IMAGES))
def test_batch_and_single(encoder, colours):
    """Images are encoded together as each alone, and told of as they are done."""
    images = [file_of(plain((red, green, blue | 1))) for red, green, blue in colours]
    heard = []
    together = images_of(encoder, images, told=heard.append)
    assert together.vectors.shape == (len(images), DIMENSION)
    assert (together.tokens, together.truncated, together.chunked) == (0, (), ())
    assert heard == [min(n, len(images)) for n in range(8, len(images) + 8, 8)]
    for vector, image in zip(together.vectors, images, strict=True):
        np.testing.assert_allclose(vector, images_of(encoder, [image]).vectors[0], atol=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind):
    """Every format that is named can be read."""
    found = read_pixels(file_of(plain((200, 40, 90)), kind), PART)
    assert found.shape == (8, 8, 3)
    np.testing.assert_allclose(found.reshape(-1, 3), [(200, 40, 90)] * 64, atol=6)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("size", [(32, 32), (48, 32), (32, 48)])
def test_orientation(turn, size):
    """A picture is seen as its camera was held: as Pillow turns the whole of it."""
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = file_of(quarters(*size), exif=exif.tobytes())
    with Image.open(io.BytesIO(stored)) as opened:
        upright = file_of(ImageOps.exif_transpose(opened))
    # Scaling first along rows or first along columns differs where values are clipped between.
    np.testing.assert_allclose(
        read_pixels(stored, PART).astype(int), read_pixels(upright, PART).astype(int), atol=4
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_notes_that_cannot_be_read(kind):
    """A whole picture is seen as it lies where the notes beside it are broken."""
    stored = file_of(quarters(), kind, exif=b"Exif\0\0no notes at all")
    wanted = read_pixels(file_of(quarters(), kind), PART)
    np.testing.assert_array_equal(read_pixels(stored, PART), wanted)


def test_floating_point():
    """Pixels of which nobody says how bright they are become no black picture."""
    image = file_of(Image.fromarray(np.full((20, 40), 0.5, np.float32)), "TIFF")
    with pytest.raises(InvalidArgumentError, match="floating-point") as caught:
        read_pixels(image, PART, place=3)
    assert caught.value.field == "images[3]"


def grey_tiff(bits, row, *, signed=False):
    """Return a TIFF of eight equal rows of packed pixels, each of so many bits."""
    wide, form = 8, 2 if signed else 1
    at = 10 + 9 * 12 + 4
    # Width, height, bits, no compression, black is zero, one strip, one sample, its length, form.
    tags = [(256, wide), (257, 8), (258, bits), (259, 1), (262, 1), (273, at), (277, 1)]
    tags += [(279, 8 * len(row)), (339, form)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + 8 * row


@pytest.mark.parametrize(
    ("bits", "signed", "row"),
    [(32, False, 8 * b"\xc8\0\0\0"), (32, True, 8 * b"\xc8\0\0\0"), (16, True, 8 * b"\xc8\0")],
)
def test_integers_of_which_none_is_white(bits, signed, row):
    """Pixels that may hold any number, and mostly small ones, become no black picture either."""
    with pytest.raises(InvalidArgumentError, match="signed or 32-bit"):
        read_pixels(grey_tiff(bits, row, signed=signed), PART)


@pytest.mark.parametrize(
    ("bits", "row"), [(8, 8 * b"\xc8"), (12, 4 * b"\xc8\x0c\x80"), (16, 8 * b"\0\xc8")]
)
def test_depths(bits, row):
    """What is white follows from how many bits a pixel has."""
    assert (read_pixels(grey_tiff(bits, row), PART) == 200).all()


@pytest.mark.parametrize("size", [(64, 16), (16, 64), (16, 16), (5, 5), (3, 9), (301, 3)])
def test_middle(size):
    """The middle of a picture is what is seen of it, however long the picture is."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    side = min(size)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = 255
    found = read_pixels(file_of(Image.fromarray(pixels)), PART)
    assert found[1:7, 1:7].min() > 230
    assert found.min() > 150


def test_resize_larger():
    """Where the shorter side is scaled to more than is taken, the edge is cut off."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48, 16:48] = 255
    image = file_of(Image.fromarray(pixels))
    assert read_pixels(image, replace(PART, resize=16)).min() > 200
    assert read_pixels(image, PART).mean() < 100


@pytest.mark.parametrize(
    ("mode", "colour", "wanted"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("RGBA", (200, 0, 0, 0), (255, 255, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("I;16", 100 << 8, (100, 100, 100)),
    ],
)
def test_modes(mode, colour, wanted):
    """A picture of any mode becomes red, green and blue; what shines through is white."""
    found = read_pixels(file_of(plain(colour, mode=mode)), PART)
    np.testing.assert_array_equal(found.reshape(-1, 3), [wanted] * 64)


def test_palette():
    """A picture with a palette has the palette's colours, and white where it has none."""
    image = plain((10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_allclose(read_pixels(file_of(image), PART)[0, 0], (10, 200, 30), atol=2)
    clear = file_of(plain(0, mode="P"), transparency=0)
    assert read_pixels(clear, PART).min() == 255


def test_scaled():
    """Values are scaled by the channel, and laid out, as the model was trained to take them."""
    part = replace(PART, mean=(0.5, 0.25, 0.0), deviation=(0.5, 0.25, 1.0))
    found = read_pixels(file_of(plain((255, 0, 51))), part)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[3, 4], [1.0, -1.0, 0.2], rtol=1e-6)
    first = read_pixels(file_of(quarters()), replace(part, channels_first=True))
    last = read_pixels(file_of(quarters()), part)
    np.testing.assert_array_equal(first.transpose(1, 2, 0), last)


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (b"", InvalidArgumentError, "no image"),
        (b"\x00" * 99, InvalidArgumentError, "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", InvalidArgumentError, "no image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", InvalidArgumentError, "no image"),
        ("red.png", InvalidArgumentError, "not str"),
        (7, InvalidArgumentError, "not int"),
        (b"x" * (IMAGE_BYTES_MAX + 1), TooLargeError, "IMAGE_BYTES_MAX"),
        (png_that_says(IMAGE_PIXELS_MAX + 1, 1), TooLargeError, "IMAGE_PIXELS_MAX"),
        (png_that_says(9_000, 9_000), TooLargeError, "IMAGE_PIXELS_MAX"),
        (png_that_says(12_000, 12_000), TooLargeError, "IMAGE_PIXELS_MAX"),
        (png_that_says(2**31 - 1, 2**31 - 1), TooLargeError, "IMAGE_PIXELS_MAX"),
        (png_that_says(4_000, 4_000), InvalidArgumentError, "no image"),
        (png_that_says(0, 5), InvalidArgumentError, "no image"),
    ],
)
def test_bad_image(encoder, image, kind, message):
    """What is no image, a broken one or one too large is refused with its place."""
    with pytest.raises(kind, match=message) as caught:
        images_of(encoder, [file_of(plain("red")), image])
    assert caught.value.field == "images[1]"
    assert "BytesIO" not in str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=examples(60, least=25), deadline=None)
@given(data=st.data())
def test_broken_files(kind, data):
    """A file with any of its bytes changed, or cut off, is read or refused: nothing else."""
    image = bytearray(file_of(quarters(24, 17), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(image[: data.draw(st.integers(0, len(image)))])
    for broken in (bytes(image), cut):
        try:
            assert read_pixels(broken, PART).shape == (8, 8, 3)
        except SquashError as error:
            assert error.field == "images[0]"


def test_black(encoder):
    """A picture of which the model makes nothing names its place."""
    with pytest.raises(InvalidArgumentError, match="length zero") as caught:
        encoder.encode(Inputs(Modality.IMAGE, [file_of(plain("black"))]), purpose=Purpose.QUERY)
    assert caught.value.field == "images[0]"
