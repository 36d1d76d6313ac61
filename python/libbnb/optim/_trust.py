# SPDX-License-Identifier: MIT
"""Updates whose size is held to that of their parameter (max_unorm), where the parameter is spread over processes."""

from __future__ import annotations

from libbnb import _lists
from libbnb.functional import gradient_norm
from libbnb.optim import _sharded
from libbnb.optim._batch import Batch


def run(batch: Batch, config: _lists.OptimizerConfig) -> None:
    """One step of a batch. A sharded one with max_unorm holds one parameter.

    The C library sees a shard, but the ratio is one of norms over all shards. So the step is made twice: once to
    measure the update of this shard, after which states and parameter are put back, and once with a parameter norm
    from which the C library comes to the ratio that holds for all shards.
    """
    max_unorm: float = config.struct.max_unorm
    if not batch.sharded or max_unorm <= 0.0:
        batch.run(config)
        return
    p = batch.params[0]
    limit = max_unorm * _sharded.norm(p, gradient_norm(_sharded.local(p).detach()))
    saved = [(t.detach(), t.detach().clone()) for t in batch.written()]
    batch.run(config)
    unorm_vec = batch.state_tensors["unorm_vec"][0]
    here = float(unorm_vec)
    update = _sharded.norm(p, unorm_vec)
    for tensor, before in saved:
        tensor.copy_(before)
    if update > limit > 0.0:
        batch.entries.param_norms[0] = here * (limit / update) / max_unorm
    else:
        config.struct.max_unorm = 0.0
    batch.run(config)
    config.struct.max_unorm = max_unorm
    batch.entries.param_norms[0] = 0.0
    unorm_vec.fill_(update)
