"""What lies at the recipe's locations, as it is listed: names, sizes and what else tells one version from another.

A folder is listed with the times of its files, and not one byte of them is read; what they are, the step `hash` finds.
A dataset on the Hub is listed there at its commit, with hashes; the listing of a commit can't change and is remembered
in `<out>/listings.json`. A bucket is listed each time, with ETags. A tokenizer in a folder and models are hashed: they
are small; one on the Hub is listed.
"""

from __future__ import annotations

import difflib
import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.graph.folder import LED_OUT, Links, listed
from pipeline.net.bucket import SCHEME, Bucket
from pipeline.net.hub import Repository, Revision, Server
from pipeline.recipe.types import TOKENIZER, Recipe
from pipeline.storage.commit import commit_text
from schemas import json_file, strict
from schemas.manifest import hash_file
from schemas.shown import shown
from schemas.strict import RecipeError, brief
from stages import tokenizer_files
from stages.download import Found, holds, role, select
from stages.filters.language import bundled_model
from stages.sources.archives.image_files import places
from stages.sources.declaration import Source
from stages.sources.listing import Listed
from stages.sources.records.streams import DataError
from stages.tokenizer_files import HubTokenizer

_LISTINGS = dict[str, tuple[tuple[str, int, str], ...]]  # repository@commit -> name, size and hash of every file


class Content:
    """The files of every source and the hashes of the tokenizer and the models.

    Raises RecipeError for what isn't there. `commits`: of what is on the Hub; `remotes`: where others are fetched from.
    `tokenizer`: its content; None where it is fetched, and known by the step that brings it, or needed by none.
    """

    def __init__(self, recipe: Recipe) -> None:
        check_places(recipe)
        self._recipe, self._store = recipe, recipe.out / "listings.json"
        self._known = _load(self._store)
        self._seen: dict[str, list[Found]] = {}
        self.commits: dict[str, str] = {}
        self.remotes: dict[str, Bucket | Revision] = {}
        self._server = self._hub_server()
        self._found, self._named = dict[str, list[Found]](), dict[str, list[Found]]()
        self.tokenizer = self._tokenizer()
        sources = {**recipe.data.sources, **recipe.data.benchmarks}
        self._found |= {name: sorted(self._survey(name, source)) for name, source in sources.items()}

    def found(self, name: str) -> list[Found]:
        """Every file of a source, sorted by name."""
        return self._found[name]

    def named(self, name: str) -> list[Found]:
        """The files of a source that its declaration names, sorted by name."""
        if name not in self._named:
            data = self._recipe.data
            source = {**data.sources, **data.benchmarks}[name]
            self._named[name] = [file for file in self._found[name] if role(file.file, source)]
        return self._named[name]

    def asset(self, name: str) -> tuple[Path, str]:
        """Where a file that a filter needs lies, and its hash."""
        path = language_model(self._recipe)
        if not path.is_file():
            raise RecipeError(f"run.locations.{name}: {path}: no such file")
        return path, hash_file(path)

    def save(self) -> None:
        """Remember the listings of commits for the next plan."""
        if self._seen != self._known:
            commit_text(self._store, json.dumps(self._seen, indent=0, sort_keys=True))

    def _survey(self, name: str, source: Source) -> list[Found]:
        if source.hub is None:
            place = self._recipe.run.locations[name]
            return self._bucket(name, place, source) if place.startswith(SCHEME) else self._folder(name, source)
        assert self._server is not None
        where = f"data.sources.{name}.hub"
        listed = self._listed(name, Repository(self._server, self._server.web(), where, source.hub))
        _check_configs(where, source.hub.configs, source, listed)
        place = f"{source.hub.dataset} at {self.commits[name]}"
        _check_patterns(name, place, source, listed)
        found = select(listed, source)
        self.remotes[name] = Revision(self._server, source.hub, self.commits[name])
        _check_fetched(name, place, source, found)
        return found

    def _bucket(self, name: str, place: str, source: Source) -> list[Found]:
        """Every object below the location's prefix."""
        run = self._recipe.run
        self.remotes[name] = bucket = Bucket.at(f"run.locations.{name}", place, run.allow_hosts, run.patience)
        found = bucket.files()
        _check_fetched(name, place, source, found)
        return found

    def _listed(self, name: str, repository: Repository) -> list[Found]:
        """The files of a repository at the recipe's revision; its commit goes to `commits`."""
        hub, revision = repository.hub, repository.hub.origin["revision"]
        if known := self._known.get(f"{hub.name}@{revision}"):  # so it is a commit, which can't move
            commit, found = revision, known
        else:
            commit = repository.commit()
            key = f"{hub.name}@{commit}"
            found = self._known.get(key) or repository.files(commit)
        self._seen[f"{hub.name}@{commit}"] = found
        self.commits[name] = commit
        repository.web.close()
        if commit != revision:
            what = f"{revision!r} is no commit and may move; now it is {commit}"
            print(f"note: {repository.where}.revision: {what}; write revision: {commit} to keep it", file=sys.stderr)
        return found

    def _hub_server(self) -> Server | None:
        data, run = self._recipe.data, self._recipe.run
        declared = (*data.sources.values(), *data.benchmarks.values())
        if self._recipe.tokenizer_hub is None and all(source.hub is None for source in declared):
            return None
        return Server.here(run.allow_hosts, run.patience)

    def _folder(self, name: str, source: Source) -> list[Found]:
        """Every file below the source's folder, with its times."""
        root = self._place(name)
        try:
            found, links = listed(root, self._recipe.out, name, source.follow_links)
        except OSError as error:
            raise RecipeError(f"run.locations.{name}: {error.filename}: can't be listed ({error.strerror})") from None
        for note in links.notes():
            print(f"note: run.locations.{name}: {shown(note)}", file=sys.stderr)
        _check(name, root, source, found, links)
        return found

    def _tokenizer(self) -> str | None:
        if not self._recipe.data.sources:
            return None
        if (hub := self._recipe.tokenizer_hub) is not None:
            self._list_tokenizer(hub)
            return None
        if self._recipe.data.tokenizer is not None:
            print("note: run.locations.tokenizer is used, and not data.tokenizer", file=sys.stderr)
        files = [
            path for path in self._place(TOKENIZER).iterdir() if path.is_file() and tokenizer_files.is_part(path.name)
        ]
        return tokenizer_files.content({path.name: hash_file(path) for path in files})

    def _list_tokenizer(self, hub: HubTokenizer) -> None:
        """The tokenizer's files of a model's repository; the rest of it is of no matter."""
        assert self._server is not None
        repository = Repository(self._server, self._server.web(), "data.tokenizer", hub, "model")
        try:
            listed = self._listed(TOKENIZER, repository)
        except (RecipeError, DataError) as error:
            raise type(error)(f"{error}; or give its folder: --set run.locations.tokenizer=FOLDER") from None
        found = [file for file in listed if tokenizer_files.is_part(file.file)]
        if not any(file.file == "tokenizer.json" for file in found):
            some = ", ".join(file.file for file in found) or "nothing of a tokenizer"
            raise RecipeError(f"data.tokenizer.model: {hub.model} has no tokenizer.json, only {some}; name another")
        self.remotes[TOKENIZER] = Revision(self._server, hub, self.commits[TOKENIZER])
        self._found[TOKENIZER] = self._named[TOKENIZER] = sorted(found)

    def _place(self, name: str) -> Path:
        return Path(self._recipe.run.locations[name]).expanduser()


def check_places(recipe: Recipe) -> None:
    """Raise RecipeError for a location on this machine that is not there, before anything is started or read."""
    if recipe.out.exists() and not recipe.out.is_dir():
        raise RecipeError(f"run.out: {recipe.out}: can't be made a folder, a file is there; give another --out")
    for name, location in recipe.run.locations.items():
        place = Path(location).expanduser()
        if location.startswith(SCHEME) or name == "language_model":
            continue
        if not place.is_dir():
            what = "is a file, wanted its folder" if place.is_file() else "no such folder"
            raise RecipeError(f"run.locations.{name}: {place}: {what}")
        if recipe.out.resolve() == place.resolve():
            raise RecipeError(f"run.out: {recipe.out} is also the folder of {name}; give another --out")
    tokenizer = Path(recipe.run.locations.get(TOKENIZER, "")).expanduser()
    if recipe.data.sources and recipe.tokenizer_hub is None and not (tokenizer / "tokenizer.json").is_file():
        raise RecipeError(f"run.locations.tokenizer: {tokenizer}: no tokenizer.json there; wanted a tokenizer folder")


def language_model(recipe: Recipe) -> Path:
    """The fastText model: the recipe's, or the one in the wheel."""
    place = recipe.run.locations.get("language_model")
    return Path(place) if place else bundled_model()


def _check(name: str, root: Path, source: Source, found: list[Found], links: Links) -> None:
    if links.kinds.get(LED_OUT) and not any(role(f.file, source) == "records" for f in found):
        raise RecipeError(
            f"data.sources.{name}.files: nothing below {root} matches {list(source.files)}; there are {LED_OUT}"
        )
    _check_records(name, str(root), source, found)
    for pattern in source.image_patterns:
        if link := links.led_out(pattern):
            raise RecipeError(f"data.sources.{name}.images: {link}: of {LED_OUT}")
    try:
        places(root, source.image_patterns, [Listed(*f) for f in found])
    except DataError as error:
        raise RecipeError(f"data.sources.{name}.images: {error}") from None


def _check_configs(where: str, configs: tuple[str, ...], source: Source, listed: list[Found]) -> None:
    """Every config must name a folder that holds record files."""
    records = [f.file for f in listed if role(f.file, source) == "records"]
    for config in configs:
        if not any(file.startswith(f"{config}/") for file in records):
            there = sorted({file.rpartition("/")[0] for file in records} - {""})
            near = difflib.get_close_matches(config, there, n=1) or there[:12]
            some = ", ".join(near) + (" ..." if len(there) > len(near) else "")
            raise RecipeError(f"{where}.configs: no folder {config!r} with record files; there is {some}")


def _check_fetched(name: str, place: str, source: Source, found: list[Found]) -> None:
    _check_records(name, place, source, found)
    for pattern in source.image_patterns:
        if not any(holds(pattern, f.file) for f in found):
            raise RecipeError(f"data.sources.{name}.images: {pattern}: no such folder or file in {place}")


def _check_records(name: str, place: str, source: Source, found: list[Found]) -> None:
    records = [f.file for f in found if role(f.file, source) == "records"]
    if not records:
        some = ", ".join(f.file for f in found[:3]) or "nothing"
        raise RecipeError(
            f"data.sources.{name}.files: nothing below {place} matches {list(source.files)}; it has {some}"
        )
    if source.hub is None:
        _check_patterns(name, place, source, found)
    odd = [file for file in records if not file.endswith(source.suffixes)]
    if odd:
        wanted = ", ".join(source.suffixes)
        raise RecipeError(f"data.sources.{name}.files: {odd[0]}: got another kind, {source.format} wants {wanted}")


def _check_patterns(name: str, place: str, source: Source, found: list[Found]) -> None:
    """Every pattern must name a file: one that names none is a typo, or a part of the data that is not there."""
    for pattern in source.files:
        if not any(fnmatchcase(f.file, pattern) for f in found):
            near = difflib.get_close_matches(pattern, [f.file for f in found], n=1)
            some = near or [f.file for f in found[:3]]
            there = ", ".join(brief(file) for file in some) or "nothing"
            raise RecipeError(f"data.sources.{name}.files: nothing below {place} matches {pattern!r}; it has {there}")


def _load(store: Path) -> dict[str, list[Found]]:
    try:
        known: dict[str, tuple[tuple[str, int, str], ...]] = strict.convert(_LISTINGS, json_file.read(store))
    except (OSError, ValueError):
        return {}  # only a memory of listings: without it every commit is listed again
    return {commit: [Found(*file) for file in files] for commit, files in known.items()}
