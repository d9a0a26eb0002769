"""Learning rates over training, in the terms in which recipes give them."""

import keras

from ..arguments import as_number, as_size


def exponential_decay(start: float, finish: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A learning rate that falls exponentially from one value to another within so many steps, and goes on so.

    Args:
        start: the rate at step 0.
        finish: the rate at step `steps`.
        steps: steps of training.

    Returns:
        Keras's `ExponentialDecay`.

    Raises:
        ValueError: a rate that is not above 0, or steps below 1.

    Example:
        >>> rate = exponential_decay(1e-2, 1e-4, 1000)
        >>> [round(float(rate(step)), 6) for step in (0, 500, 1000)]
        [0.01, 0.001, 0.0001]
    """
    start = as_number("start", start, "above 0", lambda rate: rate > 0)
    finish = as_number("finish", finish, "above 0", lambda rate: rate > 0)
    return keras.optimizers.schedules.ExponentialDecay(start, as_size("steps", steps), finish / start)
