"""Pictures: classes of garments, masks of cut-outs and of nuclei, photographs without labels."""

from __future__ import annotations

from dlsvc.data.catalog.facts import CatalogEntry, Package

_SKIMAGE, _SKLEARN = "skimage/data", "sklearn/datasets/images"

TUXPAINT = Package(
    "apt",
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    160880444,
)
# The wheels hold other platforms' code, and the same pictures.
_PHOTOGRAPHS = (
    Package(
        "pip",
        "scikit-image",
        "0.26.0",
        nbytes=13711217,
        members={
            f"{_SKIMAGE}/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
            f"{_SKIMAGE}/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
            f"{_SKIMAGE}/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
            f"{_SKIMAGE}/rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
            f"{_SKIMAGE}/hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
            f"{_SKIMAGE}/motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
            f"{_SKIMAGE}/ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
            f"{_SKIMAGE}/retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        },
    ),
    Package(
        "pip",
        "scikit-learn",
        "1.9.1",
        members={
            f"{_SKLEARN}/china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
            f"{_SKLEARN}/flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        },
    ),
    Package(
        "apt",
        "mate-backgrounds",
        "1.26.0-1",
        "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
        46638500,
    ),
)
_PHOTOGRAPHERS = (
    "photographs of scikit-image: astronaut and hubble (NASA), coffee (Rachel Michetti), chelsea (Stefan van der "
    "Walt), rocket (SpaceX), retina (Mikael Häggström), all CC0 or public domain; ihc (CMMI), no known restrictions; "
    "motorcycle (Middlebury 2014 stereo benchmark, D. Scharstein and others); of scikit-learn: china (danielbuechele) "
    "and flower (vultilion), CC BY 2.0; of MATE backgrounds, GPL-2+: Charles Barbin, Lennart Poettering, Andrea "
    "Cimitan, Marco Cogoni, Hylke Bons, Jens Ansorg, Timothy Schellhase, Lapo Calamandrei, blackcombwhistler07, Sergey "
    "Nazarov, Jean-François Fortin Tam"
)

FASHION_MNIST = CatalogEntry(
    name="fashion-mnist",
    title="Fashion-MNIST: 70,000 pictures of garments, 28x28",
    modality="image",
    classes=(
        "t-shirt or top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    image_size=28,
    channels=1,
    mean=(0.2860,),
    std=(0.3530,),
    counts={"train": 60000, "test": 10000},
    split_rule="the official split",
    licence="MIT",
    attribution="Fashion-MNIST, H. Xiao, K. Rasul and R. Vollgraf, Zalando SE (2017), MIT licence",
    version="20200523",
    packages=(
        Package(
            "apt",
            "dataset-fashion-mnist",
            "0.0~git20200523.55506a9-1",
            "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
            30900652,
        ),
    ),
)

STAMPS_SCENES = CatalogEntry(
    name="stamps-scenes",
    title="Scenes: cut-out objects of two kinds on a photograph, 96x96, with a mask of seven classes",
    modality="segmentation",
    classes=("background", "animals", "food", "plants", "vehicles", "town", "household"),
    image_size=96,
    channels=3,
    mean=(0.5294, 0.4538, 0.3115),
    std=(0.2909, 0.2770, 0.2814),
    counts={"train": 3000, "test": 400},
    split_rule="objects (crc32 of the file name divides by 10) and four photographs are in test scenes only",
    licence="GPL-2 (Tux Paint stamps, MATE photographs); BSD-3-Clause, CC0 and CC BY 2.0 (the other photographs)",
    attribution=f"Tux Paint stamps, Bill Kendrick and contributors, GPL-2; {_PHOTOGRAPHERS}",
    version="1",
    packages=(TUXPAINT, *_PHOTOGRAPHS),
)

NUCLEI = CatalogEntry(
    name="nuclei",
    title="Nuclei under a microscope, 64x64 crops, with a mask drawn by hand",
    modality="segmentation",
    classes=("background", "nucleus"),
    image_size=64,
    channels=1,
    mean=(0.1375,),
    std=(0.1087,),
    counts={"train": 377, "test": 32},
    split_rule="the left half of the micrograph, a crop every 16 pixels, trains; the right half, side by side, tests",
    licence="BSD-3-Clause",
    attribution="StarDist's sample micrograph, Copyright (c) 2018-2025, Uwe Schmidt, Martin Weigert, BSD-3-Clause",
    version="1",
    packages=(
        Package(
            "pip",
            "stardist",
            "0.9.2",
            nbytes=3071290,
            members={
                "stardist/data/images/img2d.tif": "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750",
                "stardist/data/images/mask2d.tif": "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f",
            },
        ),
    ),
)

PHOTOS = CatalogEntry(
    name="photos",
    title="Patches of 22 photographs, 96x96, for super-resolution and denoising",
    image_size=96,
    channels=3,
    mean=(0.5125, 0.4547, 0.2668),
    std=(0.2997, 0.2836, 0.2742),
    counts={"train": 1534, "test": 244},
    split_rule="the patches of four whole photographs (chelsea, flower, Dune, LadyBird) are the test split",
    licence="BSD-3-Clause, CC0, CC BY 2.0 and GPL-2+, by photograph",
    attribution=_PHOTOGRAPHERS,
    version="1",
    packages=_PHOTOGRAPHS,
)

ENTRIES = (FASHION_MNIST, STAMPS_SCENES, NUCLEI, PHOTOS)
