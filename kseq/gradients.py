"""Gradients written by hand: `with_gradient` of a value that is known, `map_gradient` of the identity."""

from typing import Any

import keras
from keras import ops


def with_gradient(value: Any, pullback: Any, *arguments: Any, given: Any = ()) -> Any:
    """`value`, which is known already, as a function of `arguments` whose gradient is written by hand.

    Derivatives of any order are right: the pullback is given the value as this same function again, which costs nothing
    until someone asks for the next derivative. On jax, forward mode works as well; it is the pullback's transpose.

    Args:
        value: the function's value, an array that does not depend on `arguments` as far as the backend can see.
        pullback: `pullback(value, *arguments)` gives a linear function of the value's gradient that returns those of
            the arguments, a tuple. Everything in it must be differentiable by the backend.
        arguments: arrays of floats.
        given: arrays that the pullback is given before all others, without gradients.

    Returns:
        `value`, connected to `arguments`.
    """
    if keras.backend.backend() == "jax":
        return _with_tangent(value, pullback, arguments, given)

    def function(value, *arguments):
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            connected = with_gradient(value, pullback, *arguments, given=given)
            return (None, *pullback(*given, connected, *arguments)(upstream))

        return value, gradient

    return ops.custom_gradient(function)(value, *arguments)


def _with_tangent(value, pullback, arguments, given):
    import jax

    @jax.custom_jvp
    def function(value, given, *arguments):
        return value

    @function.defjvp
    def rule(primals, tangents):
        connected = function(*primals)
        pull = pullback(*primals[1], connected, *primals[2:])
        (tangent,) = jax.linear_transpose(pull, connected)(tangents[2:])
        return connected, tangent

    return function(value, tuple(given), *arguments)


def map_gradient(x: Any, fn: Any) -> Any:
    """`x`, whose gradient is what a function makes of the gradient that comes back to it.

    The function need not be linear: there is no forward mode. Derivatives of any order are right.

    Args:
        x: an array of floats.
        fn: a function of the gradient, differentiable by the backend.
    """
    if keras.backend.backend() == "jax":
        return _with_cotangent(x, fn)

    def function(x):
        def gradient(*args, upstream=None):
            return fn(args[0] if upstream is None else upstream)

        return ops.copy(x), gradient

    return ops.custom_gradient(function)(x)


def _with_cotangent(x, fn):
    import jax

    @jax.custom_vjp
    def function(x):
        return x

    function.defvjp(lambda x: (function(x), None), lambda _, gradient: (fn(gradient),))
    return function(x)
