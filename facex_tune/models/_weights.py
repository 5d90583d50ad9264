"""Files of weights: where they lie, what they hold, and their fingerprint. Nothing is ever downloaded here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET = "imagenet"
WRAPPERS = ("state_dict", "model")  # what training scripts put a state dict under
SCALE = ("mean", "std")  # of pixels, beside the tensors of a model that was trained here
NO_WEIGHTS = "it is no .safetensors or torch file, is cut short, or holds more than tensors"
HASH_LETTERS = 8  # of the SHA-256 that torch's hub writes at the end of a file's name


def locate(said: str, architecture: str) -> Path:
    """The file that a study's `pretrained` means: torchvision's weights of `architecture` in the cache of torch's hub,
    the recommended ones first, or the path itself.

    Raises:
        InputError: there is no such file, with how to get it; or a cached one is not what its name says.
    """
    if said != IMAGENET:
        return existing(said)
    folder, urls = hub_folder(), _urls(architecture)
    if not urls:
        raise InputError(f"pretrained: no ImageNet weights of {architecture} exist; name a file or set it to false")
    for url in urls:
        path = folder / url.rpartition("/")[2]
        if path.is_file():
            return _undamaged(path)
    raise InputError(
        f"pretrained: no ImageNet weights of {architecture} are here: download {urls[0]} into {folder} (or where "
        "TORCH_HOME points), or name a file of weights, or set pretrained: false"
    )


def existing(said: str) -> Path:
    """A path that is a file.

    Raises:
        InputError: it is none.
    """
    path = Path(said)
    if path.is_file():
        return path
    raise InputError(
        f"pretrained: no file {said!r} is here; choices: false, {IMAGENET}, or a .safetensors or .pth file"
    )


def hub_folder() -> Path:
    """Where torch's hub keeps weights (TORCH_HOME moves it)."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a torch file, by name; no code of the file is run.

    Raises:
        InputError: the file cannot be read, is damaged, is something else, or holds no tensors by name.
    """
    try:
        said = _read(path)
    except Exception as error:  # a torch file can be broken in as many ways as a pickle and a zip together
        reason = (error.strerror if isinstance(error, OSError) else None) or NO_WEIGHTS
        raise InputError(f"pretrained: {path} cannot be read as weights ({reason})") from error
    for wrapper in WRAPPERS:
        if isinstance(said, Mapping) and isinstance(said.get(wrapper), Mapping):
            said = said[wrapper]
    named = {} if not isinstance(said, Mapping) else {str(key): each for key, each in said.items() if _is_tensor(each)}
    if not named:
        raise InputError(f"pretrained: {path} holds no tensors by name; save the model's state_dict()")
    if named.keys() >= set(SCALE) and any(named[name].numel() not in (1, 3) for name in SCALE):
        raise InputError(
            f"pretrained: {path} holds mean and std, which are one number each in a model of this package, or three"
        )
    return _without("module.", named)  # DataParallel's prefix


def sha256(path: Path) -> str:
    """The file's fingerprint, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Any:
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _without(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _urls(architecture: str) -> list[str]:
    """Where torchvision says that its weights of an architecture are, the recommended ones first."""
    from torchvision.models import get_model_weights, list_models

    if architecture not in list_models():
        return []
    weights: Any = get_model_weights(architecture)
    published: Iterable[Any] = weights
    return list(dict.fromkeys([str(weights.DEFAULT.url), *(str(each.url) for each in published)]))


def _undamaged(path: Path) -> Path:
    """A cached file whose content has the hash that its name ends with.

    Raises:
        InputError: it has another.
    """
    expected = path.stem.rpartition("-")[2]
    found = sha256(path)[:HASH_LETTERS]
    if len(expected) == HASH_LETTERS and found != expected:
        raise InputError(
            f"pretrained: {path} is damaged: its SHA-256 starts with {found} and its name says {expected}; "
            "download it again"
        )
    return path
