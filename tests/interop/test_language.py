"""Our language models against transformers' own and torch's, with random weights, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlsvc.generation import beam_search
from dlsvc.models.gpt2 import GPT2
from dlsvc.models.transformer import Transformer
from dlsvc.store.bundle import build_model
from dlsvc.store.interchange import export_directory, import_directory
from dlsvc.store.keymaps import export_weights

transformers = pytest.importorskip("transformers", reason="`make test-interop` installs transformers")

TOLERANCE = 1e-5
# A token that the random model below likes to write.
END = 11
NUM_TEXTS, LENGTH = 4, 48

# The published small and base sizes; Llama's width is a sixteenth of the 7B's, with shared keys and values.
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(), {}),
    "bert": (transformers.BertForMaskedLM, transformers.BertConfig(), {}),
    "llama": (
        transformers.LlamaForCausalLM,
        transformers.LlamaConfig(
            hidden_size=256, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=2, intermediate_size=688
        ),
        {"d_model": 256, "num_layers": 6, "num_heads": 8, "num_kv_heads": 2, "hidden_dim": 688},
    ),
}


@pytest.fixture
def texts() -> tuple[Tensor, Tensor]:
    """Tokens and what counts of them: texts of 5 to 48 tokens, padded after them."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([5, 13, 34, LENGTH])[:, None]
    keep = torch.arange(LENGTH) < lengths
    return torch.randint(5, 20000, (NUM_TEXTS, LENGTH), generator=generator) * keep, keep


@torch.inference_mode()
@pytest.mark.parametrize("name", MODELS)
def test_from_transformers(name: str, tmp_path: Path, texts: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    kind, config, _ = MODELS[name]
    theirs = kind(config).eval()
    _shake(theirs)
    theirs.save_pretrained(tmp_path)
    found = import_directory(tmp_path)
    ours = build_model({"name": found.model, "args": found.args})
    ours.load_state_dict(found.weights, strict=True)
    assert found.model == name
    assert _gap(ours.eval(), theirs, texts, f"{name} imported") <= TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("name", MODELS)
def test_to_transformers(name: str, tmp_path: Path, texts: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    kind, _, args = MODELS[name]
    ours = build_model({"name": name, "args": args}).eval()
    _shake(ours)
    export_directory(tmp_path / "out", "transformers", name, args=args, weights=ours.state_dict())
    theirs, report = kind.from_pretrained(tmp_path / "out", output_loading_info=True)
    # Tied heads are the embedding's table.
    missing = [
        key for key in report["missing_keys"] if not key.endswith(("lm_head.weight", "decoder.weight", "decoder.bias"))
    ]
    assert not missing
    assert not report["unexpected_keys"]
    assert _gap(ours, theirs.eval(), texts, f"{name} exported") <= TOLERANCE


@torch.inference_mode()
def test_transformer_is_torchs() -> None:
    """The encoder and the decoder of the original against torch.nn.Transformer's layers."""
    torch.manual_seed(0)
    ours = Transformer(vocab_size=100, max_seq_len=20, d_model=64, num_layers=2, num_heads=8).eval()
    _shake(ours)
    theirs = nn.Transformer(64, 8, 2, 2, 256, 0.0, batch_first=True).eval()
    theirs.encoder.norm = theirs.decoder.norm = None  # the paper's stacks end with the last sub-layer's norm
    theirs.load_state_dict(_as_torch(ours), strict=True)
    source, target = torch.randint(0, 100, (3, 12)), torch.randint(0, 100, (3, 9))
    keep = torch.arange(12) < torch.tensor([[12], [7], [3]])
    embedded = [ours.tokens(one) * 8 + ours.positions[: one.shape[1]] for one in (source, target)]
    causal = nn.Transformer.generate_square_subsequent_mask(9)
    expected = theirs(
        *embedded, tgt_mask=causal, src_key_padding_mask=~keep, memory_key_padding_mask=~keep, tgt_is_causal=True
    )
    found = ours(source, keep, target)
    assert (found - expected @ ours.tokens.weight.T).abs().max() <= TOLERANCE * found.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("length_penalty", [0.6, 1.0])
def test_beams_are_those_of_transformers(length_penalty: float) -> None:
    """On the same logits: theirs of GPT-2 with a prompt of one token, ours of the same weights. `never` is the search
    that stops only where nothing better can come, as ours does.
    """
    torch.manual_seed(2)
    sizes = {"d_model": 32, "num_layers": 2, "num_heads": 4}
    ours = GPT2(vocab_size=40, max_seq_len=32, **sizes).eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.25)
    config = transformers.GPT2Config(
        vocab_size=40,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=4,
        eos_token_id=END,
        pad_token_id=END,
        bos_token_id=1,
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.load_state_dict(export_weights("transformers/gpt2", ours.state_dict()), strict=False)
    prompt = torch.arange(5, 13)[:, None]
    expected = theirs.generate(
        prompt, max_new_tokens=12, num_beams=4, do_sample=False, length_penalty=length_penalty, early_stopping="never"
    )[:, 1:]
    history = prompt.repeat_interleave(4, dim=0)

    def step(token: Tensor | None) -> Tensor:
        nonlocal history
        history = history if token is None else torch.cat([history, token[:, None]], dim=1)
        return ours(history)[:, -1]

    def reorder(rows: Tensor) -> None:
        nonlocal history
        history = history[rows]

    found = beam_search(
        step, reorder, end=torch.full((8,), END), num_tokens=12, num_beams=4, length_penalty=length_penalty
    )
    assert len({tuple(row) for row in found.tolist()}) > 2
    assert (found == END).any()
    assert torch.equal(found[:, : expected.shape[1]], expected)


def _as_torch(ours: Transformer) -> dict[str, Tensor]:
    names = {"attention": "self_attn", "context_attention": "multihead_attn"}
    state, found = ours.state_dict(), {}
    for stack in ("encoder", "decoder"):
        norms = ("norm1", "norm2") if stack == "encoder" else ("norm1", "context_norm", "norm2")
        for layer in range(2):
            here, there = f"{stack}.{layer}", f"{stack}.layers.{layer}"
            for kind in ("weight", "bias"):
                for mine, their in list(names.items())[: 1 if stack == "encoder" else 2]:
                    parts = [state[f"{here}.{mine}.{part}.{kind}"] for part in ("query", "key", "value")]
                    found[f"{there}.{their}.in_proj_{kind}"] = torch.cat(parts)
                    found[f"{there}.{their}.out_proj.{kind}"] = state[f"{here}.{mine}.output.{kind}"]
                for number in (1, 2):
                    found[f"{there}.linear{number}.{kind}"] = state[f"{here}.mlp.fc{number}.{kind}"]
                for place, norm in enumerate(norms):
                    found[f"{there}.norm{place + 1}.{kind}"] = state[f"{here}.{norm}.{kind}"]
    return found


def _shake(model: nn.Module) -> None:
    """Norms and biases away from their initial 1 and 0, so that a swap of two would show."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() <= 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def _gap(ours: nn.Module, theirs: Any, texts: tuple[Tensor, Tensor], what: str) -> float:
    """The largest difference of the logits of what counts."""
    tokens, keep = texts
    found, expected = ours(tokens, keep), theirs(input_ids=tokens, attention_mask=keep.long()).logits
    gap = float((found - expected)[keep].abs().max())
    assert expected[keep].std() > 1e-2
    print(f"{what}: largest difference {gap:.2e}")
    return gap
