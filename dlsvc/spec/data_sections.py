"""The sections about data: where it comes from and what samples are made into. Every field says what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dlsvc.spec.sections import Count, Fraction, Location, NonNegative, Part, Registered, Text, Whole, tuples


class ImageSpec(Part):
    """What an image is made into before the model sees it."""

    size: Annotated[int, Field(ge=1, le=8192)] = Field(description="side of the square, in pixels")
    channels: Literal[1, 3] = Field(1, description="1 for grey, 3 for colour")
    mean: tuple[Fraction, ...] = Field((0.5,), description="subtracted from each channel, in units of pixels in [0, 1]")
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.5,), description="divides each channel, in units of pixels in [0, 1]"
    )
    count: Annotated[int, Field(ge=1, le=64)] = Field(1, description="chat only: most images of a conversation")

    @model_validator(mode="before")
    @classmethod
    def _one_half_each(cls, given: Any) -> Any:
        """Without `mean` or `std` every channel has 0.5, however many there are."""
        colour = isinstance(given, Mapping) and given.get("channels") == 3
        return tuples({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), **given} if colour else given)


class TextSpec(Part):
    """How a text becomes tokens."""

    tokenizer: Literal["word", "character", "byte", "bpe", "wordpiece"] = Field(
        "word",
        description="words, characters, pairs of bytes (GPT-2's) or pieces of words (BERT's) of the training "
        "split, or plain bytes of UTF-8",
    )
    vocabulary: Location | None = Field(
        None,
        description="a published one in place of one that is fitted here: `minilm`, or a folder or file: "
        "tokenizer.json, vocab.json with merges.txt (GPT-2, RoBERTa, CLIP), vocab.txt (BERT), OpenAI's "
        "bpe_simple_vocab_16e6.txt.gz (CLIP)",
    )
    column: Literal["text", "target_text", "question", "answer", "conversation"] = Field(
        "text", description="the column of the data that is read"
    )
    target: Literal["text", "target_text", "question", "answer"] | None = Field(
        None, description="the column that the model learns to write, in tokens of the same vocabulary"
    )
    target_len: Annotated[int, Field(ge=2, le=2**20)] | None = Field(
        None, description="targets are cut to so many tokens; null: to max_seq_len"
    )
    chat: bool = Field(
        False,
        description="turns of USER and ASSISTANT, of which the model learns to say the second: of a conversation, "
        "or of a question whose target is the answer",
    )
    image_tokens: Whole = Field(0, description="chat only: how many places an image takes, one for each of its patches")
    max_seq_len: Annotated[int, Field(ge=2, le=2**20)] = Field(32, description="longer texts are cut to so many tokens")
    vocab_size: Annotated[int, Field(ge=5, le=2**24)] = Field(4096, description="most tokens, special ones included")
    prompt: str | None = Field(
        None, description="for data of classes without texts: the text of each sample, with its class for {label}"
    )

    @field_validator("prompt")
    @classmethod
    def _names_the_label(cls, prompt: str | None) -> str | None:
        if prompt is not None and "{label}" not in prompt:
            raise ValueError("must have {label} where the class goes, as in 'a photo of a {label}'")
        return prompt

    @model_validator(mode="after")
    def _turns_have_two_sides(self) -> Self:
        if not self.chat:
            if self.image_tokens:
                raise ValueError("only chat reads image_tokens; leave it out or set chat")
            return self
        if (self.column, self.target) not in (("conversation", None), ("question", "answer")):
            raise ValueError("chat is of column conversation alone, or of column question with target answer")
        for name in ("target_len", "prompt"):
            if getattr(self, name) is not None:
                raise ValueError(f"chat would ignore {name}; leave it out")
        return self


class AudioSpec(Part):
    """What a sound is made into before the model sees it: a picture of bins by steps."""

    sample_rate: Annotated[int, Field(ge=100, le=10**6)] = Field(16000, description="sounds are resampled to it, in Hz")
    seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        description="longer sounds are cut around their middle (kaldi-fbank: at their end), shorter ones are followed "
        "by silence"
    )
    features: Literal["log-mel", "mfcc", "spectrogram", "kaldi-fbank"] = Field(
        "log-mel",
        description="decibels of mel bands, their cosine transform, decibels of plain frequencies, or Kaldi's filter "
        "banks, standardised as AST reads them",
    )
    bins: Annotated[int, Field(ge=1, le=1024)] = Field(
        64, description="log-mel, mfcc and kaldi-fbank (AST has 128): bands of the mel scale"
    )
    coefficients: Annotated[int, Field(ge=1, le=1024)] = Field(20, description="mfcc only: how many are kept")
    window: Annotated[int, Field(ge=2, le=2**16)] = Field(400, description="samples of sound a spectrum is taken of")
    hop: Annotated[int, Field(ge=1, le=2**16)] = Field(160, description="samples of sound from one step to the next")

    @property
    def num_samples(self) -> int:
        return max(1, round(self.sample_rate * self.seconds))

    @property
    def num_bins(self) -> int:
        rows = {"mfcc": self.coefficients, "spectrogram": self.window // 2 + 1}
        return rows.get(self.features, self.bins)

    @property
    def num_steps(self) -> int:
        """Windows centred over the sound's samples, or of Kaldi's those that fit into it."""
        reach = self.num_samples - (self.window if self.features == "kaldi-fbank" else 0)
        return 1 + reach // self.hop

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        read = {"mfcc": ("bins", "coefficients"), "spectrogram": ()}.get(self.features, ("bins",))
        for name in ("bins", "coefficients"):
            if name not in read and getattr(self, name) != AudioSpec.model_fields[name].default:
                raise ValueError(f"{self.features} would ignore {name}; leave it out")
        if self.features == "mfcc" and self.coefficients > self.bins:
            raise ValueError(f"{self.bins} bands have no {self.coefficients} coefficients; ask for more bins")
        if self.features == "kaldi-fbank" and self.num_samples < self.window:
            raise ValueError(f"{self.num_samples} samples hold no window of {self.window}; ask for more seconds")
        return self


class VideoSpec(Part):
    """What a film is made into before the model sees it."""

    frames: Annotated[int, Field(ge=1, le=4096)] = Field(description="taken from it at even distances")
    size: Annotated[int, Field(ge=1, le=4096)] = Field(description="side of the square, in pixels")
    channels: Literal[1, 3] = Field(3, description="1 for grey, 3 for colour")
    mean: tuple[Fraction, ...] = Field((0.5,), description="subtracted from each channel, in units of pixels in [0, 1]")
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.5,), description="divides each channel, in units of pixels in [0, 1]; one value is for all of them"
    )


class ColumnsSpec(Part):
    """What the columns are called in the user's own file."""

    image: Text = Field("image", description="the column of encoded images, or of their files' names")
    mask: Text = Field(
        "mask", description="the column of PNGs whose pixels are class numbers, or of their files' names"
    )
    audio: Text = Field("audio", description="the column of encoded sounds, or of their files' names")
    video: Text = Field("video", description="the column of clips, each a PNG of square frames one below the other")
    label: Text = Field("label", description="the column of class names or numbers")
    text: Text = Field("text", description="the column of texts")
    target_text: Text = Field("target_text", description="the column of translations")
    question: Text = Field("question", description="the column of questions")
    answer: Text = Field("answer", description="the column of answers")
    conversation: Text = Field("conversation", description="the column of turns, a list of {from: human|gpt, value}")
    series: Text = Field("series", description="the column of lists of steps, each a list of channels' numbers")
    features: tuple[Text, ...] = Field((), description="the numeric columns, in the model's order")


class AugmentSpec(BaseModel):
    """One augmentation by name; its parameters stand beside the name, typed by the augmentation itself."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: Registered = Field(
        description="a registered augmentation; `dlsvc augment ls` lists them with their parameters"
    )

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ActorRange(Part):
    """Between how many actors a pool scales."""

    min: Count = Field(1, description="fewest actors")
    max: Count = Field(description="most actors")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max is {self.max}, less than min, {self.min}")
        return self


class StreamSpec(Part):
    """Who decodes and augments for the stream feed. It never changes the result."""

    actors: Count | ActorRange | Literal["auto"] = Field(
        "auto",
        description="how many build batches, or {min, max}; auto: one to as many as the cluster has CPUs to spare",
    )
    cpu: NonNegative = Field(
        0.5, description="CPUs an actor, as Ray counts them; a fraction never starves the trainers"
    )
    labels: dict[str, str] = Field(
        default_factory=dict,
        description="labels that an actor's node must have; without any, nodes without GPUs where there are both kinds",
    )


class DataSpec(Part):
    """What to learn from."""

    source: Location = Field(description="a data set of the catalog, or the path or uri of your own")
    format: Literal[
        "auto", "image-folder", "audio-folder", "parquet", "csv", "jsonl", "webdataset", "conversations", "huggingface"
    ] = Field("auto", description="of your own data; auto: by the names of its files")
    feed: Literal["auto", "resident", "stream"] = Field(
        "auto", description="resident: held in memory; stream: read by Ray Data; auto: by size. Results are the same"
    )
    stream: StreamSpec = Field(default_factory=StreamSpec, description="who builds batches for the stream feed")
    image: ImageSpec | None = Field(None, description="null keeps the source's own size and statistics")
    text: TextSpec | None = Field(None, description="null: texts aren't read")
    audio: AudioSpec | None = Field(None, description="null: sounds aren't read")
    standardise: bool = Field(
        True, description="columns of features are standardised by the training split; false: as they are"
    )
    video: VideoSpec | None = Field(None, description="null keeps the source's own length, size and statistics")
    limit: Count | None = Field(
        None,
        description="train on so many samples only, drawn by the seed with the classes in their proportions; the rest "
        "is the split left-out, to choose settings by",
    )
    positive: Text | None = Field(
        None, description="a class: labels become 1 for it and 0 for all others, which makes two classes"
    )
    columns: ColumnsSpec = Field(default_factory=ColumnsSpec, description="column names in your own file")
    encode_once: bool = Field(
        False,
        description="what the model's frozen encoder makes of each image is computed once, before training, and kept "
        "beside the data; images aren't augmented then",
    )
    augment: tuple[AugmentSpec, ...] = Field((), description="applied in order to training samples only")
    max_bad_fraction: Fraction = Field(
        0.01, description="the run stops when more than this share of samples can't be decoded"
    )
