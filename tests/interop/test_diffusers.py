"""Our samplers against diffusers' schedulers, with the same noise and network; our U-Net against theirs, both ways."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from dlsvc.diffusion import Sampler, kept
from dlsvc.models.latent_diffusion import UNetArgs
from dlsvc.store.bundle import build_model
from dlsvc.store.keymaps import export_weights, import_weights

diffusers = pytest.importorskip("diffusers", reason="diffusers is the reference, and no dependency of ours")

# Its own way from torch to numpy is one that numpy is about to end.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

_SCHEDULES = {"linear": "linear", "scaled-linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
_BETAS = {"linear": (1e-4, 0.02), "scaled-linear": (0.00085, 0.012), "cosine": (1e-4, 0.02)}
_PREDICTIONS = {"noise": "epsilon", "sample": "sample", "velocity": "v_prediction"}


def network(state: Tensor, step: int) -> Tensor:
    """Any smooth function of the state and the time."""
    return torch.tanh(0.7 * state + 0.001 * step) * 0.9


def scheduler(solver: str, schedule: str, prediction: str) -> Any:
    low, high = _BETAS[schedule]
    common = {
        "beta_schedule": _SCHEDULES[schedule],
        "beta_start": low,
        "beta_end": high,
        "prediction_type": _PREDICTIONS[prediction],
        "timestep_spacing": "trailing",
    }
    if solver == "ddpm":
        return diffusers.DDPMScheduler(**common, clip_sample=False)
    if solver == "ddim":
        return diffusers.DDIMScheduler(**common, clip_sample=False)
    return diffusers.DPMSolverMultistepScheduler(**common, final_sigmas_type="zero")


@pytest.mark.parametrize("schedule", _SCHEDULES)
def test_schedules_are_equal(schedule: str) -> None:
    theirs = scheduler("ddpm", schedule, "noise").alphas_cumprod
    torch.testing.assert_close(kept(schedule).float(), theirs, rtol=2e-5, atol=1e-7)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("prediction", _PREDICTIONS)
@pytest.mark.parametrize("schedule", ["linear", "scaled-linear"])
@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpmpp-2m"])
def test_trajectories_are_equal(solver: Any, schedule: str, prediction: Any, steps: int) -> None:
    theirs = scheduler(solver, schedule, prediction)
    theirs.set_timesteps(steps)
    noise = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn, ours = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    sampler = Sampler(theirs.alphas_cumprod.double().tolist(), prediction, solver, steps)
    states = sampler.trajectory(
        lambda state, step: network(state, step),
        noise,
        lambda number: torch.randn(noise.shape, generator=ours, dtype=torch.float64),
    )
    state = noise
    for step, found in zip(theirs.timesteps, states, strict=True):
        options = {"generator": drawn} if solver == "ddpm" else {}
        state = theirs.step(network(state, int(step)), step, state, **options).prev_sample
        torch.testing.assert_close(found, state.double(), rtol=1e-5, atol=1e-5)


# As google/ddpm-cifar10-32 and google/ddpm-bedroom-256 are built, but for the width of a head, which has to divide.
UNETS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    (
        {"widths": (64, 64, 128), "attention": (False, True, True), "blocks": 1, "head_dim": 8, "num_classes": 10},
        {"num_class_embeds": 11},
    ),
]


@torch.inference_mode()
@pytest.mark.parametrize(("args", "more"), UNETS, ids=["cifar10", "with classes"])
def test_network_both_ways(args: dict[str, Any], more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours = build_model({"name": "ddpm", "args": args}).eval()
    widths, attention = args.get("widths", (128, 256, 256, 256)), args.get("attention", (False, True, False, False))

    def kinds(way: str, attends: tuple[bool, ...]) -> list[str]:
        return [f"{'Attn' if here else ''}{way}Block2D" for here in attends]

    def network() -> Any:
        return diffusers.UNet2DModel(
            sample_size=32,
            in_channels=3,
            out_channels=3,
            block_out_channels=widths,
            layers_per_block=args.get("blocks", 2),
            down_block_types=kinds("Down", attention),
            up_block_types=kinds("Up", attention[::-1]),
            attention_head_dim=args.get("head_dim", 256),
            norm_num_groups=32,
            norm_eps=1e-5,
            downsample_padding=1,
            **more,
        ).eval()

    state, step = torch.randn(4, 3, 32, 32), torch.tensor([0, 17, 500, 999])
    label = torch.tensor([0, 3, 9, 10]) if more else None
    theirs = network()
    ours.load_state_dict(import_weights("diffusers/ddpm", theirs.state_dict()), strict=True)
    wanted = theirs(state, step, class_labels=label).sample
    assert wanted.std() > 0.01
    assert (ours(state, step, label) - wanted).abs().max() <= 1e-5
    other = network()
    other.load_state_dict(export_weights("diffusers/ddpm", ours.state_dict()), strict=True)
    assert torch.equal(other(state, step, class_labels=label).sample, wanted)


# As stabilityai/sd-vae-ft-mse is built, and a small one of another shape.
AUTOENCODERS: list[dict[str, Any]] = [
    {"image_size": 64},
    {"image_size": 32, "in_channels": 1, "widths": (8, 16, 16), "blocks": 1, "groups": 4, "latent_channels": 3},
]


@torch.inference_mode()
@pytest.mark.parametrize("args", AUTOENCODERS, ids=["stable diffusion", "small"])
def test_autoencoder_both_ways(args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    ours = build_model({"name": "kl_autoencoder", "args": args}).eval()
    widths, channels = args.get("widths", (128, 256, 512, 512)), args.get("in_channels", 3)

    def network() -> Any:
        return diffusers.AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            down_block_types=["DownEncoderBlock2D"] * len(widths),
            up_block_types=["UpDecoderBlock2D"] * len(widths),
            block_out_channels=widths,
            layers_per_block=args.get("blocks", 2),
            latent_channels=args.get("latent_channels", 4),
            norm_num_groups=args.get("groups", 32),
            sample_size=args["image_size"],
        ).eval()

    theirs = network()
    ours.load_state_dict(import_weights("diffusers/kl_autoencoder", theirs.state_dict()), strict=True)
    image = torch.randn(2, channels, args["image_size"], args["image_size"])
    noise = torch.randn(2, *ours.latent_shape)
    found, drawn = ours(image, noise), theirs.encode(image).latent_dist
    latent = drawn.mean + drawn.std * noise
    assert latent.std() > 0.1
    assert (found["latent"] - latent).abs().max() <= 1e-5
    # Of one latent: the rounding of the first half is not to be seen through the second. Its 40 convolutions leave both
    # implementations some 2e-5 from exact in float32, by the CPU: in float64 they are as good as equal, and in float32
    # ours is as near to that as theirs.
    exact = copy.deepcopy(ours).double()(None, latent.double())["reconstruction"]
    assert (exact - copy.deepcopy(theirs).double().decode(latent.double()).sample).abs().max() <= 1e-12
    rebuilt, expected = ours(None, latent)["reconstruction"], theirs.decode(latent).sample
    assert (rebuilt - exact).abs().max() <= max(1e-5, 1.5 * float((expected - exact).abs().max()))
    other = network()
    other.load_state_dict(export_weights("diffusers/kl_autoencoder", ours.state_dict()), strict=True)
    assert torch.equal(other.encode(image).latent_dist.mean, drawn.mean)


# Stable Diffusion 1's, but for heads of one width; and a small one.
DENOISERS: list[dict[str, Any]] = [
    {},
    {"widths": (32, 64), "attention": (False, True), "blocks": 1, "head_dim": 16, "groups": 8},
]


@torch.inference_mode()
@pytest.mark.parametrize("args", DENOISERS, ids=["stable diffusion", "small"])
def test_denoiser_both_ways(args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    text = {"vocab_size": 50, "max_seq_len": 12, "d_model": 48, "num_layers": 1, "num_heads": 4}
    first = {"widths": (8, 8), "blocks": 1, "groups": 4}
    whole = build_model(
        {"name": "latent_diffusion", "args": {"image_size": 32, "autoencoder": first, "text": text, "unet": args}}
    ).eval()
    ours: Any = whole.denoiser
    unet = {**vars(UNetArgs()), **args}
    kinds = [("CrossAttn" if here else "") for here in unet["attention"]]

    def network() -> Any:
        return diffusers.UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            block_out_channels=unet["widths"],
            layers_per_block=unet["blocks"],
            down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
            up_block_types=[f"{kind}UpBlock2D" for kind in kinds[::-1]],
            # What that library calls so is the number of heads.
            attention_head_dim=tuple(width // unet["head_dim"] for width in unet["widths"]),
            norm_num_groups=unet["groups"],
            cross_attention_dim=text["d_model"],
        ).eval()

    theirs = network()
    loaded = import_weights("diffusers/denoiser", theirs.state_dict())
    loaded |= {name: value for name, value in ours.state_dict().items() if name.startswith("text.")}
    ours.load_state_dict(loaded, strict=True)
    latent, step, context = torch.randn(3, 4, 16, 16), torch.tensor([0, 500, 999]), torch.randn(3, 12, 48)
    wanted = theirs(latent, step, encoder_hidden_states=context).sample
    assert wanted.std() > 0.01
    assert (ours.denoised(latent, step, context) - wanted).abs().max() <= 1e-5
    state = {name: value for name, value in ours.state_dict().items() if not name.startswith("text.")}
    other = network()
    other.load_state_dict(export_weights("diffusers/denoiser", state), strict=True)
    assert torch.equal(other(latent, step, encoder_hidden_states=context).sample, wanted)
