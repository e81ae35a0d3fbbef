"""Adapters and new tokens: nothing of the base is trained or published, and plain diffusers draws the same."""

import diffusers
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from darkroom_api.artifact import KOHYA_WEIGHTS, LEARNED_EMBEDDINGS, LORA_WEIGHTS
from darkroom_testing.plain_pipelines import plain_pipeline
from darkroom_testing.tiny_families import write_stable_diffusion_xl, write_z_image
from darkroom_trainer.output.additions import addition_of, write_addition
from darkroom_trainer.training.adapters import without_adapters
from darkroom_trainer.training.methods import module_in_training
from darkroom_trainer.training.models import load_base, split_state
from darkroom_trainer.training.new_tokens import add_new_tokens

IDENTIFIER = {"subject": {"identifier": "<sks>"}}
METHODS = {
    "LoRA": {"training": {"method": "LoRA", "lora": {"rank": 2, "alpha": 6}}},
    "feed-forward": {
        "training": {
            "method": "LoRA",
            "lora": {"rank": 3, "targets": "AttentionAndFeedForward"},
            "trainTextEncoder": False,
        }
    },
    "TextualInversion": IDENTIFIER
    | {
        "training": {
            "method": "TextualInversion",
            "trainTextEncoder": False,
            "newTokens": {"vectors": 3, "initializer": "cat"},
        }
    },
    "one vector": IDENTIFIER
    | {"training": {"method": "TextualInversion", "trainTextEncoder": False}},
    "pivotal": IDENTIFIER
    | {"training": {"method": "LoRA", "lora": {"rank": 2}, "newTokens": {"vectors": 2}}},
}

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = {
    "StableDiffusionXLPipeline": (write_stable_diffusion_xl, True),
    "ZImagePipeline": (write_z_image, False),
}
"""How a tiny model of another family is written, and whether its text encoders can be trained."""


@pytest.fixture(params=METHODS)
def spec(request, make_job, tmp_path):
    return make_job(tmp_path, **METHODS[request.param], output={"kohyaKeys": False}).spec


@pytest.fixture
def in_training(tiny_base):
    """The base of a job as it is trained, and the engine's module: what is trained was moved a little."""

    def build(spec, learnt=True):
        base = load_base(tiny_base, torch.device("cpu"))
        add_new_tokens(base, spec)
        module = module_in_training(base, spec)
        return base, moved(module) if learnt else module

    return build


def moved(module):
    """The module after everything that is trained in it was moved a little."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trained(module).values():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module


def trained(module):
    return {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}


def batch_of(base, spec, prompt="a photo of <sks> dog"):
    prompts = base.prompts(
        [prompt], torch.float32, train_text_encoder=spec.training.encodes_prompts
    )
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return noisy, torch.tensor([10, 700]), prompts, torch.tensor([0, 0])


def test_a_training_begins_with_what_the_base_draws(spec, in_training, tiny_base):
    base, module = in_training(spec, learnt=False)
    plain = load_base(tiny_base, torch.device("cpu"))
    prompt = "a photo of a dog"
    states = plain.states([prompt, prompt])
    with torch.no_grad():
        found = module(*batch_of(base, spec, prompt))
    noisy, timesteps, *_ = batch_of(base, spec, prompt)
    expected = plain.denoiser.predict(plain.denoiser.network, noisy, timesteps, states)
    assert torch.equal(found, expected.detach())


def test_only_what_is_added_gets_gradients(spec, in_training):
    base, module = in_training(spec)
    module(*batch_of(base, spec)).square().mean().backward()
    with_gradients = {name for name, one in module.named_parameters() if one.grad is not None}
    assert with_gradients == set(trained(module))
    assert all("lora_" in name or name.endswith(".new") for name in with_gradients)
    assert all(one.grad.abs().sum() > 0 for one in trained(module).values())


def test_the_base_is_what_is_left_without_the_adapters(spec, in_training, tiny_base):
    base, module = in_training(spec)
    batch = batch_of(base, spec, "a photo of a dog")
    network = base.denoiser.network
    plain = load_base(tiny_base, torch.device("cpu"))
    states = plain.states(["a dog", "a dog"])
    before = set(trained(module))
    with torch.no_grad(), without_adapters(network):
        left = base.denoiser.predict(network, batch[0], batch[1], states)
    expected = plain.denoiser.predict(plain.denoiser.network, batch[0], batch[1], states)
    assert torch.equal(left, expected.detach())
    assert set(trained(module)) == before
    if spec.training.adapters is not None:
        on = base.denoiser.predict(network, batch[0], batch[1], states)
        assert not torch.allclose(on, expected, atol=1e-3)


def published(spec, module, folder, dtype=torch.float32):
    folder.mkdir()
    weights = {name: tensor.detach() for name, tensor in trained(module).items()}
    write_addition(folder, spec, split_state(weights), dtype)
    return folder


def draw(pipeline, **prompt):
    generator = torch.Generator().manual_seed(5)
    options = {"num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "np"}
    return pipeline(generator=generator, **options, **prompt).images[0]


def drawn_in_training(base, module, tiny_base, spec, prompt):
    """With the networks that are trained, by diffusers' pipeline around them."""
    pipeline = plain_pipeline(tiny_base)
    pipeline.unet = base.denoiser.network
    with torch.no_grad():
        states = base.conditioning.states(base.tokens([prompt, ""]), base.conditioning.encoders)
    one, none = states["states"]
    return draw(pipeline, prompt_embeds=one[None], negative_prompt_embeds=none[None])


def test_plain_diffusers_loads_what_is_published_and_draws_the_same(
    spec, in_training, tiny_base, tmp_path
):
    base, module = in_training(spec)
    folder = published(spec, module, tmp_path / "published")
    prompt = f"a photo of {spec.subject.identifier} dog"
    expected = drawn_in_training(base, module, tiny_base, spec, prompt)

    pipeline = plain_pipeline(tiny_base)
    untouched = draw(pipeline, prompt=prompt.replace("<sks>", "cat"))
    if spec.training.added_tokens is not None:
        pipeline.load_textual_inversion(folder)
    if spec.training.adapters is not None:
        pipeline.load_lora_weights(folder)
    found = draw(pipeline, prompt=prompt)
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - untouched).max() > 0.01


def test_kohya_s_keys_draw_the_same(make_job, in_training, tiny_base, tmp_path):
    spec = make_job(tmp_path, **METHODS["LoRA"], output={"kohyaKeys": True}).spec
    _, module = in_training(spec)
    folder = published(spec, module, tmp_path / "published")
    names = list(load_file(folder / KOHYA_WEIGHTS))
    assert {name.partition("_")[0] for name in names} == {"lora"}
    assert any(name.startswith("lora_te_text_model_encoder_layers_0_") for name in names)
    drawn = []
    for chosen in ({}, {"weight_name": KOHYA_WEIGHTS}):
        pipeline = plain_pipeline(tiny_base)
        pipeline.load_lora_weights(folder, **chosen)
        drawn.append(draw(pipeline, prompt="a photo of sks dog"))
    assert np.abs(drawn[0] - drawn[1]).max() < 1e-5
    untouched = draw(plain_pipeline(tiny_base), prompt="a photo of sks dog")
    assert np.abs(drawn[0] - untouched).max() > 0.01


@pytest.mark.parametrize("pipeline_class", FAMILIES)
def test_adapters_of_another_family_load_in_its_plain_pipeline(make_job, tmp_path, pipeline_class):
    write, trains_text_encoders = FAMILIES[pipeline_class]
    write(tmp_path / "base", seed=0)
    lora = {"rank": 2, "alpha": 6, "targets": "AttentionAndFeedForward"}
    training = {"method": "LoRA", "lora": lora, "trainTextEncoder": trains_text_encoders}
    spec = make_job(tmp_path, training=training).spec
    base = load_base(tmp_path / "base", torch.device("cpu"))
    module = moved(module_in_training(base, spec))
    folder = published(spec, module, tmp_path / "published")
    pipeline = getattr(diffusers, pipeline_class).from_pretrained(tmp_path / "base")
    pipeline.load_lora_weights(folder)

    noisy = torch.randn(2, *base.latent_shape(32, 32), generator=torch.Generator().manual_seed(1))
    timesteps, prompts = torch.tensor([100, 700]), ["a photo of sks dog", "a dog"]
    plain = load_base(tmp_path / "base", torch.device("cpu"))

    def say(network, encoders):
        states = plain.conditioning.states(plain.tokens(prompts), encoders)
        return plain.denoiser.predict(network, noisy, timesteps, states)

    component = base.denoiser.component
    names = list(base.conditioning.encoders)
    with torch.no_grad():
        expected = say(base.denoiser.network, base.conditioning.encoders)
        encoders = {name: getattr(pipeline, name) for name in names}
        found = say(getattr(pipeline, component), encoders)
        untouched = say(plain.denoiser.network, plain.conditioning.encoders)
    assert torch.allclose(found, expected, atol=1e-5)
    assert (untouched - expected).abs().max() > 1e-3


def test_nothing_of_the_base_is_published(spec, in_training, tmp_path):
    _, module = in_training(spec)
    folder = published(spec, module, tmp_path / "published", torch.float16)
    expected = set()
    if spec.training.adapters is not None:
        expected.add(LORA_WEIGHTS)
    if spec.training.added_tokens is not None:
        expected.add(LEARNED_EMBEDDINGS)
    assert {path.name for path in folder.iterdir()} == expected
    numbers = 0
    for path in folder.iterdir():
        with safe_open(path, "pt") as file:
            tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
        assert {tensor.dtype for tensor in tensors} == {torch.float16}
        numbers += sum(tensor.numel() for tensor in tensors)
    assert numbers == sum(one.numel() for one in trained(module).values())


def test_the_manifest_says_what_calls_it_up_and_how_it_was_made(make_job, tmp_path):
    added = addition_of(make_job(tmp_path, **METHODS["pivotal"]).spec)
    assert (added.trigger, added.rank, added.alpha, added.vectors) == ("<sks>", 2, 2, 2)
    assert addition_of(make_job(tmp_path).spec) is None


def test_new_tokens_begin_with_the_mean_of_the_initializer(make_job, in_training, tmp_path):
    spec = make_job(tmp_path, **METHODS["TextualInversion"]).spec
    base, module = in_training(spec, learnt=False)
    (new,) = trained(module).values()
    encoder = base.conditioning.encoders["text_encoder"]
    tokenizer = base.conditioning.tokenizers["text_encoder"]
    ids = tokenizer("cat", add_special_tokens=False).input_ids
    assert len(ids) == 3
    mean = encoder.get_input_embeddings().table.weight[ids].mean(dim=0)
    assert torch.equal(new, mean.repeat(3, 1))
    first, *_ = base.tokens(["<sks>s"])["tokens"].tolist()
    assert first[1:4] == tokenizer.convert_tokens_to_ids(["<sks>", "<sks>_1", "<sks>_2"])


def fit(module, batch, target, *, rate, steps):
    """The losses of one batch, trained again and again."""
    optimizer = torch.optim.AdamW([*trained(module).values()], lr=rate)
    losses = []
    for _ in range(steps):
        loss = (module(*batch) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_adapters_overfit_one_batch(make_job, in_training, tmp_path):
    lora = {"rank": 8, "targets": "AttentionAndFeedForward"}
    spec = make_job(tmp_path, training={"method": "LoRA", "lora": lora}).spec
    base, module = in_training(spec, learnt=False)
    target = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    losses = fit(module, batch_of(base, spec), target, rate=2e-2, steps=60)
    assert losses[-1] < 0.85 * losses[0]


def test_new_tokens_find_the_word_that_the_pictures_show_and_nothing_else_moves(
    make_job, in_training, tmp_path, tiny_base
):
    spec = make_job(tmp_path, **METHODS["TextualInversion"]).spec
    base, module = in_training(spec, learnt=False)
    words = base.prompts(["a photo of zeb dog"], torch.float32, train_text_encoder=True)
    noisy, timesteps, prompts, rows = batch_of(base, spec)
    with torch.no_grad():
        target = module(noisy, timesteps, words, rows)
    losses = fit(module, (noisy, timesteps, prompts, rows), target, rate=5e-2, steps=60)
    assert losses[-1] < 0.1 * losses[0]

    untouched = load_base(tiny_base, torch.device("cpu"))
    for name, part in untouched.trainable.items():
        found = dict(base.trainable[name].named_parameters())
        for tensor_name, tensor in part.named_parameters():
            now = found.get(tensor_name)
            if now is None:
                now = found[tensor_name.replace("token_embedding.", "token_embedding.table.")]
            assert torch.equal(now, tensor), tensor_name
