"""What a method trains of a base model: all of it, adapters beside its layers, or embeddings of new tokens."""

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.training import Method
from darkroom_trainer.families.protocols import LoadedBase
from darkroom_trainer.training.adapters import adapter_weights, add_adapters
from darkroom_trainer.training.models import TrainableDenoiser, trainable_denoiser
from darkroom_trainer.training.new_tokens import new_embeddings


def module_in_training(base: LoadedBase, spec: PersonalizationJobSpec) -> TrainableDenoiser:
    """The module for the engine: what has gradients in it is what the job's method trains.

    New tokens are in the base already (`add_new_tokens`). It runs the text encoders where something of
    them is trained.
    """
    training = spec.training
    module = trainable_denoiser(
        base,
        train_text_encoder=training.encodes_prompts,
        gradient_checkpointing=training.gradient_checkpointing,
    )
    if training.method is Method.FULL:
        return module
    if training.adapters is not None:
        encoders = module.encoders if training.train_text_encoder else {}
        parts = [module.network, *encoders.values()]
        add_adapters(parts, training.adapters, training.seed)
    added = [*adapter_weights(module), *new_embeddings(module)]
    module.requires_grad_(False)
    for parameter in added:
        parameter.requires_grad_(True)
    return module
