"""One life of a training run: text to corpus, corpus to weights, weights to a model folder."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cllm.config import ModelSettings, Settings
from cllm.errors import InputError, InterruptedRunError, SettingsError
from cllm.files import read_json, write_json
from cllm.infer.decoder import Decoder
from cllm.jobs.compute import Compute, choose_compute
from cllm.jobs.drafts import num_counted, write_drafts
from cllm.jobs.journal import Journal
from cllm.jobs.lexicon import copy_roots, pieces, write_lexicon
from cllm.jobs.memory import peak_rss_bytes
from cllm.jobs.model_folder import read_training, write_model
from cllm.jobs.plots import plot_loss, thin
from cllm.jobs.sampling import Sampler, choose_prompt
from cllm.jobs.steering import Steering
from cllm.model import ModelSpec, Weights, initial_weights
from cllm.model.files import load_float_weights, load_lexicon, read_spec
from cllm.model.folding import fold
from cllm.model.lexicon import LEXICON, Lexicon
from cllm.model.mechanisms.choose import choose, items_of
from cllm.model.mechanisms.mechanism import Mechanism, needs_of
from cllm.text.batches import Batches
from cllm.text.copying import measure_copying
from cllm.text.corpus import Corpus
from cllm.text.prepare import prepare
from cllm.text.tokenizers import Tokenizer
from cllm.training.advice import advise_on_text, advise_on_tokens
from cllm.training.budget import Budget, available_s, plan_budget
from cllm.training.checkpoint import Checkpoints
from cllm.training.events import (
    Advised,
    Continued,
    Event,
    Finished,
    Observe,
    Paused,
    Plan,
    Planned,
    Prepared,
    Preparing,
    Profiled,
    Sampled,
    TrainResult,
)
from cllm.training.held_out import HeldOut
from cllm.training.learner import Learner
from cllm.training.mechanism_updates import first_squares
from cllm.training.metrics import MetricsLog, read_metrics
from cllm.training.plan import Facts, decide, describe, expected_readings
from cllm.training.profile import Profile
from cllm.training.scaling import step_flops_per_token
from cllm.training.schedule import Schedule, StepSchedule, TimedSchedule
from cllm.training.scoring import Scorer
from cllm.training.trainer import Outcome, Surroundings, Trainer

if TYPE_CHECKING:
    from cllm.jobs.request import Request
    from cllm.jobs.stopping import StopRequest
    from cllm.workspace.runs import RunRecord, RunState
    from cllm.workspace.workspace import Workspace


class TrainingRun:
    """A run in one process; a resumed run is another object over the same folder."""

    def __init__(
        self,
        run: RunRecord,
        request: Request,
        workspace: Workspace,
        observe: Observe,
        *,
        began: float,
        is_resumed: bool,
        keeps_replaced: bool = False,
    ) -> None:
        """`keeps_replaced`: a model whose name is taken over goes to the trash."""
        self._id, self._folder = run.id, run.folder
        self._request, self._workspace = request, workspace
        self._observe, self._began = observe, began
        self._is_resumed, self._keeps_replaced = is_resumed, keeps_replaced
        self._advice: list[str] = []
        self._journal, self._steering = Journal(run.folder), Steering(run.folder)

    def execute(self, stop: StopRequest) -> TrainResult:
        """Prepare, train, save. Raises: CllmError."""
        corpus = self._open_corpus()
        self._tell(Prepared(corpus))
        for advice in _advice_on(corpus):
            self._tell(Advised(advice))
        held_out = HeldOut(corpus) if corpus.val.num_tokens else None
        settings, spec, compute, facts = self._decide(corpus)
        prompt = settings.train.sample_prompt or choose_prompt(corpus)
        sampler = Sampler(corpus.tokenizer, prompt, settings.train.sample_tokens)
        lexicon = facts.lexicon
        weights = self._first_weights(spec, settings.train.seed, lexicon)
        budget = self._budget(settings, corpus, facts, spec)
        self._tell_plan(settings, spec, facts)
        learner = compute.learner(spec, weights, settings.train)
        del weights
        # From the budget of the first life, so that a resumed run begins alike.
        readings = expected_readings(settings, spec, facts, budget.train_s if budget else None)
        learner.begin_rows(first_squares(spec, settings.train, lambda: pieces(corpus), readings))
        around = self._surround(corpus, settings, held_out, sampler, compute, stop)
        weights, outcome = self._train(learner, around, corpus, settings, budget, stop)
        if settings.train.profile:
            self._tell(self._profile(around.profile, compute, learner, outcome))
        del learner
        spec, weights = fold(spec, weights, lexicon)
        reader = compute.reader(spec, weights)
        figures = self._figures(outcome, settings, spec, corpus)
        figures |= _final_score(held_out, reader, budget.scored_tokens if budget else None)
        self._save(spec, weights, corpus, settings, figures, prompt, lexicon)
        return self._report(sampler, compute.decoder(spec, weights), corpus, figures)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Advised):
            self._advice.append(event.message)
        if isinstance(event, Sampled):
            write_json(self._folder / "samples" / f"{event.step:08d}.json", asdict(event))
        if isinstance(event, Paused | Continued):
            state: RunState = "paused" if isinstance(event, Paused) else "training"
            self._workspace.runs.update(self._id, state=state)
        self._journal.note(event)
        self._observe(event)
        if isinstance(event, Preparing | Prepared) and self._is_in_vain():
            message = "stopped before the first step"
            raise InterruptedRunError(message, where=self._id, hint=_way_on(self._id))

    def _is_in_vain(self) -> bool:
        """Whether somebody wishes to stop where there is nothing to be kept."""
        has_state = any((self._folder / "checkpoints").glob("step-*"))
        return self._steering() == "stop" and not has_state

    def _open_corpus(self) -> Corpus:
        request, folder = self._request, self._folder / "corpus"
        tokenizer = None
        if request.from_model is not None:
            tokenizer = Tokenizer.load(self._workspace.models.path(request.from_model))
        if request.corpus is not None:
            corpus = Corpus.open(self._workspace.corpora.path(request.corpus))
            if tokenizer is not None and not _same(tokenizer, corpus.tokenizer):
                raise SettingsError(
                    f"the corpus {request.corpus!r} has another vocabulary than the model",
                    where="--from",
                    hint="Give the files themselves instead of the corpus.",
                )
            return corpus
        if folder.exists():
            return Corpus.open(folder)
        if self._is_resumed and "-" in request.places:
            hint = "Nothing was trained yet: start anew with `cllm train`."
            raise InputError("standard input can't be read a second time", hint=hint)
        return prepare(
            request.places,
            request.settings.text,
            folder,
            tokenizer=tokenizer,
            progress=lambda stage, done, total: self._tell(Preparing(stage, done, total)),
        )

    def plan(self) -> Plan:
        """What `execute` would train, without training it. Raises: CllmError."""
        corpus = self._open_corpus()
        self._tell(Prepared(corpus))
        settings, spec, _, facts = self._decide(corpus)
        return describe(settings, spec, facts)

    def _decide(self, corpus: Corpus) -> tuple[Settings, ModelSpec, Compute, Facts]:
        """The decisions of the run's first life, or those made now."""
        path, source = self._folder / "settings.json", self._request.from_model
        settings = self._request.settings
        if path.exists():
            settings = Settings.model_validate(read_json(path))
        elif source is not None:
            shape = read_spec(self._workspace.models.path(source))
            kept = {
                name: getattr(shape, name)
                for name in ModelSettings.model_fields
                if name not in ("preset", "mechanisms")
            }
            kept["mechanisms"] = (*items_of(shape.mechanisms), *(settings.model.mechanisms or ()))
            model = settings.model.model_copy(update=kept)
            settings = settings.model_copy(update={"model": model})
        mechanisms = choose(settings.model.mechanisms)
        lexicon = self._lexicon(corpus, mechanisms)
        compute, advice = choose_compute(self._workspace.home, settings.train, mechanisms, lexicon)
        if advice is not None:
            self._tell(Advised(advice))
        train, minutes = settings.train, settings.train.minutes
        is_timed = train.steps is None and minutes is not None
        spent_s = time.monotonic() - self._began
        facts = Facts(
            vocab_size=corpus.tokenizer.vocab_size,
            train_tokens=corpus.train.num_tokens,
            train_bytes=corpus.train.num_bytes,
            engine=compute.kind,
            precision=compute.precision,
            flops_per_s=compute.flops_per_s,
            train_s=available_s(minutes * 60, spent_s) if is_timed and minutes else None,
            eos_id=corpus.tokenizer.eos_id,
            lexicon=lexicon,
        )
        settings, spec = decide(settings, facts)
        write_json(path, settings.model_dump(mode="json"))
        return settings, spec, compute, facts

    def _lexicon(self, corpus: Corpus, mechanisms: Sequence[Mechanism]) -> Lexicon | None:
        """What mechanisms must know of the vocabulary: as the first life found it."""
        if not needs_of(mechanisms):
            return None
        source = self._request.from_model
        if source is not None:
            folder = self._workspace.models.path(source)
            lexicon = load_lexicon(folder, read_spec(folder))
            if lexicon is not None:
                return lexicon
        if not (self._folder / LEXICON).exists():
            write_lexicon(self._folder, corpus, mechanisms)
        return Lexicon.load(self._folder, corpus.tokenizer.vocab_size)

    def _budget(
        self, settings: Settings, corpus: Corpus, facts: Facts, spec: ModelSpec
    ) -> Budget | None:
        """The time of a timed run, as decided in its first life."""
        if settings.train.steps is not None or settings.train.minutes is None:
            return None
        path = self._folder / "budget.json"
        if not path.exists():
            budget = plan_budget(
                settings.train.minutes * 60,
                time.monotonic() - self._began,
                val_tokens=corpus.val.num_tokens,
                counted_tokens=num_counted(corpus, spec),
                spec=spec,
                flops_per_s=facts.flops_per_s,
            )
            write_json(path, asdict(budget))
        return Budget(**read_json(path))

    def _tell_plan(self, settings: Settings, spec: ModelSpec, facts: Facts) -> None:
        last = Checkpoints(self._folder / "checkpoints").load_last()
        resumed_step = (last[1].step if last else 0) if self._is_resumed else None
        plan = describe(settings, spec, facts)
        self._tell(Planned(plan, self._id, self._request.model, resumed_step))
        self._workspace.runs.update(self._id, state="training")

    def _surround(
        self,
        corpus: Corpus,
        settings: Settings,
        held_out: HeldOut | None,
        sampler: Sampler,
        compute: Compute,
        stop: StopRequest,
    ) -> Surroundings:
        train = settings.train
        checkpoints = Checkpoints(self._folder / "checkpoints")
        last = checkpoints.load_last()
        metrics = MetricsLog(
            self._folder / "metrics.jsonl",
            after_step=last[1].step if last else 0,
            tensorboard=train.tensorboard,
        )
        return Surroundings(
            checkpoints=checkpoints,
            metrics=metrics,
            observe=self._tell,
            validate=partial(held_out.score, max_tokens=train.eval_tokens) if held_out else None,
            sample=(lambda learner: sampler(compute.decoder(learner.spec, learner.weights())))
            if train.sample_tokens
            else None,
            prompt=sampler.prompt,
            stop_requested=stop,
            bytes_per_token=corpus.train.num_bytes / max(corpus.train.num_tokens, 1),
            wish=self._steering,
        )

    def _train(
        self,
        learner: Learner,
        around: Surroundings,
        corpus: Corpus,
        settings: Settings,
        budget: Budget | None,
        stop: StopRequest,
    ) -> tuple[Weights, Outcome]:
        """Run the loop to its end; returns the weights of the best validation."""
        train, spec = settings.train, learner.spec
        last = around.checkpoints.load_last()
        schedule: Schedule = StepSchedule(train.steps or 0, last[1].elapsed_s if last else 0.0)
        if budget is not None:
            schedule = TimedSchedule(budget.train_s, self._folder / "timeline.bin")
        batches = Batches(corpus.tokens("train"), context=spec.context, seed=train.seed)
        trainer = Trainer(learner, batches, train, schedule, around)
        if last is not None:
            trainer.restore(*last)
        stop.graceful = True
        try:
            outcome = trainer.run()
        finally:
            stop.graceful = False
            around.metrics.close()
            schedule.close()
        if outcome.state == "interrupted":
            raise InterruptedRunError(
                f"stopped after step {outcome.progress.step:,}; everything up to there is saved",
                where=self._id,
                hint=_way_on(self._id),
            )
        return _best_weights(learner, around.checkpoints, outcome), outcome

    def _profile(
        self, profile: Profile, compute: Compute, learner: Learner, outcome: Outcome
    ) -> Profiled:
        """What the loop's time went into, and what share of the peak the steps reached."""
        trace = self._folder / "trace.json"
        profile.write_trace(trace)
        step_s, peak = profile.seconds["step"], compute.peak_flops_per_s()
        profile.split("step", compute.phases(learner))
        # Attention is left out: its windows change in a run.
        per_token = step_flops_per_token(replace(learner.spec, context=0))
        work = per_token * learner.context * outcome.num_windows
        ordered = sorted(profile.seconds.items(), key=lambda row: -row[1])
        return Profiled(
            seconds=dict(ordered),
            peak_share=work / step_s / peak if peak and step_s else None,
            peak_flops_per_s=peak,
            trace=trace,
        )

    def _first_weights(self, spec: ModelSpec, seed: int, lexicon: Lexicon | None) -> Weights:
        if self._request.from_model is not None:
            folder = self._workspace.models.path(self._request.from_model)
            return load_float_weights(folder)[1]
        return initial_weights(spec, seed, lexicon)

    def _figures(
        self, outcome: Outcome, settings: Settings, spec: ModelSpec, corpus: Corpus
    ) -> dict[str, Any]:
        train, progress = settings.train, outcome.progress
        per_step = (train.batch_size or 1) * train.accumulate * spec.context
        first = outcome.first_step_at
        return {
            "model": self._request.model,
            "run": self._id,
            "state": outcome.state,
            "steps": progress.step,
            "best_step": progress.best_step,
            "tokens": progress.step * per_step,
            "tokens_per_s": outcome.num_steps * per_step / max(outcome.stepping_s, 1e-9),
            "num_parameters": spec.num_parameters,
            "vocab_size": corpus.tokenizer.vocab_size,
            "seconds_to_first_step": None if first is None else first - self._began,
            "seconds_training": progress.elapsed_s,
            "val_bytes": corpus.val.num_bytes,
        }

    def _save(
        self,
        spec: ModelSpec,
        weights: Weights,
        corpus: Corpus,
        settings: Settings,
        figures: dict[str, Any],
        prompt: str,
        lexicon: Lexicon | None,
    ) -> None:
        """Write the model's folder; its time belongs to `seconds_total`."""
        request = self._request
        training = {
            "version": 1,
            "model": request.model,
            "run": self._id,
            "corpus": str(corpus.folder),
            "corpus_sha256": corpus.sha256,
            "from_model": request.from_model,
            "sources": [Path(place).name for place in request.places] or [request.corpus or ""],
            "train_bytes": corpus.train.num_bytes,
            "settings": settings.model_dump(mode="json"),
            "dialogue": corpus.dialogue.to_json() if corpus.dialogue else None,
            "sample_prompt": prompt,
            "figures": figures | {"seconds_total": time.monotonic() - self._began},
        }
        is_ours = self._is_saved_already()
        keep = self._keep_replaced if self._keeps_replaced and not is_ours else None
        with self._workspace.models.write(
            request.model, overwrite=request.overwrite or is_ours, on_replaced=keep
        ) as folder:
            write_model(folder, spec, weights, corpus, training, lexicon)
            write_drafts(corpus, spec, folder)
            # A plain run does without the code of roots.
            if lexicon is not None or request.from_model is not None:
                copy_roots(self._roots_folders(), folder, spec.vocab_size)
        figures["seconds_total"] = time.monotonic() - self._began

    def _roots_folders(self) -> list[Path]:
        """Where the roots may lie that this model is made with, or goes on with."""
        source = self._request.from_model
        return [self._folder, *([self._workspace.models.path(source)] if source else [])]

    def _keep_replaced(self, folder: Path) -> None:
        self._workspace.trash.put("model", self._request.model, folder)

    def _is_saved_already(self) -> bool:
        """Whether an earlier life of this run has saved the model and was killed after that."""
        store, name = self._workspace.models, self._request.model
        return store.exists(name) and read_training(store.path(name)).get("run") == self._id

    def _report(
        self, sampler: Sampler, decoder: Decoder, corpus: Corpus, figures: dict[str, Any]
    ) -> TrainResult:
        """Plot, sample and compare with the training text; tell how it went."""
        history = thin(_history(self._folder, corpus))
        plot = self._folder / "loss.png"
        plot_loss(plot, history, title=f"{self._request.model}: loss")
        before = self._folder / "samples" / f"{0:08d}.json"
        text = sampler(decoder)
        result = TrainResult(
            **figures,
            peak_rss_bytes=peak_rss_bytes(),
            prompt=sampler.prompt,
            first_sample=read_json(before)["text"] if before.exists() else "",
            last_sample=text,
            copying=measure_copying(text, corpus).to_json(),
            plot=str(plot),
            advice=list(self._advice),
            history=history,
        )
        write_json(self._folder / "result.json", result.to_json())
        self._tell(Finished(result))
        return result


def _way_on(run: str) -> str:
    return f"Go on with: cllm runs resume {run}"


def _same(one: Tokenizer, other: Tokenizer) -> bool:
    return bool(one.backend.to_str() == other.backend.to_str())


def _advice_on(corpus: Corpus) -> list[str]:
    info = corpus.train
    advice = [
        advise_on_text(info.num_bytes + corpus.val.num_bytes),
        advise_on_tokens(info.num_characters, info.num_tokens, corpus.tokenizer.kind),
    ]
    return [message for message in advice if message is not None]


def _best_weights(learner: Learner, checkpoints: Checkpoints, outcome: Outcome) -> Weights:
    if outcome.progress.best_step in (None, outcome.progress.step):
        return learner.weights()
    best = checkpoints.load_best()
    assert best is not None, "the best validation was saved when it happened"
    return {name.removeprefix("weight."): value for name, value in best[0].items()}


def _final_score(
    held_out: HeldOut | None, reader: Scorer, scored_tokens: int | None
) -> dict[str, Any]:
    if held_out is None:
        return {"val_bits_per_byte": None, "val_nats_per_token": None, "val_tokens": 0}
    score, bpb = held_out.score(reader, scored_tokens)
    nats = score.nats_per_token
    return {
        "val_bits_per_byte": bpb if math.isfinite(bpb) else None,
        "val_nats_per_token": nats if math.isfinite(nats) else None,
        "val_tokens": score.num_tokens,
    }


def _history(folder: Path, corpus: Corpus) -> list[tuple[int, float | None, float | None]]:
    scale = corpus.train.num_tokens / max(corpus.train.num_bytes, 1) / math.log(2)
    rows: list[tuple[int, float | None, float | None]] = []
    for row in read_metrics(folder / "metrics.jsonl"):
        if "train_nats" in row:
            rows.append((row["step"], row["train_nats"] * scale, None))
        else:
            rows.append((row["step"], None, row["val_bits_per_byte"]))
    return rows
