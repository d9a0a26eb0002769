"""HyperSequence: batches of one fixed shape, mapped, at the batch size that the file was written with (its fastest)."""

import os

from harness import Unavailable
from hypersequence import HyperSequenceFile, HyperSequenceView, HyperSequenceWriter


def write(folder, data, size):
    if data.kind == "ragged":
        raise Unavailable("hypersequence stores records of one shape only")
    with HyperSequenceWriter(os.path.join(folder, "data.hsq"), batch_size=size) as writer:
        for x, y in data:
            writer.append(inputs=x, outputs=y)


def read(folder, data, size, order):
    if order == "shuffled":
        raise Unavailable("hypersequence shuffles whole batches only")
    file = HyperSequenceFile(os.path.join(folder, "data.hsq"))
    if order == "sequential":
        return lambda: (file[i] for i in range(len(file)))
    view = HyperSequenceView(file)

    def epoch():
        view.shuffle()
        return (view[i] for i in range(len(view)))

    return epoch
