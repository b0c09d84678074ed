"""Our transformers of sounds, films and series against transformers' AST, TimeSformer and PatchTST, with random
weights, both ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlsvc.errors import DataError, Refused
from dlsvc.store.bundle import build_model
from dlsvc.store.interchange import export_directory, import_directory

transformers = pytest.importorskip("transformers", reason="`make test-interop` installs transformers")

TOLERANCE = 1e-5
# AST for AudioSet and TimeSformer for Kinetics as they were published, in a third of their layers; PatchTST/42's.
SIZES: dict[str, dict[str, Any]] = {
    "audio_transformer": {"num_steps": 512, "num_layers": 4},
    "video_transformer": {"num_layers": 4},
    "series_transformer": {"in_channels": 7, "num_steps": 337, "num_classes": 5},
}
THEIRS = {
    "audio_transformer": ("ASTForAudioClassification", "input_values"),
    "video_transformer": ("TimesformerForVideoClassification", "pixel_values"),
    "series_transformer": ("PatchTSTForClassification", "past_values"),
}
# Our inputs are (B, 1, M, T), (B, C, T, H, W) and (B, C, T).
SHAPES = {
    "audio_transformer": (2, 1, 128, 512),
    "video_transformer": (2, 3, 8, 224, 224),
    "series_transformer": (4, 7, 337),
}
TURNED: dict[str, Callable[[Tensor], Tensor]] = {
    "audio_transformer": lambda x: x[:, 0].transpose(1, 2),
    "video_transformer": lambda x: x.transpose(1, 2),
    "series_transformer": lambda x: x.transpose(1, 2),
}
every_model = pytest.mark.parametrize("name", sorted(SIZES))


@every_model
@torch.inference_mode()
def test_to_transformers(tmp_path: Path, name: str) -> None:
    ours = _random(build_model({"name": name, "args": SIZES[name]}))
    export_directory(tmp_path / "out", "transformers", name, args=SIZES[name], weights=ours.state_dict())
    theirs = _loaded(name, tmp_path / "out")
    assert _gap(name, ours, theirs) <= TOLERANCE


@every_model
@torch.inference_mode()
def test_from_transformers(tmp_path: Path, name: str) -> None:
    ours = build_model({"name": name, "args": SIZES[name]})
    export_directory(tmp_path / "config", "transformers", name, args=SIZES[name], weights=ours.state_dict())
    kind = getattr(transformers, THEIRS[name][0])
    theirs = _random(kind(transformers.AutoConfig.from_pretrained(tmp_path / "config")))
    theirs.save_pretrained(tmp_path / "theirs")
    found = import_directory(tmp_path / "theirs")
    back = build_model({"name": found.model, "args": found.args})
    back.load_state_dict(found.weights, strict=True)
    assert _gap(name, back.eval(), theirs) <= TOLERANCE


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    args = {**SIZES["series_transformer"], "norm": "layer"}
    weights = build_model({"name": "series_transformer", "args": args}).state_dict()
    with pytest.raises(Refused, match="norm: batch has one"):
        export_directory(tmp_path / "out", "transformers", "series_transformer", args=args, weights=weights)
    sizes = {"d_model": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "context_length": 32, "patch_length": 8}
    theirs = transformers.PatchTSTForClassification(transformers.PatchTSTConfig(**sizes, use_cls_token=True))
    theirs.save_pretrained(tmp_path / "theirs")
    with pytest.raises(DataError, match="doesn't fit the layout|use_cls_token True"):
        import_directory(tmp_path / "theirs")


def _random(model: Any) -> Any:
    """Weights, norms and their counts that leave no part without effect."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def _loaded(name: str, path: Path) -> Any:
    """From a directory, without a name missing or left over."""
    kind = getattr(transformers, THEIRS[name][0])
    model, info = kind.from_pretrained(path, output_loading_info=True)
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def _gap(name: str, ours: nn.Module, theirs: Any) -> float:
    """The largest difference of logits as a share of the largest."""
    x = torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(1)) * 3 + 1
    found = theirs(**{THEIRS[name][1]: TURNED[name](x).contiguous()})
    expected = found.prediction_logits if name == "series_transformer" else found.logits
    assert expected.std(0).max() > 1e-3, "the inputs make no difference: nothing is compared"
    gap = float((ours(x) - expected).abs().max() / expected.abs().max())
    print(f"{name}: {gap:.1e}")
    return gap
