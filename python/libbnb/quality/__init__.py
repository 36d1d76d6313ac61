# SPDX-License-Identifier: MIT
"""What quantization does to a whole language model, measured on a text: errors, sensitivities, what to leave alone.

`libbnb compare --calibrate` is made of it; docs/quality.md says what the numbers mean. Needs PyTorch and transformers.
"""

from libbnb.quality.budget import Allocation, Budget, Option, allocate
from libbnb.quality.measure import LayerQuality
from libbnb.quality.study import ModelQuality, Progress, Study, Suggestion, study_model

__all__ = [
    "Allocation",
    "Budget",
    "LayerQuality",
    "ModelQuality",
    "Option",
    "Progress",
    "Study",
    "Suggestion",
    "allocate",
    "study_model",
]
