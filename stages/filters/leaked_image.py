"""Which samples show an image of a benchmark, and which one.

An image is one of a benchmark's if it has the same bytes, or looks the same (image_match.py). Where signatures can't
tell, as of charts and pages, both files are opened and compared (same_picture.py). The file of a benchmark that came as
a sketch is not at hand: then the signatures decide, which finds re-encoded and resized copies of such images and
misses cropped ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stages.filters.image_match import OTHER, SAME, Fewest, Match, Pictures, compared, distinct, same_unseen
from stages.filters.same_picture import Opened, distance_of

Info = dict[str, Any]
MyFiles = Callable[[Sequence[int]], Mapping[int, Sequence[bytes]]]
"""Rows of the part -> the files of their images."""
TheirFiles = Callable[[Iterable[str]], Mapping[str, Sequence[bytes]]]
"""Ids of benchmark samples -> the files of their images, of those that are at hand."""

_FEW = 8  # images of benchmarks that an image is compared with by files, the nearest ones
_AT_ONCE = 32  # images that are looked at at a time: their files, and those of the benchmarks, are held


class Place(NamedTuple):
    """The `number`th image of a sample: of a part's row, or of a benchmark by its id."""

    sample: Any
    number: int


class Leak(NamedTuple):
    """The sample of a benchmark, and the Hamming distance of the images."""

    sample_id: str
    distance: int


class Index(NamedTuple):
    """The images of benchmarks: by their bytes; and their looks, each once, with the first few that look so."""

    by_sha256: dict[str, str]
    pictures: Pictures
    owners: list[list[Place]]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Sequence[Info]]]) -> Index:
        images = [(Place(name, number), info) for name, infos in rows for number, info in enumerate(infos)]
        by_sha256: dict[str, str] = {}
        for place, info in images:
            by_sha256.setdefault(info["sha256"], place.sample)
        pictures = Pictures.of([info for _, info in images])
        firsts, which = distinct([pictures])
        owners: list[list[Place]] = [[] for _ in firsts]
        for (place, _), look in zip(images, which.tolist(), strict=True):
            if len(owners[look]) < _FEW:
                owners[look].append(place)
        return cls(by_sha256, pictures.take(firsts), owners)


def leaks(
    rows: Sequence[Sequence[Info]], index: Index, match: Match, mine: MyFiles, theirs: TheirFiles
) -> list[Leak | None]:
    """For the images of each row the nearest leak, the first of equals. A row's files are read only where needed."""
    images = [(Place(row, number), info) for row, infos in enumerate(rows) for number, info in enumerate(infos)]
    found: list[Leak | None] = [None] * len(rows)
    asked: list[tuple[Place, list[_Candidate]]] = []
    for (place, info), candidates in zip(images, _candidates([info for _, info in images], index, match), strict=True):
        same = index.by_sha256.get(info["sha256"])
        if same is not None:
            _keep(found, place.sample, Leak(same, 0))
        elif candidates:
            asked.append((place, candidates))
    for start in range(0, len(asked), _AT_ONCE):
        for place, leak in _looked_at(asked[start : start + _AT_ONCE], match, mine, theirs):
            _keep(found, place.sample, leak)
    return found


class _Candidate(NamedTuple):
    """An image of a benchmark that is near; `sure`: it is the same; `unseen`: it counts as the same if nobody looks."""

    place: Place
    distance: int
    sure: bool
    unseen: bool


def _candidates(infos: list[Info], index: Index, match: Match) -> Iterator[list[_Candidate]]:
    """Of each image the nearest ones, nearest first."""
    pictures = Pictures.of(infos)
    firsts, which = distinct([pictures])
    looks, few = pictures.take(firsts), Fewest(_FEW)
    for lot in compared([index.pictures], [looks], match):
        few.add(lot.where(lot.verdict != OTHER))
    lot = few.pairs()
    pairs = index.pictures.take(lot.left), looks.take(lot.right)
    near: list[list[_Candidate]] = [[] for _ in firsts]
    told = (lot.distance, lot.verdict == SAME, same_unseen(*pairs))
    for theirs, look, *rest in zip(*(column.tolist() for column in (lot.left, lot.right, *told)), strict=True):
        near[look] += [_Candidate(place, *rest) for place in index.owners[theirs]]
    return (near[look] for look in which.tolist())


def _looked_at(
    asked: Sequence[tuple[Place, list[_Candidate]]], match: Match, mine: MyFiles, theirs: TheirFiles
) -> Iterator[tuple[Place, Leak]]:
    open_ = [(place, some) for place, some in asked if not some[0].sure]
    my_files = mine(sorted({place.sample for place, _ in open_})) if open_ else {}
    names = {one.place.sample for _, some in open_ for one in some if not one.sure}
    their_files = theirs(sorted(names)) if names else {}
    for place, candidates in asked:
        picture: Opened | None = None
        for one in candidates:
            same = one.sure
            if not same and one.place.sample not in their_files:
                same = one.unseen
            elif not same:
                picture = picture or Opened(my_files[place.sample][place.number])
                other = Opened(their_files[one.place.sample][one.place.number])
                same = distance_of(picture, other, match.mark) <= match.leeway
            if same:
                yield place, Leak(one.place.sample, one.distance)
                break


def _keep(found: list[Leak | None], row: int, leak: Leak) -> None:
    before = found[row]
    if before is None or leak.distance < before.distance:
        found[row] = leak
