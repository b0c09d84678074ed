"""The textbooks' `valid` and `same`, with stride."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dlsvc.errors import UsageError
from dlsvc.models.segnet import SegNet
from dlsvc.models.unet import UNet
from dlsvc.nn.convolution import Convolution, guard, output_size


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [7, 8, 9])
def test_output_sizes_are_the_formulas(size: int, kernel: int, stride: int) -> None:
    image = torch.zeros(1, 1, size, size)
    for padding, expected in (("valid", math.floor((size - kernel) / stride) + 1), ("same", math.ceil(size / stride))):
        assert Convolution(1, 1, kernel, stride=stride, padding=padding)(image).shape == (1, 1, expected, expected)
        assert output_size(size, kernel, stride, padding) == expected


def test_same_without_stride_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = Convolution(2, 3, 4, padding="same"), torch.nn.Conv2d(2, 3, 4, padding="same")
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(1, 2, 7, 7)
    torch.testing.assert_close(ours(image), theirs(image))


def test_unet_without_padding_has_the_papers_sizes() -> None:
    assert UNet(base_channels=1)(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    with pytest.raises(UsageError, match="570 can't be halved 4 times"):
        UNet(image_size=570)
    with pytest.raises(UsageError, match="did you mean 'same'"):
        UNet(padding="sam")


def test_segnet_has_vggs_thirteen_convolutions_and_takes_odd_sizes() -> None:
    model = SegNet(image_size=37, base_channels=2, num_classes=4).eval()
    convolutions = [one for one in model.encoder.modules() if isinstance(one, torch.nn.Conv2d)]
    assert [one.out_channels // 2 for one in convolutions] == [1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8]
    assert model(torch.zeros(2, 3, 37, 37)).shape == (2, 4, 37, 37)


@pytest.mark.parametrize(("in_channels", "contiguous"), [(4, True), (16, False)])
def test_few_channels_are_not_read_channels_last_by_a_strided_pointwise_convolution(
    in_channels: int, contiguous: bool
) -> None:
    inner = nn.Conv2d(in_channels, 8, 1, 2, bias=False)
    seen = []
    model = guard(nn.Sequential(inner))
    inner.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
    image = torch.randn(4, in_channels, 16, 16)
    model(image.to(memory_format=torch.channels_last)).square().sum().backward()
    assert seen == [contiguous]
    weight = inner.weight.detach().clone().requires_grad_()
    torch.einsum("bchw,ocij->bohw", image[:, :, ::2, ::2], weight).square().sum().backward()
    torch.testing.assert_close(inner.weight.grad, weight.grad)
