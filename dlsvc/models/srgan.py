"""SRGAN: SRResNet against a discriminator, under the eyes of a frozen classifier.

B batch, C channels, S scale.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from dlsvc.errors import UsageError
from dlsvc.models.efficientnet import EfficientNet
from dlsvc.models.srresnet import SRResNet
from dlsvc.registry import register_model

_SLOPE = 0.2
# Widths of the convolutions as multiples of the first's; each is followed by one that halves the side.
_WIDTHS = (1, 2, 4, 8)


class Judge(nn.Module):
    """An image to the logit of its being a photograph (Ledig et al. 2017, figure 4)."""

    def __init__(self, *, image_size: int, in_channels: int, base_channels: int, dense: int, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for multiple in _WIDTHS:
            width = multiple * base_channels
            for stride in (1, 2):
                # The first convolution has no norm; a bias before a norm has no effect.
                norms = batch_norm and bool(layers)
                layers.append(nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=not norms))
                layers += [nn.BatchNorm2d(width)] if norms else []
                layers.append(nn.LeakyReLU(_SLOPE))
                before = width
        side = image_size // 2 ** len(_WIDTHS)
        layers += [nn.Flatten(), nn.Linear(before * side**2, dense), nn.LeakyReLU(_SLOPE), nn.Linear(dense, 1)]
        self.layers = nn.Sequential(*layers, nn.Flatten(0))

    def forward(self, image: Tensor) -> Tensor:
        logit: Tensor = self.layers(image)  # (B, C, H, W) -> (B,)
        return logit


class Eye(nn.Module):
    """The first stages of EfficientNet-Lite0, whose ImageNet weights the catalog has: what two images look like to them
    is compared, where the paper compares in VGG-19. Frozen, and in eval mode whatever the rest does.
    """

    def __init__(self, *, in_channels: int, num_stages: int) -> None:
        super().__init__()
        whole = EfficientNet(in_channels=in_channels)
        self.stem, self.stages = whole.stem, whole.stages[:num_stages]
        # A module begins in train mode, in which its norms would follow the batches.
        self.train(False)

    def train(self, mode: bool = True) -> Eye:
        return super().train(False)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)  # (B, C, H, W) -> (B, 32, H / 2, W / 2)
        for stage in self.stages:
            x = stage(x)
        features: Tensor = x
        return features


@register_model(
    "srgan",
    task="adversarial-super-resolution",
    tiny={
        "image_size": 16,
        "scale": 2,
        "channels": 8,
        "num_blocks": 1,
        "base_channels": 4,
        "dense": 8,
        "num_stages": 1,
    },
)
class SRGAN(nn.Module):
    """Super-resolution adversarial network (Ledig et al. 2017).

    A composite: its generator is SRResNet's whole model, so that it starts from the first stage's weights
    (`init_from: {"generator.*": srresnet-photos}`), and its eye a classifier's beginning (`{"eye.*":
    efficientnet-lite0}`), which is never trained. Images are in [-1, 1]; `image_size` is the large ones'.
    """

    def __init__(
        self,
        *,
        image_size: int = 96,
        scale: Literal[2, 4] = 4,
        in_channels: int = 3,
        channels: int = 64,
        num_blocks: int = 16,
        batch_norm: bool = True,
        from_bicubic: bool = False,
        base_channels: int = 64,
        dense: int = 1024,
        num_stages: int = 3,
    ) -> None:
        super().__init__()
        if image_size % 2 ** len(_WIDTHS):
            raise UsageError(f"srgan: image_size must be a multiple of {2 ** len(_WIDTHS)}, not {image_size}")
        if not 1 <= num_stages <= 7:
            raise UsageError(f"srgan: the eye has 1 to 7 stages, not {num_stages}")
        self.scale = scale
        self.generator = SRResNet(
            scale=scale,
            in_channels=in_channels,
            channels=channels,
            num_blocks=num_blocks,
            batch_norm=batch_norm,
            from_bicubic=from_bicubic,
        )
        self.discriminator = Judge(
            image_size=image_size,
            in_channels=in_channels,
            base_channels=base_channels,
            dense=dense,
            batch_norm=batch_norm,
        )
        self.eye = Eye(in_channels=in_channels, num_stages=num_stages)
        self.eye.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        enlarged: Tensor = self.generator(image)
        return enlarged
