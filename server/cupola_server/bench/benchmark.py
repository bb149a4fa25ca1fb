"""A whole benchmark from its options to its result: select models, build targets, measure, add quality and growth."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from anyio import to_thread
from msgspec import structs

from cupola.contracts import CachedModel, Progress, ProgressEvent
from cupola.engine import Engine
from cupola.messages import ChatPrompt
from cupola_server.bench.adapters import select_adapters
from cupola_server.bench.errors import NothingMeasuredError
from cupola_server.bench.growth import (
    RESIDENTS,
    Sweep,
    SweepOptions,
    open_copies,
    sweep_prompt_tokens,
    sweep_residents,
    sweep_streams,
)
from cupola_server.bench.machine import MemoryProbe, count_cores, describe_machine
from cupola_server.bench.models import Launcher, SelectedModel, hash_model, record_measurements, select_models
from cupola_server.bench.peers import CommandTarget, Job, PeerTarget, RemoteTarget
from cupola_server.bench.prompts import PromptFactory
from cupola_server.bench.quality import add_quality
from cupola_server.bench.results import Curve, Plan, Result, Skipped, TargetResult
from cupola_server.bench.runner import Runner
from cupola_server.bench.targets import EngineTarget, ServiceTarget, Target

KEY_VARIABLE = "CUPOLA_BENCH_PEER_KEY"
INTERFACES = ("in-process", "http")
_DEFAULT_CONTEXT_LENGTH = 8192
_CONTEXT_MARGIN = 64
"""Tokens of the peers' context beyond prompt and response, for chat templates longer than ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkOptions:
    """What to compare, and how.

    Attributes:
        models: Names of models; peers run the first one, and quality is relative to it.
        plan: The load that every target gets.
        providers: Names of execution providers or "all"; empty to leave the choice to placement.
        threads: Numbers of compute threads to compare; empty for the setting.
        interfaces: "in-process", "http", or both.
        peers: Names of adapters or their variants, paths of adapters, base URLs, "all".
        commands: Command lines that start a server.
        rounds: How often everything is started and measured.
        budget_s: Seconds for everything; 0 for no limit.
        curves: What to measure growth over: "prompts", "streams", "residents".
        curve_rounds: Number of values for each point of a curve.
        quality: Whether to evaluate the models' predictions.
    """

    models: tuple[str, ...]
    plan: Plan
    providers: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    interfaces: tuple[str, ...] = INTERFACES
    peers: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    rounds: int = 5
    budget_s: float = 0.0
    curves: tuple[str, ...] = ()
    curve_rounds: int = 5
    quality: bool = True


@dataclass(slots=True)
class Benchmark:
    """One run of a benchmark.

    Attributes:
        launcher: Starts engines and services.
        options: What to compare.
        progress: Called with the progress.
        first_round: Number of rounds that earlier runs of the same benchmark measured.
        skipped: What could not be measured so far, and why.
    """

    launcher: Launcher
    options: BenchmarkOptions
    progress: Progress
    first_round: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    _memory: MemoryProbe = field(default_factory=MemoryProbe)

    async def run(self) -> Result:
        """Measure everything; cancelling stops all targets.

        Raises:
            NothingMeasuredError: No target could be measured.
            CupolaError: A model is unknown or cannot be downloaded.
        """
        began_at, options = time.monotonic(), self.options
        async with self.launcher.open_engine() as engine:
            selected, unusable = await select_models(
                self.launcher, engine, options.models, options.providers, self.progress
            )
            models = [choice.model for choice in selected]
            self.skipped += unusable
            own = self._own_targets(selected)
            prompts = self._prompt_factory(engine, own, models[0].info.id)
            targets = [*own, *self._peer_targets(models[0])]
            runner = Runner(
                targets, options.plan, prompts, self._memory, (os.getpid(),), self.progress, self.first_round
            )
            results = await self._measure(runner, models[0], began_at) if options.rounds else []
            curves = await self._measure_curves(own, models[0], prompts) if options.curves else []
        result = await self._build_result(results, models, curves, prompts)
        if self.launcher.measurements_path:
            await to_thread.run_sync(record_measurements, result, selected, self.launcher.measurements_path)
        return result

    async def _measure(self, runner: Runner, reference: CachedModel, began_at: float) -> list[TargetResult]:
        await runner.run(self.options.rounds, self.options.budget_s, began_at)
        self.skipped += runner.skipped
        results = runner.results()
        if not results:
            raise NothingMeasuredError(reasons=tuple(target.reason for target in runner.skipped))
        if not self.options.quality:
            return results
        measured = {result.name for result in results}
        engines = [target for target in runner.targets if isinstance(target, EngineTarget) and target.name in measured]
        return await add_quality(results, engines, reference.info.id, self.progress)

    def _own_targets(self, selected: Sequence[SelectedModel]) -> list[Target]:
        """Return Cupola's own targets: every model, with every number of threads, over every interface."""
        return [
            self._own_target(interface, choice, threads, selected)
            for interface in INTERFACES
            if interface in self.options.interfaces
            for choice in selected
            for threads in self.options.threads or (0,)
        ]

    def _own_target(
        self, interface: str, choice: SelectedModel, threads: int, selected: Sequence[SelectedModel]
    ) -> Target:
        info = choice.model.info
        has_several_models = len({other.model.info.id for other in selected}) > 1
        threads_text = f"{threads} thread{'s' * (threads > 1)}" if threads else ""
        parts = [part for part in (info.name if has_several_models else "", choice.provider, threads_text) if part]
        name = "-".join([interface, *parts]).replace(" ", "-")
        title = ", ".join([f"Cupola {'in process' if interface == 'in-process' else 'over HTTP'}", *parts])
        settings = [*choice.settings, *([f"{choice.provider_section}.threads={threads}"] if threads else [])]
        if interface == "in-process":
            return EngineTarget(name, title, info.id, lambda: self.launcher.open_engine(*settings))
        flags = [word for setting in settings for word in ("--set", setting)]
        return ServiceTarget(name, title, info.id, [*self.launcher.command, *flags])

    def _peer_targets(self, model: CachedModel) -> list[Target]:
        plan = self.options.plan
        threads = max(self.options.threads or (count_cores(),))
        context = max(plan.prompt_tokens) + plan.new_tokens + _CONTEXT_MARGIN
        job = Job(model.info.id, model.path, threads, max(plan.streams), context)
        targets: list[Target] = []
        for name in self.options.peers:
            if name.startswith(("http://", "https://")):
                targets.append(RemoteTarget(name, os.environ.get(KEY_VARIABLE, "")))
                continue
            for adapter, variant in select_adapters(name):
                target = PeerTarget(adapter, variant, job)
                if adapter.models and model.info.alias not in adapter.models:
                    reason = f"its adapter supports only these models: {', '.join(adapter.models)}"
                    self.skipped.append(Skipped(target.name, reason))
                elif target.name not in {other.name for other in targets}:
                    targets.append(target)
        for command in self.options.commands:
            fields = {"folder": model.path, "threads": threads, "streams": job.streams, "context": context}
            targets.append(CommandTarget(command, model.info.id, **fields))
        return targets

    def _prompt_factory(self, engine: Engine, own: Sequence[Target], model: str) -> PromptFactory:
        """Tokenize prompts with the engine of a target that has the model loaded, if one is open."""
        reader = next((target for target in own if isinstance(target, EngineTarget) and target.model == model), None)

        async def tokenize(prompt: ChatPrompt) -> Sequence[int]:
            return await ((reader and reader.engine) or engine).tokenize(model, prompt)

        return PromptFactory(tokenize)

    async def _measure_curves(self, own: Sequence[Target], model: CachedModel, prompts: PromptFactory) -> list[Curve]:
        """Measure growth with the service if it is among the targets, else with the first of Cupola's targets."""
        target = next((target for target in own if isinstance(target, ServiceTarget)), own[0] if own else None)
        curves, short, sweeps = self.options.curves, self.options.plan.prompt_tokens[0], list[Sweep]()
        options = SweepOptions(self.options.curve_rounds, self._wait_until_fast, self._report_progress)
        if target and {"prompts", "streams"} & set(curves):
            async with target.open():
                if "prompts" in curves:
                    bounds = short, model.info.context_length or _DEFAULT_CONTEXT_LENGTH
                    sweeps.append(await sweep_prompt_tokens(target, prompts, bounds, options))
                if "streams" in curves:
                    sweeps.append(await sweep_streams(target, prompts, short, options))
        if "residents" in curves:
            async with open_copies(self.launcher, model, max(RESIDENTS)) as residents:
                sweeps.append(await sweep_residents(residents, prompts, short, options))
        self.skipped += [Skipped(f"growth over {sweep.over}", sweep.problem) for sweep in sweeps if not sweep.values]
        return [curve for sweep in sweeps for curve in sweep.curves()]

    async def _wait_until_fast(self) -> None:
        await self._memory.wait_until_fast(self.options.plan.slow_bound)

    def _report_progress(self, done: int, total: int) -> None:
        self.progress(ProgressEvent("curves", done, total, "points"))

    async def _build_result(
        self,
        results: Sequence[TargetResult],
        models: Sequence[CachedModel],
        curves: Sequence[Curve],
        prompts: PromptFactory,
    ) -> Result:
        digests = {model.info.id: await to_thread.run_sync(hash_model, model.path) for model in models}
        targets = [structs.replace(result, model_digest=digests.get(result.model, "")) for result in results]
        machine = describe_machine()
        plan = structs.replace(self.options.plan, models=tuple(model.info.id for model in models))
        return Result(
            machine,
            plan,
            tuple(targets),
            tuple(self.skipped),
            tuple(curves),
            prompts_digest=prompts.digest,
            pieces=(machine.when,),
        )
