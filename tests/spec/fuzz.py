"""Fuzz the spec loader by coverage: `pip install atheris`, then

    python tests/spec/fuzz.py -max_total_time=600 -timeout=20 -rss_limit_mb=4096 CORPUS_FOLDER

Any bytes must give a model or a `SpecError`. The corpus begins with the shipped specs and the wrong specs of the tests.
"""

import pathlib
import sys

import atheris

with atheris.instrument_imports(include=["kseq.spec", "yaml", "json"]):
    import kseq
    import kseq.spec

HERE = pathlib.Path(__file__).parent
LIMITS = kseq.spec.Limits(bytes=20_000, nodes=2_000, layers=20, repeats=20, parameters=10_000)


def load(data: bytes):
    try:
        kseq.load_spec(data, limits=LIMITS)
    except kseq.SpecError as error:
        str(error).encode()


def seed(folder):
    """Put the first inputs into the corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [path.read_text() for path in kseq.spec.shipped().values()]
    seeds += [record.split("\n----\n")[0] for record in (HERE / "wrong_specs.txt").read_text().split("====\n")]
    for i, text in enumerate(seeds):
        (folder / f"seed{i}").write_text(text)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if not argument.startswith("-"):
            seed(pathlib.Path(argument))
    atheris.Setup(sys.argv, load)
    atheris.Fuzz()
