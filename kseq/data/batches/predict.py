"""What a model predicts for each record, whatever batches the records come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kseq.masks import mask_rule

if TYPE_CHECKING:
    from .batches import Batches


def predict(batches: Batches, model: Any, unpad: bool = False) -> Any:
    """The outputs of a model for the records of an epoch, in their order in the store.

    Args:
        batches: `Batches`, of all records that their epoch takes; it stays where it is.
        model: a model of their inputs.
        unpad: whether outputs are sequences [B, U, ...], of which each record keeps the valid steps.

    Returns:
        As the model's outputs, for each an array [N, ...], the shorter ones padded with zeros; with `unpad` a list of
        arrays [U, ...].

    Raises:
        ValueError: batches that leave out records, share rows among records or hosts.
    """
    batches.check_whole_rows()
    epoch, order, found = batches.epoch, [], []
    outputs: Any = None
    for index in range(batches.steps(epoch)):
        ids = batches.records(index, epoch)
        inputs, mask = batches.inputs_of(index, epoch)
        outputs = keras.tree.map_structure(keras.ops.convert_to_numpy, model.predict_on_batch(inputs))
        leaves = [leaf[: len(ids)] for leaf in keras.tree.flatten(outputs)]
        if unpad:
            leaves = [_unpadded(leaf, model, mask) for leaf in leaves]
        order.append(ids)
        found.append(leaves)
    places = np.argsort(np.concatenate(order), kind="stable")
    columns = [_in_order([leaves[i] for leaves in found], places) for i in range(len(found[0]))]
    return keras.tree.pack_sequence_as(outputs, columns)


def _unpadded(leaf, model, mask):
    if leaf.ndim < 2 or leaf.shape[1] != mask.shape[1]:
        mask = np.asarray(mask_rule(model)(mask))
    if leaf.shape[:2] != mask.shape:
        raise ValueError(f"unpad needs outputs of shape {[*mask.shape, '...']}; received {list(leaf.shape)}")
    return [row[valid] for row, valid in zip(leaf, mask, strict=True)]


def _in_order(parts, places):
    """Rows of several batches in the order of their records."""
    if isinstance(parts[0], list):
        rows = [row for part in parts for row in part]
        return [rows[place] for place in places.tolist()]
    shape = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    padded = [np.pad(part, [(0, 0), *((0, n) for n in shape - part.shape[1:])]) for part in parts]
    return np.concatenate(padded)[places]
