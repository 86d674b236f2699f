"""Data, models, training and the checkpoints that come of it: `zoo.load` gives a trained model."""

from zoo.checkpoints import load
from zoo.config import ModelConfig, TrainingConfig
from zoo.data import load_dataset
from zoo.errors import BadInput
from zoo.training import train

__all__ = ["BadInput", "ModelConfig", "TrainingConfig", "load", "load_dataset", "train"]
