"""A Kubernetes of one's own: `python -m darkroom_testing.cluster up --tier api`, `down`, `status`, `build`.

`make cluster-up TIER=node` and `make cluster-down` call it with the right Python path.
"""

import argparse
import sys
import time

from darkroom_testing.cluster.build import COMMANDS, cache_root, ensure
from darkroom_testing.cluster.errors import ClusterError
from darkroom_testing.cluster.lifecycle import TIERS, down, is_healthy, start_inside, up
from darkroom_testing.cluster.state import State, states

DEFAULT = "default"
"""The name of the cluster when none is given."""

INSTALL = """\
  helm install darkroom charts/darkroom --namespace darkroom-system --create-namespace \\
    --set trainer.head.cpu=700m --set trainer.worker.cpu=1 \\
    --set trainer.head.memory=3Gi --set trainer.worker.memory=4Gi --set registry.size=5Gi
  kubectl rollout status --namespace darkroom-system deployment/darkroom-operator
  kubectl apply --namespace darkroom-system -f examples/01-mascot.yaml
  kubectl get personalizationjobs --namespace darkroom-system --watch
"""
HINTS = {
    "api": "No pods run in this tier; TIER=node has a node for them.\n",
    "scale": "Nodes, pods and Ray are simulated in this tier; TIER=node has real ones.\n",
    "node": f"To train on it, with an attempt that fits on two cores:\n\n{INSTALL}",
}
"""What to do next, by tier."""


def _print_usage(state: State) -> None:
    print(f"The cluster {state.name!r} ({state.tier} tier) is up. To use it from this shell:\n")
    print(f"  export KUBECONFIG={state.kubeconfig} KUBECACHEDIR={state.kubectl_cache}")
    print(f'  export PATH="{state.folder}/bin:$PATH"')
    print("  kubectl get namespaces\n")
    print(HINTS[state.tier or ""])
    print(f"Logs are in {state.log_folder}; the audit log is {state.audit_log}.")


def _up(arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    state = up(arguments.name, arguments.tier, arguments.owner)
    print(f"ready after {time.monotonic() - began:.1f} s", file=sys.stderr)
    _print_usage(state)


def _down(arguments: argparse.Namespace) -> None:
    names = [state.name for state in states()] if arguments.all else [arguments.name]
    for name in names:
        down(name)
        print(f"the cluster {name!r} is gone")


def _status(arguments: argparse.Namespace) -> None:
    del arguments
    for state in states():
        health = "healthy" if is_healthy(state) else "not healthy"
        print(f"{state.name}: {state.tier} tier, {health}, KUBECONFIG={state.kubeconfig}")
        if holder := state.holder():
            print(f"  belongs to {holder}")
        for command in state.commands():
            running = "running" if command.alive() else "ended"
            print(f"  {command.name:<24} {command.pid:>8} {running}")
    if not states():
        print("no cluster is up")


def _build(arguments: argparse.Namespace) -> None:
    for command, path in ensure(COMMANDS[arguments.tier]).paths.items():
        print(f"{command:<24} {path}")


def _inside(arguments: argparse.Namespace) -> None:
    start_inside(arguments.name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m darkroom_testing.cluster", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    for name, function, text in (
        ("up", _up, "start a cluster and say how to use it"),
        ("down", _down, "take it down; nothing of it is left"),
        ("status", _status, "show all clusters and their processes"),
        ("build", _build, f"build a tier's commands into {cache_root()}"),
        ("inside", _inside, argparse.SUPPRESS),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.set_defaults(function=function)
        if name in ("up", "build"):
            verb.add_argument("--tier", choices=TIERS, default=TIERS[0])
        if name in ("up", "down"):
            verb.add_argument("--name", default=DEFAULT)
        if name == "up":
            verb.add_argument("--owner", type=int, help="the process without which it shall end")
        if name == "down":
            verb.add_argument("--all", action="store_true", help="all clusters of this user")
        if name == "inside":
            verb.add_argument("name")
    return parser


def main() -> int:
    """Runs the command; an error is one message on standard error."""
    arguments = _parser().parse_args()
    try:
        arguments.function(arguments)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
