"""Builds the Cython extensions; everything else about the package is in pyproject.toml.

Two environment variables change the build: `KSEQ_BOUNDSCHECK=1` turns Cython's run-time checks on, and
`KSEQ_SANITIZE=address` compiles with the address sanitizer (run Python with
`LD_PRELOAD=$(gcc -print-file-name=libasan.so)`). Add `--force` when switching,
since setuptools looks at the times of files only.
"""

import os
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

checked = os.environ.get("KSEQ_BOUNDSCHECK", "0") not in ("", "0")
sanitizer = os.environ.get("KSEQ_SANITIZE", "")
if sanitizer not in ("", "address"):
    raise SystemExit(f"KSEQ_SANITIZE must be empty or 'address'; received {sanitizer!r}")

directives = {
    "language_level": 3,
    "freethreading_compatible": True,
    "boundscheck": checked,
    "wraparound": False,
    "initializedcheck": checked,
    "nonecheck": checked,
    "overflowcheck": checked,
    "cdivision": not checked,
}
compile_args, link_args = ["/O2"] if os.name == "nt" else ["-O3", "-g0"], []
if sanitizer:
    link_args = [f"-fsanitize={sanitizer}"]
    compile_args = ["-O1", "-g", "-fno-omit-frame-pointer", *link_args]

extensions = [
    Extension(
        f"kseq._ext.{path.stem}",
        [path.as_posix()],
        include_dirs=[numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for path in sorted(Path("kseq/_ext").glob("*.pyx"))
]

extensions = cythonize(
    extensions,
    compiler_directives=directives,
    # One folder of generated C per kind of build: the same source gives different C.
    build_dir=f"build/cython{'-checked' if checked else ''}",
)
for extension in extensions:
    # Where there is no compiler kseq._ext falls back to NumPy. (Set here because cythonize drops the attribute.)
    extension.optional = True

setup(ext_modules=extensions)
