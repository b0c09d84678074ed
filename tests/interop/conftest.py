"""What the libraries that we compare with need before they are imported."""

from tests.interop import torchvision_operators  # noqa: F401
