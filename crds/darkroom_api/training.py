"""`spec.training`: how the weights are trained, and which of them: the method and the fields of each."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from darkroom_api.fields import ApiModel, ClassNoun, Decimal


class Method(StrEnum):
    """Which weights are trained: all of them, low-rank adapters, or the embeddings of new tokens."""

    FULL = "Full"
    LORA = "LoRA"
    TEXTUAL_INVERSION = "TextualInversion"


class LoraTargets(StrEnum):
    """Which layers get an adapter."""

    ATTENTION = "Attention"
    ATTENTION_AND_FEED_FORWARD = "AttentionAndFeedForward"


class LearningRateSchedule(StrEnum):
    """How the learning rate goes on after the warm-up: the same, or down to 0 at the last step."""

    CONSTANT = "Constant"
    LINEAR = "Linear"
    COSINE = "Cosine"


class Optimizer(StrEnum):
    """What turns gradients into steps."""

    ADAMW = "AdamW"
    ADAMW_8BIT = "AdamW8bit"
    PRODIGY = "Prodigy"


class Lora(ApiModel):
    """Low-rank adapters (arXiv 2106.09685): beside a frozen layer the product of two narrow ones."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Width of the narrow layers; at most that of any layer that gets an adapter."""

    alpha: Annotated[int, Field(ge=1, le=4096)] | None = None
    """What an adapter adds is scaled by alpha / rank; by 1 when absent."""

    targets: LoraTargets = LoraTargets.ATTENTION
    """Which layers get an adapter: the projections of the attention layers, or the feed-forward layers
    too; with `trainTextEncoder` those of the text encoder as well."""

    @property
    def scaled_alpha(self) -> int:
        """Alpha; where it is absent, the rank."""
        return self.rank if self.alpha is None else self.alpha


class NewTokens(ApiModel):
    """New tokens for the identifier (textual inversion, arXiv 2208.01618): their embeddings are trained."""

    vectors: Annotated[int, Field(ge=1, le=16)] = 1
    """How many tokens the identifier stands for, each with an embedding."""

    initializer: ClassNoun | None = None
    """The word whose embedding they begin with; the class noun when absent."""

    learning_rate: Decimal | None = None
    """Learning rate of the embeddings; `training.learningRate` when absent. Greater than 0, at most 1."""


class Ema(ApiModel):
    """Moving average of the weights over the optimizer steps (EMA): it is drawn and published, not the last step."""

    decay: Decimal = "0.9999"
    """What the average keeps of itself in a step; (1 + n) / (10 + n) while that is less, after n steps.
    Greater than 0, less than 1."""


class Training(ApiModel):
    """How the weights are trained."""

    method: Method = Method.FULL
    """Which weights are trained: `Full` trains the UNet, and the text encoder with `trainTextEncoder`;
    `LoRA` adapters beside their frozen layers; `TextualInversion` the embeddings of new tokens alone."""

    lora: Lora | None = None
    """What LoRA's adapters are like; only with `method: LoRA`, which has defaults for all of it."""

    new_tokens: NewTokens | None = None
    """New tokens for the identifier; only with `TextualInversion`, which has defaults for all of it, and
    with `LoRA`, which then trains both (pivotal tuning)."""

    max_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 800
    """Number of optimizer steps."""

    optimizer: Optimizer = Optimizer.ADAMW
    """What turns gradients into steps: `AdamW`; `AdamW8bit`, which keeps its moments in 8 bits and needs
    bitsandbytes; `Prodigy` (arXiv 2306.06101), which finds the rate by itself: set `learningRate` to 1."""

    learning_rate: Decimal = "5e-6"
    """The optimizer's learning rate, the highest of the run. Greater than 0, at most 1."""

    learning_rate_schedule: LearningRateSchedule = LearningRateSchedule.CONSTANT
    """How the learning rate goes on after the warm-up: `Linear` and `Cosine` lower it to 0 at the last step."""

    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Optimizer steps over which the learning rate rises from 0. Fewer than `maxSteps`."""

    max_grad_norm: Decimal = "1.0"
    """Gradients are scaled down to this global norm. Greater than 0, at most 1000."""

    ema: Ema | None = None
    """Moving average of the weights, to draw validation pictures with and to publish; none when absent."""

    snr_gamma: Decimal | None = None
    """Min-SNR weighting of the loss (arXiv 2303.09556, usually 5.0), of instance and class images alike;
    none when absent. Greater than 0, at most 100."""

    noise_offset: Decimal = "0"
    """Strength of the noise that is added to whole channels, so that pictures may become darker or lighter
    (0.05 to 0.1 is usual). At most 1."""

    resolution: Annotated[int, Field(ge=32, le=2048, multiple_of=8)] = 512
    """Side in pixels of the square that pictures are resized and cropped to."""

    aspect_ratio_buckets: bool = False
    """Whether photos keep their shape: each is cropped to the size nearest to its own among some that
    have no more pixels than the square, and a micro batch has photos of one size."""

    batch_size_per_worker: Annotated[int, Field(ge=1, le=256)] = 1
    """Instance images in a worker's micro batch; as many class images join them."""

    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=256)] = 1
    """Micro batches in one optimizer step."""

    train_text_encoder: bool = True
    """Whether the text encoder is trained with the UNet."""

    text_encoder_learning_rate: Decimal | None = None
    """Learning rate of the text encoder; `learningRate` when absent. Greater than 0, at most 1."""

    text_encoder_stop_step: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Step from which on the text encoder stays as it is; trained to the end when absent."""

    gradient_checkpointing: bool = False
    """Whether the UNet's activations are computed again in the backward pass: slower, in less memory."""

    horizontal_flip: bool = False
    """Whether instance images are mirrored at random; leave off for subjects with writing or a left and a right."""

    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 42
    """Seed of everything random: the same spec and seed give the same weights."""

    @property
    def adapters(self) -> Lora | None:
        """What the adapters are like; None for a method without them."""
        return (self.lora or Lora()) if self.method is Method.LORA else None

    @property
    def added_tokens(self) -> NewTokens | None:
        """What the new tokens are like; None for a method without them."""
        if self.method is Method.TEXTUAL_INVERSION:
            return self.new_tokens or NewTokens()
        return self.new_tokens

    @property
    def encodes_prompts(self) -> bool:
        """Whether a step runs the text encoder, since something of it is trained."""
        return self.train_text_encoder or self.added_tokens is not None
