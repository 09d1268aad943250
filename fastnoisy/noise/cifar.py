"""The classes of CIFAR-10 and CIFAR-100 as their author names and numbers them, and which are mistaken for which.

The maps hold for these classes in this order alone; `dataset_of` tells whether a data set has them.
"""

from __future__ import annotations

from collections.abc import Sequence

CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())  # noqa: SIM905
CIFAR100_CLASSES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905 (a hundred lines otherwise)
)
CIFAR100_SUPERCLASSES = tuple(
    """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
    household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes
    large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees
    vehicles_1 vehicles_2
    """.split()  # noqa: SIM905
)
# The super-class of each fine class, in the order above.
CIFAR100_COARSE_OF_FINE = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1,
    10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12,
    12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0,
    17, 8, 14, 13,
)  # fmt: skip
# truck -> automobile, bird -> airplane, cat <-> dog, deer -> horse (Patrini et al. 2017).
CIFAR10_MISTAKEN_FOR = {9: 1, 2: 0, 3: 5, 5: 3, 4: 7}


def dataset_of(class_names: Sequence[str]) -> str:
    """`cifar10`, `cifar100` (the 100 fine classes), or empty where the names, in order, are neither's."""
    return {CIFAR10_CLASSES: "cifar10", CIFAR100_CLASSES: "cifar100"}.get(tuple(class_names), "")


def next_in_superclass() -> list[int]:
    """For each fine class of CIFAR-100 the next one of its super-class in alphabetical order, the first after the
    last.
    """
    members: dict[int, list[int]] = {}
    for fine, coarse in enumerate(CIFAR100_COARSE_OF_FINE):
        members.setdefault(coarse, []).append(fine)
    following: dict[int, int] = {}
    for group in members.values():
        following.update(zip(group, group[1:] + group[:1], strict=True))
    return [following[fine] for fine in range(len(CIFAR100_COARSE_OF_FINE))]
