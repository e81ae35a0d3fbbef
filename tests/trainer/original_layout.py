"""Writes a pipeline of diffusers in the original layout of Stable Diffusion 1: the inverse of `from_single_file`.

After diffusers' scripts/convert_diffusers_to_original_stable_diffusion.py, for any number of levels.
"""

import re

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
BLOCK = re.compile(r"(down|up|mid)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.*)")


OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def as_version_2(state):
    """The same with the text encoder's tensors under OpenCLIP's names, its three projections in one."""
    prefix = "cond_stage_model.transformer.text_model."
    text = {name.removeprefix(prefix): one for name, one in state.items() if prefix in name}
    renamed = {}
    for name, tensor in text.items():
        for new, old in OPEN_CLIP.items():
            name = name.replace(new, old)
        if ".self_attn.q_proj." in name:
            parts = [text[key] for key in (_projection(name, part) for part in "qkv")]
            name = name.replace(".self_attn.q_proj.", ".attn.in_proj_")
            tensor = torch.cat(parts).contiguous()
        if ".self_attn." not in name:
            renamed[f"cond_stage_model.model.{name}"] = tensor
    rest = {name: tensor for name, tensor in state.items() if prefix not in name}
    return rest | renamed | {"cond_stage_model.model.logit_scale": torch.tensor(4.6)}


def as_xl(pipeline):
    """The tensors of a pipeline under the names of a file of Stable Diffusion XL."""
    first = {
        name.replace("cond_stage_model.", "conditioner.embedders.0."): tensor
        for name, tensor in original_state(pipeline).items()
    }
    second = {
        f"cond_stage_model.transformer.{name}": tensor
        for name, tensor in pipeline.text_encoder_2.state_dict().items()
    }
    projection = second.pop("cond_stage_model.transformer.text_projection.weight")
    renamed = {
        name.replace("cond_stage_model.", "conditioner.embedders.1."): tensor.detach().clone()
        for name, tensor in as_version_2(second).items()
    }
    renamed["conditioner.embedders.1.model.text_projection"] = projection.detach().T.contiguous()
    return first | renamed


def _projection(name, part):
    layer, leaf = re.search(r"resblocks\.(\d+)\..*\.(\w+)$", name).groups()
    return f"encoder.layers.{layer}.self_attn.{part}_proj.{leaf}"


def original_state(pipeline):
    """The tensors of a pipeline under the names of a file of Stable Diffusion 1."""
    unet, vae, text = pipeline.unet, pipeline.vae, pipeline.text_encoder
    state = {
        f"model.diffusion_model.{_unet_name(name, unet.config)}": tensor
        for name, tensor in unet.state_dict().items()
    }
    for name, tensor in vae.state_dict().items():
        old = _vae_name(name, len(vae.config.block_out_channels))
        matrix = ".attn_1." in old and tensor.ndim == 2
        state[f"first_stage_model.{old}"] = tensor[..., None, None] if matrix else tensor
    for name, tensor in text.state_dict().items():
        state[f"cond_stage_model.transformer.text_model.{name}"] = tensor
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def _unet_name(name, config):
    module, _, leaf = name.rpartition(".")
    if module in OUTER:
        return f"{OUTER[module]}.{leaf}"
    side, level, kind, number, rest = BLOCK.fullmatch(name).groups()
    level, number, layers = int(level or 0), int(number), config.layers_per_block
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (level + 1)}.0.op.{leaf}"
    if kind == "upsamplers":
        behind = 2 if config.up_block_types[level].startswith("CrossAttn") else 1
        return f"output_blocks.{(layers + 1) * level + layers}.{behind}.conv.{leaf}"
    place = {
        "down": f"input_blocks.{(layers + 1) * level + number + 1}.",
        "up": f"output_blocks.{(layers + 1) * level + number}.",
        "mid": "middle_block.",
    }[side]
    if kind == "attentions":
        return f"{place}1.{rest}"
    part, _, leaf = rest.partition(".")
    return f"{place}{2 * number if side == 'mid' else 0}.{RESNET[part]}.{leaf}"


def _vae_name(name, levels):
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    if "mid_block.attentions.0." in name:
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for new, old in ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(
        r"up_blocks\.(\d)\.resnets\.(\d)",
        lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}",
        name,
    )
    return re.sub(
        r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name
    )
