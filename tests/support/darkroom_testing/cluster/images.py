"""Images without a registry: each is empty folders and an environment; the rest is this machine.

containerd adds the userland of the machine, the Python environment and the checkout, all read-only,
to every container (`base_spec`), so that `docker.io/rayproject/ray` is the Ray that is installed
here, and `darkroom/operator` the operator of this checkout.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from darkroom_testing.cluster.errors import ClusterError

ROOT = Path(__file__).parents[4]
"""The checkout."""
POD_TMP = Path("/tmp")
SOURCES = ("crds", "local", "sampling", "operator", "trainer", "serving", "cli")
PAUSE = "registry.local/pause:3.10"
USERLAND = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/alternatives", "/etc/ssl")
NON_ROOT = 65532
FOLDERS: tuple[str, ...] = ("bin", "dev", "etc", "home", "lib", "lib64", "opt", "proc")
FOLDERS += ("root", "run", "sbin", "sys", "usr", "var", "work")
PASSWD = f"root:x:0:0:root:/root:/bin/sh\nnonroot:x:{NON_ROOT}:{NON_ROOT}::/home:/bin/sh\n"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def default_images() -> list[str]:
    """Ray's image in the version that is installed, and the project's own in theirs."""
    names = ["operator", "trainer", "serving"]
    try:
        tags = ["dev", version("darkroom")]
        ray = [f"docker.io/rayproject/ray:{version('ray')}"]
    except PackageNotFoundError:
        tags, ray = ["dev"], []
    return [*ray, *(f"docker.io/darkroom/{name}:{tag}" for name in names for tag in tags)]


def environment() -> dict[str, str]:
    """What a process in a container finds in its environment."""
    return {
        "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": ":".join(str(ROOT / source) for source in SOURCES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Without CAP_SYS_RESOURCE the limit of open files cannot be raised further.
        "RAY_START_ULIMIT_OPEN_FILES": "20000",
    }


def read_only_folders() -> list[str]:
    """The folders of this machine that every container sees."""
    python = os.path.realpath(sys.base_prefix)
    wanted = [*USERLAND, python, sys.prefix, str(ROOT)]
    if hidden := [path for path in wanted if Path(path).is_relative_to(POD_TMP)]:
        raise ClusterError(
            f"pods have a {POD_TMP} of their own, and don't see {hidden[0]}: move it"
        )
    return [path for path in dict.fromkeys(wanted) if Path(path).exists()]


def base_spec() -> dict[str, Any]:
    """The runtime's default, with the folders of this machine and without limits."""
    printed = subprocess.run(["ctr", "oci", "spec"], capture_output=True, check=True).stdout
    spec: dict[str, Any] = json.loads(printed)
    spec["process"].pop("rlimits", None)
    for path in read_only_folders():
        options = ["rbind", "ro"]
        bind = {"destination": path, "type": "bind", "source": path, "options": options}
        spec["mounts"].append(bind)
    return spec


def _entry(name: str, mode: int, kind: bytes = tarfile.DIRTYPE, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.size = mode, kind, size
    return entry


def _layer(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """An uncompressed layer of the usual folders and some files, the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in FOLDERS:
            archive.addfile(_entry(folder, 0o755))
        archive.addfile(_entry("tmp", 0o1777))
        for name, (content, mode) in files.items():
            entry = _entry(name, mode, tarfile.REGTYPE, len(content))
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _descriptor(blob: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob), **more}


def write_image(
    path: Path, names: Iterable[str], files: Mapping[str, tuple[bytes, int]], config: object
) -> None:
    """Writes an archive of one image with several names, in the layout of the OCI."""
    layer = _layer(files)
    root = {"type": "layers", "diff_ids": [_digest(layer)]}
    image = _json({"architecture": "amd64", "os": "linux", "config": config, "rootfs": root})
    prefix = "application/vnd.oci.image"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(image, f"{prefix}.config.v1+json"),
            "layers": [_descriptor(layer, f"{prefix}.layer.v1.tar")],
        }
    )
    named = [
        _descriptor(manifest, MANIFEST, annotations={"io.containerd.image.name": name})
        for name in names
    ]
    index = {"schemaVersion": 2, "mediaType": f"{prefix}.index.v1+json", "manifests": named}
    content = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    content |= {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (image, manifest, layer)}
    with tarfile.open(path, "w") as archive:
        for name, blob in content.items():
            archive.addfile(_entry(name, 0o644, tarfile.REGTYPE, len(blob)), io.BytesIO(blob))


def write_images(folder: Path, pause: Path, names: Iterable[str]) -> list[Path]:
    """Writes the archives of the pause image, and of all images that are this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    pause_archive, machine_archive = folder / "pause.tar", folder / "machine.tar"
    write_image(
        pause_archive, [PAUSE], {"pause": (pause.read_bytes(), 0o755)}, {"Entrypoint": ["/pause"]}
    )
    variables = [f"{name}={value}" for name, value in environment().items()]
    files = {"etc/passwd": (PASSWD.encode(), 0o644)}
    write_image(machine_archive, names, files, {"Cmd": ["sh"], "Env": variables})
    return [pause_archive, machine_archive]
