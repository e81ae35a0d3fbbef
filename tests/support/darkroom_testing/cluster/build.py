"""Builds the cluster's commands from the Go tools modules of hack/, once for each set of pinned versions.

A command lands in `<cache>/<module>-<digest>/`, where the digest covers go.mod, go.sum, the sources
beside them, the Go version and the flags: a bump of one module rebuilds that module alone. A file
that is there is complete, since it is renamed into place. By hand: `python -m darkroom_testing.cluster build`.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from darkroom_testing.cluster.errors import ClusterError, ClusterUnavailableError

HACK = Path(__file__).parents[4] / "hack"
KUBERNETES = "k8s.io/kubernetes"
FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")
ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": " ".join(FLAGS)}


@dataclass(frozen=True)
class Module:
    """A tools module under hack/: its commands, and files of other modules that go with them."""

    name: str
    commands: dict[str, str]
    """The name of each command, and the package it is built from."""
    copies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Patterns of files to copy out of a required module, by the module's path."""


MODULES = (
    Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Module(
        "k8s",
        {
            name: f"{KUBERNETES}/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
                "kubectl",
            )
        },
    ),
    Module(
        "kwok",
        {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        {
            "sigs.k8s.io/kwok": (
                "kustomize/stage/node/fast/node-initialize.yaml",
                "kustomize/stage/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
                "kustomize/stage/pod/fast/pod-*.yaml",
            )
        },
    ),
    Module(
        "kuberay",
        {"kuberay-operator": "github.com/ray-project/kuberay/ray-operator"},
        {"github.com/ray-project/kuberay/ray-operator": ("config/crd/bases/ray.io_*.yaml",)},
    ),
    Module("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Module("pause", {"pause": "."}),
)

API = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
SCALE = (*API, "kube-scheduler", "kwok", "kuberay-operator")
NODE = (*API, "kube-scheduler", "kuberay-operator", "kubelet", "kube-proxy", "helm", "pause")
COMMANDS = {"api": API, "scale": SCALE, "node": NODE}
"""What each tier runs."""


def cache_root() -> Path:
    """Where everything outside the tree lives; DARKROOM_CLUSTER_CACHE moves it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("DARKROOM_CLUSTER_CACHE") or cache / "darkroom" / "cluster")


def _go(*arguments: str, module: Path) -> str:
    environment = {**os.environ, **ENVIRONMENT}
    command = ["go", *arguments]
    done = subprocess.run(
        command, cwd=module, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ClusterError(f"{' '.join(command)} in {module} failed:\n{done.stderr[-3000:]}")
    return done.stdout.strip()


def go_version() -> str:
    """The Go toolchain's version; raises `ClusterUnavailableError` without one."""
    if shutil.which("go") is None:
        raise ClusterUnavailableError(
            "Go is not installed: the cluster's commands are built with it (https://go.dev/dl)"
        )
    return _go("env", "GOVERSION", module=HACK)


def linker_flags(module: Path) -> str:
    """Stripped; and Kubernetes' own commands say their version, which others read."""
    version = re.search(rf"{KUBERNETES} v((\d+)\.(\d+)\.\S+)", (module / "go.mod").read_text())
    if version is None:
        return "-s -w"
    package = "k8s.io/component-base/version"
    values = {
        f"{package}.gitVersion": f"v{version[1]}",
        f"{package}.gitMajor": version[2],
        f"{package}.gitMinor": version[3],
        f"{package}.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": f"v{version[1]}",
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


def digest(module: Path, version: str) -> str:
    """What the built commands depend on, as twelve hexadecimal digits."""
    parts = [version, *FLAGS, linker_flags(module)]
    for path in sorted(module.glob("*")):
        if path.name in ("go.mod", "go.sum") or path.suffix == ".go":
            parts += [path.name, path.read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Tools:
    """The built commands, by name, and the folders that hold them, by module."""

    paths: dict[str, Path]
    folders: dict[str, Path]

    def __getitem__(self, command: str) -> str:
        return str(self.paths[command])


def _locate(commands: Iterable[str], hack: Path) -> tuple[Tools, list[tuple[Module, str]]]:
    """Where the commands are or will be, and those that are still to be built."""
    wanted, version = set(commands), go_version()
    tools, unbuilt = Tools({}, {}), []
    for module in MODULES:
        if names := [name for name in module.commands if name in wanted]:
            folder = cache_root() / f"{module.name}-{digest(hack / module.name, version)}"
            tools.folders[module.name] = folder
            tools.paths.update({name: folder / name for name in names})
            unbuilt += [(module, name) for name in names if not (folder / name).exists()]
    return tools, unbuilt


def find(commands: Iterable[str]) -> Tools:
    """The commands, which must have been built."""
    tools, unbuilt = _locate(commands, HACK)
    if unbuilt:
        raise ClusterError(f"not built yet: {', '.join(name for _, name in unbuilt)}")
    return tools


def missing(commands: Iterable[str]) -> list[str]:
    """The commands that are still to be built."""
    return [name for _, name in _locate(commands, HACK)[1]]


def _copy_files(module: Module, source: Path, folder: Path) -> None:
    for required, patterns in module.copies.items():
        found = json.loads(_go("mod", "download", "-json", required, module=source))["Dir"]
        for pattern in patterns:
            for path in sorted(Path(found).glob(pattern)):
                shutil.copyfile(path, folder / path.name)


def _build(module: Module, name: str, source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _copy_files(module, source, folder)
    unfinished = folder / f".{name}"
    flags = ["-ldflags", linker_flags(source), "-o", str(unfinished)]
    _go("build", *flags, module.commands[name], module=source)
    unfinished.rename(folder / name)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure(commands: Iterable[str], hack: Path = HACK) -> Tools:
    """The commands, built now where they are missing: about 20 minutes on two cores at first."""
    tools, unbuilt = _locate(commands, hack)
    if unbuilt:
        with _lock(cache_root() / "build.lock"):
            tools, unbuilt = _locate(commands, hack)
            for module, name in unbuilt:
                print(f"building {name} ...", file=sys.stderr, flush=True)
                _build(module, name, hack / module.name, tools.folders[module.name])
    return tools
