"""The verbs that ask a published model: `dlsvc predict`, `dlsvc neighbors` and `dlsvc capfilt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dlsvc.data.progress import say
from dlsvc.terminal import answer, blocks, device_option, json_option, table

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("reference", metavar="MODEL")
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An image file; again for more of a conversation.",
)
@click.option("--text", help="A text.")
@click.option("--features", help="Numbers, such as 5.1,3.5,1.4,0.2.")
@click.option("--audio", type=click.Path(path_type=Path), help="A sound file.")
@click.option("--video", type=click.Path(path_type=Path), help="A film: GIF, WEBP, APNG, or square frames in a PNG.")
@click.option("--series", type=click.Path(path_type=Path), help="A JSON file of steps, each a list of numbers.")
@click.option("--label", "labels", multiple=True, help="A label to choose from for an image; give at least two.")
@click.option("--seed", type=click.IntRange(min=0), help="What to generate from.")
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the request, such as top_k=3, guidance_scale=2 or mask_image=@mask.png; again for more.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where a picture is written; NAME.png here by default.")
@device_option
@json_option
def predict(
    reference: str,
    as_json: bool,
    features: str | None,
    images: tuple[Path, ...],
    labels: tuple[str, ...],
    parameters: tuple[str, ...],
    **given: Any,
) -> None:
    """Ask a published model, without a server: the answer that its server would give."""
    from dlsvc.store.home import home
    from serving.predict import predict_command, read_parameters

    numbers = _numbers(features) if features is not None else None
    asked = read_parameters(parameters)
    told: list[str] = []

    def tell(piece: str) -> None:
        told.append(piece)
        click.echo(piece, nl=False)

    found = predict_command(
        reference,
        home=home(),
        image=images[0] if len(images) == 1 else list(images) or None,
        features=numbers,
        labels=list(labels) or None,
        parameters=asked,
        tell=None if as_json else tell,
        **given,
    )
    if told:
        click.echo()
    else:
        answer(found, as_json, blocks(found))


def _numbers(features: str) -> list[float]:
    from dlsvc.errors import UsageError

    try:
        return [float(number) for number in features.split(",")]
    except ValueError as error:
        raise UsageError(f"--features: {error}; write numbers with commas between them") from error


@click.command()
@click.argument("reference", metavar="MODEL")
@click.option("--data", help="Where to look; the data of the model's spec by default.")
@click.option("--split", default="train", show_default=True, help="Which split of it.")
@click.option("--image", type=_FILE, help="An image file.")
@click.option("--text", help="A text.")
@click.option("--features", help="Numbers, such as 5.1,3.5,1.4,0.2.")
@click.option("--audio", type=_FILE, help="A sound file.")
@click.option("--video", type=_FILE, help="A film: GIF, WEBP, APNG, or square frames in a PNG.")
@click.option("--series", type=_FILE, help="A JSON file of steps, each a list of numbers.")
@click.option("--id", "sample", type=click.IntRange(min=0), help="A sample of the split.")
@click.option("-k", type=click.IntRange(min=1), default=8, show_default=True, help="How many.")
@click.option("--metric", type=click.Choice(["cosine", "euclidean", "dot"]), default="cosine", show_default=True)
@click.option("--grid", type=click.Path(path_type=Path), help="Draw the query and its neighbours as a PNG there.")
@click.option("--map", "plane", type=click.Path(path_type=Path), help="Draw all vectors on a plane as a PNG there.")
@click.option("--accuracy", is_flag=True, help="How many samples their k nearest others classify right.")
@device_option
@json_option
def neighbors(
    reference: str,
    features: str | None,
    sample: int | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Find what lies nearest a query in a data set, by the vectors that MODEL makes."""
    from dlsvc.neighbors.command import neighbors as find
    from dlsvc.store.home import home

    numbers = _numbers(features) if features is not None else None
    given = {name: asked.pop(name) for name in ("image", "text", "audio", "video", "series")}
    given |= {"features": numbers, "id": sample}
    query = {name: value for name, value in given.items() if value is not None}
    found = find(reference, home(), query=query, say=say, **asked)
    shown = {name: value for name, value in found.items() if name != "neighbors"}
    near = found.get("neighbors", [])
    answer(found, as_json, f"{blocks(shown)}\n{table(near, list(near[0]))}" if near else blocks(shown))


@click.command()
@click.argument("reference", metavar="MODEL")
@click.argument("source", metavar="NAME|PATH")
@click.argument("target", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="A pair stays when MODEL holds it for one with at least this probability.",
)
@device_option
@json_option
def capfilt(reference: str, source: str, target: Path, threshold: float, device: str, as_json: bool) -> None:
    """Write the pairs of images and texts that a MODEL such as BLIP believes in, and captions of its own."""
    from dlsvc.capfilt import capfilt as sift
    from dlsvc.store.home import home

    found = sift(reference, source, target, home(), threshold=threshold, device=device, say=say)
    answer(found, as_json, blocks(found))
