"""Environments that hold every system to the processor and to one thread of computation.

A step of these models is too small to share between threads; one thread each is also what lets two systems be
compared on a machine that is doing something else. The same flags go to kseq and to its peers on one backend.
"""

ONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}
# XLA has no setting for its pool but the number of cores that it believes in, which NPROC gives
JAX = {**ONE, "JAX_PLATFORMS": "cpu", "NPROC": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
TENSORFLOW = {
    **ONE,
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
TORCH = ONE  # and torch.set_num_threads(1) where the process is ours
KSEQ = {
    "jax": {**JAX, "KERAS_BACKEND": "jax"},
    "tensorflow": {**TENSORFLOW, "KERAS_BACKEND": "tensorflow"},
    "torch": {**TORCH, "KERAS_BACKEND": "torch"},
}
