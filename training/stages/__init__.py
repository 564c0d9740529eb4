"""Each stage of training on files: lock its folder, load what is needed, run, report."""

from training.stages.evaluate import run_evaluate
from training.stages.ppo import PPOInputs, run_ppo
from training.stages.reward import run_reward
from training.stages.sft import run_sft
from training.stages.stage import Options

__all__ = ["Options", "PPOInputs", "run_evaluate", "run_ppo", "run_reward", "run_sft"]
