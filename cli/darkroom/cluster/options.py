"""Options that the commands for a cluster share."""

from typing import Annotated

import typer

NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Namespace; that of the kubeconfig when absent."),
]

ContextOption = Annotated[
    str | None,
    typer.Option("--context", help="Context of the kubeconfig (KUBECONFIG, as for kubectl)."),
]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the job.")]


def context_flag(context: str | None) -> str:
    """The option as a suggested command line needs it."""
    return f" --context {context}" if context is not None else ""
