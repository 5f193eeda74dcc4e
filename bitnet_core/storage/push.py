"""Push: bring the copy of an experiment up to date. The new state is visible when its manifest is, and not before."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from msgspec import structs

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.storage import fitting, snapshot
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.apart import require_not_in_itself
from bitnet_core.storage.hashing import hash_of
from bitnet_core.storage.identity import experiment_id, keep_id
from bitnet_core.storage.layout import Known, Stored, folders_of, part_bytes, place_before
from bitnet_core.storage.manifest import Manifest, Published
from bitnet_core.storage.needed import wanted
from bitnet_core.storage.probe import require_not_gone
from bitnet_core.storage.publishing import Lost, Overtaken, publish, remove_superseded
from bitnet_core.storage.putting import Stems
from bitnet_core.storage.replaced import merged, replaced, set_aside, temporary
from bitnet_core.storage.sender import Sender
from bitnet_core.storage.sending import Arrivals, OnBytes, Sending, Sent
from bitnet_core.storage.snapshot import LocalFile, Snapshot
from bitnet_core.storage.state import State, work_folder, writes_explained
from bitnet_core.storage.target import NoSuchObject, Target
from bitnet_core.text import printable

_SHOWN_FAULTS = 3
_TRIES = 5
"""To publish, where others publish all the while."""


class Conflict(BitnetError):
    """Another machine has changed the copy."""


@dataclass(frozen=True)
class Plan:
    """What a push would do: files to look at, files that are stored already, and files that the copy drops.

    `aside` was set aside here.
    """

    to_send: list[LocalFile]
    unchanged: dict[str, Stored]
    dropped: list[str]
    aside: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pushed:
    """What a push did. `key` is the manifest that is now the state."""

    key: str
    counter: int
    files: int
    sent_files: int
    sent_bytes: int
    total_bytes: int
    left: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    """The names that left the state; of them, the content of those `gone` left it, too."""
    gone: list[str] = field(default_factory=list)
    gone_bytes: int = 0


class Push:
    """One push of an experiment to its place on a target."""

    def __init__(
        self,
        experiment: Experiment,
        target: Target,
        state: State,
        *,
        force: bool = False,
        repair: bool = False,
        on_bytes: OnBytes = lambda _file, _done: None,
        stop: threading.Event | None = None,
        choose: Callable[[list[LocalFile]], list[LocalFile]] = list,
        lenient: bool = False,
    ) -> None:
        """`force` pushes over what another machine has stored. Files that `choose` leaves out stay as stored.

        `repair` pushes over a state of this machine that can't be read any more. `lenient` leaves out files that the
        target can't hold, instead of refusing them all.
        """
        self._experiment = experiment
        self._target = target
        self._state = state
        self._force = force
        self._repair = repair
        self._on_bytes = on_bytes
        self._stop = stop
        self._choose = choose
        self._lenient = lenient
        self._at = ""
        """The key of the newest manifest; of one that can't be read, too."""
        self._unreadable: list[str] = []
        self._lost: set[str] = set()
        """Files of which the target has lost something that it had."""
        self._given_up: dict[str, Stored] = {}
        self._versions: set[str] = set()
        """Of the files that are here."""
        self._id = experiment_id(experiment.root)
        self.base = self._newest()
        self._dropped: list[Stored] = []
        self._require_ours()

    def plan(self) -> Plan:
        """Look at the experiment and at the newest manifest. UsageError names files that the target can't hold."""
        taken = snapshot.take(self._experiment)
        self.left = list(taken.left)
        self._versions = {file.version for file in taken.files}
        stored = self.base.manifest.by_name() if self.base else {}
        if self.base:
            require_not_in_itself(self._target, self.base.key, (file.name for file in taken.files))
        faults = fitting.faults(taken.files, self._target, stored)
        if faults and not self._lenient:
            more = f" ({len(faults) - _SHOWN_FAULTS} more)" if len(faults) > _SHOWN_FAULTS else ""
            raise UsageError("\n".join(faults[:_SHOWN_FAULTS]) + more)
        unchanged = {file.name: entry for file in taken.files if (entry := self._stored(file, stored)) is not None}
        fit, misfits = fitting.fit(taken.files, self._target, stored) if faults else (taken.files, [])
        self.left += misfits
        sent = wanted(fit, StorageOptions.of(self._experiment.settings))
        to_send = [file for file in self._choose(sent) if file.name not in unchanged]
        if to_send:  # whether its manifest fits is known before the first byte is sent
            self._made(merged(stored, {**unchanged, **{file.name: self._expected(file) for file in to_send}}))
        return Plan(to_send, unchanged, *self._to_drop(taken, stored))

    def run(self, plan: Plan | None = None) -> Pushed:
        """Send what has changed, then publish. Conflict if another machine did so meanwhile."""
        plan = plan or self.plan()
        self._state.wait((file.name, file.version) for file in plan.to_send)
        sent = self._send(plan.to_send)
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._publish(plan, sent)
            except Lost as lost:
                if not tries_left:
                    raise BitnetError(
                        f"{printable(lost.names[0])} did not arrive whole at {self._target.place}, which loses what "
                        "it is given; `bitnet store check` finds out why, and the next push continues."
                    ) from None
                self._lost.update(lost.names)
                sent.stored = {name: entry for name, entry in sent.stored.items() if name not in self._lost}
                sent.add(self._send([file for file in plan.to_send if file.name in lost.names]))
            except Overtaken:
                if not self._force or not tries_left:
                    raise self._overtaken() from None
                # What the other one has published is the state now, and some of what we named may be gone since.
                self.base = self._newest()
                self._require_ours()
                plan = self.plan()
                sent.add(self._send(plan.to_send))
        raise AssertionError("the last try returns or raises")

    def give_up(self, entries: Mapping[str, Stored]) -> None:
        """Leave these files out of the next state: they are damaged there, and no machine can repair them."""
        self._given_up.update(entries)

    def entry(self, name: str) -> Stored | None:
        """What the newest manifest says of a file, after `run` the one that it has published."""
        return self.base.manifest.by_name().get(name) if self.base else None

    # -- before ----------------------------------------------------------------------------------------------

    def _newest(self) -> Published | None:
        """The newest manifest that can be read. BitnetError if that may not be gone on from, or is gone."""
        for _ in range(2):  # one bad read is no damage
            found = manifests.keys(self._target)
            newest = next(manifests.published(self._target, found), None)
            is_newest = not found or (newest is not None and newest.key == found[0])
            self._unreadable = [] if is_newest else manifests.damaged(self._target)
            if is_newest:
                break
        self._at = self._unreadable[0] if self._unreadable else newest.key if newest else ""
        if self._unreadable:
            self._require_repairable(newest)
        elif self._force:
            return newest
        elif newest is None:
            require_not_gone(self._target, self._state)
        return newest

    def _require_repairable(self, readable: Published | None) -> None:
        """Only the machine that stored an unreadable manifest knows what was in it, and of which experiment."""
        place = self._target.place
        if not self._is_noted(self._at) and not (self._force and readable):
            way = (
                "`bitnet store push --force` to go on from what is here"
                if readable and self._is_ours(readable)
                else ""
            )
            raise Conflict(
                f"The newest manifest at {place} can't be read, and it was not stored from this folder; run `bitnet "
                f"store push --verify` where it was, or {way or 'set STORAGE_NAME to another name'}."
            )
        if not self._repair and not self._force:
            raise BitnetError(
                f"The newest manifest at {place} can't be read; run `bitnet store push --verify`, "
                "which puts it right from what is here."
            )

    def _is_noted(self, key: str) -> bool:
        """Whether it was published or pulled from here. Its writer says nothing: a clone of this machine has it."""
        return key in (self._state.note("manifest"), self._state.note("publishing"))

    def _require_ours(self) -> None:
        if self.base is None:
            return
        if not self._id and not self._force:
            raise Conflict(
                f"{self._target.place} already holds an experiment, and this folder was never stored there; set "
                "STORAGE_NAME to another name, or `bitnet store pull` first if it is the same experiment."
            )
        if self._id and not self._is_ours(self.base):
            raise Conflict(
                f"{self._target.place} already holds another experiment; set STORAGE_NAME to another name."
            )

    def _is_ours(self, published: Published) -> bool:
        return published.manifest.experiment == self._id

    def _require_not_overtaken(self) -> None:
        """Conflict if the newest manifest is neither ours nor one that this machine has pulled."""
        if self.base is None or self._force:
            return
        if not self._unreadable and not self._is_noted(self.base.key):
            raise Conflict(
                f"{self._target.place} was changed by another machine; `bitnet store pull` first, "
                "or `bitnet store push --force` to go on from what is here."
            )

    def _stored(self, file: LocalFile, stored: dict[str, Stored]) -> Stored | None:
        """The entry of a file whose content is stored already, perhaps at the place from which it was set aside.

        Only a file of unknown content is read.
        """
        entry = stored.get(file.name)
        if entry is None and (before := stored.get(place_before(file.name))) is not None:
            entry = structs.replace(before, name=file.name, stem=before.key)
        if entry is None:
            return None
        known = self._state.known(file.name, file.version)
        if known is None and entry.size == file.size:
            known = hash_of(file, entry.part_bytes)
        if known is None or not entry.has(known):
            return None
        self._state.know(file.name, file.version, known)
        return entry

    def _to_drop(self, taken: Snapshot, stored: dict[str, Stored]) -> tuple[list[str], list[str]]:
        """Checkpoints that were here and that newer ones have replaced; what was set aside here, or is temporary."""
        seen, here = self._state.seen(), {file.name for file in taken.files}
        aside = sorted({*set_aside(stored, here, seen), *temporary(stored)})
        return [name for name in replaced(stored, here) if name in seen and name not in aside], aside

    # -- sending ---------------------------------------------------------------------------------------------

    def _send(self, files: list[LocalFile]) -> Sent:
        if not files:
            return Sent()
        self._require_not_overtaken()
        in_use = self._in_use()
        folders = {folder for key in in_use for folder in folders_of(key)}
        stored = self.base.manifest.by_name() if self.base else {}
        # Without a manifest `gc` removes nothing, so what arrived is this machine's.
        found = Arrivals(
            {one.key: one.size for one in self._target.list("")} if self._state.has_arrivals() else {},
            others=self.base is not None,
        )

        def stems(name: str) -> Stems:
            # Where a target is a folder, nothing can be below an object, and no object where a folder is.
            above = next((folder for folder in folders_of(name) if folder in in_use), "")
            own = "" if above or name in in_use or name in folders else name
            return Stems(own, f"{above or name}.revisions/{self._next_counter:06d}-{secrets.token_hex(4)}")

        def same(name: str, known: Known) -> Stored | None:
            entry = stored.get(name)
            return entry if entry and entry.has(known) and name not in self._lost else None

        with (
            Sender(self._target.limits, stop=self._stop) as sender,
            work_folder(self._experiment.root) as folder,
        ):
            sending = Sending(self._target, self._state, sender, stems, same, found, self._on_bytes)
            sent = sending.send(files, folder)
        self.left = [*self.left, *sent.left]
        return sent

    def _in_use(self) -> set[str]:
        """The stems that the newest manifest and the one before it name."""
        if self.base is None:
            return set()
        found = {one.key for one in self.base.manifest.files}
        with contextlib.suppress(NoSuchObject, manifests.Damaged):
            if self.base.manifest.parent:
                found |= {one.key for one in manifests.read(self._target, self.base.manifest.parent).manifest.files}
        return found

    # -- publishing ------------------------------------------------------------------------------------------

    @property
    def _next_counter(self) -> int:
        """Higher than that of a manifest of ours that got no answer, too: it may still arrive, and must not count."""
        published, tried = self._state.note("manifest"), self._state.note("publishing")
        return max(manifests.counter_of(key) or 0 for key in (self._at, tried if tried != published else "")) + 1

    def _made(self, entries: dict[str, Stored], experiment: str = "") -> Manifest:
        """The next manifest, which everybody can read. UsageError if the target can't hold it."""
        made = Manifest(
            experiment=experiment or self._id or "0" * 32,
            name=self._experiment.name,
            counter=self._next_counter,
            parent=self.base.key if self.base else "",
            writer=self._state.writer,
            created=round(time.time(), 3),
            files=[entries[name] for name in sorted(entries)],
        )
        data = made.encode()
        if len(data) > self._target.limits.object_bytes:
            raise UsageError(
                f"{self._experiment.root} has more files ({len(entries)}) than {self._target.place} can hold; "
                "choose another target."
            )
        manifests.decoded(manifests.key_of(made), data)
        return made

    def _expected(self, file: LocalFile) -> Stored:
        """The entry that a file will have, but for its hash."""
        return Stored(file.name, file.size, "0" * 64, file.role, "", part_bytes(file.size, self._target.limits))

    def _publish(self, plan: Plan, sent: Sent) -> Pushed:
        """Make what was sent the state. Overtaken, or Lost."""
        earlier = self.base.manifest.by_name() if self.base else {}
        kept = {name: one for name, one in earlier.items() if self._given_up.get(name) != one}
        entries = merged(kept, {**plan.unchanged, **sent.stored})
        # Only what a newer checkpoint replaces that is stored by now: it may have been removed before it was sent.
        stored_now = {*plan.unchanged, *sent.stored}
        gone = [*replaced(plan.dropped, stored_now), *plan.aside]
        self._dropped = [entries.pop(name) for name in gone if name in entries]
        as_here = [*plan.unchanged.values(), *sent.stored.values()]
        if self.base and entries == earlier and not self._unreadable:
            self._state.share(as_here)
            self._state.note_stored(self.base.manifest.counter, self.base.manifest.files)
            return self._pushed(self.base, sent)
        self._require_not_overtaken()  # also where nothing was sent, and files only leave the state
        with writes_explained(self._experiment.root):
            experiment = self._id or keep_id(self._experiment.root, self.base)
        made = self._made(entries, experiment)
        published = Published(manifests.key_of(made), made)
        in_vain = self._arrived_in_vain(published)
        published = publish(self._target, self._state, published, self._at, sent.stored.values, in_vain, self._stop)
        self.base, self._at = published, published.key
        self._state.remember("manifest", published.key)
        self._state.note_stored(published.manifest.counter, made.files)
        self._state.share(as_here)
        self._state.unshare(one.name for one in self._dropped)
        self._state.forget_parts()
        remove_superseded(self._target, published, self._unreadable)
        return self._pushed(published, sent)

    def _arrived_in_vain(self, published: Published) -> list[str]:
        """What a cut push has sent of files that are gone here since, such as a replaced checkpoint."""
        named = {*published.manifest.objects(), *(self.base.manifest.objects() if self.base else ())}
        stems = {stem for stem, version in self._state.arrivals() if version not in self._versions}
        parts = {one.key for stem in stems for one in self._target.list(f"{stem}.parts/")}
        return sorted((stems | parts) - named)

    def _overtaken(self) -> Conflict:
        return Conflict(
            f"{self._target.place} was changed by another machine meanwhile; `bitnet store pull` first, "
            "or `bitnet store push --force` to go on from what is here."
        )

    def _pushed(self, published: Published, sent: Sent) -> Pushed:
        made = published.manifest
        kept = {one.key for one in made.files}
        gone = [one for one in self._dropped if one.key not in kept]  # the others have another place there
        return Pushed(
            key=published.key,
            counter=made.counter,
            files=len(made.files),
            sent_files=sent.files,
            sent_bytes=sent.bytes,
            total_bytes=sum(one.size for one in made.files),
            left=self.left,
            dropped=[one.name for one in self._dropped],
            gone=[one.name for one in gone],
            gone_bytes=sum(one.size for one in gone),
        )
