"""`darkroom serve`: a registry over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from darkroom.console import say
from darkroom.errors import CommandError
from darkroom.options import RegistryOption, examples

EXAMPLES = examples(
    "darkroom serve --registry models",
    "darkroom serve --registry models --host 0.0.0.0 --port 9000 --metrics-port 9090",
    "darkroom serve --registry models --base my-base-model",
)


def serve(
    registry: RegistryOption = Path("models"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model; the miniature when absent.")
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the model that classifies, as transformers writes it or sealed; the"
            " built-in one when absent."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin whose web pages may use the server, as https://example.org; several times"
            " for several, * for all. None when absent."
        ),
    ] = None,
) -> None:
    """Serve the models of a registry over HTTP.

    Speaks OpenAI's Images API at /v1/images/generations; classifies at /v1/classify. A model that is
    published later is served without a restart. Ctrl-C stops it.
    """
    from darkroom_serving.errors import ServingError
    from darkroom_serving.run import serve as run_server
    from darkroom_serving.settings import ServingSettings

    settings = ServingSettings(
        registry=registry,
        host=host,
        port=port,
        metrics_port=metrics_port,
        base=base,
        classifier=classifier,
        allowed_origins=tuple(allow_origin or ()),
    )
    say(f"starting on {host}:{port}; Ctrl-C stops it")
    try:
        stopped_by = run_server(settings, on_ready=_announce, on_note=say)
    except ServingError as error:
        raise CommandError(str(error)) from error
    raise typer.Exit(128 + stopped_by)


def _announce(url: str) -> None:
    say(f"serving at {url}; its interface: {url}/docs; try:")
    say(f"  curl {url}/v1/models")
    say(
        f"""  curl {url}/v1/images/generations --json '{{"prompt": "a photo of a dog", "seed": 7}}'"""
    )
    say(f'  darkroom generate "a photo of a dog" --output dog.png --url {url}')
