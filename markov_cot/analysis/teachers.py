"""How well teachers' responses suit a student, by every metric; which teacher is best, and how sure that is.

With r a teacher's mean reward, L_i the student's mean loss (nats per token) on its i-th response after the question,
L'_i that on the response alone, k_i the mean rank of its tokens, and means over the responses:

    loss L    = mean_i L_i
    CAR       = r / (1 + beta L)                      (arXiv 2411.07133)
    PPL-Self  = mean_i exp(L_i)
    IFD       = mean_i L_i / L'_i                     (Cherry LLM, arXiv 2308.12032: a ratio of losses)
              | mean_i exp(L_i - L'_i)                (Superfiltering, arXiv 2402.00530: a ratio of perplexities)
    RSR       = mean_i k_i / mean_i L_i               (arXiv 2601.14249)

All are ratios of sums over the responses, so that resampling questions is resampling sums.

Shapes: T teachers, U questions that all of them answer, C sums, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from markov_cot.analysis.resampling import Sampling
from markov_cot.analysis.teacher_scores import ScoredRow
from markov_cot.utils.errors import UserError

SUMS = ("responses", "reward", "loss", "ppl", "rank", "length", "with_ifd", "ifd_loss", "ifd_ppl", "above_1", "cut")
REWARD, LOSS, CAR = "reward", "loss", "car"
METRICS = (REWARD, LOSS, CAR, "ppl_self", "ifd_loss", "ifd_ppl", "rsr", "length")
_EQUAL = 1e-12
"""Relative difference of CARs that are the same but for rounding."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with its percentile interval over questions; NaN or infinite where it is not defined."""

    value: float
    low: float | None
    high: float | None
    """None for one question."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A teacher's place among the others."""

    rank: int
    """1 + the number of teachers with a larger CAR."""
    rank_low: int | None
    rank_high: int | None
    """Its percentile interval over questions; None for one question."""
    best: float | None
    """The share of the resamples in which its CAR is the largest; equals share it."""
    behind: Measure
    """CAR of the first less its own, on the same questions."""


@dataclass(frozen=True, slots=True)
class TeacherResult:
    """What was found of one teacher."""

    responses: int
    metrics: Mapping[str, Measure]
    standing: Standing | None
    """None for the only teacher."""
    above_1: int
    """Responses that the question makes no more probable (IFD of 1 or more, by either definition)."""
    without_ifd: int
    """Responses of too few tokens for an IFD."""
    cut: int
    """Responses of which the end did not fit."""
    negative: int
    """Rewards below 0."""


@dataclass(frozen=True, slots=True)
class BetaRange:
    """Values of beta between which the ranking stays the same."""

    low: float
    high: float | None
    """None for no end."""
    ranking: tuple[tuple[str, ...], ...]
    """The best first; teachers with equal CARs together."""


@dataclass(frozen=True)
class Comparison:
    """What was found of all teachers."""

    questions: int
    beta: float
    teachers: Mapping[str, TeacherResult]
    """By CAR, the best first."""
    ranges: Sequence[BetaRange]
    """Of beta, from 0 on; empty for one teacher."""


def sums_of(scores: Iterable[ScoredRow], question_N: np.ndarray, reward_N: np.ndarray, questions: int) -> np.ndarray:
    """Return a teacher's sums by question [U, C] of its responses, given each one's question and reward [N]."""
    rows = list(scores)
    nll, tokens, rank, length = (
        np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in ("nll", "tokens", "rank", "length")
    )
    alone_nll, alone_tokens = (
        np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in ("alone_nll", "alone_tokens")
    )
    loss = nll / tokens
    has_ifd = (alone_tokens > 0) & (alone_nll > 0)
    alone = np.divide(alone_nll, alone_tokens, out=np.ones_like(loss), where=has_ifd)
    with np.errstate(over="ignore"):
        columns = (
            np.ones_like(loss),
            reward_N,
            loss,
            np.exp(loss),
            rank / tokens,
            length,
            has_ifd,
            has_ifd * loss / alone,
            np.where(has_ifd, np.exp(loss - alone), 0),
            has_ifd & (loss >= alone),
            length > tokens,
        )
    sums_UC = np.zeros((questions, len(SUMS)))
    np.add.at(sums_UC, question_N, np.stack(columns, 1))
    return sums_UC


def measure(sums: np.ndarray, beta: float) -> dict[str, np.ndarray]:
    """Return every metric of sums [..., C]."""
    total = dict(zip(SUMS, np.moveaxis(sums, -1, 0), strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        n, with_ifd = total["responses"], total["with_ifd"]
        reward, loss = total["reward"] / n, total["loss"] / n
        return {
            REWARD: reward,
            LOSS: loss,
            CAR: reward / (1 + beta * loss),
            "ppl_self": total["ppl"] / n,
            "ifd_loss": total["ifd_loss"] / with_ifd,
            "ifd_ppl": total["ifd_ppl"] / with_ifd,
            "rsr": total["rank"] / total["loss"],
            "length": total["length"] / n,
        }


def compare(
    names: Sequence[str], sums_TUC: np.ndarray, negative: Sequence[int], beta: float, sampling: Sampling
) -> Comparison:
    """Return metrics with intervals, ranking and its sensitivity to beta.

    `negative` counts each teacher's rewards below 0. Raises `UserError` for a mean reward below 0.
    """
    totals_TC = sums_TUC.sum(1)
    values = measure(totals_TC, beta)
    check_rewards(names, values[REWARD])
    drawn = _resampled(sums_TUC, beta, sampling)
    standings = _standings(values[CAR], drawn[CAR] if drawn else None, sampling) if len(names) > 1 else [None]
    results = {}
    for t in sorted(range(len(names)), key=lambda t: (-values[CAR][t], names[t])):
        total = dict(zip(SUMS, totals_TC[t], strict=True))
        results[names[t]] = TeacherResult(
            responses=int(total["responses"]),
            metrics={
                metric: _measured(float(values[metric][t]), drawn[metric][:, t] if drawn else None, sampling)
                for metric in METRICS
            },
            standing=standings[t],
            above_1=int(total["above_1"]),
            without_ifd=int(total["responses"] - total["with_ifd"]),
            cut=int(total["cut"]),
            negative=negative[t],
        )
    ranges = beta_ranges(names, values[REWARD], values[LOSS]) if len(names) > 1 else []
    return Comparison(sums_TUC.shape[1], beta, results, ranges)


def check_rewards(names: Sequence[str], reward_T: np.ndarray) -> None:
    """Raise `UserError` for a mean reward below 0, of which CAR makes the opposite of what it is for."""
    for name, reward in zip(names, reward_T, strict=True):
        if reward < 0:
            raise UserError(
                f"teacher {name}: its mean reward is {reward:.4g}, and below 0 a higher loss raises CAR = r / (1 + "
                "beta L); map the rewards to positive ones, as by a logistic function, or pass --reward verified"
            )


def beta_ranges(names: Sequence[str], reward_T: np.ndarray, loss_T: np.ndarray) -> list[BetaRange]:
    """Return the ranges of beta >= 0 in which the ranking by CAR is the same, which are exact.

    r_i / (1 + beta L_i) = r_j / (1 + beta L_j) at beta = (r_j - r_i) / (r_i L_j - r_j L_i), and nowhere else.
    """
    changes = set[float]()
    for i in range(len(names)):
        for j in range(i):
            slope = float(reward_T[i] * loss_T[j] - reward_T[j] * loss_T[i])
            if slope and np.isfinite(at := float(reward_T[j] - reward_T[i]) / slope) and at > 0:
                changes.add(at)
    ends = [0.0, *sorted(changes)]
    ranges = list[BetaRange]()
    for low, high in zip(ends, [*ends[1:], None], strict=True):
        inside = 2 * low + 1 if high is None else (low + high) / 2
        ranking = _ranking(names, reward_T / (1 + inside * loss_T))
        if ranges and ranges[-1].ranking == ranking:
            ranges[-1] = BetaRange(ranges[-1].low, high, ranking)
        else:
            ranges.append(BetaRange(low, high, ranking))
    return ranges


def _ranking(names: Sequence[str], car_T: np.ndarray) -> tuple[tuple[str, ...], ...]:
    groups = list[list[int]]()
    for t in sorted(range(len(names)), key=lambda t: (-car_T[t], names[t])):
        if groups and car_T[groups[-1][0]] - car_T[t] <= _EQUAL * abs(car_T[t]):
            groups[-1].append(t)
        else:
            groups.append([t])
    return tuple(tuple(names[t] for t in group) for group in groups)


def _resampled(sums_TUC: np.ndarray, beta: float, sampling: Sampling) -> dict[str, np.ndarray] | None:
    """Every metric [R, T] of resampled questions, the same ones for all teachers; None for one question."""
    teachers, questions, _ = sums_TUC.shape
    if questions == 1:
        return None
    flat_UC = np.moveaxis(sums_TUC, 0, 1).reshape(questions, -1)
    blocks = [block @ flat_UC for block in sampling.draws(np.ones(questions, np.int64), flat_UC.shape[1])]
    return measure(np.concatenate(blocks).reshape(-1, teachers, len(SUMS)), beta)


def _measured(value: float, drawn_R: np.ndarray | None, sampling: Sampling) -> Measure:
    """NaNs, where no drawn response has an IFD, are left out."""
    defined = drawn_R[~np.isnan(drawn_R)] if drawn_R is not None else np.array([])
    return Measure(value, *sampling.interval(defined)) if len(defined) else Measure(value, None, None)


def _standings(car_T: np.ndarray, car_RT: np.ndarray | None, sampling: Sampling) -> list[Standing | None]:
    first = int(np.argmax(car_T))
    rank_T = _ranks(car_T[None])[0]
    if car_RT is None:
        return [
            Standing(int(rank_T[t]), None, None, None, Measure(float(car_T[first] - car_T[t]), None, None))
            for t in range(len(car_T))
        ]
    rank_RT = _ranks(car_RT)
    is_first_RT = rank_RT == 1
    best_T = (is_first_RT / is_first_RT.sum(1, keepdims=True)).mean(0)
    found = list[Standing | None]()
    for t in range(len(car_T)):
        low, high = sampling.interval(rank_RT[:, t])
        behind = _measured(float(car_T[first] - car_T[t]), car_RT[:, first] - car_RT[:, t], sampling)
        found.append(Standing(int(rank_T[t]), int(low), int(high), float(best_T[t]), behind))
    return found


def _ranks(car_RT: np.ndarray) -> np.ndarray:
    """1 + the number of larger values in each row, but for differences by rounding alone."""
    margin_RT = _EQUAL * np.abs(car_RT)
    larger = [(car_RT > (car_RT + margin_RT)[:, t : t + 1]).sum(1) for t in range(car_RT.shape[1])]
    return 1 + np.stack(larger, 1)
