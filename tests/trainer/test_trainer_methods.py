"""What a method adds to a base is known before step 1: its size, and what the base has no place for."""

import dataclasses
import json

import pytest
from transformers import CLIPTokenizer

from darkroom_api.training import Lora, LoraTargets
from darkroom_trainer.driver.additions import added_parameters, warnings_of
from darkroom_trainer.driver.base_check import check_base
from darkroom_trainer.driver.plan import make_plan, predict_peak_memory
from darkroom_trainer.driver.sizes import (
    FILE_BYTES,
    checkpoint_bytes,
    model_bytes,
    trained_parameters,
)
from darkroom_trainer.errors import TrainerError
from darkroom_trainer.inputs.adapter_layers import adapter_layers
from darkroom_trainer.inputs.base_model import inspect_base
from darkroom_trainer.inputs.machine import Machine
from darkroom_trainer.inputs.photos import load_photos
from darkroom_trainer.output.checkpoint import differing_field, numerics, numerics_digest

NEW_TOKEN = {"identifier": "<sks>"}
INVERSION = {"method": "TextualInversion", "trainTextEncoder": False}
RATE = {"learningRate": "1e-3"}


@pytest.fixture(scope="module")
def tiny(tiny_base):
    return inspect_base("file:tiny", tiny_base)


@pytest.fixture
def spec_of(make_job, tmp_path):
    def build(training, subject=None, **sections):
        return make_job(tmp_path, training=training, subject=subject or {}, **sections).spec

    return build


def refusal(base, spec):
    with pytest.raises(TrainerError) as caught:
        check_base(base, spec)
    return str(caught.value)


@pytest.mark.parametrize(
    ("lora", "encoder"),
    [
        (Lora.of(rank=4), False),
        (Lora.of(rank=4), True),
        (Lora.of(rank=3, targets=LoraTargets.ATTENTION_AND_FEED_FORWARD), True),
    ],
)
def test_the_size_of_a_text_encoder_s_adapters_is_known_from_its_file(tiny, spec_of, lora, encoder):
    written = json.loads(lora.model_dump_json(by_alias=True, exclude_none=True))
    training = {"method": "LoRA", "lora": written, "trainTextEncoder": encoder}
    both = added_parameters(spec_of(training), tiny)
    unet = added_parameters(spec_of(training | {"trainTextEncoder": False}), tiny)
    of_encoder = 4 * lora.rank * (16 + 16)
    if lora.targets is LoraTargets.ATTENTION_AND_FEED_FORWARD:
        of_encoder += 2 * lora.rank * (16 + 32)
    assert both - unet == (of_encoder if encoder else 0)
    assert unet > 0


def test_new_tokens_are_as_large_as_their_embeddings(tiny, spec_of):
    training = INVERSION | {"newTokens": {"vectors": 3}}
    assert added_parameters(spec_of(training, NEW_TOKEN), tiny) == 3 * 16


def test_layers_are_known_by_their_names_in_every_kind_of_network():
    shapes = {
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight": (8, 8),
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.weight": (8, 8),
        "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj.weight": (64, 8),
        "down_blocks.1.attentions.0.proj_in.weight": (8, 8, 1, 1),
        "text_model.encoder.layers.0.self_attn.q_proj.weight": (8, 8),
        "text_model.encoder.layers.0.self_attn.q_proj.bias": (8,),
        "text_model.encoder.layers.0.mlp.fc1.weight": (32, 8),
        "layers.3.attention.to_v.weight": (8, 8),
        "layers.3.feed_forward.w2.weight": (8, 32),
        "conv_in.weight": (8, 4, 3, 3),
    }
    attention = adapter_layers(shapes, LoraTargets.ATTENTION)
    assert {name.rpartition(".")[2] for name in attention} == {"to_q", "0", "q_proj", "to_v"}
    more = adapter_layers(shapes, LoraTargets.ATTENTION_AND_FEED_FORWARD)
    assert len(more) == len(attention) + 3


def test_a_rank_above_the_narrowest_layer_is_refused_with_its_name(tiny, spec_of):
    narrow = {"method": "LoRA", "trainTextEncoder": False}
    assert check_base(tiny, spec_of(narrow | RATE | {"lora": {"rank": 16}})) == []
    assert refusal(tiny, spec_of(narrow | {"lora": {"rank": 17}})) == (
        "spec.training.lora.rank: 17 is more than the 16 of"
        " unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k, one of the layers that get"
        " an adapter; set it to 16 or less"
    )


def test_a_token_that_the_tokenizer_has_is_refused(base, spec_of):
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    tokenizer.add_tokens(["<sks>"])
    tokenizer.save_pretrained(base / "tokenizer")
    found = refusal(
        dataclasses.replace(inspect_base("file:tiny", base), sealed=True),
        spec_of(INVERSION, NEW_TOKEN),
    )
    assert "its tokenizer has a token <sks> already; choose another" in found


def test_a_new_token_has_no_meaning_and_counts_with_all_its_vectors(tiny, spec_of):
    spec = spec_of(INVERSION | {"newTokens": {"vectors": 8}} | RATE, NEW_TOKEN)
    prompts = ["a photo of <sks> dog", f"<sks> {'x ' * 15}"]
    (warning,) = check_base(tiny, spec, prompts)
    assert "'<sks> x x" in warning.message
    assert "the base model reads the first 24" in warning.message


def test_an_unsealed_base_and_a_low_rate_are_warned_about(tiny, spec_of):
    spec = spec_of({"method": "LoRA", "learningRate": "5e-6", "lora": {"rank": 4}})
    sealed, unsealed = (
        [str(one) for one in warnings_of(spec, dataclasses.replace(tiny, sealed=sealed))]
        for sealed in (True, False)
    )
    assert sealed == [
        "spec.training.learningRate: 5e-6 is for whole models, LoRA hardly learns with it; 1e-4 is usual"
    ]
    assert len(unsealed) == 2
    assert "import it first with darkroom import" in unsealed[0]
    assert warnings_of(spec_of({"learningRate": "5e-6"}), tiny) == []


def test_an_adapter_is_no_base_model(tmp_path):
    (tmp_path / "pytorch_lora_weights.safetensors").touch()
    with pytest.raises(TrainerError, match="holds what goes on a base model, and none itself"):
        inspect_base("file:rex", tmp_path)


def test_new_tokens_of_a_base_with_two_text_encoders_are_refused(tiny, spec_of):
    two = dataclasses.replace(
        tiny,
        shapes=tiny.shapes | {"text_encoder_2": tiny.shapes["text_encoder"]},
        pipeline="StableDiffusionXLPipeline",
    )
    found = refusal(two, spec_of(INVERSION, NEW_TOKEN))
    assert found == (
        "spec.training.method: new tokens go into one CLIP text encoder, and Stable Diffusion XL has 2"
        " of them; use method: LoRA without newTokens"
    )


def plan_of(job, tiny, tiny_photos):
    machine = Machine(cpus=2, memory_bytes=16 << 30, gpus=0)
    photos = load_photos(tiny_photos, 32)
    return make_plan(job, tiny, photos, class_images_ready=0, input_warnings=(), machine=machine)


def test_a_plan_is_of_what_is_trained(make_job, tmp_path, tiny, tiny_photos):
    full = make_job(tmp_path)
    lora = make_job(tmp_path, training={"method": "LoRA", "lora": {"rank": 4}})
    added = added_parameters(lora.spec, tiny)
    assert checkpoint_bytes(lora, tiny) == 16 * added + FILE_BYTES
    assert model_bytes(lora, tiny) == 4 * added + FILE_BYTES
    assert predict_peak_memory(lora, tiny) < predict_peak_memory(full, tiny)
    plans = [plan_of(job, tiny, tiny_photos) for job in (full, lora)]
    assert plans[1].estimated_seconds < plans[0].estimated_seconds


@pytest.mark.parametrize("method", ["Full", "LoRA"])
def test_the_moving_average_is_in_the_plan_s_memory_and_checkpoints(
    make_job, tmp_path, tiny, method
):
    def job(**more):
        return make_job(tmp_path, training={"method": method, **more}, scale={"workers": 2})

    plain, averaged = job(), job(ema={})
    trained = trained_parameters(plain, tiny)
    assert checkpoint_bytes(averaged, tiny) - checkpoint_bytes(plain, tiny) == 4 * trained
    more = predict_peak_memory(averaged, tiny) - predict_peak_memory(plain, tiny)
    assert more == pytest.approx(4 * trained / 2, abs=1), "two workers share it"


def test_the_teacher_of_adapters_takes_no_memory(make_job, tmp_path, tiny):
    def memory(method, mode):
        prior = {"mode": mode}
        return predict_peak_memory(
            make_job(tmp_path, training={"method": method}, priorPreservation=prior), tiny
        )

    assert memory("LoRA", "FrozenTeacher") == memory("LoRA", "GeneratedImages")
    assert memory("Full", "FrozenTeacher") > memory("Full", "GeneratedImages")


def test_a_prior_that_new_tokens_can_not_move_is_warned_about(
    make_job, tmp_path, tiny, tiny_photos
):
    def warnings(mode):
        job = make_job(
            tmp_path, subject=NEW_TOKEN, training=INVERSION, priorPreservation={"mode": mode}
        )
        return [one for one in plan_of(job, tiny, tiny_photos).warnings if "prior" in one]

    assert "Disabled trains the same in less time" in warnings("GeneratedImages")[0]
    assert warnings("Disabled") == []


def test_defaults_of_a_method_written_out_are_the_same_training(spec_of):
    plain = spec_of({"method": "LoRA"})
    written = spec_of({"method": "LoRA", "lora": {"rank": 16, "alpha": 16}})
    assert numerics_digest(plain) == numerics_digest(written)
    other = spec_of({"method": "LoRA", "lora": {"rank": 8}})
    assert differing_field(numerics(plain), numerics(other)) == "training.lora.alpha"
    tokens = [
        spec_of(INVERSION | {"newTokens": {"learningRate": rate}}, NEW_TOKEN)
        for rate in ("5e-3", "0.005")
    ]
    assert numerics_digest(tokens[0]) == numerics_digest(tokens[1])


def test_a_full_training_has_the_digest_it_always_had(spec_of):
    found = numerics(spec_of({}))
    assert not [path for path in found if "lora" in path or "newTokens" in path]
