"""Replay how senders send against the rules of completeness, with a clock of its own.

For every pattern, over many seeds: seconds from the last instance to "whole", and how often a rule said so too early.
The node's own `assess` is asked for a new sender ("cold"), for a new one with `new_senders = "settle"`, and for one
that it has learned; beside it stand pure silence and the release of the association. Exit status 1 if the node's rule
breaks its promise: at most 3 s where there is evidence, never too early where evidence contradicts, and never too early
with a known sender, but in two patterns that nothing can tell beforehand.
"""

import argparse
import json
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from patterns import PATTERNS, Pattern
from rich.console import Console
from rich.table import Table
from sending import SENDER, SERIES, Sending

from node.domain.counts import ask_archive_at
from node.domain.evidence import ArchiveAnswer
from node.domain.habits import Habits, Lesson, habits_of, lessons_of
from node.domain.patience import AT_ONCE_S
from node.domain.series import Complete, CompletionPolicy, Growing, SeriesFacts, Stalled, assess

WITHIN_S = 3.0
# Series that a known sender sent before.
LEARNED_FROM = 6
COLD = CompletionPolicy()
SETTLE = CompletionPolicy(new_senders="settle")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a rule said of one sending."""

    # From the last instance to the verdict on it; None: it was never called whole.
    seconds: float | None
    # Whether it was called whole before it was, and what spoke against that.
    early: bool = False
    against: str = ""


Rule = Callable[[Sending], Run]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a rule said of all sendings of one pattern."""

    pattern: str
    rule: str
    runs: int
    early: int
    # Too early though evidence contradicted.
    against_evidence: int
    never: int
    median_s: float | None
    longest_s: float | None
    holds: bool


# Others' rules


def silence(longest_s: float) -> Rule:
    """Call a series whole after so many seconds without an instance."""

    def rule(sending: Sending) -> Run:
        times = sorted(at for at, _, _ in sending.arrivals)
        early = any(after - before > longest_s for before, after in pairwise(times))
        return Run(seconds=longest_s, early=early or not sending.becomes_whole)

    return rule


def release(sending: Sending) -> Run:
    """Call a series whole when every association that sent to it has ended, however."""
    ends = sorted(one.ended_at for one in sending.associations.values())
    early = any(
        end < sending.end_at and all(one.ending != "open" for one in sending.associations_at(end)) for end in ends
    )
    return Run(seconds=ends[-1] - sending.end_at, early=early or not sending.becomes_whole)


# Ours


def ours(policy: CompletionPolicy, habits: Mapping[str, Habits]) -> Rule:
    """Judge by `assess`, looked at whenever something changes and whenever it asks to be looked at again."""

    def rule(sending: Sending) -> Run:
        early, against, seconds = False, "", None
        for verdict, at in verdicts(sending, policy, habits):
            if isinstance(verdict, Stalled):
                continue
            if at < sending.end_at or not sending.becomes_whole:
                early = True
                last = max(one.received_at for one in sending.instances_at(at))
                if at - last < policy.quiet_period_s:
                    against = against or sending.speaks_against(at, policy.quiet_period_s)
            else:
                seconds = at - sending.end_at
        return Run(seconds=seconds, early=early, against=against)

    return rule


def verdicts(
    sending: Sending, policy: CompletionPolicy, habits: Mapping[str, Habits]
) -> Iterable[tuple[Complete | Stalled, float]]:
    """Give every verdict but `Growing`, with its time; an instance that arrives after one opens the series again."""
    arrivals = {at for at, _, _ in sending.arrivals}
    events = sending.events()
    archive: ArchiveAnswer | None = None
    settled = False
    for at, following in zip(events, [*events[1:], float("inf")], strict=True):
        settled = settled and at not in arrivals
        now = at
        # Nothing single-framed is decided sooner than `AT_ONCE_S` after an instance: sooner looks can be spared.
        while not settled and now < following and (following - at >= AT_ONCE_S or following not in arrivals):
            facts = facts_at(sending, now, habits, archive)
            ask_at = ask_archive_at(facts, policy)
            if ask_at is not None and ask_at <= now:
                archive = sending.archive_at(now)
                facts = facts_at(sending, now, habits, archive)
            verdict = assess(facts, now, policy)
            if isinstance(verdict, Growing):
                again = ask_archive_at(facts, policy)
                now = min(verdict.look_again_at, again if again is not None and again > now else float("inf"))
            else:
                settled = True
                yield verdict, now


def facts_at(sending: Sending, now: float, habits: Mapping[str, Habits], archive: ArchiveAnswer | None) -> SeriesFacts:
    """Give what the node would know then."""
    return SeriesFacts(
        series_instance_uid=SERIES,
        instances=sending.instances_at(now),
        associations=sending.associations_at(now),
        habits=habits,
        asks_archive=sending.archive_count is not None,
        archive=archive,
    )


def learned(pattern: Pattern, seed: int) -> dict[str, Habits]:
    """Let the node learn from earlier series of the same sender."""
    lessons: list[Lesson] = []
    for number in range(LEARNED_FROM):
        earlier = (pattern.learned_from or pattern.write)(random.Random(f"{pattern.name} {seed} {number}"))
        at = earlier.last_event_at
        lessons += lessons_of(f"{SERIES}.{number}", earlier.instances_at(at), earlier.associations_at(at), at)
    return {SENDER: habits_of(lessons)} if lessons else {}


# The table


def replay(pattern: Pattern, seeds: int) -> list[Row]:
    """Run every rule on the same sendings of one pattern."""
    runs: dict[str, list[Run]] = {}
    for seed in range(seeds):
        rules: dict[str, Rule] = {
            "silence 60 s": silence(60.0),
            "silence 5 s": silence(5.0),
            "release": release,
            "cold": ours(COLD, {}),
            "settle": ours(SETTLE, {}),
            "learned": ours(COLD, learned(pattern, seed)),
        }
        sending = pattern.write(random.Random(f"{pattern.name} {seed}"))
        for name, rule in rules.items():
            runs.setdefault(name, []).append(rule(sending))
    return [_row(pattern, name, done) for name, done in runs.items()]


def _row(pattern: Pattern, rule: str, runs: Sequence[Run]) -> Row:
    seconds = [run.seconds for run in runs if run.seconds is not None]
    early = sum(run.early for run in runs)
    against = sum(bool(run.against) for run in runs)
    holds = rule not in ("cold", "settle", "learned") or (
        against == 0
        and not (rule == "learned" and pattern.knowable and early)
        # To a microsecond: times are seconds since the epoch.
        and not (rule in pattern.quick and (len(seconds) < len(runs) or max(seconds) > WITHIN_S + 1e-6))
    )
    return Row(
        pattern=pattern.name,
        rule=rule,
        runs=len(runs),
        early=early,
        against_evidence=against,
        never=len(runs) - len(seconds),
        median_s=round(statistics.median(seconds), 3) if seconds else None,
        longest_s=round(max(seconds), 3) if seconds else None,
        holds=holds,
    )


def table(rows: Sequence[Row]) -> Table:
    """Draw a line for each pattern, a column for each rule."""
    rules = list(dict.fromkeys(row.rule for row in rows))
    drawn = Table(title="Seconds from the last instance to “whole” (median); how often too early", title_justify="left")
    drawn.add_column("how it is sent")
    for rule in rules:
        drawn.add_column(f"ours, {rule}" if rule in ("cold", "settle", "learned") else rule, justify="right")
    for pattern in dict.fromkeys(row.pattern for row in rows):
        drawn.add_row(pattern, *(_cell(row) for row in rows if row.pattern == pattern))
    return drawn


def _cell(row: Row) -> str:
    seconds = "never" if row.median_s is None else f"{row.median_s:.1f}"
    early = f"[red]early {100 * row.early / row.runs:.0f} %[/]" if row.early else ""
    broken = "" if row.holds else " [bold red](promise broken)[/]"
    return (f"{early}, {seconds}" if early else seconds) + broken


def summary(rows: Sequence[Row]) -> str:
    """Say how often each rule was too early, and ours against the evidence."""
    parts = []
    for rule in dict.fromkeys(row.rule for row in rows):
        own = [row for row in rows if row.rule == rule]
        parts.append(f"{rule} {sum(row.early for row in own)}")
    against = sum(row.against_evidence for row in rows)
    runs = sum(row.runs for row in rows if row.rule == "cold")
    return f"Too early in {runs} sendings: {', '.join(parts)}; ours against the evidence: {against}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="sendings of each pattern (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    chosen = parser.parse_args(arguments)
    rows = [row for pattern in PATTERNS for row in replay(pattern, chosen.seeds)]
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(table(rows))
    console.print(summary(rows), highlight=False)
    if chosen.json is not None:
        written: list[dict[str, Any]] = [asdict(row) for row in rows]
        chosen.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
