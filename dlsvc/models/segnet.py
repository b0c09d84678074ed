"""SegNet: an encoder and a decoder that is its mirror image, and puts each value back where max pooling found it.

B batch, C channels (`base_channels`), K classes. Sizes in comments are of a 224 x 224 image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.registry import register_model

# VGG-16's channels, in multiples of the first stage's.
_WIDTHS = (1, 2, 4, 8, 8)


class Stage(nn.Sequential):
    """Convolutions of 3 x 3 with batch normalisation and ReLU, from the first width to the second and so on."""

    def __init__(self, widths: list[int]) -> None:
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            # No bias: the normalisation takes it away.
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)


@register_model(
    "segnet",
    task="segmentation",
    tiny={"image_size": 16, "num_classes": 3, "base_channels": 4, "num_convs": (1, 2)},
)
class SegNet(nn.Module):
    """SegNet (Badrinarayanan, Kendall and Cipolla, 2017): the 13 convolutions of VGG-16, and as many in the decoder.

    Only the places of the maxima go from encoder to decoder, not features. `num_convs` are the convolutions of each
    stage, of at most five; `base_channels` the channels of the first.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        image_size: int = 224,
        num_classes: int = 11,
        base_channels: int = 64,
        num_convs: tuple[int, ...] = (2, 2, 3, 3, 3),
    ) -> None:
        super().__init__()
        if not 1 <= len(num_convs) <= len(_WIDTHS) or min(num_convs) < 1:
            raise UsageError(f"segnet: num_convs must be 1 to {len(_WIDTHS)} numbers of at least 1, not {num_convs}")
        if image_size < 2 ** len(num_convs):
            raise UsageError(f"segnet: an image of {image_size} can't be halved {len(num_convs)} times")
        widths = [base_channels * factor for factor in _WIDTHS[: len(num_convs)]]
        before = [in_channels, *widths[:-1]]
        after = [base_channels, *widths[:-1]]
        stages = list(zip(before, after, widths, num_convs, strict=True))
        self.encoder = nn.ModuleList(Stage([start, *[width] * count]) for start, _, width, count in stages)
        self.decoder = nn.ModuleList(Stage([*[width] * count, end]) for _, end, width, count in reversed(stages))
        self.head = nn.Conv2d(base_channels, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x, places = image, []
        for stage in self.encoder:
            x = stage(x)  # (B, C, 224, 224) ... (B, 8C, 14, 14)
            size = x.shape[-2:]
            x, found = F.max_pool2d(x, 2, return_indices=True)  # (B, C, 112, 112) ... (B, 8C, 7, 7)
            places.append((found, size))
        for stage, (found, size) in zip(self.decoder, reversed(places), strict=True):
            x = stage(unpooled(x, found, size))  # (B, 8C, 14, 14) ... (B, C, 224, 224)
        logits: Tensor = self.head(x)  # (B, K, 224, 224)
        return logits


def unpooled(x: Tensor, places: Tensor, size: torch.Size) -> Tensor:
    """(B, C, h, w) -> (B, C, *size): each value where its maximum was found, zeros elsewhere.

    It is torch's `max_unpool2d`, which has no deterministic implementation. No two values have one place, since windows
    don't overlap.
    """
    empty = x.new_zeros(*x.shape[:2], size.numel())
    found: Tensor = empty.scatter(2, places.flatten(2), x.flatten(2)).unflatten(2, size)
    return found
