"""A version's model card: what it is, how it is prompted, what it learned from, and how good it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_backend.registry import Version, VersionRecord

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_ALGORITHMS = {"ppo": "PPO", "rloo": "RLOO", "reinforce": "REINFORCE", "dpo": "DPO"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card is made of.

    version: as registered, with its metrics.
    record: how it reads and samples.
    chat, dated: whether it is prompted through its chat template, and whether that was given a fixed date.
    reports: the reports of `reward` and `ppo` training; empty for a base model.
    counts: what became of the annotations it learned from.
    opinions: what people's judgements say of the line's people and versions, as far as there is any.
    """

    version: Version
    record: VersionRecord
    chat: bool
    dated: bool
    reports: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    opinions: Mapping[str, Any] = field(default_factory=dict)


def model_card(facts: Facts) -> str:
    """The card as Markdown, with the metadata that the Hugging Face hub reads at its top."""
    parts = [
        _metadata(facts),
        f"# {facts.version.name}",
        _what_it_is(facts),
        "## Use",
        _use(facts),
        "## What it learned from",
        _bullets(_data(facts)),
        "## How good it is",
        _bullets(_quality(facts)),
        "## Limits",
        _bullets(_limits(facts)),
        "## License",
        "Not stated. It follows from the license of the base model and from the terms under which prompts and "
        "judgements were collected: settle both before you pass this model on, and put the result into this card.",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(facts: Facts) -> str:
    lines = ["library_name: transformers", "pipeline_tag: text-generation", "license: unknown"]
    hub_name = _hub_name(facts.record.base_model)
    if hub_name:
        lines.append(f"base_model: {hub_name}")
    tags = ["rankloop", *(["rlhf"] if _is_trained(facts) else [])]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _what_it_is(facts: Facts) -> str:
    base = _hub_name(facts.record.base_model)
    named = (
        f"[{base}](https://huggingface.co/{base})" if base else f"`{Path(facts.record.base_model).name or 'unknown'}`"
    )
    if not _is_trained(facts):
        return f"{named} as rankloop registered it: the first version of its line, not trained on any judgement."
    algorithm = _ALGORITHMS.get(_report(facts, "ppo").get("algorithm", "ppo"), "reinforcement learning")
    parent = f" It started from the version `{facts.version.parent}`." if facts.version.parent else ""
    digest = f"\n\nWeights of the base: `{facts.record.base}`." if facts.record.base.startswith("sha256:") else ""
    return (
        f"{named}, fine-tuned with {algorithm} against a reward model that learned from people's judgements of "
        f"pairs of answers, collected in Label Studio with rankloop.{parent}{digest}"
    )


def _use(facts: Facts) -> str:
    if facts.chat:
        system = facts.record.text.system_prompt
        told = [f'    {{"role": "system", "content": {system!r}}},'] if system else []
        prompt = [
            "messages = [",
            *told,
            '    {"role": "user", "content": "What is tea?"},',
            "]",
            "text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)",
            'inputs = tokenizer(text, add_special_tokens=False, return_token_type_ids=False, return_tensors="pt")',
        ]
    else:
        separator = facts.record.text.separator.rstrip(" ")
        prompt = [
            f'text = "What is tea?" + {separator!r}',
            'inputs = tokenizer(text, return_token_type_ids=False, return_tensors="pt")',
        ]
    code = [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'folder = "."  # this folder, or the name on the hub',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        "model = AutoModelForCausalLM.from_pretrained(folder)",
        *prompt,
        "answer = model.generate(**inputs)[0, inputs['input_ids'].shape[1] :]",
        "print(tokenizer.decode(answer, skip_special_tokens=True).strip())",
    ]
    return "\n".join(["```python", *code, "```", "", _how_it_reads(facts)])


def _how_it_reads(facts: Facts) -> str:
    sampling = facts.record.sampling
    cut = [f"top-k {sampling.top_k}"] if sampling.top_k else []
    cut += [f"top-p {sampling.top_p:g}"] if sampling.top_p < 1.0 else []
    how = " ".join([f"temperature {sampling.temperature:g}", *(f"and {each}" for each in cut)])
    if facts.chat:
        reads = "It is prompted through its chat template"
        reads += ", which tells the same date every day." if facts.dated else "."
        if facts.record.text.system_prompt:
            reads += " It was trained with the system message above."
    else:
        reads = f"A prompt is followed by {facts.record.text.separator!r}, then by the answer."
    return (
        f"{reads} Answers are sampled with {how}, at most {sampling.max_new_tokens} tokens long, as they were in "
        "training: `generation_config.json` says so, and which tokens end an answer."
    )


def _data(facts: Facts) -> Iterator[str]:
    figures = facts.version.metrics
    if not _is_trained(facts):
        yield "No judgements."
        return
    if "annotations" in figures:
        yield f"Annotations: {figures['annotations']:.0f}, of which {figures.get('judgements', 0):.0f} are judgements."
    if "preferences" in figures:
        yield f"Preferences, each all votes on one pair of answers: {figures['preferences']:.0f}."
    reward = _report(facts, "reward")
    if reward.get("prompts"):
        people = f", judged by {_counted(reward['annotators'], 'person', 'people')}" if reward.get("annotators") else ""
        yield f"Prompts with such pairs: {reward['prompts']}{people}."
    if "demonstrations" in facts.counts:
        yield f"Answers that people rewrote: {facts.counts['demonstrations']}."
    yield from _agreement(facts)


def _agreement(facts: Facts) -> Iterator[str]:
    people = facts.opinions.get("people") or {}
    if people.get("pairwise") is not None:
        words = f"Two people agree on {people['pairwise']:.0%} of the pairs that both judged"
        yield f"{words}{_interval(people.get('pairwise_interval'))}."
        if people.get("alpha") is not None:
            yield f"Krippendorff's alpha: {people['alpha']:.2f}{_interval(people.get('alpha_interval'), '.2f')}."
        return
    agreement = _report(facts, "reward").get("agreement")
    if agreement is None:
        yield "How far people agree is unknown: no pair was judged by two."
    else:
        yield f"Two people choose the same answer on {agreement:.0%} of pairs."


def _quality(facts: Facts) -> Iterator[str]:
    figures = facts.version.metrics
    if not _is_trained(facts):
        yield "As good as the base model."
        return
    if "reward_accuracy" in figures:
        interval = _interval([figures.get("reward_accuracy_low"), figures.get("reward_accuracy_high")])
        accuracy = f"{figures['reward_accuracy']:.0%} of pairs it didn't learn from"
        yield f"The reward model ranks {accuracy} correctly{interval}."
    if "win_rate_vs_base" in figures:
        interval = _interval([figures.get("win_rate_low"), figures.get("win_rate_high")])
        prompts = _report(facts, "ppo").get("evaluated_prompts")
        where = f" to {prompts} held-out prompts" if prompts else ""
        yield (
            f"The reward model prefers its answers{where} to the base model's {figures['win_rate_vs_base']:.0%} of the "
            f"time{interval}. That is the reward model's opinion, not people's."
        )
    if "kl_nats" in figures:
        yield f"KL divergence from the model that training started from: {figures['kl_nats']:.2f} nats per answer."
    if "answer_tokens" in figures and "base_answer_tokens" in figures:
        lengths = f"{figures['answer_tokens']:.0f} tokens, the base's {figures['base_answer_tokens']:.0f}"
        yield f"Its answers have on average {lengths}."
    if _report(facts, "ppo").get("verdict"):
        yield str(_report(facts, "ppo")["verdict"])
    yield from _by_people(facts)


def _by_people(facts: Facts) -> Iterator[str]:
    """What people's blind comparisons of versions say of this one."""
    name = facts.version.name
    contest = facts.opinions.get("contest") or {}
    rows = (facts.opinions.get("leaderboard") or {}).get("versions") or []
    row = next((row for row in rows if row.get("version") == name and row.get("strength") is not None), None)
    compared = name in (contest.get("champion"), contest.get("challenger")) and contest.get("share") is not None
    if compared:
        rival = contest["champion"] if name == contest.get("challenger") else contest["challenger"]
        share, interval = contest["share"], contest.get("interval")
        if name == contest.get("champion"):
            share, interval = 1 - share, [1 - end for end in reversed(interval)] if interval else None
        yield (
            f"People prefer its answers to those of `{rival}` {share:.0%} of the time{_interval(interval)}, over "
            f"{contest.get('pairs', 0)} pairs."
        )
    if row is not None:
        interval = _interval(row.get("interval"), ".2f")
        yield (
            f"By all comparisons of the line's versions, its strength over the base is {row['strength']:+.2f} in "
            f"log-odds{interval}, from {row.get('pairs', 0)} pairs."
        )
    if row is None and not compared:
        yield "People haven't compared its answers with another version's."


def _limits(facts: Facts) -> Iterator[str]:
    text = facts.record.text
    reads = f"In rankloop it reads prompts of at most {text.max_prompt_tokens} tokens: longer ones lose their beginning"
    yield f"{reads}, which `generate` doesn't do."
    if _is_trained(facts):
        yield "It follows the taste of the people who judged, on prompts like theirs. Elsewhere nothing is known."
        yield "Its figures are of held-out prompts from the same source, and say nothing of safety, truth or bias."
        if facts.version.metrics.get("reward_accuracy_low", 1.0) <= 0.5:
            yield "The reward model's interval includes chance: it may have learned nothing."
    else:
        yield "All limits of the base model."


def _is_trained(facts: Facts) -> bool:
    return facts.version.tags.get("kind") != "base"


def _report(facts: Facts, stage: str) -> Mapping[str, Any]:
    return facts.reports.get(stage) or {}


def _hub_name(base_model: str) -> str | None:
    """The base's name on the hub; None for a folder or a file, whose path is nobody else's business."""
    if not _HUB_NAME.fullmatch(base_model) or base_model.lower().endswith(".gguf") or Path(base_model).exists():
        return None
    return base_model


def _interval(ends: Any, form: str = ".0%") -> str:
    """An interval at 95%, in words; nothing if an end of it is unknown."""
    if not ends or len(ends) != 2 or any(end is None for end in ends):
        return ""
    return f" (95% interval {ends[0]:{form}} to {ends[1]:{form}})"


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _bullets(sentences: Iterator[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
