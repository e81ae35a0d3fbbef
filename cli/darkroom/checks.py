"""What a machine needs to run darkroom, found out without importing anything heavy."""

import os
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

MIN_PYTHON: Final = (3, 11)

MIN_DISK_BYTES: Final = 4 << 30
"""Free disk space for checkpoints, caches and models; the packages are there already."""

MIN_MEMORY_BYTES: Final = 6 << 30
"""Free memory of the demo: training beside a server."""

MIN_SHARED_BYTES: Final = 256 << 20
"""Shared memory of one Ray; containers often have 64 MB."""

PACKAGES: Final = ("torch", "ray", "deepspeed", "diffusers", "transformers", "fastapi")

REINSTALL: Final = "run make setup"

EXTENSION: Final = "ops/comm/deepspeed_shm_comm_op.*.so"
"""DeepSpeed's CPU communication extension, below its package."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked for."""

    name: str
    ok: bool
    detail: str

    fix: str = ""
    """How to get it."""

    needed: bool = True
    """Whether darkroom can't do its work without it."""


def run_checks(folder: Path) -> list[Check]:
    """All checks; disk space is that of `folder`."""
    return [
        check_python(),
        check_compiler(),
        check_ninja(),
        *(check_package(name) for name in PACKAGES),
        check_extension(),
        check_disk(folder),
        check_memory(),
        check_shared_memory(Path("/dev/shm")),  # noqa: S108
        *(check_builtin(name) for name in ("miniature", "classifier", "mascot")),
        check_gpu(),
    ]


def check_python() -> Check:
    """The interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, MIN_PYTHON))
    return Check(
        name="python",
        ok=sys.version_info >= MIN_PYTHON,
        detail=found,
        fix=f"install Python {wanted} or newer, then: make setup PYTHON=python{wanted}",
    )


def check_compiler() -> Check:
    """A C++ compiler: DeepSpeed compiles its CPU communication extension with it."""
    path = shutil.which("g++")
    fix = "install it; Debian: apt-get install g++"
    return Check(name="g++", ok=path is not None, detail=path or "not found", fix=fix)


def check_ninja() -> Check:
    """Ninja, beside this interpreter or on the path."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    path = shutil.which("ninja", path=search)
    return Check(name="ninja", ok=path is not None, detail=path or "not found", fix=REINSTALL)


def check_package(name: str) -> Check:
    """An installed package; nothing is imported."""
    try:
        return Check(name=name, ok=True, detail=version(name))
    except PackageNotFoundError:
        return Check(name=name, ok=False, detail="not installed", fix=REINSTALL)


def check_extension() -> Check:
    """DeepSpeed's CPU communication extension; where it isn't installed the first run compiles it."""
    package = find_spec("deepspeed")
    folders = (package.submodule_search_locations if package else None) or ()
    found = next((path for folder in folders for path in Path(folder).glob(EXTENSION)), None)
    return Check(
        name="deepspeed extension",
        ok=found is not None,
        detail=str(found) if found else "not compiled: the first run takes a minute longer",
        fix=REINSTALL,
        needed=False,
    )


def check_disk(folder: Path) -> Check:
    """Free disk space where the work goes."""
    free = shutil.disk_usage(folder).free
    fix = "free some space, or work in another folder"
    return Check(name="disk", ok=free >= MIN_DISK_BYTES, detail=_free(free), fix=fix)


def check_memory() -> Check:
    """Free memory, within the container's limit."""
    from darkroom_trainer.inputs.machine import read_machine

    free = read_machine().memory_bytes
    fix = f"the demo needs {MIN_MEMORY_BYTES >> 30} GiB: close other programs"
    return Check(
        name="memory", ok=free >= MIN_MEMORY_BYTES, detail=_free(free), fix=fix, needed=False
    )


def check_shared_memory(folder: Path) -> Check:
    """Free shared memory, which Ray passes objects through."""
    if not folder.is_dir():
        detail, ok = "there is none", False
    else:
        free = shutil.disk_usage(folder).free
        detail, ok = _free(free), free >= MIN_SHARED_BYTES
    fix = "Ray falls back to slow files; containers: docker run --shm-size=1g"
    return Check(name=str(folder), ok=ok, detail=detail, fix=fix, needed=False)


def check_builtin(name: str) -> Check:
    """The files behind `builtin:NAME`, compared with their manifest where they have one."""
    from darkroom_api.builtin import builtin_folder
    from darkroom_api.integrity import IntegrityError, verify
    from darkroom_api.names import MANIFEST_FILE

    try:
        folder = builtin_folder(name)
        if (folder / MANIFEST_FILE).exists():
            verify(folder)
    except (FileNotFoundError, IntegrityError) as error:
        fix = "in a checkout: git restore miniature"
        return Check(name=f"builtin:{name}", ok=False, detail=str(error), fix=fix)
    return Check(name=f"builtin:{name}", ok=True, detail=str(folder))


def check_gpu() -> Check:
    """Whether there is a driver of NVIDIA."""
    driver = Path("/proc/driver/nvidia/version")
    detail = driver.read_text(encoding="ascii").splitlines()[0] if driver.exists() else "none"
    return Check(
        name="GPU",
        ok=driver.exists(),
        detail=detail,
        fix="not needed for the miniature: set scale.gpusPerWorker to 0 and precision to FP32",
        needed=False,
    )


def _free(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB free"
