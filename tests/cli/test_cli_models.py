"""`darkroom models`: what a registry holds, and an altered byte is found."""

import json

from darkroom_api.artifact import Addition, ArtifactKind


def test_models_are_listed_with_their_prompt(tmp_path, publish_model, darkroom):
    publish_model(tmp_path, "rex")
    publish_model(tmp_path, "cup", namespace="shop")
    result = darkroom("models", "list", "--registry", tmp_path)
    assert result.exit_code == 0
    assert "rex" in result.stdout
    assert "shop/cup" in result.stdout
    assert "a photo of sks dog" in result.stdout
    rows = json.loads(darkroom("models", "list", "--registry", tmp_path, "--json").stdout)
    assert [row["id"] for row in rows] == ["rex", "shop/cup"]


def test_an_empty_registry_says_how_to_fill_it(tmp_path, darkroom):
    result = darkroom("models", "list", "--registry", tmp_path)
    assert result.exit_code == 0
    assert "darkroom train" in result.stdout
    assert darkroom("models", "verify", "--registry", tmp_path).stdout == result.stdout
    assert darkroom("models", "verify", "--registry", tmp_path, "--json").stdout == "[]\n"


def test_a_registry_that_is_not_there_is_an_error(tmp_path, darkroom):
    result = darkroom("models", "list", "--registry", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "--registry" in result.stderr


def test_show_tells_how_a_model_was_made(tmp_path, publish_model, darkroom):
    entry = publish_model(tmp_path, "rex")
    result = darkroom("models", "show", "rex", "--registry", tmp_path)
    assert result.exit_code == 0
    for text in (entry.digest, "builtin:miniature", "150", "unet/weights.safetensors"):
        assert text in result.stdout
    manifest = json.loads(
        darkroom("models", "show", "rex", "--registry", tmp_path, "--json").stdout
    )
    assert manifest["digest"] == entry.digest


def test_show_tells_what_an_adapter_adds_to_its_base(tmp_path, publish_model, darkroom):
    adds = Addition(trigger="<sks>", rank=4, alpha=8, vectors=2)
    publish_model(tmp_path, "rex", kind=ArtifactKind.ADAPTER, adds=adds)
    shown = darkroom("models", "show", "rex", "--registry", tmp_path).stdout
    assert "adds  LoRA of rank 4, alpha 8 and 2 token embeddings, to its base model" in shown
    assert "<sks> calls the subject up" in shown


def test_an_unknown_model_lists_what_there_is(tmp_path, publish_model, darkroom):
    publish_model(tmp_path, "rex")
    result = darkroom("models", "show", "max", "--registry", tmp_path)
    assert result.exit_code == 1
    assert "'max'; it has rex" in result.stderr


def test_verify_passes_whole_models_and_names_the_altered_file(tmp_path, publish_model, darkroom):
    publish_model(tmp_path, "cup")
    entry = publish_model(tmp_path, "rex")
    assert darkroom("models", "verify", "--registry", tmp_path).exit_code == 0
    weights = entry.folder / "unet" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[3] ^= 1
    weights.write_bytes(content)
    result = darkroom("models", "verify", "--registry", tmp_path)
    assert result.exit_code == 1
    assert "cup: ok" in result.stdout
    assert "rex" in result.stderr
    assert "unet/weights.safetensors does not match its digest" in result.stderr
    assert "train it again" in result.stderr
    assert darkroom("models", "verify", "cup", "--registry", tmp_path).exit_code == 0
    problems = json.loads(
        darkroom("models", "verify", "rex", "--registry", tmp_path, "--json").stdout
    )
    assert problems[0]["id"] == "rex"
    assert "weights.safetensors" in problems[0]["problem"]


def test_verify_finds_a_missing_and_an_added_file(tmp_path, publish_model, darkroom):
    entry = publish_model(tmp_path, "rex")
    (entry.folder / "extra.bin").write_text("?")
    assert "extra.bin" in darkroom("models", "verify", "--registry", tmp_path).stderr
    (entry.folder / "extra.bin").unlink()
    (entry.folder / "README.md").unlink()
    assert "README.md is missing" in darkroom("models", "verify", "--registry", tmp_path).stderr


def test_a_model_without_a_readable_manifest_is_still_listed(tmp_path, publish_model, darkroom):
    entry = publish_model(tmp_path, "rex")
    (entry.folder / "manifest.json").write_text("{")
    result = darkroom("models", "list", "--registry", tmp_path)
    assert result.exit_code == 0
    assert "damaged" in result.stdout
