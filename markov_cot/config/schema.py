"""The typed configuration: every setting, its type, its default and its meaning.

A run's whole behaviour is one frozen `Config`. Unknown keys and wrong types are the user's errors and name the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from markov_cot.config.alarms import Alarms
from markov_cot.config.base import Fraction, Group, Named, NotNegative, Positive, PositiveFloat, Seed, Weight
from markov_cot.config.prompt import Prompt
from markov_cot.config.reward import ACTOR, Reward
from markov_cot.config.sft import Sft

ADVANTAGES = ("group", "centered", "rloo", "normalized", "raw", "ema", "expert")
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
ADAPTER_SHAPE = ("rank", "alpha", "target_modules")
"""Settings of `lora` that an adapter has values of its own for."""


class Data(Group):
    """What is trained and evaluated on."""

    dataset: str = "arithmetic"
    """A name that `markov-cot datasets` lists, the path of your own file or folder, or your own function as
    package.module:attribute; see docs/data.md. In a file of settings `data.train` is another name for it."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of your own function."""
    validation: str | None = None
    """Your own validation file, where `dataset` is your own training file."""
    test: str | None = None
    """Your own test file, likewise."""
    data_dir: str | None = None
    """Folder with the dataset's files, original or as on the hub; docs/data.md has the order of places."""
    subset: str | None = None
    """ARC: `challenge` or `easy`. MMLU: comma-separated subjects (all by default). preference: `arena`, `pandalm`,
    `llmbar`, or several (the first that is there by default)."""
    revision: str | None = None
    """Of a dataset that is read from the hub: a commit, tag or branch; its newest when not given."""
    kind: Literal["numeric", "choice", "text"] | None = None
    """Of your own data: what its answers are, where rows do not say and it cannot be inferred from them."""
    articles: tuple[str, ...] = ("a", "an", "the")
    """Words that do not count where texts are compared; [] for none."""
    skip_bad_rows: bool = False
    """Leave out broken rows and count them, instead of stopping at the first."""
    swap: bool = False
    """preference: train on every comparison in the other order, too, its answer turned with it."""
    terms: tuple[Positive, Positive] = (15, 15)
    """arithmetic: fewest and most terms of a sum."""
    high: Positive = 99
    """arithmetic: largest term."""
    negative: bool = False
    """arithmetic: later terms may be subtracted."""
    context_tokens: Positive = 200
    """wiki: tokens of an article the actor reads."""
    target_tokens: Positive = 100
    """wiki: tokens after them that the reader predicts."""

    @model_validator(mode="before")
    @classmethod
    def _train_is_the_dataset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("train") is None:
            return values
        if values.get("dataset") is not None:
            raise ValueError("train: is another name for data.dataset, which is given, too; leave one of them out")
        return {**{key: value for key, value in values.items() if key != "train"}, "dataset": values["train"]}


class Model(Group):
    """The base model, shared by the actor (adapter on) and the frozen reader (adapter off)."""

    name: str = "nano"
    """`nano` (bundled), a local folder, or a hub id."""
    revision: str | None = None
    """Of a model on the hub: a commit, tag or branch; its newest when not given."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Of the base's weights; auto: bfloat16 on a GPU, else float32. Adapters are float32, or float64 as the base."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: the fastest there is."""
    four_bit: bool = False
    """Load the base in 4 bits through bitsandbytes (CUDA only)."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, more time."""
    shard: bool = False
    """Spread the base's layers over the processes (FSDP2), for one that does not fit one GPU; docs/scaling.md."""
    trust_remote_code: bool = False
    """Let the model's repository run its own Python code. Only for repositories you have read."""


class Lora(Group):
    """The actor's adapter. Its dropout is 0: sampling and scoring must use one distribution."""

    rank: Positive = 8
    """Of the update's two factors: more learn more and cost more memory."""
    alpha: PositiveFloat = 16
    """The update is scaled by alpha / rank."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """The layers that get one: all-linear, or names such as [q_proj, v_proj]."""
    init: str | None = None
    """Start from this adapter instead of a fresh one: a checkpoint (adapter_STEP, best, latest of the newest run that
    has it) or a folder that PEFT wrote. Its own rank, alpha and layers count; docs/warm_start.md."""
    reference: Literal["init", "base"] = "init"
    """What the KL is taken to: the base with the adapter of `init`, or without. The same where there is none."""
    critic: Literal["base", "init"] = "base"
    """What the frozen critic is, likewise: the base without that adapter, or with it."""


class Rollout(Group):
    """P questions x G samples a step, CoTs of exactly L tokens."""

    problems: Positive = 1
    """P: questions a step."""
    samples: Positive = 12
    """G: CoTs a question."""
    length: Positive = 100
    """L: tokens of every CoT."""
    temperature: PositiveFloat = 1.0
    """Of sampling; CoTs are scored at the same one."""
    decoder: Annotated[str, AfterValidator(Named("decoder", ("auto", "plain", "vllm")))] = "auto"
    """auto: the fastest that computes what the model's own forward does, as tried before the first step. plain: that
    forward, of the whole sequence for each token. vllm: sampled CoTs are written by vLLM; docs/scaling.md. Or your own.
    """
    engine: dict[str, Any] = Field(default_factory=dict)
    """vllm: arguments of its `LLM`, beside or instead of those that follow from the other settings."""


class Algorithm(Group):
    """Which advantage and which loss; docs/algorithms.md has the formulas."""

    advantage: Annotated[str, AfterValidator(Named("advantage", ADVANTAGES))] = "group"
    """group: GRPO. centered: the same, not divided by the group's deviation. rloo: the reward less the others' mean.
    normalized: less the baseline. raw: the reward. ema: less a moving average. expert: 1 for rewards far above their
    history, 0 for the rest (expert iteration)."""
    advantage_args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of your own advantage."""
    loss: Annotated[str, AfterValidator(Named("loss", ("policy_gradient", "ppo")))] = "policy_gradient"
    """policy_gradient: advantage times log-prob. ppo: the clipped ratio, for more than one update a step."""
    loss_args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of your own loss."""
    sigma_floor: PositiveFloat = 1e-3
    """Nats. A group whose rewards deviate less is dead: it gets no policy gradient."""
    resample_dead: NotNegative = 0
    """Times the CoTs of dead groups are sampled again before a step continues (dynamic sampling)."""
    ema_decay: Fraction = 0.9
    """Of the moving average that advantage `ema` subtracts."""
    expert_threshold: Weight = 1.0
    """k: expert iteration keeps rewards above mean + k standard deviations of their history."""
    expert_warmup: NotNegative = 25
    """Steps that only build that history."""
    clip: Fraction = 0.2
    """PPO: a token's ratio is clipped to 1 - clip..., also where `ppo/clip_fraction` starts to count."""
    clip_high: PositiveFloat | None = None
    """...and 1 + clip_high; `clip` when not given."""
    importance_cap: Weight = 2.0
    """C: most weight that a token gets in the policy loss for being likelier in training than in sampling; 0: no
    weights. They matter where rounding makes the two differ, as in bfloat16."""
    inner_epochs: Positive = 1
    """Passes over a step's CoTs."""
    minibatches: Positive = 1
    """Updates in one pass."""
    inner_kl_stop: Weight = 0.0
    """No further pass once the actor is this far (nats per token) from where the step began; 0 never stops."""
    actor_reward_weight: Weight = 0.0
    """w of the chain-rule term; needs `reward.reader: actor`."""
    actor_reward_ramp: NotNegative = 0
    """Steps in which w rises linearly to its value."""
    entropy_weight: Weight = 0.0
    """eta: how much entropy is rewarded; where it starts if it is adapted."""
    entropy_target: PositiveFloat | None = None
    """Nats per token: eta is adapted to keep the actor's entropy there."""
    kl: Literal["full", "k1", "k3"] = "full"
    """Exact over the vocabulary, or a sample estimator."""
    kl_weight: Weight = 0.1
    """beta; where it starts if it is adapted."""
    kl_target: PositiveFloat | None = None
    """Nats per token: beta is adapted to keep the KL there."""


class Optim(Group):
    """AdamW."""

    lr: PositiveFloat = 1e-4
    """Learning rate after the warm-up."""
    warmup_steps: NotNegative = 0
    """Steps in which the learning rate rises linearly to its value."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: constant, or falling to zero at the last step."""
    weight_decay: Weight = 0.0
    """AdamW's, of the adapter's matrices."""
    grad_clip: PositiveFloat = 1.0
    """Longest gradient (2-norm); a longer one is scaled down to it."""
    micro_batch_tokens: Positive = 16384
    """Most tokens (sequences x padded length) in one forward with gradient; the gradient does not depend on it."""


class Validation(Group):
    """Held-out accuracy while training (validation split): greedy CoT by the actor, greedy answer by the reader."""

    every: NotNegative = 100
    """Steps between validations; 0 switches them off."""
    problems: Positive = 100
    """How many problems of the validation split, the same ones each time."""
    final_problems: Positive = 500
    """For the table at the end, on the same split, before and after training."""
    batch: Positive = 128
    """Problems in one forward."""
    reader_check: NotNegative = 64
    """Problems on which the reader's ceiling and floor are measured with the first validation; 0 leaves them out."""
    patience: NotNegative = 0
    """Stop after this many validations without a new best; 0 never stops early."""


class Checkpoint(Group):
    """What is kept on disk. The best by held-out accuracy is always kept."""

    every: Positive = 500
    """Steps between checkpoints. There is one of step 0, of the best so far, and of where the run ends, too."""
    keep: Positive = 3
    """How many of the newest are kept, besides the best and the last from before an alarm began."""
    runs_dir: str = "runs"
    """Folder with a folder for each run's logs."""
    checkpoints_dir: str = "checkpoints"
    """Folder with a folder for each run's checkpoints."""


class Tracking(Group):
    """What is written besides scalars."""

    samples_every: Positive = 50
    """Steps between sample CoTs (text) and histograms."""
    trackers: tuple[Annotated[str, AfterValidator(Named("tracker", TRACKERS))], ...] = ("tensorboard",)
    """Besides the JSONL log: tensorboard, wandb, mlflow, trackio, or your own as package.module:attribute."""
    args: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Keyword arguments of a tracker, by its name: {wandb: {project: mine}}."""
    rollouts: NotNegative = 0
    """Steps between full rollouts (every CoT with ids, log-probs, reward and advantage); 0 writes none."""
    validations: bool = True
    """Whether the CoTs and answers behind every held-out score are kept."""


class Config(Group):
    """Everything a run depends on."""

    seed: Seed = 0
    """Of sampling, the order of the data and the adapter's first values."""
    method: Literal["rl", "sft"] = "rl"
    """How the actor is trained: by reward, or supervised on written CoTs, as `markov-cot sft` does."""
    steps: Positive = 1000
    """Steps of training: questions, CoTs, rewards, update."""
    data: Data = Data()
    model: Model = Model()
    lora: Lora = Lora()
    prompt: Prompt = Prompt()
    rollout: Rollout = Rollout()
    reward: Reward = Reward()
    algorithm: Algorithm = Algorithm()
    optim: Optim = Optim()
    sft: Sft = Sft()
    validation: Validation = Validation()
    checkpoint: Checkpoint = Checkpoint()
    tracking: Tracking = Tracking()
    alarms: Alarms = Alarms()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.algorithm.actor_reward_weight and self.reward.readers != (ACTOR,):
            raise ValueError("algorithm.actor_reward_weight: only with reward.reader=actor; others have no gradient")
        if self.algorithm.actor_reward_weight and self.reward.function != "answer_logprob":
            raise ValueError(
                "algorithm.actor_reward_weight: only with reward.function=answer_logprob; others have no gradient"
            )
        if self.reward.function != "answer_logprob" and self.reward.form != "logprob":
            raise ValueError("reward.form: has no effect on a reward.function of your own; leave one of them out")
        if self.algorithm.entropy_target and not self.algorithm.entropy_weight:
            raise ValueError(
                "algorithm.entropy_target: the weight it adapts starts at algorithm.entropy_weight, which is 0; set it "
                "above 0, as to 0.01"
            )
        if self.rollout.engine and self.rollout.decoder != "vllm":
            raise ValueError("rollout.engine: has no effect without rollout.decoder=vllm; leave it out")
        if self.rollout.decoder == "vllm" and not self.algorithm.importance_cap:
            raise ValueError(
                "algorithm.importance_cap: 0 would leave the difference between vLLM's sampling and training "
                "uncorrected; set it to 1 or more, or rollout.decoder=auto"
            )
        if 0 < self.algorithm.importance_cap < 1:
            raise ValueError(
                "algorithm.importance_cap: at least 1, so that equal probabilities weigh 1; 0 switches it off"
            )
        if self.sft.bare == "answer" and (self.sft.loss_on == "cot" or not self.sft.answer):
            raise ValueError("sft.bare answer: needs a stated answer; set sft.answer, and not sft.loss_on=cot")
        if self.method == "sft" and self.sft.hard_repeats > 1 and self.sft.hard_by == "failure" and not self.sft.steps:
            raise ValueError("sft.hard_by failure: how long a pass is is not known before; give sft.steps")
        if self.method == "sft" and self.model.shard:
            raise ValueError("model.shard: not with method=sft; set model.shard=false")
        if self.model.shard and self.model.four_bit:
            raise ValueError("model.shard: not together with model.four_bit; set one of them to false")
        if self.rollout.samples < 2:
            raise ValueError("rollout.samples: a group advantage needs at least 2 samples a question")
        if self.data.terms[0] > self.data.terms[1]:
            raise ValueError("data.terms: the fewest come first, as in [2, 6]")
        return self
