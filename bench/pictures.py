"""Pictures from Debian's wallpaper packages, and their SIFT descriptors by OpenCV."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Below this size a picture is a gradient or a logo, and has next to no keypoints.
PICTURE_BYTES_MIN: Final = 100_000
PICTURE_SIDE_MAX: Final = 3_000
KEYPOINTS_MAX: Final = 50_000


def motif(path: Path) -> str:
    """Name what a picture shows: its sizes and its light and dark variants share the name."""
    parts = path.parts
    if "wallpapers" in parts and "contents" in parts:
        return parts[parts.index("wallpapers") + 1]
    return re.sub(
        r"(_\d+x\d+|-[ld]|-(Dark|Light|Cold|Warm|Radioactive)(-no-logo)?)$", "", path.stem
    )


def pictures(folder: Path) -> list[Path]:
    """Return the largest file of each motif, in the order of the motifs' names."""
    largest: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in {".jpg", ".jpeg", ".png", ".webp"} or path.is_symlink():
            continue
        if path.stem == "screenshot" or path.stat().st_size < PICTURE_BYTES_MIN:
            continue
        name = motif(path)
        if name not in largest or path.stat().st_size > largest[name].stat().st_size:
            largest[name] = path
    return [largest[name] for name in sorted(largest)]


def descriptors(path: Path) -> NDArray[np.uint8]:
    """Return the distinct SIFT descriptors of one picture, uint8 [n, 128]."""
    import cv2

    cv2.setNumThreads(1)
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise RuntimeError(f"OpenCV cannot read {path.name}: install another build of it")
    shrink = PICTURE_SIDE_MAX / max(image.shape)
    if shrink < 1:
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    sift = cv2.SIFT_create(nfeatures=KEYPOINTS_MAX, contrastThreshold=0.004, edgeThreshold=20)
    _, found = sift.detectAndCompute(image, None)
    if found is None:
        return np.zeros((0, 128), dtype=np.uint8)
    whole = np.clip(found, 0, 255).astype(np.uint8)
    # Rendered pictures repeat themselves; equal rows would only be ties.
    return np.unique(whole, axis=0)
