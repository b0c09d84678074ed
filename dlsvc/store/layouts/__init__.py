"""The layouts that weights are read from and written in, by name.

A layout is `<library>/<model>`. Its rules are data: a name of theirs, the name of ours (or several, when theirs is a
fused tensor), `{n}` where the number of a layer stands.
"""

from __future__ import annotations

from dlsvc.store.layouts import diffusers, efficientnet_pytorch, multimodal, signals, timm, transformers
from dlsvc.store.layouts.rule import Layout

LAYOUTS: dict[str, Layout] = {
    "transformers/vit": transformers.VIT,
    "transformers/clip": transformers.CLIP,
    "transformers/bert": transformers.BERT,
    "transformers/gpt2": transformers.GPT2,
    "transformers/llama": transformers.LLAMA,
    "transformers/llava": multimodal.LLAVA,
    "transformers/blip": multimodal.BLIP,
    "transformers-retrieval/blip": multimodal.BLIP_RETRIEVAL,
    "transformers/blip2_qformer": multimodal.BLIP2_QFORMER,
    "transformers/audio_transformer": signals.AUDIO_TRANSFORMER,
    "transformers/video_transformer": signals.VIDEO_TRANSFORMER,
    "transformers/series_transformer": signals.SERIES_TRANSFORMER,
    "timm/vit": timm.VIT,
    "timm/vgg16": timm.VGG,
    "timm/resnet34": timm.RESNET,
    "timm/efficientnet": timm.EFFICIENTNET,
    "efficientnet-pytorch/efficientnet": efficientnet_pytorch.EFFICIENTNET,
    "diffusers/ddpm": diffusers.DDPM,
    "diffusers/denoiser": diffusers.DENOISER,
    "diffusers/kl_autoencoder": diffusers.KL_AUTOENCODER,
}
