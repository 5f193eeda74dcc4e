"""Write a file of tensors, and read one of unknown origin.

Reading runs none of its code, and allocates no more than the file has bytes.
"""

import zipfile
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

_CHUNK_BYTES = 1 << 20


class Oversized(ValueError):
    """The file claims more than it holds."""


class Changed(ValueError):
    """The file is not as it was written: a part has another checksum."""


def save_tensors(payload: Any, path: Path) -> None:
    """Write with `torch.save`. OSError if the disk is full or can't be written."""
    with path.open("wb") as out:
        try:
            torch.save(payload, out)
        except RuntimeError as error:  # torch hides the failed write behind another one's
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_tensors(path: Path, device: torch.device | str = "cpu") -> Any:
    """What `torch.save` wrote, on a device. Raises what zipfile, torch and pickle raise, Oversized or Changed.

    torch itself compares no checksums: a weight with a changed byte would be read as any other.
    """
    _require_whole(path)
    # Mapped first: storages are then parts of the file, and nothing is allocated for what the pickle claims.
    _require_backed(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    return torch.load(path, map_location=device, weights_only=True)


def _require_whole(path: Path) -> None:
    """Its parts are not packed, so that none is larger than the file, and each has the bytes that were written."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size for part in parts):
            raise Oversized("it has packed parts")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise Oversized("its parts are larger than the file")
        for part in parts:
            _require_as_written(archive, part)


def _require_as_written(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    try:
        with archive.open(part) as data:
            while data.read(_CHUNK_BYTES):
                pass
    except zipfile.BadZipFile as error:  # by its CRC-32, or another name in its own header
        raise Changed("a byte in it was changed") from error


def _require_backed(payload: Any) -> None:
    """Every tensor has a byte for each of its elements: none repeats one value without end."""
    seen: set[int] = set()
    waiting = [payload]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            if one.numel() * one.element_size() > one.untyped_storage().nbytes():
                raise Oversized("a tensor claims more elements than it holds")
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set):
            waiting += one


def is_tensors(value: object) -> TypeGuard[dict[str, Tensor]]:
    """Whether a value is a dict of tensors by name."""
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
