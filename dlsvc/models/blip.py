"""BLIP: an image encoder, and a text transformer that reads, reads about an image, and writes about it.

B batch, S tokens of an image, T tokens of a text, D width of the text, E shared width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlsvc.errors import UsageError
from dlsvc.generation import Reorder, Step
from dlsvc.models.bert import MaskedHead
from dlsvc.models.vit import ViT
from dlsvc.nn.attention import Memory
from dlsvc.nn.grounded import GroundedBlock, SharedStack
from dlsvc.nn.temperature import INITIAL, scale_of
from dlsvc.nn.totals import running_totals
from dlsvc.nn.transformer import block_memories
from dlsvc.registry import register_model

_INIT_STD = 0.02


@dataclass(frozen=True)
class VisionArgs:
    """The image encoder: ViT-B/16 at 384 pixels."""

    image_size: int = 384
    patch_size: int = 16
    in_channels: int = 3
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class TextArgs:
    """The text transformer: BERT base, with the two tokens that BLIP adds."""

    vocab_size: int = 30524
    max_seq_len: int = 512
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-12


class ImageEncoder(ViT):
    """A vision transformer that gives what every token has come to."""

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, S, D)"""
        states: Tensor = self.norm(self.states(image))
        return states


class TextTransformer(nn.Module):
    """Embeddings, blocks that read or write, and a head that foretells the next word."""

    def __init__(self, args: TextArgs, *, context_dim: int, dropout: float) -> None:
        super().__init__()
        self.max_seq_len = args.max_seq_len
        self.tokens = nn.Embedding(args.vocab_size, args.d_model)
        self.positions = nn.Embedding(args.max_seq_len, args.d_model)
        self.norm = nn.LayerNorm(args.d_model, eps=args.norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.blocks = SharedStack(
            GroundedBlock(
                d_model=args.d_model,
                num_heads=args.num_heads,
                context_dim=context_dim,
                mlp_ratio=args.mlp_ratio,
                dropout=dropout,
                norm_eps=args.norm_eps,
            )
            for _ in range(args.num_layers)
        )
        self.head = MaskedHead(args.d_model, args.vocab_size, args.norm_eps)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=_INIT_STD)

    def states(
        self,
        tokens: Tensor,
        keep: Tensor | None,
        image: Tensor | None = None,
        *,
        writes: bool = False,
        start: int = 0,
        memories: list[tuple[Memory, Memory]] | None = None,
    ) -> Tensor:
        """What each token has come to, (B, T, D), of an encoded image (B, S, D) when there is one."""
        end = start + tokens.shape[1]
        if end > self.max_seq_len:
            raise UsageError(f"blip: texts have {end} tokens, the model's max_seq_len is {self.max_seq_len}")
        x: Tensor = self.dropout(self.norm(self.tokens(tokens) + self.positions.weight[start:end]))
        for place, block in enumerate(self.blocks):
            x = block(x, image, writes=writes, keep=keep, memories=memories[place] if memories else None)
        return x

    def logits(self, states: Tensor) -> Tensor:
        """Of the token after each, (B, T, V)."""
        found: Tensor = self.head(states, self.tokens.weight)
        return found


class PairModel(nn.Module):
    """What both BLIPs do with images and texts: embed them, tell whether they match, and write of an image.

    Embeddings have length 1; those of an image may be several. `logit_scale` is learned as a logarithm, and given as
    its exponential, at most 100.
    """

    vision_encoder: nn.Module
    vision_projection: nn.Linear

    def __init__(self) -> None:
        super().__init__()
        # One element and not a scalar: sharded strategies split parameters along their first dimension.
        self.logit_scale = nn.Parameter(torch.full((1,), INITIAL))

    @property
    def vectors_shape(self) -> tuple[int, ...]:
        """Of an image's embedding, (E,), or of its several, (Q, E)."""
        return (self.vision_projection.out_features,)

    def image_vectors(self, states: Tensor) -> Tensor:
        """Of an encoded image (B, S, D), (B, E) or (B, Q, E)."""
        raise NotImplementedError

    def text_vectors(self, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(B, E)"""
        raise NotImplementedError

    def match(self, states: Tensor, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (B, 2) that an encoded image and a text don't and do belong together."""
        raise NotImplementedError

    def write(self, states: Tensor, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits of the token after each of a text about an encoded image, (B, T, V)."""
        raise NotImplementedError

    def forward(
        self,
        image: Tensor | None,
        tokens: Tensor | None,
        attention_mask: Tensor | None = None,
        *,
        draws: tuple[Tensor, Tensor] | None = None,
        hardness: float = 1.0,
    ) -> dict[str, Tensor]:
        """Embeddings (B, E) of whichever inputs there are, and the scale that makes logits of their products.

        With `draws`, uniform numbers (B,) for a negative text and a negative image of each pair, also `match_logits`
        (B, 3, 2) of the pairs, of each image with its negative text and of each text with its negative image, and
        `caption_logits` (B, T - 1, V).
        """
        found = {"logit_scale": scale_of(self.logit_scale)}  # 0-d
        states = self.vision_encoder(image) if image is not None else None
        if states is not None:
            found["image_embeds"] = _unit(self.image_vectors(states))
        if tokens is not None:
            found["text_embeds"] = _unit(self.text_vectors(tokens, attention_mask))
        if draws is not None:
            assert states is not None
            assert tokens is not None
            assert attention_mask is not None
            texts, images = hard_negatives(found, tokens, draws, hardness)
            rows = torch.arange(len(tokens), device=tokens.device)
            with_text, with_image = torch.cat([rows, texts, rows]), torch.cat([rows, rows, images])
            matches = self.match(states[with_image], tokens[with_text], attention_mask[with_text])
            found["match_logits"] = matches.view(3, -1, 2).transpose(0, 1)
            found["caption_logits"] = self.write(states, tokens[:, :-1], attention_mask[:, :-1])
        return found


def hard_negatives(
    found: Mapping[str, Tensor], tokens: Tensor, draws: tuple[Tensor, Tensor], hardness: float
) -> tuple[Tensor, Tensor]:
    """For each image another one's text, and for each text another one's image, (B,) each: likelier the more alike they
    are by their embeddings, by their logits times `hardness`. What has the same text is no negative, unless nothing
    else is there.
    """
    with torch.no_grad():
        products = found["image_embeds"] @ found["text_embeds"].T  # (B, B), or (B, Q, B) of several of an image
        logits = hardness * found["logit_scale"] * (products if products.dim() == 2 else products.amax(1))
        same = (tokens[:, None] == tokens[None]).all(-1)
        texts = _drawn(logits.masked_fill(same, -torch.inf), draws[0])
        images = _drawn(logits.T.masked_fill(same, -torch.inf), draws[1])
    return texts, images


def _drawn(logits: Tensor, draws: Tensor) -> Tensor:
    """One place a row, by where its draw falls among the probabilities."""
    shares = running_totals(logits.double().softmax(1).nan_to_num(0.0))
    at = draws.double()[:, None] * shares[:, -1:]
    return torch.searchsorted(shares, at, right=True).clamp(max=logits.shape[1] - 1)[:, 0]


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1, in float32 whatever the precision."""
    return F.normalize(x.float(), dim=-1)


@register_model(
    "blip",
    task="bootstrapped",
    tiny={
        "embed_dim": 8,
        "dropout": 0.0,
        "vision": {"image_size": 16, "patch_size": 8, "d_model": 16, "num_layers": 1, "num_heads": 2},
        "text": {"vocab_size": 32, "max_seq_len": 8, "d_model": 16, "num_layers": 2, "num_heads": 2},
    },
)
class BLIP(PairModel):
    """Bootstrapping language-image pre-training (Li et al. 2022), ViT-B/16 and BERT base by default.

    A text is read by itself for the contrastive embedding, with the image to say whether they match, and is written of
    the image. One begin token serves all three. Embeddings have length 1.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        vision: VisionArgs = VisionArgs(),
        text: TextArgs = TextArgs(),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        vision = VisionArgs(**vision) if isinstance(vision, Mapping) else vision
        text = TextArgs(**text) if isinstance(text, Mapping) else text
        self.vision_encoder = ImageEncoder(**vars(vision), num_classes=0, dropout=dropout)
        self.text = TextTransformer(text, context_dim=vision.d_model, dropout=dropout)
        self.vision_projection = nn.Linear(vision.d_model, embed_dim)
        self.text_projection = nn.Linear(text.d_model, embed_dim)
        self.match_head = nn.Linear(text.d_model, 2)

    def image_vectors(self, states: Tensor) -> Tensor:
        found: Tensor = self.vision_projection(states[:, 0])
        return found

    def text_vectors(self, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
        found: Tensor = self.text_projection(self.text.states(tokens, attention_mask)[:, 0])
        return found

    @property
    def max_text_len(self) -> int:
        return self.text.max_seq_len

    def writing(self, image: Tensor, begin: Tensor, num_beams: int) -> tuple[Step, Reorder]:
        """The steps of a beam search that writes of images, from what begins a text (B,)."""
        states = self.vision_encoder(image).repeat_interleave(num_beams, dim=0)
        memories = block_memories(len(self.text.blocks))
        begin, place = begin.repeat_interleave(num_beams), -1

        def step(token: Tensor | None) -> Tensor:
            nonlocal place
            place += 1
            token = begin if token is None else token
            return self.write(states, token[:, None], start=place, memories=memories)[:, -1]

        def reorder(rows: Tensor) -> None:
            for own, _ in memories:  # the beams of an image share it
                own.select(rows)

        return step, reorder

    def match(self, states: Tensor, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.match_head(self.text.states(tokens, attention_mask, states)[:, 0])
        return logits

    def write(
        self,
        states: Tensor,
        tokens: Tensor,
        attention_mask: Tensor | None = None,
        *,
        start: int = 0,
        memories: list[tuple[Memory, Memory]] | None = None,
    ) -> Tensor:
        """Also one token at a time, from place `start` on, when it is given memories."""
        logits: Tensor = self.text.logits(
            self.text.states(tokens, attention_mask, states, writes=True, start=start, memories=memories)
        )
        return logits
