"""Configuration files merged into one plain mapping without grids, and the place of every key in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gauntlet.config.candidates import Drawn, Settings, draw_candidates
from gauntlet.config.error_texts import UNKNOWN_KEY
from gauntlet.config.grids import Grid
from gauntlet.config.grids.expansion import VARIANTS
from gauntlet.config.grids.places import written_path
from gauntlet.config.key_places import Keys
from gauntlet.config.quick import KEY, Forms, expanded
from gauntlet.config.yaml_file import YamlFile, read_yaml
from gauntlet.core.errors import InputError, shortened

Problem = tuple[Keys, str]
"""A key path and what is wrong there."""

_EXPERIMENTS = "experiments"
_UNFINISHED = ""
"""Key added to an experiment with refused grids: the schema refuses it, and so does not go on to compare attacks and
certificates with variants of which some are missing."""


class Source:
    """The content of configuration files, with grids and quick forms expanded.

    `content` is what the schema validates, `problems` are the mistakes found so far, at key paths of the files. Raises
    InputError for keys that two files have.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [read_yaml(path) for path in paths]
        self.content, self._owners = _merged(self._files)
        self._forms = Forms()
        self._drawn: dict[str, Drawn] = {}
        if isinstance(self.content.get(_EXPERIMENTS), Mapping):
            self._forms = expanded(self.content[_EXPERIMENTS])
            self._drawn = {str(name): draw_candidates(form) for name, form in self._forms.experiments.items()}
            for name in self._forms.experiments:
                self._forms.experiments[name] = self._drawn[str(name)].experiment
            self.content[_EXPERIMENTS] = {
                name: self._marked(str(name), experiment) for name, experiment in self._forms.experiments.items()
            }
        self.problems: list[Problem] = [
            ((_EXPERIMENTS, *map(str, key_path)), message) for key_path, message in self._forms.problems
        ]

    def grids(self, experiment: str) -> tuple[Grid, ...]:
        """Return the grids of an experiment or a quick form, in the order of the configuration."""
        return tuple(self._forms.expansions[experiment].grids)

    def is_quick(self, experiment: str) -> bool:
        """Return whether an experiment is the quick form of another."""
        return experiment in self._forms.full_of

    def drawn_settings(self, experiment: str) -> Mapping[str, Settings]:
        """Return the draws of each candidate of an experiment or a quick form."""
        return self._drawn[experiment].settings

    @property
    def is_refused(self) -> bool:
        """True if a mistake was found before validation."""
        return bool(self.problems) or any(drawn.problems for drawn in self._drawn.values())

    def variants(self, name: str) -> Iterator[tuple[str, Any]]:
        """Yield each experiment that has a variant of this name, with the variant as a plain mapping."""
        for experiment, content in self._forms.experiments.items():
            variants = content.get(VARIANTS) if isinstance(content, Mapping) else None
            if isinstance(variants, Mapping) and name in variants:
                yield str(experiment), variants[name]

    def errors(self, problems: Iterable[Problem]) -> Iterator[InputError]:
        """Yield an error for each problem of the content, once, with the variants of a grid that have it.

        It is at the place in the files. The source's own problems follow; nothing below their places is reported.
        """
        variants: dict[tuple[str, str], list[str]] = {}
        of_candidates = [
            ((_EXPERIMENTS, name, *map(str, key_path)), message)
            for name, drawn in self._drawn.items()
            for key_path, message in drawn.problems
        ]
        for key_path, message in self._once([*problems, *of_candidates]):
            written, variant = self.written(key_path, is_key=message.startswith(UNKNOWN_KEY))
            if any(written[: len(place)] == place for place, _ in self.problems):
                continue
            names = variants.setdefault((self.where(written), message), [])
            names += [variant] if variant else []
        variants |= {(self.where(key_path), message): [] for key_path, message in self.problems}
        for (where, message), names in variants.items():
            made = f" (variant{'s' if len(names) > 1 else ''} {shortened(names, most=3)})" if names else ""
            yield InputError(f"{message}{made}", where=where)

    def where(self, key_path: Keys) -> str:
        """Return file, line, column and key path of a key as it is written."""
        file = self._owners.get(key_path[:2]) or self._owners.get(key_path[:1]) or self._files[0]
        return file.where(_as_written(key_path, file))

    def written(self, key_path: Keys, *, is_key: bool = False) -> tuple[Keys, str]:
        """Return where a value of the content is written, and the variant that a grid made of it, or no text.

        With `is_key` the key is sought, not its value, which a level may have filled in.
        """
        if len(key_path) < 2 or key_path[0] != _EXPERIMENTS or key_path[1] not in self._forms.expansions:
            return key_path, ""
        _, experiment, *below = key_path
        candidate = ""
        if below[:1] == [VARIANTS] and len(below) > 1 and below[1] in self._drawn[experiment].owners:
            candidate, below[1] = below[1], self._drawn[experiment].owners[below[1]]
        full = self._forms.full_of.get(experiment)
        place = (_EXPERIMENTS, experiment) if full is None else (_EXPERIMENTS, full, KEY)
        expansion = self._forms.expansions[experiment]
        grid = expansion.grid_of(below[1]) if below[:1] == [VARIANTS] and len(below) > 1 else None
        changed = self._changed(full) if full is not None else ()
        if grid is None or below[1] in changed:
            return (*place, *below), candidate
        levels, template = grid.variants[below[1]], expansion.templates[grid.name]
        inside = tuple(below[2:])
        inner = written_path(template, levels, inside[: len(inside) - is_key]) + inside[len(inside) - is_key :]
        if full is not None and grid.name not in changed:
            place = (_EXPERIMENTS, full)
        return (*place, VARIANTS, grid.name, *inner), candidate or below[1]

    def _changed(self, full: str) -> Iterable[str]:
        """Return the grids and variants that a quick form changes."""
        file = self._owners[_EXPERIMENTS, full]
        return file.keys((_EXPERIMENTS, full, KEY, VARIANTS))

    def _marked(self, name: str, experiment: Any) -> Any:
        """Return an experiment as the schema may see it: not as a whole where a grid was refused."""
        return {**experiment, _UNFINISHED: None} if self._is_unfinished(name) else experiment

    def _is_unfinished(self, experiment: str) -> bool:
        expansion, drawn = self._forms.expansions.get(experiment), self._drawn.get(experiment)
        return any(found is not None and bool(found.problems) for found in (expansion, drawn))

    def _once(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """Yield problems, without those that a quick form's full form has too, or that follow from refused grids."""
        found = list(problems)
        known = set(found)
        for key_path, message in found:
            if key_path[2:] in ((_UNFINISHED,), (VARIANTS,)) and self._is_unfinished(key_path[1]):
                continue
            full = self._forms.full_of.get(key_path[1]) if len(key_path) > 1 else None
            if full is None or ((_EXPERIMENTS, full, *key_path[2:]), message) not in known:
                yield key_path, message


def placed(errors: Iterable[InputError], paths: Sequence[Path]) -> Iterator[InputError]:
    """Yield errors whose place is a key path with the file, line and column of that key."""
    source = Source(paths)
    for error in errors:
        written, variant = source.written(tuple(error.where.split(".")))
        made = f" (variant {variant})" if variant else ""
        yield InputError(f"{error.problem}{made}", where=source.where(written), remedy=error.remedy)


def _merged(files: Sequence[YamlFile]) -> tuple[dict[Any, Any], dict[Keys, YamlFile]]:
    """Merge files; also return the file that holds each key, and each experiment. Raises InputError for duplicates."""
    merged: dict[Any, Any] = {}
    owners: dict[Keys, YamlFile] = {}

    def put(target: dict[Any, Any], key_path: Keys, key: Any, value: Any, file: YamlFile) -> None:
        if key_path in owners:
            problem = f"this key is also at {owners[key_path].where(key_path)}"
            raise InputError(problem, where=file.where(key_path), remedy="rename or remove one of them")
        owners[key_path] = file
        target[key] = value

    for file in files:
        for key, value in file.content.items():
            if key == _EXPERIMENTS and isinstance(value, Mapping) and (key,) not in owners:
                for name, experiment in value.items():
                    put(merged.setdefault(key, {}), (key, str(name)), name, experiment, file)
                merged.setdefault(key, {})
            else:
                put(merged, (str(key),), key, value, file)
    return merged, owners


def _as_written(key_path: Keys, file: YamlFile) -> Keys:
    """Replace the attack ``NAME_from_VARIANT`` by NAME where ``transfer_from: *`` has made it."""
    if "attacks" not in key_path[:-1]:
        return key_path
    index = key_path.index("attacks") + 1
    names = file.keys(key_path[:index])
    sources = (name for name in names if key_path[index].startswith(f"{name}_from_"))
    name = max(sources, key=len, default=None)
    return key_path if name is None or key_path[index] in names else (*key_path[:index], name, *key_path[index + 1 :])
