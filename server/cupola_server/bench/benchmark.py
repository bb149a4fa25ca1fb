"""A comparison from its wishes to its result: which models, ways, settings and peers there are, run and judged."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anyio import to_thread
from msgspec import structs

from cupola.contracts import CachedModel, ProgressEvent
from cupola.engine import Engine
from cupola.messages import ChatPrompt
from cupola_server.bench.adapters import adapters_named
from cupola_server.bench.errors import NothingMeasuredError
from cupola_server.bench.growth import (
    RESIDENTS,
    Course,
    Sweep,
    over_prompts,
    over_residents,
    over_streams,
    residents_of,
)
from cupola_server.bench.machine import MemoryPace, cores, describe
from cupola_server.bench.models import Chosen, Host, choose, digest_of, record
from cupola_server.bench.peers import CommandTarget, Job, PeerTarget, RemoteTarget
from cupola_server.bench.prompts import Prompts
from cupola_server.bench.quality import judged
from cupola_server.bench.results import Curve, Plan, Result, Skipped, TargetResult
from cupola_server.bench.runner import Run
from cupola_server.bench.targets import EngineTarget, ServiceTarget, Target

KEY_VARIABLE = "CUPOLA_BENCH_PEER_KEY"
WAYS = ("in-process", "http")
_LONGEST = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What somebody wants compared.

    Attributes:
        models: Names; the first one is what peers run, and what quality is compared with.
        providers: Names of execution providers, "all", or nothing for the one that placement chooses.
        threads: Numbers of compute threads to compare; nothing for the setting.
        ways: In process, over HTTP, or both.
        peers: Names of adapters or variants, base URLs, "all".
        commands: Command lines of servers.
        rounds: How often everything is started and measured.
        budget_s: Seconds for everything; 0 for no limit.
        curves: Which growth to measure.
        quality: Whether to read the text.
    """

    models: tuple[str, ...]
    plan: Plan
    providers: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    ways: tuple[str, ...] = WAYS
    peers: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    rounds: int = 5
    budget_s: float = 0.0
    curves: tuple[str, ...] = ()
    curve_rounds: int = 5
    quality: bool = True


@dataclass(slots=True)
class Comparison:
    """One piece of it. `first_round` is where an earlier piece ended."""

    host: Host
    wishes: Wishes
    progress: Callable[[ProgressEvent], None]
    first_round: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    _pace: MemoryPace = field(default_factory=MemoryPace)

    async def run(self) -> Result:
        """Measure everything.

        Raises:
            CupolaError: A model cannot be had, or nothing could be measured.
        """
        began_at = time.monotonic()
        async with self.host.open_engine() as engine:
            chosen, unusable = await choose(self.host, engine, self.wishes.models, self.wishes.providers, self.progress)
            models = [one.model for one in chosen]
            self.skipped += unusable
            ours = self._ours(chosen)
            prompts = self._prompts(engine, ours, models[0].info.id)
            targets = [*ours, *self._peers(models[0])]
            run = Run(targets, self.wishes.plan, prompts, self._pace, (os.getpid(),), self.progress, self.first_round)
            results = await self._measured(run, models[0], began_at) if self.wishes.rounds else []
            curves = await self._curves(ours, models[0], prompts) if self.wishes.curves else []
        result = await self._result(results, models, curves, prompts)
        if self.host.measurements:
            await to_thread.run_sync(record, result, chosen, self.host.measurements)
        return result

    async def _measured(self, run: Run, reference: CachedModel, began_at: float) -> list[TargetResult]:
        await run.rounds(self.wishes.rounds, self.wishes.budget_s, began_at)
        self.skipped += run.skipped
        results = run.results()
        if not results:
            raise NothingMeasuredError(reasons=tuple(one.reason for one in run.skipped))
        measured = {one.name for one in results}
        return await self._judged(results, [one for one in run.targets if one.name in measured], reference)

    def _ours(self, chosen: Sequence[Chosen]) -> list[Target]:
        """Return our own targets: every model, with every number of threads, in every way."""
        return [
            self._our(way, one, threads, chosen)
            for way in WAYS
            if way in self.wishes.ways
            for one in chosen
            for threads in self.wishes.threads or (0,)
        ]

    def _our(self, way: str, one: Chosen, threads: int, chosen: Sequence[Chosen]) -> Target:
        info = one.model.info
        several = len({each.model.info.id for each in chosen}) > 1
        counted = f"{threads} thread{'s' * (threads > 1)}" if threads else ""
        parts = [info.name if several else "", one.provider, counted]
        told = [part for part in parts if part]
        name = "-".join([way, *told]).replace(" ", "-")
        title = ", ".join([f"Cupola {'in process' if way == 'in-process' else 'over HTTP'}", *told])
        settings = [*one.settings, *([f"{one.options}.threads={threads}"] if threads else [])]
        if way == "in-process":
            return EngineTarget(name, title, info.id, lambda: self.host.open_engine(*settings))
        flags = [word for setting in settings for word in ("--set", setting)]
        return ServiceTarget(name, title, info.id, [*self.host.command, *flags])

    def _peers(self, model: CachedModel) -> list[Target]:
        plan = self.wishes.plan
        threads, context = max(self.wishes.threads or (cores(),)), max(plan.prompt_tokens) + plan.new_tokens + 64
        job = Job(model.info.id, model.path, threads, max(plan.streams), context)
        found: list[Target] = []
        for name in self.wishes.peers:
            if name.startswith(("http://", "https://")):
                found.append(RemoteTarget(name, os.environ.get(KEY_VARIABLE, "")))
                continue
            for adapter, variant in adapters_named(name):
                target = PeerTarget(adapter, variant, job)
                if adapter.models and model.info.alias not in adapter.models:
                    reason = f"its adapter has files of {', '.join(adapter.models)} only"
                    self.skipped.append(Skipped(target.name, reason))
                elif target.name not in {each.name for each in found}:
                    found.append(target)
        for command in self.wishes.commands:
            fields = {"folder": model.path, "threads": threads, "streams": job.streams, "context": context}
            found.append(CommandTarget(command, model.info.id, **fields))
        return found

    def _prompts(self, engine: Engine, ours: Sequence[Target], model: str) -> Prompts:
        """Have prompts tokenized by an engine that has the model loaded anyway, if there is one."""
        reader = next((each for each in ours if isinstance(each, EngineTarget) and each.model == model), None)

        async def tokenize(prompt: ChatPrompt) -> Sequence[int]:
            return await ((reader and reader.engine) or engine).tokenize(model, prompt)

        return Prompts(tokenize)

    async def _judged(
        self, results: list[TargetResult], targets: Sequence[Target], reference: CachedModel
    ) -> list[TargetResult]:
        if not self.wishes.quality:
            return results
        engines = [target for target in targets if isinstance(target, EngineTarget)]
        return await judged(results, engines, reference.info.id, self.progress)

    async def _curves(self, ours: Sequence[Target], model: CachedModel, prompts: Prompts) -> list[Curve]:
        """Measure growth, of our service if it is among the targets."""
        target = next((each for each in ours if isinstance(each, ServiceTarget)), ours[0] if ours else None)
        short, sweeps = self.wishes.plan.prompt_tokens[0], list[Sweep]()
        course = Course(self.wishes.curve_rounds, self._settled, self._told)
        if target and {"prompts", "streams"} & set(self.wishes.curves):
            async with target.open():
                if "prompts" in self.wishes.curves:
                    bounds = short, model.info.context_length or _LONGEST
                    sweeps.append(await over_prompts(target, prompts, bounds, course))
                if "streams" in self.wishes.curves:
                    sweeps.append(await over_streams(target, prompts, short, course))
        if "residents" in self.wishes.curves:
            async with residents_of(self.host, model, max(RESIDENTS)) as residents:
                sweeps.append(await over_residents(residents, prompts, short, course))
        self.skipped += [Skipped(f"growth over {one.over}", one.problem) for one in sweeps if not one.values]
        return [curve for one in sweeps for curve in one.curves()]

    async def _settled(self) -> None:
        await self._pace.settle(self.wishes.plan.slow_bound)

    def _told(self, done: int, total: int) -> None:
        self.progress(ProgressEvent("curves", done, total, "points"))

    async def _result(
        self, results: list[TargetResult], models: Sequence[CachedModel], curves: Sequence[Curve], prompts: Prompts
    ) -> Result:
        digests = {model.info.id: await to_thread.run_sync(digest_of, model.path) for model in models}
        targets = [structs.replace(one, model_digest=digests.get(one.model, "")) for one in results]
        machine = describe()
        plan = structs.replace(self.wishes.plan, models=tuple(model.info.id for model in models))
        return Result(
            machine,
            plan,
            tuple(targets),
            tuple(self.skipped),
            tuple(curves),
            prompts_digest=prompts.digest,
            pieces=(machine.when,),
        )
