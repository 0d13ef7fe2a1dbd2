"""PPO as the published code has it, mistake included, kept to see what it does.

    python benchmarks/published_ppo.py CONFIG --run NAME [--resume]

Trains CONFIG (a YAML file or a recipe) in the working folder.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from torch import Tensor

from markov_cot.algorithms.losses import Counts, LossTerms, Weights
from markov_cot.cli.quiet import quiet_libraries
from markov_cot.config.loading import build_config, read_recipe
from markov_cot.config.schema import Config
from markov_cot.tracking.metrics import policy_metrics, sampler_metrics
from markov_cot.training.collector import Experience
from markov_cot.training.reinforcement import Reinforcement
from markov_cot.training.setup import open_session
from markov_cot.training.trainer import Trainer, TrainResult
from markov_cot.training.updater import OldLogps, Updater


def published_loss(logp_BL: Tensor, reference_logp_BL: Tensor, advantage_B: Tensor, clip: float) -> Tensor:
    """PPO's loss [B] as the published code has it, which is WRONG.

    One ratio per CoT, of mean log-probs, taken against the frozen base instead of the policy that sampled.
    """
    ratio_B = (logp_BL.mean(1) - reference_logp_BL.mean(1)).exp()
    return -torch.minimum(ratio_B * advantage_B, ratio_B.clamp(1 - clip, 1 + clip) * advantage_B)


class PublishedMistake(Updater):
    """Follows `published_loss`, with the actor reward but without the KL term."""

    def _terms(
        self,
        data: Experience,
        index_B: Tensor,
        leaves: list[Tensor],
        weights: Weights,
        counts: Counts,
        old: OldLogps,
    ) -> tuple[LossTerms, dict[str, Tensor]]:
        clip, (hidden_BLd, answers_BAd) = self.config.algorithm.clip, leaves
        scores = self._scores(data, index_B, hidden_BLd, weights)
        reward_B = self._actor_reward(data, index_B, answers_BAd)
        advantages = data.advantages.take(index_B)
        loss_B = published_loss(scores.logp_BL, scores.reference_logp_BL, advantages.advantage_B, clip)
        zero = loss_B.new_zeros(())
        terms = LossTerms(
            policy=loss_B.sum() / counts.total,
            kl=zero,
            actor_reward=-(reward_B / advantages.sigma_B).sum() / counts.total,
            entropy=zero,
        )
        old_logp_BL, sampler_logp_BL = old.of(index_B, scores.logp_BL), data.rollouts.behaviour_logp_BL[index_B]
        metrics = policy_metrics(scores, old_logp_BL, clip)
        return terms, metrics | sampler_metrics(old_logp_BL, sampler_logp_BL, None, 0.0)


def train(config: Config, run: str, name: str, updater: type[Updater], *, resume: bool = False) -> TrainResult:
    """Train a config named `name` as `run`, by the updater."""
    quiet_libraries()
    trainer = Trainer(open_session(config, run, name, resume=resume), partial(Reinforcement, updater=updater))
    if resume:
        trainer.state.resume()
    return trainer.run(lambda *_: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--run", required=True)
    parser.add_argument("--resume", action="store_true", help="from its newest checkpoint")
    args = parser.parse_args()
    config = build_config(read_recipe(args.config), args.config)
    train(config, args.run, "published-ppo", PublishedMistake, resume=args.resume)


if __name__ == "__main__":
    main()
