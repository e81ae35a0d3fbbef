"""Answers requests for images: finds the model, chooses what was left open, draws, writes the files."""

import asyncio
import base64
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from darkroom_sampling.model import DiffusionModel
from darkroom_sampling.samplers import Sampler
from darkroom_serving.drawing.files import FileFormat, image_bytes, parameters_of
from darkroom_serving.engine.batching import BatchingEngine, Engine
from darkroom_serving.engine.requests import DrawRequest, NotFiniteError
from darkroom_serving.errors import SERVER_ERROR, ApiError, bad_request, too_busy
from darkroom_serving.metrics import GenerationMetrics
from darkroom_serving.models.additions import load_served
from darkroom_serving.models.catalogue import ModelCatalogue, ModelStore, ServedModel
from darkroom_serving.models.loading import LoadedModel, choose_device
from darkroom_serving.settings import Limits
from darkroom_serving.threads import use_all_cpus
from darkroom_serving.web.wire import MAX_SEED, ImageData, ImagesRequest, ImagesResponse

RANDOM_SEEDS = 2**32
"""A seed that nobody chose is smaller: a person may have to type it."""

logger = logging.getLogger(__name__)


class Studio:
    """Draws with the models of a catalogue. The event loop stays free: threads do the work."""

    def __init__(
        self,
        catalogue: ModelCatalogue,
        limits: Limits,
        max_models: int,
        engine: Engine | None = None,
    ) -> None:
        """Nothing is loaded yet (`warm_up`)."""
        use_all_cpus()
        device = choose_device()
        self._catalogue = catalogue
        self._limits = limits
        self._engine = engine or BatchingEngine()
        self._store: ModelStore[LoadedModel] = ModelStore(
            lambda model: load_served(model, device), max_models
        )
        self._metrics = GenerationMetrics()
        self._loading = threading.Lock()
        # A thread for each request, which waits for the engine, then decodes and writes its files; and `warm_up`'s.
        self._workers = ThreadPoolExecutor(limits.max_waiting + 1, thread_name_prefix="request")
        self._waiting = 0

    def warm_up(self) -> None:
        """Verifies and loads the base model; raises ApiError when it is damaged."""
        self._workers.submit(lambda: self._load(self._catalogue.find(None))).result()

    async def draw(self, request: ImagesRequest) -> ImagesResponse:
        """Draws the images of a checked request; raises ApiError."""
        if self._waiting >= self._limits.max_waiting:
            raise too_busy(self._waiting)
        started_s = time.monotonic()
        model, outcome, sampler = "unknown", "error", request.sampler
        self._waiting += 1
        try:
            found = await asyncio.to_thread(self._catalogue.find, request.model)
            model = found.model_id
            response, sampler = await self._in_worker(found, request)
            outcome = "ok"
        except ApiError as error:
            outcome = error.code or outcome
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._waiting -= 1
            elapsed_s = time.monotonic() - started_s
            self._metrics.images(request.n, elapsed_s, model, sampler, outcome)
        return response

    async def _in_worker(
        self, model: ServedModel, request: ImagesRequest
    ) -> tuple[ImagesResponse, Sampler]:
        gone = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._workers, self._draw_now, model, request, gone.is_set
            )
        finally:  # also when the client went away: the thread stops at the next step
            gone.set()

    def _draw_now(
        self, model: ServedModel, request: ImagesRequest, stopped: Callable[[], bool]
    ) -> tuple[ImagesResponse, Sampler]:
        """The response, and the sampler that drew it."""
        loaded = self._load(model)
        jobs = resolve(request, loaded.model)
        try:
            pictures = self._engine.draw(loaded.model, jobs, stopped)
        except NotFiniteError as error:
            raise _no_picture(model) from error
        if loaded.safety is not None and any(map(loaded.safety.flags, pictures)):
            problem = "the model's safety checker refused the picture that it leads to"
            raise bad_request("prompt", problem, "ask for another", "content_policy_violation")
        wanted = FileFormat(request.output_format, request.output_compression)
        data = [
            ImageData(b64_json=_base64(image_bytes(picture, job, model, wanted)), seed=job.seed)
            for picture, job in zip(pictures, jobs, strict=True)
        ]
        warnings = _warnings(request, loaded.model)
        response = ImagesResponse(
            created=int(time.time()),
            data=data,
            parameters=parameters_of(jobs[0], model),
            warnings=warnings,
        )
        return response, jobs[0].sampler

    def _load(self, model: ServedModel) -> LoadedModel:
        with self._loading:
            if model in self._store:
                return self._store.get(model)
            with self._metrics.load(model.model_id):
                loaded = self._store.get(model)
        logger.info("loaded %s, digest %s", model.model_id, model.digest)
        return loaded


def resolve(request: ImagesRequest, model: DiffusionModel) -> list[DrawRequest]:
    """The images of a request, everything chosen; raises ApiError for what the model can't do."""
    width, height = request.sides or (model.native_side, model.native_side)
    if width % model.side_step or height % model.side_step:
        fix = f"for this model use multiples of {model.side_step}"
        raise bad_request("size", f"{request.size} does not suit the model", fix)
    sampler = _sampler(request, model)
    most, steps = model.max_steps(sampler), request.num_inference_steps
    if steps > most:
        problem = f"must be at most {most} with {sampler} and this model"
        raise bad_request("num_inference_steps", problem, f"it is {steps}: change it")
    if request.eta and not model.samplers[sampler].takes_eta:
        takers = [f"use {name}" for name, spec in model.samplers.items() if spec.takes_eta]
        raise bad_request("eta", f"{sampler} takes none", " or ".join(["leave it out", *takers]))
    seed = secrets.randbelow(RANDOM_SEEDS) if request.seed is None else request.seed
    return [
        DrawRequest(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            width=width,
            height=height,
            steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            sampler=sampler,
            eta=request.eta,
            seed=(seed + number) % (MAX_SEED + 1),
        )
        for number in range(request.n)
    ]


def _sampler(request: ImagesRequest, model: DiffusionModel) -> Sampler:
    """That of the request, or the model's own where nobody chose one; raises ApiError for one that doesn't suit."""
    suitable = tuple(model.samplers)
    if request.sampler in suitable:
        return request.sampler
    if "sampler" in request.model_fields_set:
        problem = f"{request.sampler} does not suit the model"
        raise bad_request("sampler", problem, f"use {' or '.join(suitable)}")
    return suitable[0]


def _no_picture(model: ServedModel) -> ApiError:
    message = (
        f"{model.model_id} drew numbers that are no picture (NaN or infinite); try another seed, fewer"
        " steps or less guidance, and check the model's training when that doesn't help"
    )
    return ApiError(500, message, None, "not_finite", SERVER_ERROR)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _warnings(request: ImagesRequest, model: DiffusionModel) -> list[str]:
    reader, warnings = model.conditioning, []
    for name in ("prompt", "negative_prompt"):
        count, most = reader.count_tokens(getattr(request, name)), reader.max_tokens
        if count > most:
            warnings.append(
                f"{name}: has {count} tokens, the model reads {most}; the rest was cut off"
            )
    return warnings
