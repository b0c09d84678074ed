"""Shapes, sizes and refusals of each architecture."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from dlsvc.errors import UsageError
from dlsvc.models.audio_cnn import AudioCNN
from dlsvc.models.audio_transformer import AudioTransformer
from dlsvc.models.clip import CLIP, TextArgs
from dlsvc.models.efficientnet import EfficientNet
from dlsvc.models.gan import GAN
from dlsvc.models.lenet5 import LeNet5
from dlsvc.models.mlp import MLP
from dlsvc.models.perceptron import Perceptron
from dlsvc.models.resnet34 import ResNet34
from dlsvc.models.segnet import unpooled
from dlsvc.models.text_classifier import TextClassifier
from dlsvc.models.vae import VAE
from dlsvc.models.vgg16 import VGG16
from dlsvc.models.vit import ViT
from tests.models.every import build

TINY_VIT: dict[str, Any] = {"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 1, "num_heads": 2}


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("image_size", [16, 28, 32])
def test_lenet5_takes_the_sizes_of_the_catalog(image_size: int) -> None:
    model = LeNet5(image_size=image_size, in_channels=3, num_classes=7)
    image = torch.randn(2, 3, image_size, image_size)
    assert model(image).shape == (2, 7)
    assert model.encode(image).shape == (2, 84)


def test_lenet5_has_the_papers_shape() -> None:
    # 156 + 2,416 + 48,120 + 10,164 + 850: C3 is fully connected here, not by the paper's table I.
    assert _size(LeNet5()) == 61_706
    assert _size(LeNet5(image_size=28)) == 61_706


@pytest.mark.parametrize(
    ("kind", "args", "size"),
    [
        (VGG16, {}, 138_357_544),
        (VGG16, {"batch_norm": True}, 138_365_992),
        (ResNet34, {}, 21_797_672),
        (ResNet34, {"layers": (2, 2, 2, 2)}, 11_689_512),
        (ResNet34, {"block": "bottleneck"}, 25_557_032),
        (EfficientNet, {}, 4_652_008),
        (EfficientNet, {"family": "b"}, 5_288_548),
        (EfficientNet, {"family": "b", "width_factor": 1.1, "depth_factor": 1.2}, 9_109_994),
        # Lite4: stem, head and the first and last stages' depth aren't scaled.
        (EfficientNet, {"width_factor": 1.4, "depth_factor": 1.8}, 13_006_568),
    ],
)
def test_convolutional_networks_have_the_published_sizes(kind: Any, args: dict[str, Any], size: int) -> None:
    with torch.device("meta"):
        assert _size(kind(**args)) == size


@pytest.mark.parametrize(
    ("model", "image_size", "dim"),
    [
        (VGG16(image_size=32, base_channels=2, hidden_dim=6, num_classes=5), 32, 6),
        (VGG16(image_size=70, base_channels=2, hidden_dim=6, num_classes=5, batch_norm=True), 70, 6),
        (ResNet34(image_size=28, base_channels=2, stem="small", num_classes=5), 28, 16),
        (ResNet34(image_size=28, base_channels=2, block="bottleneck", num_classes=5), 28, 64),
        (EfficientNet(image_size=33, width_factor=0.25, num_classes=5), 33, 1280),
        (EfficientNet(image_size=28, family="b", width_factor=0.25, num_classes=5), 28, 320),
    ],
)
def test_convolutional_networks_encode_and_classify(model: Any, image_size: int, dim: int) -> None:
    image = torch.randn(2, 3, image_size, image_size)
    assert model.encode(image).shape == (2, dim)
    assert model(image).shape == (2, 5)
    with pytest.raises(UsageError, match=rf"\(16, 16\), the model's image_size is {image_size}"):
        model(torch.randn(2, 3, 16, 16))


def test_the_small_stem_keeps_the_side() -> None:
    image = torch.randn(1, 3, 28, 28)
    sides = {}
    for stem in ("small", "paper"):
        model = ResNet34(image_size=28, base_channels=2, stem=stem)
        sides[stem] = model.pool(model.conv1(image)).shape[-1]
    assert sides == {"small": 28, "paper": 7}


def test_vit_b16_has_the_papers_size() -> None:
    with torch.device("meta"):
        assert _size(ViT()) == 86_567_656


def test_headless_vit_gives_its_features() -> None:
    torch.manual_seed(0)
    model, image = ViT(**TINY_VIT, num_classes=0), torch.randn(2, 3, 16, 16)
    assert model(image).shape == (2, 16)
    torch.testing.assert_close(model(image), model.encode(image))


def test_clip_b32_has_the_published_size() -> None:
    with torch.device("meta"):
        assert _size(CLIP()) == 151_277_313


def test_audio_cnn_has_the_papers_size() -> None:
    # PANNs' table gives CNN10 5,219,279; 128 of them are the norm of 64 bins before the first block.
    assert _size(AudioCNN()) == 5_219_279 - 128


def test_audio_cnn_takes_clips_of_any_length() -> None:
    model = AudioCNN(num_bins=16, channels=(4, 8), embed_dim=6, num_classes=3).eval()
    short, long = torch.randn(2, 1, 16, 4), torch.randn(2, 1, 16, 31)
    assert model(short).shape == model(long).shape == (2, 3)
    assert model.encode(long).shape == (2, 6)


def test_patch_dropout_keeps_a_share_of_each_images_patches_in_training_only() -> None:
    model = ViT(**TINY_VIT, in_channels=1, num_classes=3, patch_dropout=0.75)
    image = torch.randn(6, 1, 16, 16)
    seen = model.states(image)
    assert seen.shape == (6, 1 + 1, 16)  # the class token and one patch of four
    blocks, model.blocks = model.blocks, nn.ModuleList()
    whole = model.eval().states(image)
    kept = model.train().states(image.expand(6, 1, 16, 16))
    assert whole.shape == (6, 5, 16)
    torch.testing.assert_close(kept[:, 0], whole[:, 0])
    places = [
        [patch.equal(row[1]) for patch in all_of[1:]].index(True) for row, all_of in zip(kept, whole, strict=True)
    ]
    assert len(set(places)) > 1
    model.blocks = blocks
    with pytest.raises(UsageError, match="patch_dropout must be in"):
        ViT(**TINY_VIT, patch_dropout=1.0)


def test_audio_transformer_cuts_ten_seconds_as_the_paper_does() -> None:
    with torch.device("meta"):
        model = AudioTransformer()
    # 12 x 101 patches; ViT-B/16 without its image patches and head, 85.6 million, is the rest.
    assert model.positions.shape == (2 + 1212, 768)
    assert 86e6 < _size(model) < 88e6


def test_audio_transformer_reads_both_tokens() -> None:
    model = build("audio_transformer").model.eval()
    spectrogram = build("audio_transformer").batch["spectrogram"]
    before = model(spectrogram)
    with torch.no_grad():
        model.get_parameter("distillation_token").add_(torch.randn(16))
    assert not torch.allclose(model(spectrogram), before)


@pytest.mark.parametrize("num_layers", [0, 2])
def test_padding_never_changes_a_text(num_layers: int) -> None:
    sizes: dict[str, Any] = {"vocab_size": 32, "d_model": 16, "num_heads": 2, "num_layers": num_layers}
    model = TextClassifier(**sizes, max_seq_len=9, num_classes=3).eval()
    tokens = torch.randint(1, 32, (2, 5))
    padded = nn.functional.pad(tokens, (0, 4))
    keep = padded > 0
    torch.testing.assert_close(model(padded, keep), model(tokens, torch.ones_like(tokens, dtype=torch.bool)))
    swapped = tokens.flip(1)
    knows_order = not torch.allclose(model.encode(swapped, swapped > 0), model.encode(tokens, tokens > 0), atol=1e-6)
    assert knows_order == (num_layers > 0)


def test_a_bag_of_words_is_the_mean_of_its_embeddings() -> None:
    model = TextClassifier(vocab_size=8, max_seq_len=4, d_model=4, num_layers=0, num_classes=2, dropout=0.0)
    tokens, keep = torch.tensor([[5, 3, 0]]), torch.tensor([[True, True, False]])
    torch.testing.assert_close(model.encode(tokens, keep)[0], (model.tokens.weight[5] + model.tokens.weight[3]) / 2)


def test_flat_models_take_images_too() -> None:
    assert Perceptron(num_features=16)(torch.randn(2, 1, 4, 4)).shape == (2, 2)
    assert MLP(in_features=16, hidden_dims=(5,))(torch.randn(2, 1, 4, 4)).shape == (2, 10)
    assert MLP(in_features=16, hidden_dims=())(torch.randn(2, 16)).shape == (2, 10)


@pytest.mark.parametrize("image_size", [28, 32])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_vae_keeps_the_image_shape(image_size: int, in_channels: int) -> None:
    model = VAE(image_size=image_size, in_channels=in_channels, base_channels=4, latent_dim=5)
    image = torch.rand(2, in_channels, image_size, image_size)
    found = model(image, torch.zeros(2, 5))
    assert found["reconstruction"].shape == image.shape
    assert found["mean"].shape == found["logvar"].shape == (2, 5)
    assert model(None, torch.zeros(3, 5))["reconstruction"].shape == (3, *image.shape[1:])


@pytest.mark.parametrize("image_size", [28, 32, 64])
def test_gan_makes_and_judges_images(image_size: int) -> None:
    model = GAN(image_size=image_size, in_channels=1, base_channels=4, latent_dim=6)
    image = model(torch.randn(2, 6))
    assert image.shape == (2, 1, image_size, image_size)
    assert image.abs().max() <= 1
    assert model.discriminator(image).shape == (2,)


def test_gan_has_the_papers_size() -> None:
    with torch.device("meta"):
        model = GAN()
    # The published generator for 64 x 64 has 3,576,704 weights and no bias in its last layer; ours has 3 there.
    assert _size(model.generator) == 3_576_704 + 3


def test_clip_embeddings_have_length_1_and_a_bounded_scale() -> None:
    model, batch = build("clip").model, build("clip").batch
    found = model(batch["image"], batch["tokens"], batch["attention_mask"])
    torch.testing.assert_close(found["image_embeds"].norm(dim=1), torch.ones(8))
    torch.testing.assert_close(found["text_embeds"].norm(dim=1), torch.ones(8))
    assert found["logit_scale"].item() == pytest.approx(1 / 0.07)
    assert found["logit_scale"].dim() == 0
    nn.init.constant_(model.get_parameter("logit_scale"), math.log(1000))
    scale = model(None, batch["tokens"])["logit_scale"]
    assert scale.item() == 100.0
    # It can come back: the gradient is that of the exponential.
    assert torch.autograd.grad(scale, model.logit_scale)[0].item() == pytest.approx(1000)


def test_clip_text_is_read_at_its_end() -> None:
    model = build("clip").model.eval()
    short = torch.tensor([[5, 6, 2, 0, 0]])
    other_tail = torch.tensor([[5, 6, 2, 9, 2]])
    torch.testing.assert_close(model(None, short)["text_embeds"], model(None, other_tail)["text_embeds"])
    keep = torch.tensor([[True, True, True, False, False]])
    torch.testing.assert_close(model(None, short)["text_embeds"], model(None, short, keep)["text_embeds"])
    assert not torch.allclose(model(None, short)["text_embeds"], model(None, torch.tensor([[7, 6, 2]]))["text_embeds"])


def test_clip_takes_its_parts_as_mappings_or_dataclasses() -> None:
    text: Any = {"vocab_size": 32, "max_seq_len": 8, "d_model": 16, "num_layers": 1, "num_heads": 2}
    torch.manual_seed(0)
    one = CLIP(vision=TINY_VIT, text=text)
    torch.manual_seed(0)
    two = CLIP(vision=TINY_VIT, text=TextArgs(**text))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_no_parameter_is_a_scalar() -> None:
    """Sharded strategies split along the first dimension."""
    for name in ("clip", "vit", "gan", "vae"):
        assert all(parameter.dim() > 0 for parameter in build(name).model.parameters())


@pytest.mark.parametrize(
    ("kind", "args", "message"),
    [
        (LeNet5, {"image_size": 8}, "at least 12, not 8"),
        (VGG16, {"image_size": 28}, "at least 32, not 28"),
        (ResNet34, {"layers": (2, 0)}, r"at least one block a stage, not \(2, 0\)"),
        (AudioCNN, {"num_bins": 8}, "8 bins can't be halved 4 times"),
        (AudioTransformer, {"num_bins": 8}, "8 x 1024 holds no patch of 16"),
        (ViT, {"image_size": 30}, "multiple of patch_size 16"),
        (VAE, {"image_size": 30}, "multiple of 4, not 30"),
        (GAN, {"image_size": 30}, "one of 8, 16, 28, 32, 64, not 30"),
    ],
)
def test_impossible_sizes_are_refused(kind: Any, args: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kind(**args)


@pytest.mark.parametrize("size", [8, 9])
def test_segnet_puts_maxima_back_where_they_were(size: int) -> None:
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    pooled, places = functional.max_pool2d(image, 2, return_indices=True)
    expected = functional.max_unpool2d(pooled, places, [2, 2], output_size=[size, size])
    found = unpooled(pooled, places, image.shape[-2:])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    gradients = [torch.autograd.grad(one.square().sum(), image, retain_graph=True)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_images_and_texts_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\(8, 8\), the model's image_size is 16"):
        ViT(**TINY_VIT)(torch.zeros(1, 3, 8, 8))
    with pytest.raises(UsageError, match="takes 16 bins and 4 steps or more, not 16 x 3"):
        build("audio_cnn").model(torch.zeros(1, 1, 16, 3))
    with pytest.raises(UsageError, match="are 16 x 21, the model's bins and steps are 16 x 20"):
        build("audio_transformer").model(torch.zeros(1, 1, 16, 21))
    with pytest.raises(UsageError, match="9 tokens, the model's max_seq_len 8"):
        build("text_classifier").model(torch.ones(1, 9, dtype=torch.int64), torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(UsageError, match="9 tokens, the model's max_seq_len is 8"):
        build("clip").model(None, torch.ones(1, 9, dtype=torch.int64))
